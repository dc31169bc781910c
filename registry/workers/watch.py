"""Workers declared in files, bound to a host, and rebound as the files change."""

import asyncio
import logging
import math
import os
from collections.abc import Iterable
from pathlib import Path
from time import monotonic
from typing import Any, Self

from adapter_api.errors import ConfigError, Problem, RegistryError, WorkerError
from registry.adapter import BoundAdapter
from registry.host.host import AdapterHost as Host
from registry.host.places import (
    Key,
    ReplacedMeanwhile,
    SwapError,
    TooSlow,
    close_in_time,
)
from registry.host.policy import PoolPolicy
from registry.registry import Registry
from registry.workers.following import Declared
from registry.workers.spec import PoolSpec, ReplicaSpec, Workers, WorkersError

logger = logging.getLogger("worker_adapters.workers")

INTERVAL_S = 1.0
"""Seconds between two looks at the files; a look costs one `stat` per file."""

AGAIN_S = 10.0
"""Seconds until a version whose adapters did not start is tried again."""

FROM_ENVIRONMENT = "openai-http"
"""The adapter that ORCHD_OPENAI_* configure."""

NO_ENGINE = Problem(
    "", "no engine is declared: set ORCHD_OPENAI_URL to its address, or give a workers file"
)
"""The problem of an environment without an engine; base_url is the only required option."""


class AdapterHost(Host):
    """An AdapterHost that can also be built from declared workers.

    Args: as for `registry.host.AdapterHost`.
    """

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        handoff: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Self:
        """Return a host with the pools and replicas that a TOML file declares.

        The file is read once; WorkersWatch follows its changes. Call it in the host's event loop.

        Args:
            path: The workers file, see docs/reference/workers-file.md.
            handoff: A folder where engines leave handoff files.
            options: As for AdapterHost.

        Raises:
            WorkersError: With every problem, each with file and path. Then nothing is bound.
        """
        host = cls(**options)
        WorkersWatch(host, path, handoff=handoff).load()
        return host

    @classmethod
    def from_environment(cls, **options: Any) -> Self:
        """Return a host with the one replica that ORCHD_OPENAI_URL, _POOL, _REPLICA and _API_KEY
        describe. Call it in the host's event loop.

        Raises:
            ConfigError: Naming the variable of each problem.
        """
        host = cls(**options)
        try:
            adapter = (host.registry or Registry()).get(FROM_ENVIRONMENT)
        except ConfigError as error:
            problems = [NO_ENGINE if p.kind == "missing" else p for p in error.problems]
            raise ConfigError(error.name, problems) from None
        config: Any = adapter.config
        host.bind(config.pool_id, config.replica_id, adapter)
        return host


class WorkersWatch:
    """Binds the declarations of files to a host, and follows their changes.

    A new version is applied atomically or not at all. One with a problem is refused with one
    warning in the log, and the old version stays bound. Unchanged replicas are not affected. A
    version whose adapters do not start is tried again every ten seconds.

    Use it with `async with`, which loads the files and follows them until the block ends. Or call
    `load` once, and then `look` to check for changes.

    Args:
        host: Receives the replicas. Replicas that were bound otherwise are not affected.
        file: The workers file; None for none.
        handoff: The folder of handoff files; None for none.
        interval_s: Seconds between two looks.
    """

    def __init__(
        self,
        host: Host,
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
        self._again_at = math.inf  # when the refused version is tried again
        self._warned = ""
        self._unfinished: dict[Path, bool] = {}  # and whether that was logged
        self._task: asyncio.Task[None] | None = None

    @property
    def workers(self) -> Workers:
        """The declaration that is bound now."""
        return self._bound

    def load(self) -> None:
        """Read the files and bind what they declare. Call it once, before `look`.

        Raises:
            WorkersError: With every problem. Nothing is bound then.
        """
        workers = self._declared.read()
        adapters: dict[Key, BoundAdapter] = {}
        self._build(workers.replicas.values(), adapters)
        for pool_id, policy in self._policies(workers).items():
            self._host.set_policy(pool_id, policy)
        for key, adapter in adapters.items():
            self._host.bind(*key, adapter, **workers.replicas[key].settings)
        self._bound = workers
        self._unfinished = dict.fromkeys(self._declared.unfinished, False)

    async def look(self) -> bool:
        """Look at the files, in a thread, and bind what has changed.

        Returns:
            Whether a new version is bound.
        """
        try:
            # In a thread: a slow disk must not stop the jobs.
            workers = await asyncio.to_thread(self._declared.look)
            if workers == self._bound:
                self._refused, self._warned = None, ""
                return False
            if workers == self._refused and monotonic() < self._again_at:
                return False
            await self._swap(workers)
        except WorkersError as error:
            self._warn(f"the new version of the workers is refused, the old one stays: {error}")
            return False
        finally:
            self._log_unfinished()
        return True

    async def run(self) -> None:
        """Look at the files at each interval, until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.look()
            except Exception as error:  # a defect must not end a long run
                self._warn(f"the workers cannot be followed: {type(error).__name__}", error)

    async def __aenter__(self) -> Self:
        self.load()
        self._task = asyncio.create_task(self.run(), name="watch workers")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    # One version after another

    async def _swap(self, workers: Workers) -> None:
        """Bind new replicas, rebind changed ones and unbind removed ones, atomically.

        Raises:
            WorkersError: If an adapter cannot be built or started. Nothing has changed then.
        """
        old = self._bound.replicas
        changed = [spec for key, spec in workers.replicas.items() if old.get(key) != spec]
        gone = old.keys() - workers.replicas.keys()
        adapters: dict[Key, BoundAdapter] = {}  # those that the host does not have yet
        try:
            self._build(changed, adapters)
            bindings = {spec.key: spec.binding(adapters[spec.key]) for spec in changed}
            await self._host.swap(bindings, gone, self._policies(workers))
            adapters.clear()
        except WorkersError:
            self._refused, self._again_at = workers, math.inf
            raise
        except SwapError as error:
            self._refused, self._again_at = workers, monotonic() + AGAIN_S
            problems = [
                Problem(workers.replicas[key].source, _why(failure))
                for key, failure in error.failures.items()
            ]
            raise WorkersError("what the files declare", problems) from None
        finally:
            await asyncio.gather(*map(_close, adapters.values()))
        self._bound, self._refused, self._warned = workers, None, ""
        new = sum(spec.key not in old for spec in changed)
        logger.info(
            "the workers have changed: %d bound, %d rebound, %d unbound",
            new,
            len(changed) - new,
            len(gone),
        )

    def _build(self, specs: Iterable[ReplicaSpec], built: dict[Key, BoundAdapter]) -> None:
        """Build the adapters into `built`.

        Raises:
            WorkersError: If one cannot be built, or its place is taken; the others are built.
        """
        problems: list[Problem] = []
        taken = self._present() - self._bound.replicas.keys()
        for spec in specs:
            if spec.key in taken:
                text = f"replica {spec.replica_id!r} is bound already, but not by a file"
                problems.append(Problem(spec.source, text))
                continue
            try:
                built[spec.key] = spec.build(self._registry)
            except WorkersError as error:
                problems += error.problems
        if problems:
            raise WorkersError("what the files declare", problems)

    def _policies(self, workers: Workers) -> dict[str, PoolPolicy | None]:
        """Return the changed policies; None for a pool that is no longer declared."""

        def stated(declared: Workers, pool_id: str) -> tuple[bool, PoolSpec]:
            spec = declared.policies.get(pool_id, PoolSpec())
            return pool_id in declared.pools or bool(spec.settings), spec

        changed: dict[str, PoolPolicy | None] = {}
        for pool_id in sorted(self._bound.policies.keys() | workers.policies.keys()):
            is_declared, spec = now = stated(workers, pool_id)
            if now != stated(self._bound, pool_id):
                policy = spec.policy if spec.settings else self._host.defaults
                changed[pool_id] = policy if is_declared else None
        return changed

    def _present(self) -> set[Key]:
        pools = self._host.snapshot().pools
        return {(pool.pool_id, r.replica_id) for pool in pools for r in pool.replicas}

    # Logging

    def _log_unfinished(self) -> None:
        """Log the files that two looks found unfinished; at the first, one may be being written."""
        before, now = self._unfinished, self._declared.unfinished
        for path in now.keys() & before.keys():
            if not before[path]:
                before[path] = True
                logger.warning("%s; its former content stays in use", now[path])
        self._unfinished = {path: before.get(path, False) for path in now}

    def _warn(self, text: str, error: Exception | None = None) -> None:
        """Log a warning, unless it is the same as the last one."""
        if text != self._warned:
            self._warned = text
            logger.warning("%s", text, exc_info=error)


async def _close(adapter: BoundAdapter) -> None:
    try:
        await close_in_time(adapter)
    except Exception:
        logger.debug("closing an adapter that was not needed failed", exc_info=True)


def _why(failure: Exception) -> str:
    """Return why an adapter does not start; only our own errors, as others may hold a key."""
    if isinstance(failure, ReplacedMeanwhile):
        return str(failure)
    if isinstance(failure, TooSlow | WorkerError | RegistryError | ConfigError):
        said = str(failure)
    else:
        said = f"it failed with {type(failure).__name__}"
    return f"the adapter does not start: {said}"
