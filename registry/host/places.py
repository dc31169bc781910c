"""Which replica is where: how they come into place, leave it, and are closed in the end."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import attrs

from adapter_api.health import EngineProps, HealthStatus
from registry.adapter import BoundAdapter
from registry.host.breaker import Breaker
from registry.host.foreign import result_in_time
from registry.host.line import Line
from registry.host.policy import PoolPolicy
from registry.host.pool import Pool
from registry.host.probing import Prober
from registry.host.replica import Replica
from registry.observers import Observers

logger = logging.getLogger("worker_adapters.host")

Key = tuple[str, str]
"""Pool and replica."""

START_S = 30.0
"""The longest that an adapter may take to start where others wait for it."""

CLOSE_S = 30.0
"""The longest that anybody waits for an adapter to close: one that hangs is left to itself."""


def _at_least_one(_: object, __: object, limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 (or None), got {limit!r}")


@attrs.frozen
class Binding:
    """What is bound in one place.

    Args:
        adapter: The adapter, from a registry or made by hand.
        limit: The most streams at once; None: what the engine says, or the policy.

    Raises:
        ValueError: If the limit is below 1.
    """

    adapter: BoundAdapter | object
    limit: int | None = attrs.field(default=None, validator=_at_least_one)


class ReplacedMeanwhile(Exception):
    """Somebody else has put another adapter in this place, or taken it out."""

    def __str__(self) -> str:
        return "somebody else has changed this replica meanwhile"


class TooSlow(Exception):
    """An adapter did not start in time."""

    def __str__(self) -> str:
        return f"it takes more than {START_S:g} s"


class SwapError(Exception):
    """Replicas could not be swapped, and nothing has changed.

    Args:
        failures: What went wrong, by pool and replica.
    """

    def __init__(self, failures: Mapping[Key, Exception]) -> None:
        super().__init__(failures)
        self.failures = failures

    def __str__(self) -> str:
        items = sorted(self.failures.items())
        said = ", ".join(f"{pool}/{replica} ({type(e).__name__})" for (pool, replica), e in items)
        return f"nothing was swapped because of {said}"


class Places:
    """The pools of a host, with their lines, and the replicas in them.

    Args:
        defaults: The policy of pools that have none of their own.
        observers: Told of each change.
        clock: The host's clock.
    """

    def __init__(
        self, defaults: PoolPolicy, observers: Observers, clock: Callable[[], float]
    ) -> None:
        self.lines: dict[str, Line] = {}
        self.prober = Prober(self._learn, clock)
        self._defaults = defaults
        self._policies: dict[str, PoolPolicy] = {}
        self._observers = observers
        self._clock = clock
        self._closing: set[asyncio.Task[None]] = set()
        self._touched: set[Line] | None = None

    # Who is where

    def policy(self, pool_id: str) -> PoolPolicy:
        """The pool's policy, whether there is such a pool or not."""
        return self._policies.get(pool_id, self._defaults)

    def set_policy(self, pool_id: str, policy: PoolPolicy) -> None:
        """Give the pool its own policy."""
        self._policies[pool_id] = policy
        line = self.lines.get(pool_id)
        if line is not None:
            line.pool.use(policy, self._clock())
            self._serve(line)

    def line(self, pool_id: str) -> Line:
        """The pool's line.

        Raises:
            LookupError: If there is no such pool.
        """
        line = self.lines.get(pool_id)
        if line is None:
            raise LookupError(
                f"there is no pool {pool_id!r}; there is {', '.join(sorted(self.lines)) or 'none'}"
            )
        return line

    def get(self, pool_id: str, replica_id: str) -> Replica | None:
        """The replica in that place, if there is one."""
        line = self.lines.get(pool_id)
        return None if line is None else line.pool.replicas.get(replica_id)

    def find(self, pool_id: str, replica_id: str) -> tuple[Line, Replica]:
        """The replica in that place, and its line.

        Raises:
            LookupError: If there is none.
        """
        line = self.line(pool_id)
        replica = line.pool.replicas.get(replica_id)
        if replica is None:
            names = ", ".join(sorted(line.pool.replicas))
            raise LookupError(f"pool {pool_id!r} has no replica {replica_id!r}; it has {names}")
        return line, replica

    # Coming

    def new_replica(self, pool_id: str, replica_id: str, binding: Binding) -> Replica:
        """A replica that is not in place yet.

        Raises:
            ContractError: If the adapter is none.
        """
        breaker = Breaker(self.policy(pool_id).breaker)
        adapter = BoundAdapter.of(binding.adapter)
        adapter.place(pool_id, replica_id, self._observers)
        return Replica(pool_id, replica_id, adapter, breaker, binding.limit)

    async def prepare(self, replica: Replica) -> None:
        """Start its adapter, and learn how it is before anybody depends on it.

        Raises:
            Exception: What the start raises.
        """
        await replica.adapter.start()
        limit_s = self.policy(replica.pool_id).probe_timeout_s
        replica.note_health(*await self.prober.ask(replica, limit_s, props=True))

    def put(self, replica: Replica) -> Replica | None:
        """Put it in its place. Returns the one that was there."""
        line = self.lines.get(replica.pool_id)
        if line is None:
            line = self.lines[replica.pool_id] = self._new_line(replica.pool_id)
        old = line.pool.replicas.get(replica.replica_id)
        if old is not None:
            self.prober.forget(old)
        replica.breaker = Breaker(line.pool.policy.breaker)  # it may have changed since
        line.put(replica)
        self.prober.watch(replica, lambda: line.pool.policy)
        self._serve(line)
        return old

    def _new_line(self, pool_id: str) -> Line:
        pool = Pool(pool_id, self.policy(pool_id), self._observers.tell, self._clock())
        return Line(pool, self._clock)

    # Going

    def take_out(self, pool_id: str, replica_id: str) -> Replica:
        """Take it out of its place. A pool without replicas is gone, too.

        Raises:
            LookupError: If there is no such replica.
        """
        line, replica = self.find(pool_id, replica_id)
        self.prober.forget(replica)
        line.pool.remove(replica, self._clock())
        if not line.pool.replicas:
            del self.lines[pool_id]
        self._serve(line)
        return replica

    async def retire(self, replica: Replica) -> None:
        """Have its adapter closed after its last stream; wait for that where nothing runs."""
        closing = self.close_after_last(replica)
        if replica.idle.is_set():
            await asyncio.wait({closing})

    def close_after_last(self, replica: Replica) -> "asyncio.Task[None]":
        """Have its adapter closed after its last stream."""
        task = asyncio.create_task(_close(replica), name=f"close {replica.replica_id}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    async def aclose(self) -> None:
        """End every health check, then close every adapter after its last stream."""
        await self.prober.aclose()
        for line in self.lines.values():
            line.close()
            for replica in line.pool.replicas.values():
                self.close_after_last(replica)
        self.lines.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    # Serving

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """All changes while this is entered are one: nobody in line is served in between."""
        self._touched = set()
        try:
            yield
        finally:
            touched, self._touched = self._touched, None
            for line in touched:
                line.serve()

    def _serve(self, line: Line) -> None:
        if self._touched is None:
            line.serve()
        else:
            self._touched.add(line)

    # What is learnt

    def _learn(self, replica: Replica, status: HealthStatus, props: EngineProps | None) -> None:
        line = self.lines.get(replica.pool_id)
        if line is not None and line.pool.is_present(replica):
            now = self._clock()
            line.pool.note_health(replica, status, props, now)
            replica.sample(now)
            line.serve()


async def prepared(places: Places, replicas: Sequence[Replica]) -> None:
    """Prepare all of them, side by side.

    Raises:
        SwapError: With every one that could not be, in time.
    """

    async def in_time(replica: Replica) -> None:
        call = asyncio.create_task(places.prepare(replica))
        try:
            await result_in_time(call, START_S)
        except TimeoutError:
            if call.done() and not call.cancelled():  # the adapter's own
                raise
            raise TooSlow from None

    results = await asyncio.gather(*map(in_time, replicas), return_exceptions=True)
    failures: dict[Key, Exception] = {}
    for replica, result in zip(replicas, results, strict=True):
        if isinstance(result, Exception):
            failures[replica.pool_id, replica.replica_id] = result
        elif result is not None:
            raise result
    if failures:
        raise SwapError(failures)


async def close_in_time(adapter: BoundAdapter) -> None:
    """Close it.

    Raises:
        TimeoutError: If it takes longer than anybody waits.
        Exception: What its closing raised.
    """
    await result_in_time(asyncio.create_task(adapter.aclose()), CLOSE_S)


async def _close(replica: Replica) -> None:
    await replica.idle.wait()
    try:
        await close_in_time(replica.adapter)
    except TimeoutError:
        _warn(replica, f"takes more than {CLOSE_S:g} s, and nobody waits any longer")
    except Exception as error:
        # Foreign texts may hold a key: they are for the one who asks to debug.
        _warn(replica, f"failed with {type(error).__name__}", error)


def _warn(replica: Replica, what: str, error: Exception | None = None) -> None:
    logger.warning(
        "closing the adapter of replica %s in pool %s %s",
        replica.replica_id,
        replica.pool_id,
        what,
        exc_info=error if logger.isEnabledFor(logging.DEBUG) else None,
    )
