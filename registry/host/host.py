"""AdapterHost: many engines behind one submit (AH-1001..1006)."""

import asyncio
import logging
import random
from collections.abc import Collection, Iterable, Mapping
from typing import Self
from weakref import WeakValueDictionary, ref

from adapter_api.errors import EngineUnavailable, ErrorCode
from adapter_api.ledger import Explanation
from adapter_api.limits import StreamClock
from adapter_api.stream import TokenStream
from adapter_api.table import StreamMap
from adapter_api.task import TaskRequest, new_id, require_task
from registry.adapter import BoundAdapter
from registry.host.dispatch import Job
from registry.host.front import HostPool
from registry.host.jobs import PRIORITIES, Ledger, Priority
from registry.host.places import Key, Overview, Places, ReplacedMeanwhile, SwapError, prepared
from registry.host.policy import PoolPolicy
from registry.host.queue import Queue
from registry.host.snapshot import Binding
from registry.observers.notify import Observers
from registry.observers.reports import JobReport, host_notice
from registry.registry import Registry

logger = logging.getLogger("worker_adapters.host")


class AdapterHost(Overview):
    """Pools of replicas behind one submit (ORCH-3056).

    Use it with `async with`, or call `aclose`. It belongs to the event loop it is first used in.
    An adapter that is bound belongs to the host, which closes it: after its last stream when it is
    unbound or replaced, or in `aclose`.

    Args:
        registry: Its observers are the host's, too.
        defaults: The policy of pools that have none of their own.
        observers: The observers of its jobs, attempts, replicas and breakers. Those of the bound
            adapters' registries are notified, too, each once.
        rng: Spreads health checks and pauses; a seeded one makes a simulation repeatable.
    """

    def __init__(
        self,
        *,
        registry: Registry | None = None,
        defaults: PoolPolicy | None = None,
        observers: Iterable[object] = (),
        rng: random.Random | None = None,
    ) -> None:
        self.defaults = PoolPolicy() if defaults is None else defaults
        self.registry = registry
        self._observers = Observers(observers)
        if registry is not None:
            self._observers.include(registry.observers)
        self._rng = random.Random() if rng is None else rng
        super().__init__(Places(self.defaults, self._observers, self._rng))
        self._ledger = Ledger()
        self._running: StreamMap[ref[Job]] = StreamMap()
        self._rebinding: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self._closed = False

    # Replicas

    def set_policy(self, pool_id: str, policy: PoolPolicy | None) -> None:
        """Declare a pool: give it its own policy instead of the defaults.

        A declared pool may have no replicas: its jobs wait `ready_wait_s` for one. Breakers and the
        retry budget start over; jobs that wait keep their places.

        Args:
            pool_id: The pool.
            policy: Its limits; None withdraws the declaration.
        """
        if policy is None:
            self._places.forget(pool_id)
        else:
            self._places.declare(pool_id, policy)

    def bind(
        self,
        pool_id: str,
        replica_id: str,
        adapter: BoundAdapter | object,
        *,
        limit: int | None = None,
        weight: float = 1.0,
        priority: int = 0,
        model: str | None = None,
        aliases: Iterable[str] = (),
    ) -> None:
        """Add a replica. It gets work as soon as its first health check reports that it is ready.

        Args:
            pool_id: Its pool; created if it does not exist.
            replica_id: Its name in the pool.
            adapter: Its adapter, started or not, from a registry or made by hand. The host closes
                it from now on.
            limit: The maximum number of streams; None: the engine's own, or the policy's.
            weight: Its share of the load compared with the other replicas.
            priority: Replicas with a higher number get work only where none with a lower has room.
            model: The engine's own name of its model: sent where a task names none, or an alias.
            aliases: Other names by which tasks may ask for that model.

        Raises:
            ValueError: If the pool has a replica of that name, the limit is below 1, or the weight
                not above 0.
            ContractError: If an object that is not from a registry is not an adapter. RuntimeError:
                If the host is closed, or outside its event loop.
        """
        self._check_open()
        if self._places.get(pool_id, replica_id) is not None:
            raise ValueError(
                f"pool {pool_id!r} has a replica {replica_id!r}: use rebind to replace its adapter"
            )
        names = tuple(aliases)
        binding = Binding(
            adapter, limit=limit, weight=weight, priority=priority, model=model, aliases=names
        )
        self._places.put(self._places.new_replica(pool_id, replica_id, binding))

    async def rebind(
        self,
        pool_id: str,
        replica_id: str,
        adapter: BoundAdapter | object,
        *,
        limit: int | None = None,
        weight: float = 1.0,
        priority: int = 0,
        model: str | None = None,
        aliases: Iterable[str] = (),
    ) -> None:
        """Replace a replica's adapter, atomically for all callers (AH-1001).

        The new adapter is started and checked first. Streams in flight finish on the old adapter,
        which closes after the last of them. A drain of the replica ends.

        Args:
            pool_id: The pool.
            replica_id: The replica.
            adapter: The new adapter. The host closes it from the moment it is in place.
            limit: As for `bind`, like the following; previous settings are discarded.
            weight: See `bind`.
            priority: See `bind`.
            model: See `bind`.
            aliases: See `bind`.

        Raises:
            LookupError: If there is no such replica, or it was unbound in the meantime.
            ValueError: If the limit is below 1, or the weight not above 0.
            ContractError: If what was made by hand is not an adapter.
            Exception: Any exception of the adapter's start. Then nothing has changed.
        """
        names = tuple(aliases)
        binding = Binding(
            adapter, limit=limit, weight=weight, priority=priority, model=model, aliases=names
        )
        async with self._rebinding.setdefault((pool_id, replica_id), asyncio.Lock()):
            self._check_open()
            self._places.find(pool_id, replica_id)
            replica = self._places.new_replica(pool_id, replica_id, binding)
            await self._places.prepare(replica)
            self._check_open()
            self._places.find(pool_id, replica_id)  # it may have been unbound in the meantime
            old = self._places.put(replica)
        assert old is not None
        await self._places.retire(old)

    async def swap(
        self,
        bindings: Mapping[Key, Binding],
        gone: Collection[Key] = (),
        policies: Mapping[str, PoolPolicy | None] | None = None,
    ) -> None:
        """Replace several replicas atomically: a job sees the old set or the new one.

        The new adapters are started and checked first. Old ones close after their last stream.

        Args:
            bindings: New replicas, and other adapters for existing ones. The host owns the adapters
                from the moment they are in place.
            gone: The replicas to unbind, if they still exist.
            policies: The policies of pools, as for `set_policy`.

        Raises:
            SwapError: If adapters do not start, or another task changed one of these replicas in
                the meantime. Then nothing has changed.
            ContractError: If what was made by hand is not an adapter.
            RuntimeError: If the host is closed. Then nothing has changed.

        Cancellation:
            Nothing has changed.
        """
        places = self._places
        before = {key: places.get(*key) for key in bindings}
        replicas = [places.new_replica(*key, binding) for key, binding in bindings.items()]
        await prepared(places, replicas)
        self._check_open()
        changed = [key for key in bindings if places.get(*key) is not before[key]]
        if changed:
            raise SwapError(dict.fromkeys(changed, ReplacedMeanwhile()))
        # From here on nothing is awaited until everything is in place.
        with places.at_once():
            for pool_id, policy in (policies or {}).items():
                if policy is not None:
                    places.declare(pool_id, policy)
            olds = [places.put(replica) for replica in replicas]
            olds += [places.take_out(*key) for key in gone if places.get(*key) is not None]
            for pool_id, policy in (policies or {}).items():
                if policy is None:
                    places.forget(pool_id)
        for old in olds:
            if old is not None:
                places.close_after_last(old)

    async def unbind(self, pool_id: str, replica_id: str) -> None:
        """Remove a replica from its pool.

        It gets no work from now on, and its adapter closes after its last stream. The call waits
        for the close only if nothing runs.

        Raises:
            LookupError: If there is no such replica.
        """
        await self._places.retire(self._places.take_out(pool_id, replica_id))

    async def drain(
        self, pool_id: str, replica_id: str | None = None, timeout_s: float | None = None
    ) -> bool:
        """Let running jobs end, and start no new ones.

        A drained replica stays in its pool, in state "draining", until it is unbound or rebound.
        A drained pool refuses new jobs; once those it has are over its replicas are drained. A
        replica that is bound to it later opens it again.

        Args:
            pool_id: The pool.
            replica_id: The replica; None for the whole pool.
            timeout_s: The maximum time to wait, in seconds; None for no limit.

        Returns:
            True once nothing runs; False if that took too long, or the pool was opened again in the
            meantime. No job is interrupted in any case.

        Raises:
            LookupError: If there is no such pool or replica.
        """
        queue = self._places.queue(pool_id)
        replicas = []
        if replica_id is None:
            queue.shut()
        else:
            replicas = [self._places.find(pool_id, replica_id)[1]]
            queue.drain(replicas)
        try:
            async with asyncio.timeout(timeout_s):
                if replica_id is None:
                    if not await queue.finish():
                        return False
                    queue.drain(list(queue.pool.members.replicas.values()))
                for replica in replicas:
                    await replica.until_idle()
        except TimeoutError:
            return False
        return True

    # Jobs

    def pool(self, pool_id: str) -> HostPool:
        """Return the pool as an adapter, for code that takes an adapter."""
        return HostPool(self, pool_id)

    def submit(
        self, pool_id: str, task: TaskRequest, *, priority: Priority = "interactive"
    ) -> TokenStream:
        """Run `task` on a replica of the pool. Nothing is sent before the stream is opened.

        Waiting, attempts and the answer are all charged to one deadline: the task's, or the one of
        the pool's policy. A task without correlation_id gets a random UUID for one (AH-1003).

        Args:
            pool_id: The pool.
            task: The job.
            priority: "interactive" jobs go before "batch" jobs.

        Returns:
            Its events. Opening it raises if the job gets no answer: ADMISSION_REJECT if the queue
            is full, POOL_UNAVAILABLE if no replica is ready, CIRCUIT_OPEN if every breaker is open,
            or the last attempt's error.

        Raises:
            TypeError: If `task` is not a TaskRequest.
            ValueError: If the priority is neither "interactive" nor "batch".
            RuntimeError: Outside the host's event loop.
        """
        require_task(task)
        if priority not in PRIORITIES:
            raise ValueError(f"priority must be one of {PRIORITIES}, got {priority!r}")
        self._check_loop()
        deadline_s = task.deadline_s or self._places.policy(pool_id).deadline_s
        correlation_id = task.correlation_id or new_id()
        limits = StreamClock(deadline_s)
        notice = host_notice(pool_id)
        report = JobReport(self._observers, task, notice, correlation_id=correlation_id)
        job = Job(task, correlation_id, priority, limits, report, self._rng)
        events = job.events(pool_id, self._find_queue, self._ledger)
        stream = TokenStream(events, task, clock=limits, checked=True).watch(report)
        self._running.put((pool_id, stream.job_id), stream, ref(job))
        return stream

    async def cancel(self, pool_id: str, job_id: str) -> bool:
        """Stop a job, whether it waits or runs. No Token comes after this returns (AH-1004).

        Returns:
            True if a running job was stopped; False for an unknown id.
        """
        stopped = False
        for stream, known in self._running.get((pool_id, job_id)):
            job = known()
            if job is None:  # it has ended
                continue
            replica = job.replica
            if replica is None or not replica.adapter.stops_on_request:
                stopped |= await stream.cancel()
                continue
            with replica.kept():
                stopped |= await stream.cancel()
                try:
                    stopped |= await replica.adapter.cancel(job_id)
                except Exception as error:  # of the adapter's code; the stream has ended
                    logger.warning(
                        "stopping a job on replica %s of pool %s failed: %s",
                        replica.replica_id,
                        pool_id,
                        type(error).__name__,
                    )
        return stopped

    def explain(self, job_id: str) -> Explanation | None:
        """Return every attempt, skip, wait and choice of a job; None if it is unknown."""
        return self._ledger.explain(job_id)

    def outcome(self, job_id: str) -> str | None:
        """Return how a job ended: "ok" or a code; None while it runs or if it is unknown."""
        return self._ledger.outcome(job_id)

    def attempted_replicas(self, job_id: str) -> tuple[str, ...]:
        """Return the replica of each attempt of a job so far, in order; empty for an unknown id."""
        return self._ledger.attempted_replicas(job_id)

    # Lifecycle

    async def aclose(self) -> None:
        """End every job, then every health check, then close every adapter. Idempotent."""
        self._closed = True
        await asyncio.gather(*(stream.aclose() for stream in self._running.streams()))
        await self._places.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the host is closed: make a new one")
        self._check_loop()

    def _check_loop(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "a host needs a running event loop: make, bind and use it inside one `async def`, "
                "or use registry.sync.host"
            ) from None
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("the host belongs to another event loop: make one in each loop")

    def _find_queue(self, pool_id: str, current: Queue | None) -> Queue:
        """Return the queue that a job joins; for one that is in a queue, the pool's current one."""
        queue = None if self._closed else self._places.queues.get(pool_id)
        if current is not None:
            return current if queue is None else queue
        if queue is None:
            why = "the host is closed" if self._closed else self._places.no_pool(pool_id)
            raise EngineUnavailable(ErrorCode.POOL_UNAVAILABLE, why, retriable=False)
        if queue.pool.draining:
            raise EngineUnavailable(
                ErrorCode.POOL_UNAVAILABLE, f"pool {pool_id!r} is draining", retriable=False
            )
        return queue
