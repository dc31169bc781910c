"""Pools and replicas, live."""

from pathlib import Path
from typing import Annotated

import typer

from registry.cli.terminal.options import Action


def top(
    workers: Annotated[
        Path | None, typer.Option(help="A workers file, whose engines are asked by this command.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="The state folder of a run of `serve`.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, one line each second.")
    ] = False,
) -> Action:
    """Watch pools and replicas: state, breaker, in flight, queue, tokens/s, first-token time."""
    if workers is not None and state is not None:
        raise typer.BadParameter("give either --workers or --state")

    def action() -> int:
        from registry.cli.terminal.monitor import (  # with it comes all of the host
            ask_engines,
            watch_run,
        )

        if workers is not None:
            return ask_engines(workers, once=once, as_json=as_json)
        return watch_run(state, once=once, as_json=as_json)

    return action
