"""The pools of a workers file, for commands that take one."""

from pathlib import Path
from typing import TYPE_CHECKING

from registry.cli.terminal.arguments import get_adapter
from registry.cli.terminal.jobs import Begin, Closable, Submit
from registry.cli.terminal.status import UsageError
from registry.near import nearest

if TYPE_CHECKING:
    from registry import AdapterHost


def chosen(
    adapter: str,
    address: str | None,
    options: list[str] | None,
    workers: Path | None,
    pool: str | None,
) -> Begin:
    """Return the function that opens an adapter, or a pool of a workers file, and can submit to it.

    It is called in an event loop. It raises what get_adapter and choose_pool raise, and a
    WorkersError if the file is wrong.

    Args:
        adapter: The value of --adapter.
        address: The server's address.
        options: The values of --option.
        workers: The value of --workers.
        pool: The value of --pool; None for the file's only one.

    Raises:
        UsageError: If these do not go together.
    """
    if workers is None and pool is not None:
        raise UsageError("--pool needs the workers file that declares it: --workers FILE")
    if workers is not None and (address is not None or options):
        raise UsageError("with --workers, addresses and options come from that file")

    def begin() -> tuple[Closable, Submit]:
        if workers is None:
            worker = get_adapter(adapter, address, options)
            return worker, worker.submit
        host = open_host(workers)
        pool_id = choose_pool(host, pool)
        return host, lambda task: host.submit(pool_id, task)

    return begin


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
