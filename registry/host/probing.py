"""Background health checks: each replica in its own task, none able to delay another."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from adapter_api.errors import ContractError, WorkerError
from adapter_api.health import EngineProps, HealthState, HealthStatus
from registry.host.policy import PoolPolicy
from registry.host.replica import Replica

logger = logging.getLogger("worker_adapters.host")

_T = TypeVar("_T")

MAX_AT_ONCE = 16
"""Health checks that begin together, over all pools: a host of hundreds makes no burst."""

TURN_S = 0.5
"""The maximum time for which a check delays others. A longer one continues in parallel."""

MIN_PAUSE_S = 0.2
"""The shortest pause between two checks of a replica, however often its jobs fail."""

JITTER = 0.1
"""The fraction by which an interval is randomized, so that checks do not coincide."""


async def result_in_time(call: "asyncio.Task[_T]", limit_s: float) -> _T:
    """Return the result of a call of an adapter's code, which may hang.

    The call is cancelled when the time is over or the caller is cancelled. It is then not awaited,
    as it may ignore its cancellation.

    Args:
        call: The call, which runs in a task of its own.
        limit_s: The maximum time to wait, in seconds.

    Raises:
        TimeoutError: If it took longer.
        Exception: Any exception of the call.
    """
    try:
        await asyncio.wait({call}, timeout=limit_s)
    finally:
        if not call.done():
            call.cancel()
            call.add_done_callback(_retrieve)
    if not call.done():
        raise TimeoutError
    if call.cancelled():
        raise RuntimeError("the call cancelled itself")
    error = call.exception()
    if error is not None and not isinstance(error, Exception):
        raise RuntimeError(f"the call raised {type(error).__name__}") from error
    return call.result()


def _retrieve(call: "asyncio.Task[Any]") -> None:
    """Retrieve the exception of a late call, which asyncio would otherwise log as a defect."""
    if not call.cancelled():
        call.exception()


class Prober:
    """Watches replicas and passes on the results of their health checks.

    Args:
        learn: Gets each answer.
        rng: Spreads the checks.
    """

    def __init__(
        self,
        learn: Callable[[Replica, HealthStatus, EngineProps | None], None],
        rng: random.Random,
    ) -> None:
        self._learn = learn
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)
        self._watches: dict[Replica, asyncio.Task[None]] = {}
        self._calls: set[asyncio.Task[Any]] = set()
        self._late: WeakKeyDictionary[Replica, asyncio.Task[Any]] = WeakKeyDictionary()
        self._rng = rng

    def watch(self, replica: Replica, policy: Callable[[], PoolPolicy]) -> None:
        """Check the replica now, then again and again, until `forget`."""
        task = asyncio.create_task(self._watch(replica, policy), name=f"probe {replica.replica_id}")
        self._watches[replica] = task

    def forget(self, replica: Replica) -> None:
        """Stop checking the replica."""
        task = self._watches.pop(replica, None)
        if task is not None:
            task.cancel()

    async def aclose(self) -> None:
        """End every check. One that ignores its cancellation is abandoned after a second."""
        tasks = {*self._watches.values(), *self._calls}
        self._watches.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    async def _watch(self, replica: Replica, policy: Callable[[], PoolPolicy]) -> None:
        while True:
            replica.poked.clear()
            await self.check(replica, policy().probe_timeout_s)
            interval_s = policy().probe_interval_s * self._rng.uniform(1 - JITTER, 1 + JITTER)
            pause_s = min(interval_s, MIN_PAUSE_S)
            await asyncio.sleep(pause_s)
            try:
                async with asyncio.timeout(interval_s - pause_s):
                    await replica.poked.wait()
            except TimeoutError:
                pass

    async def check(self, replica: Replica, limit_s: float) -> HealthStatus:
        """Check the replica's health, in at most `limit_s` seconds, and pass on the result."""
        began_at = asyncio.get_running_loop().time()
        status, props = await self.ask(replica, limit_s)
        if not status.live and replica.answered_at >= began_at:
            status = _STRAINED
        self._learn(replica, status, props)
        return status

    async def ask(
        self, replica: Replica, limit_s: float
    ) -> tuple[HealthStatus, EngineProps | None]:
        """Return the engine's health and, if it accepts work, its properties if they are to be read
        again."""
        try:
            status = await self._health(replica, limit_s)
        except TimeoutError:
            return _down(f"the health check took more than {limit_s:g} s"), None
        except Exception as error:
            return _down(_said(error)), None
        now = asyncio.get_running_loop().time()
        if not (status.ready and replica.wants_props(status, now)):
            return status, None
        return status, await self._props(replica, limit_s)

    async def _health(self, replica: Replica, limit_s: float) -> HealthStatus:
        late = self._late.get(replica)
        if late is not None and not late.done():
            raise TimeoutError  # one call that ignores its cancellation is enough
        async with self._turns:
            call = self._call(replica.adapter.health())
            try:
                await asyncio.wait({call}, timeout=min(TURN_S, limit_s))
            except BaseException:
                call.cancel()
                raise
        try:
            return await result_in_time(call, max(0.0, limit_s - TURN_S))
        except TimeoutError:
            self._late[replica] = call
            raise

    async def _props(self, replica: Replica, limit_s: float) -> EngineProps | None:
        """Return the engine's properties; None if it does not answer in time."""
        try:
            return await result_in_time(self._call(replica.adapter.props()), limit_s)
        except TimeoutError:
            return None
        except Exception as error:
            logger.warning("the engine's properties cannot be read: %s", _said(error))
            return None

    def _call(self, call: Coroutine[Any, Any, _T]) -> "asyncio.Task[_T]":
        """Run an adapter's code in a task of its own: it may ignore its cancellation."""
        task = asyncio.create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task


_STRAINED = HealthStatus(HealthState.DEGRADED, "answers jobs, but not its health check")
"""The message of a replica whose check fails while its jobs succeed: live traffic counts more."""


def _down(message: str) -> HealthStatus:
    return HealthStatus(HealthState.UNHEALTHY, message, live=False, ready=False)


def _said(error: BaseException) -> str:
    """Return a text for an error without its message, which may contain a key."""
    if isinstance(error, WorkerError | ContractError):
        return str(error)
    return f"it failed with {type(error).__name__}"
