"""AdapterHost: many engines behind one submit (AH-1001..1006)."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary, WeakValueDictionary

import attrs

from adapter_api.errors import EngineUnavailable, ErrorCode
from adapter_api.health import EngineProps
from adapter_api.limits import StreamClock
from adapter_api.stream import TokenStream
from adapter_api.task import TaskRequest, new_id
from registry.adapter import BoundAdapter
from registry.host.admission import PRIORITIES, Priority
from registry.host.attempts import Explanation, Ledger
from registry.host.dispatch import Job
from registry.host.line import Line
from registry.host.places import (
    Binding,
    Key,
    Places,
    ReplacedMeanwhile,
    SwapError,
    prepared,
)
from registry.host.policy import PoolPolicy
from registry.host.snapshot import HostSnapshot, PoolHealth
from registry.observers import Observers

if TYPE_CHECKING:
    from registry.registry import Registry


class AdapterHost:
    """Pools of replicas behind one submit (ORCH-3056).

    Use it with `async with`, or call `aclose`. It belongs to one event loop. An adapter that is
    bound belongs to the host, which closes it: after its last stream when it is unbound or
    replaced, or in `aclose`.

    Args:
        registry: Where adapters come from that are bound by name, as `from_file` does.
        defaults: The policy of pools that have none of their own.
        observers: Objects with ObserverHooks, notified of jobs, attempts, replicas and breakers,
            together with the observers of the registry and of bound adapters, each once.
        clock: Seconds of a monotonic clock, for breakers, budgets and the ledger.
    """

    def __init__(
        self,
        *,
        registry: "Registry | None" = None,
        defaults: PoolPolicy | None = None,
        observers: Iterable[object] = (),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.registry = registry
        self.defaults = PoolPolicy() if defaults is None else defaults
        self._clock = clock
        self._observers = Observers(observers)
        if registry is not None:
            self._observers.include(registry.observers)
        self._places = Places(self.defaults, self._observers, clock)
        self._ledger = Ledger(clock=clock)
        self._jobs: WeakKeyDictionary[TokenStream, tuple[str, Job]] = WeakKeyDictionary()
        self._rebinding: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self._closed = False

    # Replicas

    def set_policy(self, pool_id: str, policy: PoolPolicy) -> None:
        """Give the pool its own policy instead of the defaults, now and when it is bound anew.

        Breakers and the retry budget begin afresh; jobs that wait keep their places.
        """
        self._places.set_policy(pool_id, policy)

    def bind(
        self,
        pool_id: str,
        replica_id: str,
        adapter: BoundAdapter | object,
        *,
        limit: int | None = None,
    ) -> None:
        """Add a replica. It gets work as soon as its first health check says that it is ready.

        Args:
            pool_id: Its pool; made if there is none of that name.
            replica_id: Its name in the pool.
            adapter: Its adapter, started or not, from a registry or made by hand. The host closes
                it from now on.
            limit: The most streams at once; None: what the engine says, or the policy.

        Raises:
            ValueError: If the pool has a replica of that name, or the limit is below 1.
            ContractError: If what was made by hand is no adapter.
            RuntimeError: If the host is closed, or outside of an event loop.
        """
        self._check_open()
        asyncio.get_running_loop()
        if self._places.get(pool_id, replica_id) is not None:
            raise ValueError(
                f"pool {pool_id!r} has a replica {replica_id!r}: use rebind to replace its adapter"
            )
        self._places.put(self._places.new_replica(pool_id, replica_id, Binding(adapter, limit)))

    async def rebind(
        self,
        pool_id: str,
        replica_id: str,
        adapter: BoundAdapter | object,
        *,
        limit: int | None = None,
    ) -> None:
        """Put another adapter in a replica's place, at once for all callers (AH-1001).

        The new adapter is started and asked for its health first. Streams in flight finish on the
        old adapter, which closes after the last of them. A drain of the replica ends.

        Args:
            pool_id: The pool.
            replica_id: The replica.
            adapter: The new adapter. The host closes it from the moment it is in place.
            limit: As for `bind`; None forgets the former limit.

        Raises:
            LookupError: If there is no such replica (any more).
            ValueError: If the limit is below 1.
            ContractError: If what was made by hand is no adapter.
            Exception: What the start of the adapter raises. Then nothing has changed.
        """
        binding = Binding(adapter, limit)
        async with self._rebinding.setdefault((pool_id, replica_id), asyncio.Lock()):
            self._check_open()
            self._places.find(pool_id, replica_id)
            replica = self._places.new_replica(pool_id, replica_id, binding)
            await self._places.prepare(replica)
            self._check_open()
            self._places.find(pool_id, replica_id)  # it may have been unbound meanwhile
            old = self._places.put(replica)
        assert old is not None
        await self._places.retire(old)

    async def swap(
        self,
        bindings: Mapping[Key, Binding],
        gone: Collection[Key] = (),
        policies: Mapping[str, PoolPolicy] | None = None,
    ) -> None:
        """Change many replicas in one moment: a job finds all as it was, or all as it shall be.

        The new adapters are started and asked for their health first. Streams in flight finish on
        the old ones, which close after the last of them; nobody waits for that here.

        Args:
            bindings: What is bound, by pool and replica: new replicas, and other adapters for those
                that are there. The adapters are the host's from the moment they are in place.
            gone: Which replicas are unbound, where they are still there.
            policies: The policies of pools.

        Raises:
            SwapError: If adapters do not start, or somebody else has changed one of these places
                meanwhile. Then nothing has changed.
            ContractError: If what was made by hand is no adapter.
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
        # From here on nobody waits for anything until all is as it shall be.
        with places.at_once():
            olds = [places.put(replica) for replica in replicas]
            olds += [places.take_out(*key) for key in gone if places.get(*key) is not None]
            for pool_id, policy in (policies or {}).items():
                places.set_policy(pool_id, policy)
        for old in olds:
            if old is not None:
                places.close_after_last(old)

    async def unbind(self, pool_id: str, replica_id: str) -> None:
        """Take a replica out of its pool. It gets no work from now on, and its adapter closes
        after its last stream; this waits for that only where nothing runs.

        Raises:
            LookupError: If there is no such replica.
        """
        await self._places.retire(self._places.take_out(pool_id, replica_id))

    async def drain(
        self, pool_id: str, replica_id: str | None = None, timeout_s: float | None = None
    ) -> bool:
        """Let what runs come to its end, and begin nothing new.

        A drained replica stays in its pool, in state "draining", until it is unbound or rebound.
        A drained pool refuses new jobs, while those that wait or run come to their end as ever,
        from one replica to another if need be; then its replicas are drained. A replica that is
        bound to it later opens it again.

        Args:
            pool_id: The pool.
            replica_id: The replica; None for the whole pool.
            timeout_s: The longest to wait, in seconds; None for no limit.

        Returns:
            True once nothing runs; False if that took too long, or the pool was opened again
            meanwhile. Nothing is cut off in any case.

        Raises:
            LookupError: If there is no such pool or replica.
        """
        line = self._places.line(pool_id)
        replicas = []
        if replica_id is None:
            line.shut()
        else:
            replicas = [self._places.find(pool_id, replica_id)[1]]
            line.drain(replicas)
        try:
            async with asyncio.timeout(timeout_s):
                if replica_id is None:
                    if not await line.finish():
                        return False
                    line.drain(list(line.pool.replicas.values()))
                for replica in replicas:
                    await replica.idle.wait()
        except TimeoutError:
            return False
        return True

    # Jobs

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
            Its events. Opening it raises what kept the job from being answered: ADMISSION_REJECT
            where the line is full, POOL_UNAVAILABLE where no replica is ready, CIRCUIT_OPEN where
            all are left alone, or the last attempt's error.
        """
        if priority not in PRIORITIES:
            raise ValueError(f"priority must be one of {PRIORITIES}, got {priority!r}")
        task = self._completed(pool_id, task)
        limits = StreamClock(task.deadline_s)
        report = self._observers.job(task, pool_id)
        job = Job(task, priority, limits, self._clock, report)
        events = job.events(
            partial(self._admitting, pool_id),
            lambda line: self._places.lines.get(pool_id, line),
            partial(self._ledger.open, task.job_id, pool_id),
        )
        stream = TokenStream(events, task, clock=limits).watch(job.report)
        self._jobs[stream] = (pool_id, job)
        return stream

    def _completed(self, pool_id: str, task: TaskRequest) -> TaskRequest:
        deadline_s = self._places.policy(pool_id).deadline_s if task.deadline_s is None else None
        changes: dict[str, Any] = {}
        if deadline_s is not None:
            changes["deadline_s"] = deadline_s
        if task.correlation_id is None:
            changes["correlation_id"] = new_id()
        return attrs.evolve(task, **changes) if changes else task

    async def cancel(self, pool_id: str, job_id: str) -> bool:
        """Stop a job, wherever it is on its way. No Token comes after this returns (AH-1004).

        Returns:
            True if a running job was stopped; False for an unknown id.
        """
        stopped = False
        for stream, (pool, job) in list(self._jobs.items()):
            if pool == pool_id and stream.job_id == job_id:
                replica = job.replica
                with nullcontext() if replica is None else replica.kept():
                    stopped |= await stream.cancel()
                    if replica is not None:  # some engines stop only when they are told
                        stopped |= await replica.adapter.cancel(job_id)
        return stopped

    def explain(self, job_id: str) -> Explanation | None:
        """Every attempt, skip, wait and choice of a job; None if it is unknown or forgotten."""
        return self._ledger.explain(job_id)

    # The engines

    async def health(self, pool_id: str) -> PoolHealth:
        """Check every replica of the pool now, all at once.

        Raises:
            LookupError: If there is no such pool.
        """
        pool = self._places.line(pool_id).pool
        replicas = [pool.replicas[name] for name in sorted(pool.replicas)]
        limit_s = pool.policy.probe_timeout_s
        found = await asyncio.gather(*(self._places.prober.check(r, limit_s) for r in replicas))
        names = [replica.replica_id for replica in replicas]
        return PoolHealth.of(pool_id, dict(zip(names, found, strict=True)))

    async def props(self, pool_id: str) -> Mapping[str, EngineProps]:
        """What the engine of each replica can do, by replica_id; as it was when the replica last
        became ready (ORCH-3603).

        Raises:
            LookupError: If there is no such pool.
        """
        pool = self._places.line(pool_id).pool
        replicas = [pool.replicas[name] for name in sorted(pool.replicas)]
        unknown = [replica for replica in replicas if replica.props is None]
        limit_s = pool.policy.probe_timeout_s
        for replica, props in zip(
            unknown,
            await asyncio.gather(*(self._places.prober.ask_props(r, limit_s) for r in unknown)),
            strict=True,
        ):
            if props is not None:
                replica.note_props(props)
        return {r.replica_id: r.props or EngineProps() for r in replicas}

    def models(self) -> dict[str, tuple[str, ...]]:
        """Return the names that each pool is known to serve, by pool_id; never waits."""
        return {
            pool_id: tuple(
                name
                for replica in line.pool.replicas.values()
                for name in (replica.props.models if replica.props else ())
            )
            for pool_id, line in self._places.lines.items()
        }

    async def check(self, pool_id: str) -> PoolHealth:
        """Check every replica of the pool now."""
        return await self.health(pool_id)

    def adapter(self, pool_id: str, replica_id: str) -> BoundAdapter:
        """The adapter that is bound there now.

        Raises:
            LookupError: If there is no such replica.
        """
        return self._places.find(pool_id, replica_id)[1].adapter

    def snapshot(self) -> HostSnapshot:
        """Every pool and replica, as it is now."""
        lines, now = self._places.lines, self._clock()
        return HostSnapshot(tuple(lines[name].snapshot(now) for name in sorted(lines)))

    # Lifecycle

    async def aclose(self) -> None:
        """End every job, then every health check, then close every adapter. Idempotent."""
        self._closed = True
        await asyncio.gather(*(stream.aclose() for stream in list(self._jobs)))
        await self._places.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the host is closed: make a new one")

    def _admitting(self, pool_id: str) -> Line:
        """The line a new job joins."""
        line = None if self._closed else self._places.lines.get(pool_id)
        if line is None:
            why = "the host is closed" if self._closed else f"there is no pool {pool_id!r}"
            raise EngineUnavailable(ErrorCode.POOL_UNAVAILABLE, why, retriable=False)
        if line.pool.draining:
            raise EngineUnavailable(
                ErrorCode.POOL_UNAVAILABLE, f"pool {pool_id!r} is draining", retriable=False
            )
        return line
