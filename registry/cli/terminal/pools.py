"""The pools of a workers file, for commands that take one."""

from pathlib import Path
from typing import TYPE_CHECKING

from registry.cli.terminal.jobs import Submit
from registry.cli.terminal.status import UsageError
from registry.near import nearest

if TYPE_CHECKING:
    from registry import AdapterHost


def open_pool(workers: Path, pool: str | None) -> "tuple[AdapterHost, Submit]":
    """Return a host with what the file declares, and the function that submits to the pool.

    Call it in an event loop; the caller closes the host.

    Args:
        workers: The workers file.
        pool: The pool's name; None for the only one.

    Raises:
        WorkersError: If the file is wrong.
        UsageError: If there is no such pool, or several to choose from.
    """
    host = open_host(workers)
    pool_id = choose_pool(host, pool)
    return host, lambda task: host.submit(pool_id, task)


def open_host(workers: Path) -> "AdapterHost":
    """Return a host with what the file declares. Call it in an event loop and close the host.

    Raises:
        WorkersError: If the file is wrong.
    """
    from registry import AdapterHost

    return AdapterHost.from_file(workers)


def choose_pool(host: "AdapterHost", name: str | None) -> str:
    """Return the pool of this name; without a name, the only one there is.

    Raises:
        UsageError: If there is no such pool, or several to choose from.
    """
    pools = [pool.pool_id for pool in host.snapshot().pools]
    if name in pools:
        return name
    listed = f"the pools are {', '.join(pools)}" if pools else "the file declares no replica"
    if name is not None:
        near = nearest(name, pools)
        hint = f"did you mean {near!r}?" if near else listed
        raise UsageError(f"--pool: there is no pool {name!r}; {hint}")
    if len(pools) == 1:
        return pools[0]
    raise UsageError(f"--pool is needed: {listed}")
