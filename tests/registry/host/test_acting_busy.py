"""The host acts on busy answers, and on jobs that wait."""

import asyncio
import random

import pytest

from adapter_api import (
    CapacityExceeded,
    EngineUnavailable,
    ErrorCode,
    HealthState,
    HealthStatus,
    StreamingError,
    WorkerError,
    hookimpl,
)
from registry.host import AdapterHost, BreakerPolicy, PoolPolicy
from tests.engines_in_process import DOWN, LOADING, Engine, answered_by, bound, states, task, until
from tests.scripted import collect
from tests.virtual_time import in_virtual_time

BUSY = CapacityExceeded(ErrorCode.ADMISSION_REJECT, "busy", status=429)


# Busy


class Slots(Engine):
    """An engine that answers 429 at once when its slots are taken, and says nothing of them."""

    room = 2

    @hookimpl
    async def submit(self, task):  # type: ignore[no-untyped-def]
        if self.streams >= self.room:
            self.refused = getattr(self, "refused", 0) + 1
            raise CapacityExceeded(ErrorCode.ADMISSION_REJECT, "busy", status=429)
        async for event in super().submit(task):
            await asyncio.sleep(0.2)
            yield event


@pytest.mark.parametrize("seed", [2, 5, 12])
@in_virtual_time
async def test_busy_engines_lose_no_job_and_teach_their_limits(seed: int) -> None:
    """Forty jobs at once on two engines of two and six slots that only say "busy". With these
    seeds a job meets more busy answers than it has attempts."""
    policy = PoolPolicy(probe_interval_s=1.0)
    async with AdapterHost(defaults=policy, rng=random.Random(seed)) as host:
        small, large = Slots("a"), Slots("b")
        large.room = 6
        await bound(host, small, large)
        jobs = [host.submit("p", task(str(n), deadline_s=120.0)).text() for n in range(40)]
        texts = await asyncio.gather(*jobs)
        assert len(texts) == 40
        replicas = host.snapshot().pools[0].replicas
        assert [r.breaker for r in replicas] == ["closed", "closed"]
        assert [r.failures for r in replicas] == [0, 0]
        assert small.refused < 25
        assert replicas[0].learnt_limit is not None
        assert replicas[0].learnt_limit <= 4


@in_virtual_time
async def test_busy_answers_end_a_job_at_last() -> None:
    """A pool that stays busy ends the job; a limit that the task sets applies."""
    for limits, asked in (({}, 3 + 8), ({"max_attempts": 2}, 2)):
        engine = Engine(failure=BUSY)
        async with AdapterHost() as host:
            await bound(host, engine)
            with pytest.raises(CapacityExceeded):
                await host.submit("p", task("1", deadline_s=120.0, **limits)).text()
            assert len(engine.tasks) == asked


async def test_an_idle_sibling_gets_what_a_busy_replica_refuses(host: AdapterHost) -> None:
    """No job is lost to 429, 409 or a full queue, and the busy one gets few requests."""
    for failure in (
        BUSY,
        CapacityExceeded(ErrorCode.ADMISSION_REJECT, "conflict", status=409),
        EngineUnavailable(ErrorCode.POOL_UNAVAILABLE, "the queue is full", status=503),
    ):
        busy = Engine("a", failure=failure)
        await bound(host, busy, Engine("b"))
        assert await answered_by(host, 30) == {"b": 30}
        assert len(busy.tasks) <= 5
        await host.unbind("p", "a")
        await host.unbind("p", "b")


@in_virtual_time
async def test_answers_that_are_cut_keep_a_breaker_closed_off() -> None:
    """An engine that cuts every answer gets a probe now and then, not a share of the jobs."""
    policy = PoolPolicy(breaker=BreakerPolicy(failures=3, open_s=1.0, max_open_s=8.0))
    async with AdapterHost(defaults=policy) as host:
        cut = StreamingError(ErrorCode.STREAM_TRUNCATED, "cut")
        bad = Engine("a", failure=cut, fail_after=2)
        await bound(host, bad, Engine("b"))
        lost = 0
        for number in range(300):
            events = await collect(host.submit("p", task(str(number))))
            lost += isinstance(events[-1], WorkerError)
            await asyncio.sleep(0.1)
        assert lost == len(bad.tasks)
        assert lost <= 9, "three, then after 1, 2, 4, 8 and 8 seconds"


@in_virtual_time
async def test_a_replica_that_comes_back_begins_slowly() -> None:
    """After it was down it gets one job, and one more for each first token."""
    async with AdapterHost(defaults=PoolPolicy(probe_interval_s=1.0)) as host:
        engine = Engine("a", gate=asyncio.Event())
        await bound(host, engine)
        engine.status = DOWN
        await until(lambda: states(host) == {"a": "down"})
        engine.status = LOADING
        await until(lambda: states(host) == {"a": "loading"})
        jobs = [asyncio.create_task(host.submit("p", task(str(n))).text()) for n in range(8)]
        engine.status = HealthStatus(HealthState.HEALTHY)
        await until(lambda: engine.streams)
        await asyncio.sleep(0.5)
        assert engine.streams == 1
        assert engine.gate is not None
        engine.gate.set()
        await asyncio.gather(*jobs)


# Waiting


@in_virtual_time
async def test_a_job_once_admitted_is_not_thrown_out() -> None:
    """When a replica dies its jobs return to the head of a queue that is full."""
    policy = PoolPolicy(max_queue=2, retry_floor_per_s=0.0, retry_ratio=0.0)
    async with AdapterHost(defaults=policy) as host:
        dying = Engine("a", gate=asyncio.Event(), silent=True)
        other = Engine("b", gate=asyncio.Event())
        host.bind("p", "a", dying.bound(), limit=4)
        host.bind("p", "b", other.bound(), limit=1)
        await host.check("p")
        jobs = [asyncio.create_task(host.submit("p", task(str(n))).text()) for n in range(7)]
        await until(lambda: host.snapshot().pools[0].queued_interactive == 2)
        admitted = {asked.job_id for asked in dying.tasks}
        dying.failure = EngineUnavailable(ErrorCode.POOL_UNAVAILABLE, "cannot connect")
        assert dying.gate is not None and other.gate is not None
        dying.gate.set()
        await until(lambda: host.snapshot().pools[0].queued_interactive > 2)
        other.gate.set()
        texts = await asyncio.gather(*jobs)
        assert {text[0] for text in texts} == {"b"}
        order = [asked.job_id for asked in other.tasks]
        assert set(order[1:5]) == admitted, "before those that never had a replica"


@in_virtual_time
async def test_a_cold_host_refuses_nothing_that_it_can_serve() -> None:
    """Jobs that wait for the first health check do not fill the queue."""
    async with AdapterHost(defaults=PoolPolicy(max_queue=1)) as host:
        host.bind("p", "a", Engine("a").bound())
        jobs = [asyncio.create_task(host.submit("p", task(str(n))).text()) for n in range(50)]
        assert await asyncio.gather(*jobs) == ["a0 a1 a2 "] * 50


@in_virtual_time
async def test_a_declared_pool_waits_for_its_first_replica() -> None:
    """It exists without one; its jobs wait ready_wait_s; taking it back ends it."""
    async with AdapterHost() as host:
        host.set_policy("p", PoolPolicy(ready_wait_s=5.0))
        assert [pool.pool_id for pool in host.snapshot().pools] == ["p"]
        assert not (await host.health("p")).ready
        job = asyncio.create_task(host.submit("p", task()).text())
        await asyncio.sleep(3.0)
        host.bind("p", "a", Engine("a").bound())
        assert await job == "a0 a1 a2 "
        await host.unbind("p", "a")
        began_at = asyncio.get_running_loop().time()
        with pytest.raises(EngineUnavailable, match="it has none") as caught:
            await host.submit("p", task())
        assert caught.value.retriable
        assert 5.0 <= asyncio.get_running_loop().time() - began_at < 5.1
        host.set_policy("p", None)
        with pytest.raises(EngineUnavailable, match="no pool 'p'"):
            await host.submit("p", task())


@in_virtual_time
async def test_batch_jobs_do_not_starve() -> None:
    """While both kinds wait every tenth start is a batch job's; with 0 none is."""
    for share, starts in ((0.1, 4), (0.0, 0), (0.5, 20)):
        async with AdapterHost(defaults=PoolPolicy(batch_share=share)) as host:
            engine = Engine("a", gate=asyncio.Event())
            host.bind("p", "a", engine.bound(), limit=1)
            await host.check("p")
            held = asyncio.create_task(host.submit("p", task("held")).text())
            await until(lambda engine=engine: engine.streams)
            kinds = ["batch"] * 40 + ["interactive"] * 40
            jobs = [
                asyncio.create_task(host.submit("p", task(f"{k}{n}"), priority=k).text())  # type: ignore[arg-type]
                for n, k in enumerate(kinds)
            ]
            await until(lambda host=host: host.snapshot().pools[0].queued_interactive == 40)
            engine.gate.set()
            await asyncio.gather(held, *jobs)
            first = [asked.job_id for asked in engine.tasks[1:41]]
            assert sum(name.startswith("batch") for name in first) == starts
