"""Anything may happen to a host in any order, and it keeps its books."""

import asyncio
import gc
import warnings
from collections.abc import Coroutine
from typing import Any, TypeVar

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from adapter_api import (
    AuthenticationFailed,
    CapacityExceeded,
    End,
    EngineUnavailable,
    Error,
    ErrorCode,
    Started,
    Token,
    TokenEvent,
    TokenStream,
    WorkerError,
    WorkerReset,
)
from registry import AdapterHost, PoolPolicy
from registry.host.breaker import BreakerPolicy
from registry.host.replica import Replica
from tests.engines_in_process import BUSY, DOWN, LOADING, READY, Engine, task

_T = TypeVar("_T")

POLICY = PoolPolicy(
    max_queue=4,
    queue_full="drop_oldest_batch",
    ready_wait_s=0.05,
    probe_interval_s=0.01,
    breaker=BreakerPolicy(failures=3, open_s=0.01),
)
FAILURES = [
    None,
    WorkerReset(ErrorCode.WORKER_RESET, "scripted"),
    EngineUnavailable(ErrorCode.POOL_UNAVAILABLE, "scripted"),
    CapacityExceeded(ErrorCode.ADMISSION_REJECT, "busy", status=429),
    AuthenticationFailed(ErrorCode.UPSTREAM_AUTH, "no key", status=401),
    WorkerReset(ErrorCode.WORKER_RESET, "image input is not supported", status=500),
]
CLOSING_TURNS = 100
PLACES = st.tuples(st.sampled_from(["p", "q"]), st.sampled_from(["a", "b"]))


@attrs.define(eq=False)
class Reader:
    """A stream, and what came of it."""

    stream: TokenStream | None
    pool_id: str
    seen: list[TokenEvent] = attrs.field(factory=list)
    error: WorkerError | None = None
    was_stopped: bool = False
    reading: "asyncio.Task[None] | None" = None

    async def read(self, count: int) -> None:
        """Read on, at most `count` events."""
        assert self.stream is not None
        try:
            for _ in range(count):
                self.seen.append(await anext(self.stream))
        except StopAsyncIteration:
            pass
        except WorkerError as error:
            self.error = error

    @property
    def failure(self) -> WorkerError | None:
        """Return the stream's error, before or after Started."""
        last = self.seen[-1] if self.seen else None
        return last.error if isinstance(last, Error) else self.error

    @property
    def is_over(self) -> bool:
        """Return whether the stream ended."""
        return self.error is not None or (
            bool(self.seen) and isinstance(self.seen[-1], End | Error)
        )

    def check(self) -> None:
        """Assert that the events are in order, and of one engine."""
        tokens = [event for event in self.seen if isinstance(event, Token)]
        assert [token.index for token in tokens] == list(range(len(tokens)))
        assert len({token.text[0] for token in tokens}) <= 1
        assert sum(isinstance(event, Started) for event in self.seen) == bool(self.seen)
        if self.failure is not None and self.failure.code is ErrorCode.CANCELLED:
            assert self.was_stopped


class HostMachine(RuleBasedStateMachine):
    """Drives a host over engines in process; its loop runs only within rules."""

    readers = Bundle("readers")

    @initialize()
    def begin(self) -> None:
        """A host with one replica in each pool."""
        self.loop = asyncio.new_event_loop()
        self.engines: list[Engine] = []
        self.placed: list[tuple[Engine, Replica]] = []
        self.all_readers: list[Reader] = []
        self.run(self._make_host())
        self.bind(("p", "a"), None)
        self.bind(("q", "a"), 1)

    async def _make_host(self) -> None:
        self.host = AdapterHost(defaults=POLICY)

    def run(self, work: Coroutine[Any, Any, _T], turns: int = 10) -> _T:
        """Do it, and let the loop continue for some turns."""

        async def all_of_it() -> _T:
            result = await work
            for _ in range(turns):
                await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(asyncio.wait_for(all_of_it(), 20.0))

    def _new_engine(self) -> Engine:
        engine = Engine(chr(ord("A") + len(self.engines) % 26), gate=asyncio.Event())
        engine.gate.set()
        self.engines.append(engine)
        return engine

    def _is_bound(self, place: tuple[str, str]) -> bool:
        return any(
            (replica.pool_id, replica.replica_id) == place
            for pool in self.host.snapshot().pools
            for replica in pool.replicas
        )

    def _note_place(self, place: tuple[str, str], engine: Engine) -> None:
        self.placed.append((engine, self.host._places.find(*place)[1]))

    # What the application does

    @rule(place=PLACES, limit=st.sampled_from([None, 1, 2]))
    def bind(self, place: tuple[str, str], limit: int | None) -> None:
        """A new replica, or another adapter for one that is there."""
        engine = self._new_engine()

        async def put() -> None:
            if self._is_bound(place):
                await self.host.rebind(*place, engine.bound(), limit=limit)
            else:
                self.host.bind(*place, engine.bound(), limit=limit)
            self._note_place(place, engine)

        self.run(put())

    @rule(
        pool_id=st.sampled_from(["p", "q"]),
        policy=st.sampled_from(
            [
                None,
                POLICY,
                attrs.evolve(POLICY, fallback=("q",), max_queue=1),
                attrs.evolve(POLICY, fallback=("p", "nowhere"), batch_share=0.5),
            ]
        ),
    )
    def declare(self, pool_id: str, policy: PoolPolicy | None) -> None:
        """A pool gets a policy of its own, or loses it."""

        async def use() -> None:
            self.host.set_policy(pool_id, policy)

        self.run(use())

    @rule(place=PLACES)
    def unbind(self, place: tuple[str, str]) -> None:
        """A replica goes."""
        if self._is_bound(place):
            self.run(self.host.unbind(*place))

    @rule(place=PLACES, whole=st.booleans())
    def drain(self, place: tuple[str, str], whole: bool) -> None:
        """A replica or a pool gets no new work."""
        if self._is_bound(place):
            self.run(self.host.drain(place[0], None if whole else place[1], timeout_s=0.0))

    @rule(
        target=readers,
        pool_id=st.sampled_from(["p", "q"]),
        priority=st.sampled_from(["interactive", "batch"]),
        session_id=st.sampled_from([None, "s"]),
        count=st.integers(0, 3),
    )
    def submit(self, pool_id: str, priority: Any, session_id: str | None, count: int) -> Reader:
        """A job, of which some events are read."""
        job = task(str(len(self.all_readers)), session_id=session_id)

        async def make() -> Reader:
            return Reader(self.host.submit(pool_id, job, priority=priority), pool_id)

        reader = self.run(make())
        self.all_readers.append(reader)
        if count:
            self.read(reader, count)
        return reader

    @rule(reader=readers, count=st.integers(1, 6))
    def read(self, reader: Reader, count: int) -> None:
        """Start reading a stream; it may have to wait."""
        if reader.reading is None or reader.reading.done():
            reader.reading = self.loop.create_task(reader.read(count))
            self.run(asyncio.sleep(0))

    @rule(reader=readers)
    def stop_reading(self, reader: Reader) -> None:
        """The task that reads is cancelled."""
        if reader.reading is not None and reader.reading.cancel():
            reader.was_stopped = True
            self.run(asyncio.wait({reader.reading}))

    @rule(reader=readers)
    def cancel(self, reader: Reader) -> None:
        """A job is cancelled by its id: no token comes any more."""
        assert reader.stream is not None
        reader.was_stopped = True
        self.run(self.host.cancel(reader.pool_id, reader.stream.job_id))
        before = len([event for event in reader.seen if isinstance(event, Token)])
        self.run(asyncio.sleep(0))
        assert len([event for event in reader.seen if isinstance(event, Token)]) == before

    @rule(reader=readers)
    def close(self, reader: Reader) -> None:
        """Close a stream."""
        assert reader.stream is not None
        reader.was_stopped = True
        self.run(reader.stream.aclose())

    @rule(reader=consumes(readers))
    def drop(self, reader: Reader) -> None:
        """A stream is forgotten without being closed."""
        if reader.reading is not None and not reader.reading.done():
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            reader.stream = reader.reading = None
            gc.collect()
        self.run(asyncio.sleep(0))

    # What the world does

    @rule(index=st.integers(0, 5), failure=st.sampled_from(FAILURES), after=st.integers(-1, 2))
    def fail(self, index: int, failure: WorkerError | None, after: int) -> None:
        """An engine begins or ceases to fail."""
        engine = self.engines[-1 - index % len(self.engines)]
        engine.failure, engine.fail_after = failure, after

    @rule(index=st.integers(0, 5))
    def stall(self, index: int) -> None:
        """An engine stops giving tokens, or continues."""
        gate = self.engines[-1 - index % len(self.engines)].gate
        assert gate is not None
        if gate.is_set():
            gate.clear()
        else:
            gate.set()
            self.run(asyncio.sleep(0))

    @rule(index=st.integers(0, 5), status=st.sampled_from([READY, BUSY, LOADING, DOWN]))
    def change_health(self, index: int, status: Any) -> None:
        """Change an engine's health, and check it."""
        self.engines[-1 - index % len(self.engines)].status = status
        for pool in self.host.snapshot().pools:
            self.run(self.host.check(pool.pool_id))

    @rule()
    def time_passes(self) -> None:
        """Breakers half open, waits end, health checks are made."""
        self.run(asyncio.sleep(0.015))

    # What always holds

    @invariant()
    def leases_are_streams(self) -> None:
        """An adapter has as many leases as it has streams, and none is closed under one.

        A stream that is just being closed has its lease for some turns of the loop more.
        """
        for engine, replica in getattr(self, "placed", []):
            for _ in range(CLOSING_TURNS):
                if len(replica.leases) == engine.streams:
                    break
                self.run(asyncio.sleep(0), turns=0)
            assert len(replica.leases) == engine.streams
            assert not engine.cut
            assert engine.closed <= 1

    @invariant()
    def probes_are_attempts(self) -> None:
        """A breaker that waits for its probe has one: no replica is lost."""
        for _, replica in getattr(self, "placed", []):
            trials = list(replica.leases)
            assert not replica.breaker.is_probing or replica.breaker._probe in trials

    @invariant()
    def limits_are_kept(self) -> None:
        """No replica runs more than its limit."""
        for _, replica in getattr(self, "placed", []):
            assert replica.binding.limit is None or replica.load <= replica.binding.limit

    @invariant()
    def those_with_room_are_in_order(self) -> None:
        """Every candidate is in place, accepts work, has room, and has its true load."""
        for queue in self.host._places.queues.values() if hasattr(self, "host") else ():
            members = queue.pool.members
            for candidates in members.everyone.tiers.values():
                for candidate in candidates:
                    if candidate.replica_id in members._moved:  # until the next decision
                        continue
                    replica = members.replicas[candidate.replica_id]
                    assert replica.accepts
                    assert candidate.load == replica.load
                    assert candidate.limit is None or candidate.load < candidate.limit
            waiting = queue._lanes
            assert len(waiting) == len(list(waiting))
            assert all(turn.outcome is None for turn in waiting)

    @invariant()
    def streams_are_in_order(self) -> None:
        """No stream had a token twice, out of order, or from two engines."""
        for reader in getattr(self, "all_readers", []):
            reader.check()

    def teardown(self) -> None:
        """Once every engine is well each stream ends, and closing the host leaves nothing."""
        if not hasattr(self, "host"):
            return
        try:
            self._end()
        finally:
            self.loop.close()

    def _end(self) -> None:
        for engine in self.engines:
            engine.failure, engine.status = None, READY
            assert engine.gate is not None
            engine.gate.set()
        live = [reader for reader in self.all_readers if reader.stream is not None]
        self.run(self._finish(live))
        assert all(reader.is_over for reader in live)
        self.run(self.host.aclose())
        assert [engine.closed for engine in self.engines] == [1] * len(self.engines)
        assert [engine.streams for engine in self.engines] == [0] * len(self.engines)
        self.leases_are_streams()
        self.streams_are_in_order()
        assert not asyncio.all_tasks(self.loop)
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())

    async def _finish(self, readers: list[Reader]) -> None:
        for reader in readers:
            if reader.reading is not None and not reader.reading.done():
                await asyncio.wait({reader.reading})
            if not reader.is_over:
                await reader.read(100)


QUICK = settings(
    max_examples=6,
    stateful_step_count=25,
)


class TestHost(HostMachine.TestCase):
    """Random bind, rebind, unbind, drain, submit, read, cancel, close, drop and fail (AH-1001,
    AH-1004): leases equal live streams, nothing leaks, no stream is lost."""

    settings = QUICK


@pytest.mark.exhaustive
class TestHostAtLength(HostMachine.TestCase):
    """The same with many more and longer runs."""

    settings = settings(QUICK, max_examples=60, stateful_step_count=50)
