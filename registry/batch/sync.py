"""Bulk runs for programs without an event loop."""

from collections.abc import Callable, Sequence
from pathlib import Path

from adapter_api import TaskRequest
from registry.batch import runs
from registry.batch.local import Summary
from registry.batch.pace import Limits
from registry.batch.runs import Plan
from registry.sync import SyncHost

__all__ = ["run", "run_plan"]


def run(
    tasks: Sequence[TaskRequest],
    host: SyncHost,
    *,
    pool_id: str = "default",
    output: Path | None = None,
    on_result: Callable[[str, bytes], None] | None = None,
    limits: Limits | None = None,
) -> Summary:
    """Run many tasks and wait for them; with `output`, the same call again resumes.

    Takes and raises what `registry.batch.run` does. `on_result` is called in the thread of the
    host's event loop. KeyboardInterrupt cancels the run; finished tasks are in the results.
    """
    return host.call(
        lambda made: runs.run(
            tasks, made, pool_id=pool_id, output=output, on_result=on_result, limits=limits
        )
    )


def run_plan(plan: Plan, host: SyncHost) -> Summary:
    """Run an input file and wait for it; the same call again resumes.

    Takes and raises what `registry.batch.run_plan` does.
    """
    return host.call(lambda made: runs.run_plan(plan, made))
