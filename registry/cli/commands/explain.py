"""How one job of a run went."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from registry.cli.terminal import status
from registry.cli.terminal.options import Action
from registry.cli.terminal.show import console

if TYPE_CHECKING:
    from registry.host.attempts import Explanation


def explain(
    job_id: Annotated[str, typer.Argument(help="The job_id of its task and of its frames.")],
    state: Annotated[
        Path | None, typer.Option(help="The state folder of the run of `serve`.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> Action:
    """Tell every attempt, skip and wait of a finished job, with reasons and milliseconds."""
    return lambda: _explain(job_id, state, as_json=as_json)


def _explain(job_id: str, state: Path | None, *, as_json: bool) -> int:
    from registry.serving.state import (  # all of the host
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
            f"{folder} knows no finished job {job_id!r}: it may still run, or be of another run "
            "(--state), or so old that it is forgotten"
        )
        return status.FAILED
    if as_json:
        print(to_json(found))
    elif sys.stdout.isatty():
        _show(found)
    else:
        print(status.harmless(str(found)))
    return status.OK


def _show(found: "Explanation") -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("at", "step", "replica", "reason", "took", "detail"):
        table.add_column(column, justify="right" if column in ("at", "took") else "left")
    for step in found.steps:
        took = "" if step.took_ms is None else f"{step.took_ms} ms"
        cells = (f"{step.at_ms} ms", step.kind, step.replica_id or "", step.reason, took)
        table.add_row(*(Text(status.harmless(cell)) for cell in (*cells, step.detail)))
    heading = f"job {found.job_id} in pool {found.pool_id}: {found.outcome}"
    console().print(Text(status.harmless(heading), "bold"))
    console().print(table)
