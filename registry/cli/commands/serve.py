"""A long run: tasks from standard input, frames to standard output."""

from pathlib import Path
from typing import Annotated

import typer

from registry.cli.terminal.options import Action


def serve(
    workers: Annotated[
        Path | None, typer.Option(help="The file that declares pools and replicas.")
    ] = None,
    handoff: Annotated[
        Path | None, typer.Option(help="A folder where engines leave handoff files.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Where `top` and `explain` look; one folder for each run.")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Jobs that run or wait at once; as many are read ahead.")
    ] = 100,
    drain: Annotated[
        float, typer.Option(min=0, help="Seconds that jobs get to end after Ctrl-C or SIGTERM.")
    ] = 30.0,
    look: Annotated[
        float, typer.Option(min=0.05, help="Seconds between two looks at the files.")
    ] = 1.0,
) -> Action:
    """Run tasks from standard input, JSON lines in and out; opens no port, follows its files.

    Without any file there is one replica: what ORCHD_OPENAI_URL and its kind describe.
    """

    def action() -> int:
        from registry.serving.loop import Settings, run_serve  # with it comes all of the host

        return run_serve(Settings(workers, handoff, state, jobs, drain, look))

    return action
