"""The places of replicas in pools: binding, removing, closing adapters, and overviews."""

import asyncio
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from adapter_api.health import EngineProps, HealthStatus
from registry.adapter import BoundAdapter
from registry.host.breaker import Breaker
from registry.host.policy import PoolPolicy
from registry.host.pool import Pool
from registry.host.probing import Prober, result_in_time
from registry.host.queue import Queue
from registry.host.replica import Replica
from registry.host.snapshot import Binding, HostSnapshot, PoolHealth
from registry.observers.notify import Observers

logger = logging.getLogger("worker_adapters.host")

Key = tuple[str, str]
"""Pool and replica."""

START_S = 30.0
"""The maximum start time of an adapter while others wait for it."""

CLOSE_S = 30.0
"""The maximum time the host waits for an adapter to close: one that hangs is abandoned."""


class ReplacedMeanwhile(Exception):
    """Another task replaced or removed the adapter in this place."""

    def __str__(self) -> str:
        return "another task changed this replica in the meantime"


class TooSlow(Exception):
    """An adapter did not start in time."""

    def __str__(self) -> str:
        return f"it takes more than {START_S:g} s"


class SwapError(Exception):
    """Replicas could not be swapped, and nothing has changed.

    Args:
        failures: The failures, by pool and replica.
    """

    def __init__(self, failures: Mapping[Key, Exception]) -> None:
        super().__init__(failures)
        self.failures = failures

    def __str__(self) -> str:
        items = sorted(self.failures.items())
        said = ", ".join(f"{pool}/{replica} ({type(e).__name__})" for (pool, replica), e in items)
        return f"nothing was swapped because of {said}"


class Places:
    """The pools of a host, with their queues, and the replicas in them.

    A pool exists while it has replicas, or if it was declared by a policy of its own.

    Args:
        defaults: The policy of pools that have none of their own.
        observers: The host's observers.
        rng: Spreads health checks.
    """

    def __init__(self, defaults: PoolPolicy, observers: Observers, rng: random.Random) -> None:
        self.queues: dict[str, Queue] = {}
        self.prober = Prober(self._learn, rng)
        self._defaults = defaults
        self._policies: dict[str, PoolPolicy] = {}  # of the pools that were declared
        self._observers = observers
        self._closing: set[asyncio.Task[None]] = set()
        self._touched: set[Queue] | None = None

    # Look-up

    def policy(self, pool_id: str) -> PoolPolicy:
        """Return the pool's policy, whether there is such a pool or not."""
        return self._policies.get(pool_id, self._defaults)

    def declare(self, pool_id: str, policy: PoolPolicy) -> None:
        """Give the pool its own policy; the pool exists from now on."""
        self._policies[pool_id] = policy
        queue = self._made(pool_id)
        queue.use(policy)
        self._serve(queue)

    def forget(self, pool_id: str) -> None:
        """Withdraw the pool's policy; a pool without replicas ceases to exist."""
        if self._policies.pop(pool_id, None) is None:
            return
        queue = self.queues[pool_id]
        queue.use(self._defaults)
        self._drop_if_empty(queue)
        self._serve(queue)

    def queue(self, pool_id: str) -> Queue:
        """Return the pool's queue.

        Raises:
            LookupError: If there is no such pool.
        """
        queue = self.queues.get(pool_id)
        if queue is None:
            raise LookupError(self.no_pool(pool_id))
        return queue

    def no_pool(self, pool_id: str) -> str:
        """Return the text of an error about a pool that does not exist."""
        known = ", ".join(sorted(self.queues)) or "none; bind a replica first"
        return f"there is no pool {pool_id!r}; pools: {known}"

    def get(self, pool_id: str, replica_id: str) -> Replica | None:
        """Return the replica in that place, if there is one."""
        queue = self.queues.get(pool_id)
        return None if queue is None else queue.pool.members.replicas.get(replica_id)

    def find(self, pool_id: str, replica_id: str) -> tuple[Queue, Replica]:
        """Return the replica in that place, and its queue.

        Raises:
            LookupError: If there is none.
        """
        queue = self.queue(pool_id)
        replicas = queue.pool.members.replicas
        if replica_id not in replicas:
            names = ", ".join(sorted(replicas)) or "none"
            raise LookupError(f"pool {pool_id!r} has no replica {replica_id!r}; it has {names}")
        return queue, replicas[replica_id]

    # Coming

    def new_replica(self, pool_id: str, replica_id: str, binding: Binding) -> Replica:
        """Make a replica that is not in place yet.

        Raises:
            ContractError: If the adapter is not one.
        """
        adapter = BoundAdapter.of(binding.adapter)
        adapter.place(pool_id, replica_id, self._observers)
        breaker = Breaker(self.policy(pool_id).breaker)
        return Replica(pool_id, replica_id, adapter, breaker, binding)

    async def prepare(self, replica: Replica) -> None:
        """Start its adapter, and check its health before any job depends on it.

        Raises:
            Exception: Any exception of the start.
        """
        await replica.adapter.start()
        limit_s = self.policy(replica.pool_id).probe_timeout_s
        replica.note_health(*await self.prober.ask(replica, limit_s))

    def put(self, replica: Replica) -> Replica | None:
        """Put the replica in its place; returns the one that was there."""
        queue = self._made(replica.pool_id)
        old = queue.pool.members.replicas.get(replica.replica_id)
        if old is not None:
            self.prober.forget(old)
        replica.breaker = Breaker(queue.pool.policy.breaker)  # it may have changed since
        queue.put(replica)
        self.prober.watch(replica, lambda: queue.pool.policy)
        self._serve(queue)
        return old

    def _made(self, pool_id: str) -> Queue:
        queue = self.queues.get(pool_id)
        if queue is None:
            pool = Pool(pool_id, self.policy(pool_id), self._observers.notify)
            queue = self.queues[pool_id] = Queue(pool)
        return queue

    # Going

    def take_out(self, pool_id: str, replica_id: str) -> Replica:
        """Remove the replica. A pool without replicas ceases to exist, unless it was declared.

        Raises:
            LookupError: If there is no such replica.
        """
        queue, replica = self.find(pool_id, replica_id)
        self.prober.forget(replica)
        queue.pool.members.remove(replica)
        self._drop_if_empty(queue)
        self._serve(queue)
        return replica

    def _drop_if_empty(self, queue: Queue) -> None:
        pool = queue.pool
        if not pool.members.replicas and pool.pool_id not in self._policies:
            del self.queues[pool.pool_id]
            pool.is_gone = True

    async def retire(self, replica: Replica) -> None:
        """Close its adapter after its last stream; wait for the close if nothing runs."""
        closing = self.close_after_last(replica)
        if replica.is_idle:
            await asyncio.wait({closing})

    def close_after_last(self, replica: Replica) -> "asyncio.Task[None]":
        """Close its adapter after its last stream."""
        task = asyncio.create_task(_close(replica), name=f"close {replica.replica_id}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    async def aclose(self) -> None:
        """End every health check, then close every adapter after its last stream."""
        await self.prober.aclose()
        for queue in self.queues.values():
            for replica in queue.pool.members.replicas.values():
                replica.cancel_alarm()
                self.close_after_last(replica)
        self.queues.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    # Serving

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Group the changes in the block: no waiting job is served in between."""
        self._touched = set()
        try:
            yield
        finally:
            touched, self._touched = self._touched, None
            for queue in touched:
                queue.recheck()

    def _serve(self, queue: Queue) -> None:
        if self._touched is None:
            queue.recheck()
        else:
            self._touched.add(queue)

    # What is learnt

    def _learn(self, replica: Replica, status: HealthStatus, props: EngineProps | None) -> None:
        queue = self.queues.get(replica.pool_id)
        if queue is None or not queue.pool.members.is_present(replica):
            return
        members, before = queue.pool.members, (replica.state, replica.names, replica.props)
        members.note_health(replica, status, props)
        replica.sample(asyncio.get_running_loop().time())
        if before != (replica.state, replica.names, replica.props):
            queue.recheck()


class Overview:
    """The known facts of a host's pools and engines.

    Args:
        places: Its pools.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._loop: asyncio.AbstractEventLoop | None = None

    async def check(self, pool_id: str) -> PoolHealth:
        """Check every replica of the pool now, all at once, and wait for the answers; LookupError
        if there is no such pool."""
        queue = self._places.queue(pool_id)
        limit_s = queue.pool.policy.probe_timeout_s
        check = self._places.prober.check
        await asyncio.gather(*(check(r, limit_s) for r in queue.pool.members.replicas.values()))
        return await self.health(pool_id)

    async def health(self, pool_id: str) -> PoolHealth:
        """Return the pool's health as last checked, with its breakers. It does not wait;
        LookupError if there is no such pool."""
        replicas = self._places.queue(pool_id).pool.members.replicas
        names = sorted(replicas)
        return PoolHealth.of(
            pool_id,
            {name: replicas[name].status for name in names},
            {name: replicas[name].breaker.state for name in names},
        )

    async def props(self, pool_id: str) -> Mapping[str, EngineProps]:
        """Return the engine properties of each replica, by replica_id: as learnt when the replica
        last became ready, empty before (ORCH-3603). It does not wait; LookupError if there is no
        such pool."""
        replicas = self._places.queue(pool_id).pool.members.replicas
        return {name: replicas[name].props or EngineProps() for name in sorted(replicas)}

    def pool_props(self, pool_id: str) -> EngineProps:
        """Return the combined properties of the replicas that accept work: all of their models and
        slots, the smallest context. It does not wait; LookupError if there is no such pool."""
        return self._places.queue(pool_id).pool.props()

    def models(self) -> dict[str, tuple[str, ...]]:
        """Return the names that each pool is known to serve, by pool_id. It does not wait."""
        queues = self._places.queues
        return {name: queues[name].pool.models() for name in sorted(queues)}

    def adapter(self, pool_id: str, replica_id: str) -> BoundAdapter:
        """Return the adapter that is bound there now; LookupError if there is no such replica."""
        return self._places.find(pool_id, replica_id)[1].adapter

    def snapshot(self) -> HostSnapshot:
        """Return every pool and replica as known at this moment."""
        queues, now = self._places.queues, 0.0 if self._loop is None else self._loop.time()
        return HostSnapshot(tuple(queues[name].snapshot(now) for name in sorted(queues)))


async def prepared(places: Places, replicas: Sequence[Replica]) -> None:
    """Prepare all of them concurrently.

    Raises:
        SwapError: With every one that could not be prepared in time.
    """

    async def in_time(replica: Replica) -> None:
        call = asyncio.create_task(places.prepare(replica))
        try:
            await result_in_time(call, START_S)
        except TimeoutError as error:
            if call.done() and not call.cancelled():  # the adapter's own
                raise
            raise TooSlow from error

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
    """Close the adapter.

    Raises:
        TimeoutError: If it takes longer than CLOSE_S.
        Exception: Any exception of its close.
    """
    await result_in_time(asyncio.create_task(adapter.aclose()), CLOSE_S)


async def _close(replica: Replica) -> None:
    await replica.until_idle()
    try:
        await close_in_time(replica.adapter)
    except TimeoutError:
        _warn(replica, f"takes more than {CLOSE_S:g} s, and the host no longer waits for it")
    except Exception as error:
        # The exception's text may contain a key, so it is logged at DEBUG only.
        _warn(replica, f"failed with {type(error).__name__}", error)


def _warn(replica: Replica, what: str, error: Exception | None = None) -> None:
    logger.warning(
        "closing the adapter of replica %s in pool %s %s",
        replica.replica_id,
        replica.pool_id,
        what,
        exc_info=error if logger.isEnabledFor(logging.DEBUG) else None,
    )
