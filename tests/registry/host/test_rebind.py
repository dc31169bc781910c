"""bind, rebind, unbind and drain while streams run."""

import asyncio
import gc
import weakref

import pytest

from adapter_api import (
    CapacityExceeded,
    EngineUnavailable,
    ErrorCode,
    WorkerError,
    WorkerReset,
)
from registry import AdapterHost, PoolPolicy
from registry.host.breaker import BreakerPolicy
from tests.engines_in_process import DOWN, Engine, states, task, until

RESET = WorkerReset(ErrorCode.WORKER_RESET, "scripted")


async def test_a_second_bind_says_rebind(host: AdapterHost) -> None:
    """A replica is bound once; the error says how to replace its adapter, which stays as it is."""
    host.bind("p", "a", Engine().bound())
    second = Engine().bound()
    with pytest.raises(ValueError, match="use rebind"):
        host.bind("p", "a", second)
    await second.aclose()


async def test_a_limit_below_one_is_refused(host: AdapterHost) -> None:
    """A replica without room is a mistake."""
    with pytest.raises(ValueError, match="at least 1"):
        host.bind("p", "a", Engine().bound(), limit=0)


@pytest.mark.parametrize("method", ["rebind", "unbind", "drain"])
async def test_an_unknown_replica_is_a_lookup_error(host: AdapterHost, method: str) -> None:
    """The error names what there is."""
    host.bind("p", "a", Engine().bound())
    arguments = (Engine().bound(),) if method == "rebind" else ()
    with pytest.raises(LookupError, match="no replica 'b'; it has a"):
        await getattr(host, method)("p", "b", *arguments)
    with pytest.raises(LookupError, match="no pool 'q'"):
        await getattr(host, method)("q", "b", *arguments)


async def test_a_rebind_is_atomic_under_load(host: AdapterHost) -> None:
    """Streams in flight end on the old adapter, later ones run on the new one, the old one closes
    after its last stream, and no job fails (AH-1001)."""
    engines = [Engine(str(number)) for number in range(6)]
    host.bind("p", "r", engines[0].bound())
    ends: list[str] = []

    async def load(name: int) -> None:
        for number in range(40):
            ends.append(await host.submit("p", task(f"{name}-{number}")).text())

    jobs = [asyncio.create_task(load(name)) for name in range(10)]
    for engine in engines[1:]:
        await asyncio.sleep(0.01)
        await host.rebind("p", "r", engine.bound())
    await asyncio.gather(*jobs)
    await until(lambda: all(engine.closed == 1 for engine in engines[:-1]))
    assert len(ends) == 400
    assert set(ends) <= {f"{n}0 {n}1 {n}2 " for n in range(6)}
    assert not any(engine.cut for engine in engines)
    assert engines[-1].closed == 0


async def test_the_old_adapter_closes_after_its_last_stream(host: AdapterHost) -> None:
    """The stream that runs during a rebind gets all of its answer from the old adapter."""
    old, new = Engine("a", gate=asyncio.Event()), Engine("b")
    host.bind("p", "r", old.bound())
    running = asyncio.create_task(host.submit("p", task("1")).text())
    await until(lambda: old.streams == 1)
    await host.rebind("p", "r", new.bound())
    assert await host.submit("p", task("2")).text() == "b0 b1 b2 "
    assert old.closed == 0
    old.gate.set()
    assert await running == "a0 a1 a2 "
    await until(lambda: old.closed == 1)


async def test_a_dropped_stream_does_not_keep_the_old_adapter(host: AdapterHost) -> None:
    """The old adapter closes also when its last stream is dropped without being closed."""
    old = Engine("a", count=1000)
    host.bind("p", "r", old.bound())
    stream = host.submit("p", task())
    await anext(stream)
    await host.rebind("p", "r", Engine("b").bound())
    with pytest.warns(ResourceWarning):
        del stream
        gc.collect()
    await until(lambda: old.closed == 1)
    assert not old.cut


@pytest.mark.parametrize("way", ["unbind", "close", "close with an open breaker"])
async def test_a_replica_that_is_left_alone_is_collected(way: str) -> None:
    """A timer that waits for the end of its rest, or for its breaker, does not keep it alive."""
    policy = PoolPolicy(breaker=BreakerPolicy(failures=1, open_s=60), max_attempts=1)
    asleep = CapacityExceeded(ErrorCode.QUOTA_EXHAUSTED, "later", retriable=True)
    asleep.retry_after_ms = 60_000
    engine = Engine(failure=RESET if "breaker" in way else asleep)
    host = AdapterHost(defaults=policy)
    host.bind("p", "a", engine.bound())
    with pytest.raises(WorkerError):
        await host.submit("p", task()).text()
    replica = weakref.ref(host._places.find("p", "a")[1])
    assert host.snapshot().pools[0].replicas[0].rests_s > 0 or "breaker" in way
    await (host.unbind("p", "a") if way == "unbind" else host.aclose())
    if way != "unbind":
        del host
    await asyncio.sleep(0)
    gc.collect()
    assert replica() is None


async def test_a_job_on_the_old_adapter_can_be_cancelled(host: AdapterHost) -> None:
    """cancel finds a job whose replica was rebound or unbound meanwhile."""
    old = Engine("a", gate=asyncio.Event())
    host.bind("p", "r", old.bound())
    running = asyncio.create_task(host.submit("p", task()).text())
    await until(lambda: old.streams == 1)
    await host.unbind("p", "r")
    assert await host.cancel("p", "job")
    await until(lambda: old.closed == 1)
    with pytest.raises(Exception, match="cancelled"):
        await running
    assert old.cancelled == ["job"]


async def test_a_new_adapter_that_does_not_start_changes_nothing(host: AdapterHost) -> None:
    """The old adapter stays in place, and the new one stays the caller's."""
    old, new = Engine("a"), Engine("b", start_failure=OSError("no"))
    host.bind("p", "r", old.bound())
    with pytest.raises(OSError, match="no"):
        await host.rebind("p", "r", new.bound())
    assert await host.submit("p", task()).text() == "a0 a1 a2 "
    assert (old.closed, new.closed) == (0, 0)


async def test_a_rebound_replica_has_its_state_at_once(host: AdapterHost) -> None:
    """The new adapter was asked for its health before it is in place."""
    host.bind("p", "r", Engine("a").bound())
    await host.check("p")
    await host.rebind("p", "r", Engine("b", slots=4).bound())
    (replica,) = host.snapshot().pools[0].replicas
    assert (replica.state, replica.limit, replica.adapter) == ("ready", 4, "toy-b")
    await host.rebind("p", "r", Engine("c", status=DOWN).bound())
    assert states(host) == {"r": "down"}


async def test_rebinds_of_one_replica_follow_each_other(host: AdapterHost) -> None:
    """Of several rebinds at once the last one stands, and every other adapter is closed."""
    engines = [Engine(str(number)) for number in range(5)]
    host.bind("p", "r", engines[0].bound())
    await asyncio.gather(*(host.rebind("p", "r", engine.bound()) for engine in engines[1:]))
    assert await host.submit("p", task()).text() == "40 41 42 "
    assert [engine.closed for engine in engines] == [1, 1, 1, 1, 0]


async def test_unbind_takes_a_replica_out(host: AdapterHost) -> None:
    """An idle adapter is closed when unbind returns; a pool without replicas is gone."""
    engine = Engine()
    host.bind("p", "r", engine.bound())
    await host.unbind("p", "r")
    assert engine.closed == 1
    assert host.snapshot().pools == ()
    with pytest.raises(EngineUnavailable, match="no pool 'p'"):
        await host.submit("p", task())


async def test_jobs_in_line_fail_when_the_last_replica_goes(host: AdapterHost) -> None:
    """Waiting jobs fail at once instead of waiting until their deadline."""
    engine = Engine(gate=asyncio.Event())
    host.bind("p", "r", engine.bound(), limit=1)
    await host.check("p")
    jobs = [asyncio.create_task(host.submit("p", task(str(n))).text()) for n in range(2)]
    await until(lambda: host.snapshot().pools[0].queued_interactive == 1)
    await host.unbind("p", "r")
    with pytest.raises(EngineUnavailable):
        await jobs[1]
    engine.gate.set()
    assert await jobs[0] == "a0 a1 a2 "


async def test_a_drained_replica_gets_no_new_work(host: AdapterHost) -> None:
    """Running jobs end, then drain returns; the replica stays in state "draining"."""
    one, other = Engine("a", gate=asyncio.Event()), Engine("b")
    host.bind("p", "a", one.bound())
    host.bind("p", "b", other.bound())
    await host.check("p")
    running = asyncio.create_task(host.submit("p", task("1")).text())
    await until(lambda: one.streams == 1)
    draining = asyncio.create_task(host.drain("p", "a"))
    await asyncio.sleep(0.01)
    for number in range(3):
        assert (await host.submit("p", task(str(number))).text()).startswith("b0")
    assert not draining.done()
    assert states(host)["a"] == "draining"
    one.gate.set()
    assert await draining
    assert await running == "a0 a1 a2 "
    assert one.closed == 0
    await host.rebind("p", "a", Engine("c").bound())
    assert states(host)["a"] == "ready"


async def test_a_drain_may_take_too_long(host: AdapterHost) -> None:
    """With timeout_s drain gives False, and cuts nothing off."""
    engine = Engine(gate=asyncio.Event())
    host.bind("p", "a", engine.bound())
    running = asyncio.create_task(host.submit("p", task()).text())
    await until(lambda: engine.streams == 1)
    assert not await host.drain("p", "a", timeout_s=0.02)
    engine.gate.set()
    assert await running == "a0 a1 a2 "


async def test_a_drained_pool_serves_its_line(host: AdapterHost) -> None:
    """New jobs are refused; those in line are served before drain returns."""
    engine = Engine(gate=asyncio.Event())
    host.bind("p", "a", engine.bound(), limit=1)
    await host.check("p")
    jobs = [asyncio.create_task(host.submit("p", task(str(n))).text()) for n in range(3)]
    await until(lambda: host.snapshot().pools[0].queued_interactive == 2)
    draining = asyncio.create_task(host.drain("p"))
    await asyncio.sleep(0)
    with pytest.raises(EngineUnavailable, match="draining"):
        await host.submit("p", task())
    engine.gate.set()
    assert await draining
    assert await asyncio.gather(*jobs) == ["a0 a1 a2 "] * 3


async def test_a_drained_pool_brings_its_jobs_to_their_end(host: AdapterHost) -> None:
    """One that fails before its first token moves on, though the pool takes no new ones."""
    first = Engine("a", gate=asyncio.Event(), silent=True, failure=RESET)
    host.bind("p", "a", first.bound())
    host.bind("p", "b", Engine("b").bound())
    await host.check("p")
    job = asyncio.create_task(host.submit("p", task()).text())
    await until(lambda: first.streams == 1)
    draining = asyncio.create_task(host.drain("p"))
    await asyncio.sleep(0.01)
    assert host.snapshot().pools[0].draining
    first.gate.set()
    assert await job == "b0 b1 b2 "
    assert await draining
    assert states(host) == {"a": "draining", "b": "draining"}


async def test_a_pool_that_is_opened_again_is_not_drained(host: AdapterHost) -> None:
    """A replica that is bound while a pool drains ends the drain, and gets work."""
    running = Engine("a", gate=asyncio.Event())
    host.bind("p", "a", running.bound())
    job = asyncio.create_task(host.submit("p", task()).text())
    await until(lambda: running.streams == 1)
    draining = asyncio.create_task(host.drain("p"))
    await asyncio.sleep(0.01)
    host.bind("p", "b", Engine("b").bound())
    assert not await draining
    await host.check("p")
    assert await host.submit("p", task("next")).text() == "b0 b1 b2 "
    running.gate.set()
    await job
    assert states(host) == {"a": "ready", "b": "ready"}


async def test_a_drain_waits_for_adapters_that_were_replaced(host: AdapterHost) -> None:
    """Nothing runs when it is done, not on an adapter either that is in place no more."""
    old = Engine("a", gate=asyncio.Event())
    host.bind("p", "a", old.bound())
    job = asyncio.create_task(host.submit("p", task()).text())
    await until(lambda: old.streams == 1)
    await host.rebind("p", "a", Engine("b").bound())
    assert not await host.drain("p", timeout_s=0.05)
    old.gate.set()
    assert await host.drain("p")
    assert old.streams == 0
    await job


async def test_a_drain_ends_where_the_line_was_dissolved(host: AdapterHost) -> None:
    """A policy without a queue refuses the waiting jobs, and wakes them."""
    engine = Engine(gate=asyncio.Event())
    host.bind("p", "a", engine.bound(), limit=1)
    await host.check("p")
    jobs = [asyncio.create_task(host.submit("p", task(str(n))).text()) for n in range(3)]
    await until(lambda: host.snapshot().pools[0].queued_interactive == 2)
    host.set_policy("p", PoolPolicy(max_queue=0))
    for waiting in jobs[1:]:
        with pytest.raises(CapacityExceeded, match="0 jobs wait, and the maximum is 0"):
            await waiting
    engine.gate.set()
    assert await host.drain("p", timeout_s=5)
    assert await jobs[0] == "a0 a1 a2 "
