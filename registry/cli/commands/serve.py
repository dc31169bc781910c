"""`serve`: a long run with tasks from standard input and frames to standard output."""

from typing import Annotated

import typer

from registry.cli.terminal.arguments import Drain, Handoff, State, Workers
from registry.cli.terminal.command import Action, Command


def serve(
    workers: Workers = None,
    handoff: Handoff = None,
    state: State = None,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            min=1,
            metavar="N",
            help="Jobs that run or wait at once; as many are read ahead.",
        ),
    ] = 100,
    drain: Drain = 30.0,
    look: Annotated[
        float,
        typer.Option(min=0.05, metavar="SECONDS", help="The time between two looks at the files."),
    ] = 1.0,
) -> Action:
    """Run tasks from standard input on pools; JSON lines in and out, no port opened.

    Follows the workers file and the handoff files as they change. Without any file there is one
    replica: the one that ORCHD_OPENAI_URL and the related variables describe. No task is lost to a
    full queue:
    it waits. At the end there is a summary, and the status is 1 if a job failed.
    """

    def action() -> int:
        from registry.cli.terminal.running import Settings, run_serve  # imports all of the host

        return run_serve(Settings(workers, handoff, state, jobs, drain, look))

    return action


COMMAND = Command(
    "serve",
    serve,
    (
        "worker-adapters serve --workers workers.toml --state run-1 < tasks.jsonl",
        "worker-adapters serve --handoff /run/engines --jobs 500 < tasks.jsonl > frames.jsonl",
    ),
)
