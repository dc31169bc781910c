"""Workers that are declared in files, bound to a host, and kept as the files say."""

import asyncio
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from adapter_api.errors import ConfigError, RegistryError, WorkerError
from registry.bound import BoundAdapter
from registry.host.declared import Declared
from registry.host.spec import PoolSpec, ReplicaSpec, Workers, WorkersError
from registry.registry import Registry

if TYPE_CHECKING:
    from registry.host.host import AdapterHost

logger = logging.getLogger("worker_adapters.workers")

_Host = TypeVar("_Host", bound="AdapterHost")
_Key = tuple[str, str]

INTERVAL_S = 1.0
"""How often the files are looked at: a look costs one `stat` for each of them."""

START_S = 30.0
"""The longest that the adapters of a new version may take to start."""

FROM_ENVIRONMENT = "openai-http"
"""The adapter that ORCHD_OPENAI_* configure."""


def host_from_file(
    host: _Host, path: str | os.PathLike[str], handoff: str | os.PathLike[str] | None = None
) -> _Host:
    """Bind what the files declare. Must be called in the host's event loop.

    Args:
        host: A new host.
        path: The workers file.
        handoff: A folder of handoff files.

    Returns:
        The host.

    Raises:
        WorkersError: With every problem. Then nothing is bound.
    """
    WorkersWatch(host, path, handoff=handoff).load()
    return host


def host_from_environment(host: _Host) -> _Host:
    """Bind the one replica that ORCHD_OPENAI_URL, _POOL, _REPLICA and _API_KEY describe.

    Args:
        host: A new host.

    Returns:
        The host.

    Raises:
        ConfigError: Naming the variable of each problem.
    """
    adapter = (host.registry or Registry()).get(FROM_ENVIRONMENT)
    config: Any = adapter.config
    host.bind(config.pool_id, config.replica_id, adapter)
    return host


class WorkersWatch:
    """Binds to a host what files declare, and follows their changes.

    Each new version is taken as a whole or not at all: one with a problem is refused with one
    warning in the log, and what is bound stays. Of a version that is taken, what has not changed
    is not touched.

    Use it with `async with`, which loads the files and watches them until it is left; or call
    `load`, and then `look` whenever it shall look.

    Args:
        host: Gets the replicas. Those bound by others stay as they are.
        file: The workers file; None for none.
        handoff: The folder of handoff files; None for none.
        interval_s: Seconds between two looks.
    """

    def __init__(
        self,
        host: "AdapterHost",
        file: str | os.PathLike[str] | None = None,
        *,
        handoff: str | os.PathLike[str] | None = None,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._host = host
        self._registry = host.registry or Registry()
        self._declared = Declared(file, handoff, self._registry)
        self._interval_s = interval_s
        self._bound = Workers()
        self._refused: Workers | None = None
        self._warned = ""
        self._unfinished: dict[Path, bool] = {}  # and whether that has been told
        self._task: asyncio.Task[None] | None = None

    @property
    def workers(self) -> Workers:
        """What is bound now, as it was declared."""
        return self._bound

    def load(self) -> None:
        """Read the files and bind what they declare. To be called once, before `look`.

        Raises:
            WorkersError: With every problem. Then nothing is bound.
        """
        workers = self._declared.read()
        adapters: dict[_Key, BoundAdapter] = {}
        self._build(workers.replicas.values(), adapters)
        self._set_policies(workers)
        for key, adapter in adapters.items():
            self._host.bind(*key, adapter, limit=workers.replicas[key].limit)
        self._bound = workers
        self._unfinished = dict.fromkeys(self._declared.unfinished, False)

    async def look(self) -> bool:
        """Look at the files, and follow what has changed.

        Returns:
            Whether a new version is bound.
        """
        try:
            workers = self._declared.look()
            if workers == self._bound:
                self._refused, self._warned = None, ""
                return False
            if workers == self._refused:
                return False
            self._refused = workers
            await self._swap(workers)
        except WorkersError as error:
            self._warn(f"the new version of the workers is refused, the old one stays: {error}")
            return False
        finally:
            self._tell_unfinished()
        return True

    async def run(self) -> None:
        """Look again and again, until this is cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.look()
            except Exception as error:  # a defect in one version must not end a long run
                self._warn(f"the workers cannot be followed: {type(error).__name__}", error)

    async def __aenter__(self) -> Self:
        self.load()
        self._task = asyncio.create_task(self.run(), name="watch workers")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    # One version after another

    async def _swap(self, workers: Workers) -> None:
        """Bind what is new, rebind what has changed, unbind what is gone: in this order, so that
        no pool is ever without replicas in between.

        Raises:
            WorkersError: If an adapter cannot be built or started. Then nothing has changed.
        """
        old = self._bound.replicas
        changed = [spec for key, spec in workers.replicas.items() if old.get(key) != spec]
        waiting: dict[_Key, BoundAdapter] = {}  # adapters that are not yet the host's
        try:
            self._build(changed, waiting)
            await self._start(waiting, workers)
            self._set_policies(workers)
            self._bound, self._refused, self._warned = workers, None, ""
            present = self._present()
            puts = [self._put(key, waiting, workers, key in present) for key in list(waiting)]
            self._note(await asyncio.gather(*puts, return_exceptions=True))
        finally:
            for adapter in waiting.values():
                await _close(adapter)
        gone = (old.keys() - workers.replicas.keys()) & self._present()
        unbinds = [self._host.unbind(*key) for key in sorted(gone)]
        self._note(await asyncio.gather(*unbinds, return_exceptions=True))
        new = sum(spec.key not in old for spec in changed)
        logger.info(
            "the workers have changed: %d bound, %d rebound, %d unbound",
            new,
            len(changed) - new,
            len(gone),
        )

    def _note(self, results: Iterable[BaseException | None]) -> None:
        """Somebody else has bound or unbound one meanwhile: theirs is the last word."""
        for result in results:
            if isinstance(result, LookupError | ValueError):
                logger.warning("a replica was changed by others meanwhile: %s", result)
            elif result is not None:
                raise result

    def _build(self, specs: Iterable[ReplicaSpec], built: dict[_Key, BoundAdapter]) -> None:
        """Build the adapters into `built`.

        Raises:
            WorkersError: If one cannot be built, or its place is taken; others are built.
        """
        problems: list[str] = []
        taken = self._present() - self._bound.replicas.keys()
        for spec in specs:
            if spec.key in taken:
                text = f"replica {spec.replica_id!r} is bound already, and not by a file"
                problems.append(f"{spec.source}: {text}")
                continue
            try:
                built[spec.key] = spec.build(self._registry)
            except WorkersError as error:
                problems += error.problems
        if problems:
            raise WorkersError("what the files declare", problems)

    async def _start(self, adapters: Mapping[_Key, BoundAdapter], workers: Workers) -> None:
        starts = [asyncio.wait_for(adapter.start(), START_S) for adapter in adapters.values()]
        results = await asyncio.gather(*starts, return_exceptions=True)
        problems = []
        for key, result in zip(adapters, results, strict=True):
            if isinstance(result, Exception):
                source = workers.replicas[key].source
                problems.append(f"{source}: the adapter does not start: {_said(result)}")
            elif isinstance(result, BaseException):
                raise result
        if problems:
            raise WorkersError("what the files declare", problems)

    def _set_policies(self, workers: Workers) -> None:
        before, now, none = self._bound.policies, workers.policies, PoolSpec()
        for pool_id in sorted(before.keys() | now.keys()):
            spec = now.get(pool_id, none)
            if spec != before.get(pool_id, none):
                policy = spec.policy if spec.settings else self._host.defaults
                self._host.set_policy(pool_id, policy)

    async def _put(
        self, key: _Key, waiting: dict[_Key, BoundAdapter], workers: Workers, present: bool
    ) -> None:
        adapter, limit = waiting[key], workers.replicas[key].limit
        if present:
            await self._host.rebind(*key, adapter, limit=limit)
        else:
            self._host.bind(*key, adapter, limit=limit)
        del waiting[key]

    def _present(self) -> set[_Key]:
        pools = self._host.snapshot().pools
        return {(pool.pool_id, r.replica_id) for pool in pools for r in pool.replicas}

    # Telling

    def _tell_unfinished(self) -> None:
        """Those that two looks found unfinished: at the first they may just be written."""
        before, now = self._unfinished, self._declared.unfinished
        for path in now.keys() & before.keys():
            if not before[path]:
                before[path] = True
                logger.warning("%s; what it said before stays", now[path])
        self._unfinished = {path: before.get(path, False) for path in now}

    def _warn(self, text: str, error: Exception | None = None) -> None:
        """Say it in the log, unless it is what was said last."""
        if text != self._warned:
            self._warned = text
            logger.warning("%s", text, exc_info=error)


async def _close(adapter: BoundAdapter) -> None:
    try:
        await adapter.aclose()
    except Exception:
        logger.debug("closing an adapter that was not needed failed", exc_info=True)


def _said(error: Exception) -> str:
    """Foreign texts may hold a key: only our own errors are quoted."""
    if isinstance(error, WorkerError | RegistryError | ConfigError):
        return str(error)
    return f"it failed with {type(error).__name__}"
