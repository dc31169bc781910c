"""Background health checks: each replica in a task of its own, none able to hold up another."""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from adapter_api.errors import ContractError, WorkerError
from adapter_api.health import EngineProps, HealthState, HealthStatus
from registry.host.foreign import result_in_time
from registry.host.policy import PoolPolicy
from registry.host.replica import Replica

logger = logging.getLogger("worker_adapters.host")

_T = TypeVar("_T")

MOST_AT_ONCE = 16
"""Health checks that begin together, over all pools: a host of hundreds makes no burst."""

TURN_S = 0.5
"""How long a check may keep others waiting. One that takes longer goes on beside them."""

LEAST_PAUSE_S = 0.2
"""The shortest pause between two checks of a replica, however much its jobs fail."""

JITTER = 0.1
"""The share by which an interval is longer or shorter, so that checks do not gather."""


class Prober:
    """Watches replicas and tells what their health checks say.

    Args:
        learn: Told of each answer.
        clock: The host's clock.
    """

    def __init__(
        self,
        learn: Callable[[Replica, HealthStatus, EngineProps | None], None],
        clock: Callable[[], float],
    ) -> None:
        self._learn = learn
        self._clock = clock
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)
        self._watches: dict[Replica, asyncio.Task[None]] = {}
        self._calls: set[asyncio.Task[Any]] = set()
        self._late: WeakKeyDictionary[Replica, asyncio.Task[Any]] = WeakKeyDictionary()
        self._rng = random.Random()

    def watch(self, replica: Replica, policy: Callable[[], PoolPolicy]) -> None:
        """Check it now, then again and again, until `forget`."""
        task = asyncio.create_task(self._watch(replica, policy), name=f"probe {replica.replica_id}")
        self._watches[replica] = task

    def forget(self, replica: Replica) -> None:
        """Check it no more."""
        task = self._watches.pop(replica, None)
        if task is not None:
            task.cancel()

    async def aclose(self) -> None:
        """End every check. One that does not listen to that is left alone after a second."""
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
            pause_s = min(interval_s, LEAST_PAUSE_S)
            await asyncio.sleep(pause_s)
            try:
                async with asyncio.timeout(interval_s - pause_s):
                    await replica.poked.wait()
            except TimeoutError:
                pass

    async def check(self, replica: Replica, limit_s: float) -> HealthStatus:
        """Ask how the replica is, in at most `limit_s` seconds, and tell what it said."""
        began_at = self._clock()
        wants_props = replica.props is None or not replica.accepts
        status, props = await self.ask(replica, limit_s, props=wants_props)
        if not status.live and (replica.answered_at or -math.inf) >= began_at:
            status = _STRAINED
        self._learn(replica, status, props)
        return status

    async def ask(
        self, replica: Replica, limit_s: float, *, props: bool
    ) -> tuple[HealthStatus, EngineProps | None]:
        """How the engine is and, if it accepts work and `props` says so, what it can do."""
        try:
            status = await self._health(replica, limit_s)
        except TimeoutError:
            return _down(f"the health check took more than {limit_s:g} s"), None
        except Exception as error:
            return _down(_said(error)), None
        if not (props and status.ready):
            return status, None
        return status, await self.ask_props(replica, limit_s)

    async def _health(self, replica: Replica, limit_s: float) -> HealthStatus:
        late = self._late.get(replica)
        if late is not None and not late.done():
            raise TimeoutError  # one that does not heed its cancellation is enough
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

    async def ask_props(self, replica: Replica, limit_s: float) -> EngineProps | None:
        """What the engine can do; None if it does not tell in time."""
        try:
            return await result_in_time(self._call(replica.adapter.props()), limit_s)
        except TimeoutError:
            return None
        except Exception as error:
            logger.warning("the engine's properties cannot be read: %s", _said(error))
            return None

    def _call(self, call: Coroutine[Any, Any, _T]) -> "asyncio.Task[_T]":
        """Run foreign code in a task of its own: it may not heed its cancellation."""
        task = asyncio.create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task


_STRAINED = HealthStatus(HealthState.DEGRADED, "answers jobs, but not its health check")
"""What live traffic shows of a replica outweighs a check that failed meanwhile."""


def _down(message: str) -> HealthStatus:
    return HealthStatus(HealthState.UNHEALTHY, message, live=False, ready=False)


def _said(error: BaseException) -> str:
    """Foreign texts may hold a key: only our own errors are quoted."""
    if isinstance(error, WorkerError | ContractError):
        return str(error)
    return f"it failed with {type(error).__name__}"
