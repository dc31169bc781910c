"""`top`: pools and replicas, live."""

from typing import Annotated

import typer

from registry.cli.terminal.arguments import Json, State, Workers
from registry.cli.terminal.command import Action, Command


def top(
    workers: Workers = None,
    state: State = None,
    once: Annotated[bool, typer.Option("--once", "-1", help="Show it once and exit.")] = False,
    as_json: Json = False,
) -> Action:
    """Watch pools and replicas: state, breaker, in flight, queue, tokens/s, first token.

    Shows a run of `serve`, or with --workers queries the engines of that file. `q` quits.
    """
    if workers is not None and state is not None:
        raise typer.BadParameter("use either --workers or --state")

    def action() -> int:
        from registry.cli.terminal.monitor import (  # imports all of the host
            ask_engines,
            watch_run,
        )

        if workers is not None:
            return ask_engines(workers, once=once, as_json=as_json)
        return watch_run(state, once=once, as_json=as_json)

    return action


COMMAND = Command(
    "top",
    top,
    ("worker-adapters top --state run-1", "worker-adapters top --workers workers.toml --once"),
)
