"""`explain`: the record of one finished job of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from registry.cli.terminal import status
from registry.cli.terminal.arguments import Json, State
from registry.cli.terminal.command import Action, Command
from registry.cli.terminal.show import console
from registry.cli.terminal.streams import out, say
from registry.cli.terminal.text import harmless

if TYPE_CHECKING:
    from adapter_api.ledger import Explanation


def explain(
    job_id: Annotated[
        str, typer.Argument(metavar="JOB_ID", help="The job_id of its task and of its frames.")
    ],
    state: State = None,
    as_json: Json = False,
) -> Action:
    """Show every attempt, skip and wait of a finished job, with reasons and milliseconds."""
    return lambda: _explain(job_id, state, as_json=as_json)


COMMAND = Command("explain", explain, ("worker-adapters explain my-job --state run-1",))


def _explain(job_id: str, state: Path | None, *, as_json: bool) -> int:
    from registry.serving.state import (  # imports all of the host
        StateError,
        default_folder,
        find_job,
        to_json,
    )

    folder = state or default_folder()
    try:
        found = find_job(folder, job_id)
    except StateError as error:
        raise status.UsageError(str(error)) from None
    if found is None:
        status.complain(
            f"no finished job {job_id!r} in {folder}: it may still run, belong to another run "
            "(--state), or be too old to be kept"
        )
        return status.FAILED
    if as_json:
        say(to_json(found))
    elif out().isatty():
        _show(found)
    else:
        say(harmless(str(found)))
    return status.OK


def _show(found: "Explanation") -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("at", "step", "replica", "reason", "took", "detail"):
        table.add_column(column, justify="right" if column in ("at", "took") else "left")
    for step in found.steps:
        took = "" if step.took_ms is None else f"{step.took_ms} ms"
        cells = (f"{step.at_ms} ms", step.kind, step.replica_id or "", step.reason, took)
        table.add_row(*(Text(harmless(cell)) for cell in (*cells, step.detail)))
    heading = f"job {found.job_id} in pool {found.pool_id}: {found.outcome}"
    console().print(Text(harmless(heading), "bold"))
    console().print(table)
