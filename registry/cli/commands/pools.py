"""Commands on the pools of a workers file."""

from pathlib import Path
from typing import TYPE_CHECKING

from adapter_api import TaskRequest
from registry.cli.commands.submit import Submit, run_job_on
from registry.cli.terminal.status import UsageError
from registry.near import nearest

if TYPE_CHECKING:
    from registry import AdapterHost


def run_in_pool(workers: Path, pool: str | None, task: TaskRequest, *, frames: bool) -> int:
    """Run `task` in a pool of the workers file and print its answer, as `run_job` does.

    Args:
        workers: The workers file.
        pool: The pool's name; None for the only one.
        task: The job.
        frames: As for `run_job`.

    Raises:
        WorkersError: If the file is wrong.
        UsageError: If it is not clear which pool is meant.
    """

    def begin() -> "tuple[AdapterHost, Submit]":
        host = open_host(workers)
        pool_id = choose_pool(host, pool)
        return host, lambda task: host.submit(pool_id, task)

    return run_job_on(begin, task, frames=frames)


def open_host(workers: Path) -> "AdapterHost":
    """A host with what the file declares. Must be called in an event loop; the caller closes it.

    Raises:
        WorkersError: If the file is wrong.
    """
    from registry import AdapterHost

    return AdapterHost.from_file(workers)


def choose_pool(host: "AdapterHost", name: str | None) -> str:
    """The pool that is meant by `name`; without a name, the only one there is.

    Raises:
        UsageError: If there is none, or the choice is not clear.
    """
    pools = [pool.pool_id for pool in host.snapshot().pools]
    if name in pools:
        return name
    listed = f"the pools are {', '.join(pools)}" if pools else "the file declares no replica"
    if name is not None:
        near = nearest(name, pools)
        hint = f"did you mean {near!r}?" if near else listed
        raise UsageError(f"no replica is in a pool {name!r}; {hint}")
    if len(pools) == 1:
        return pools[0]
    raise UsageError(f"--pool is needed: {listed}")
