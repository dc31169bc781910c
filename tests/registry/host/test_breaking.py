"""Replicas that keep failing are left alone, and tried again (ORCH-3602)."""

import asyncio

import pytest

from adapter_api import (
    CapacityExceeded,
    EngineUnavailable,
    ErrorCode,
    WorkerError,
    WorkerReset,
    WorkerTimeout,
)
from registry import AdapterHost, PoolPolicy
from registry.host.breaker import BreakerPolicy
from tests.engines_in_process import Engine, task, until
from tests.scripted import turns
from tests.virtual_time import in_virtual_time, work

RESET = WorkerReset(ErrorCode.WORKER_RESET, "scripted")


def breaker_of(host: AdapterHost, replica_id: str = "a") -> str:
    (found,) = [r for r in host.snapshot().pools[0].replicas if r.replica_id == replica_id]
    return found.breaker


async def test_a_replica_that_keeps_failing_is_left_alone(host: AdapterHost) -> None:
    """Its breaker opens after the policy's failures and no job is sent there (ORCH-3602)."""
    host.set_policy("p", PoolPolicy(breaker=BreakerPolicy(failures=3), retry_floor_per_s=100.0))
    bad = Engine("a", failure=RESET)
    host.bind("p", "a", bad.bound())
    host.bind("p", "b", Engine("b").bound())
    await host.check("p")
    for number in range(10):
        await host.submit("p", task(str(number))).text()
    assert breaker_of(host) == "open"
    assert len(bad.tasks) == 3
    assert "open" in str(host.explain("9"))


@in_virtual_time
async def test_one_job_tries_a_replica_that_was_left_alone() -> None:
    """After open_s one job goes there; its success closes the breaker (ORCH-3602)."""
    policy = PoolPolicy(breaker=BreakerPolicy(failures=1, open_s=5.0), max_attempts=1)
    async with AdapterHost(defaults=policy) as host:
        engine = Engine(failure=RESET)
        host.bind("p", "a", engine.bound())
        with pytest.raises(WorkerReset):
            await host.submit("p", task())
        assert breaker_of(host) == "open"
        await asyncio.sleep(5.1)
        engine.failure, engine.gate = None, asyncio.Event()
        jobs = [asyncio.create_task(host.submit("p", task(str(n))).text()) for n in range(3)]
        await until(lambda: engine.streams == 1)
        await asyncio.sleep(0.02)
        assert (breaker_of(host), engine.streams) == ("half_open", 1)
        engine.gate.set()
        await asyncio.gather(*jobs)
        assert breaker_of(host) == "closed"


async def test_jobs_wait_for_a_breaker_if_that_fits() -> None:
    """If every breaker is open, a job waits for the first replica, or fails at once if it
    cannot."""
    policy = PoolPolicy(breaker=BreakerPolicy(failures=1, open_s=0.3), max_attempts=1)
    async with AdapterHost(defaults=policy) as host:
        engine = Engine(failure=RESET)
        host.bind("p", "a", engine.bound())
        with pytest.raises(WorkerReset):
            await host.submit("p", task())
        engine.failure = None
        with pytest.raises(EngineUnavailable) as caught:
            await host.submit("p", task(deadline_s=0.1))
        assert caught.value.code == "CIRCUIT_OPEN"
        assert 0 < caught.value.retry_after_ms <= 300
        assert await host.submit("p", task()).text() == "a0 a1 a2 "


async def test_cancels_and_deadlines_never_count(host: AdapterHost) -> None:
    """Neither opens a breaker, also not in the middle of an answer."""
    host.set_policy("p", PoolPolicy(breaker=BreakerPolicy(failures=1)))
    engine = Engine(gate=asyncio.Event())
    host.bind("p", "a", engine.bound())
    with pytest.raises(WorkerTimeout):
        await host.submit("p", task(deadline_s=0.05))
    job = asyncio.create_task(host.submit("p", task()).text())
    await until(lambda: engine.streams == 1)
    await host.cancel("p", "job")
    with pytest.raises(WorkerError):
        await job
    assert breaker_of(host) == "closed"
    assert host.snapshot().pools[0].replicas[0].failures == 0


async def test_a_saturated_client_of_ours_does_not_count(host: AdapterHost) -> None:
    """LOCAL_SATURATED moves the job and says nothing of the replica."""
    host.set_policy("p", PoolPolicy(breaker=BreakerPolicy(failures=1)))
    saturated = CapacityExceeded(ErrorCode.LOCAL_SATURATED, "no connection is free")
    host.bind("p", "a", Engine("a", failure=saturated).bound())
    host.bind("p", "b", Engine("b").bound())
    await host.check("p")
    assert (await host.submit("p", task()).text()).startswith("b0")
    assert breaker_of(host) == "closed"


async def test_a_stall_in_the_answer_counts(host: AdapterHost) -> None:
    """A replica that stops in the middle is failing, though the job cannot move."""
    host.set_policy("p", PoolPolicy(breaker=BreakerPolicy(failures=1)))
    stall = WorkerTimeout(ErrorCode.DECODE_TIMEOUT, "no further token")
    host.bind("p", "a", Engine("a", failure=stall, fail_after=1).bound())
    with pytest.raises(WorkerTimeout):
        await host.submit("p", task()).text()
    assert breaker_of(host) == "open"


async def test_a_breaker_begins_anew_with_a_new_adapter(host: AdapterHost) -> None:
    """A rebind does not inherit the failures of what it replaces."""
    host.set_policy("p", PoolPolicy(breaker=BreakerPolicy(failures=1), max_attempts=1))
    host.bind("p", "a", Engine("a", failure=RESET).bound())
    with pytest.raises(WorkerReset):
        await host.submit("p", task())
    await host.rebind("p", "a", Engine("b").bound())
    assert breaker_of(host) == "closed"
    assert await host.submit("p", task()).text() == "b0 b1 b2 "


@pytest.mark.parametrize("how", ["cancelled", "late"])
@in_virtual_time
async def test_a_probe_that_ends_without_a_verdict_frees_its_replica(how: str) -> None:
    """A job that is ended in the moment in which it gets the replica does not block it forever."""
    policy = PoolPolicy(breaker=BreakerPolicy(failures=1, open_s=5.0), max_attempts=1)
    async with AdapterHost(defaults=policy) as host:
        engine = Engine("a", failure=RESET)
        host.bind("p", "a", engine.bound())
        with pytest.raises(WorkerReset):
            await host.submit("p", task("failing"))
        engine.failure = None
        job = asyncio.create_task(host.submit("p", task("probe")).text())
        await until(lambda: host.snapshot().pools[0].queued_interactive == 1)
        work(5.1)
        await turns(2)  # the job has its replica, and has not been woken
        assert (breaker_of(host), host.snapshot().pools[0].replicas[0].in_flight) == (
            "half_open",
            1,
        )
        if how == "cancelled":
            job.cancel()
        else:
            asyncio.create_task(host.cancel("p", "probe"))  # noqa: RUF006  # it is awaited below
        with pytest.raises((asyncio.CancelledError, WorkerError)):
            await job
        assert await host.submit("p", task("next")).text() == "a0 a1 a2 "
        assert breaker_of(host) == "closed"


@in_virtual_time
async def test_a_job_waits_for_the_end_of_a_probe() -> None:
    """While one replica is probed another one with an open breaker does not fail the job."""
    policy = PoolPolicy(breaker=BreakerPolicy(failures=1, open_s=5.0), max_attempts=1)
    async with AdapterHost(defaults=policy) as host:
        engines = [Engine("a", failure=RESET), Engine("b", failure=RESET)]
        host.bind("p", "a", engines[0].bound())
        with pytest.raises(WorkerReset):
            await host.submit("p", task())
        await asyncio.sleep(4.0)
        host.bind("p", "b", engines[1].bound())
        await host.check("p")
        with pytest.raises(WorkerReset):
            await host.submit("p", task())
        await asyncio.sleep(1.1)  # a may be probed, b not for another four seconds
        engines[0].failure, engines[0].gate = None, asyncio.Event()
        jobs = [
            asyncio.create_task(host.submit("p", task(str(n), deadline_s=3.0)).text())
            for n in range(2)
        ]
        await until(lambda: engines[0].streams == 1)
        await until(lambda: host.snapshot().pools[0].queued_interactive == 1)
        engines[0].gate.set()
        assert await asyncio.gather(*jobs) == ["a0 a1 a2 "] * 2


@in_virtual_time
async def test_what_began_before_the_breaker_opened_decides_nothing() -> None:
    """A late failure does not open a breaker again that is being probed."""
    policy = PoolPolicy(breaker=BreakerPolicy(failures=1, open_s=5.0), max_attempts=1)
    async with AdapterHost(defaults=policy) as host:
        engine = Engine("a", gate=asyncio.Event(), count=1)
        host.bind("p", "a", engine.bound())
        late = asyncio.create_task(host.submit("p", task("late")).text())
        await until(lambda: engine.streams == 1)
        engine.failure = RESET
        with pytest.raises(WorkerReset):
            await host.submit("p", task("failing"))
        await asyncio.sleep(5.1)
        engine.failure = None
        probe = asyncio.create_task(host.submit("p", task("probe")).text())
        await until(lambda: engine.streams == 2)
        engine.failure, engine.fail_after = RESET, 1
        engine.gate.set()
        ends = await asyncio.gather(late, probe, return_exceptions=True)
        assert [type(end) for end in ends] == [WorkerReset, WorkerReset]
        assert breaker_of(host) == "open"  # by the probe, which had closed it
        (replica,) = host.snapshot().pools[0].replicas
        assert replica.failures == 3
