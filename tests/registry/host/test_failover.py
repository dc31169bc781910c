"""From one replica to another: what moves a job, what ends it, what the breakers make of it."""

import asyncio
import json
import pickle

import attrs
import pytest

from adapter_api import (
    CapacityExceeded,
    End,
    EngineUnavailable,
    Error,
    ErrorCode,
    InvalidRequest,
    Started,
    Token,
    WorkerError,
    WorkerReset,
    WorkerTimeout,
)
from adapter_api.frames import from_frame, to_frame
from registry import AdapterHost, PoolPolicy
from registry.host.breaker import BreakerPolicy
from tests.engines_in_process import Clock, Engine, task, until

RESET = WorkerReset(ErrorCode.WORKER_RESET, "scripted")
REFUSED = EngineUnavailable(ErrorCode.POOL_UNAVAILABLE, "cannot connect")
INVALID = InvalidRequest(ErrorCode.INVALID_PARAMS, "no such field")


def breaker_of(host: AdapterHost, replica_id: str = "a") -> str:
    (found,) = [r for r in host.snapshot().pools[0].replicas if r.replica_id == replica_id]
    return found.breaker


@pytest.mark.parametrize("fail_after", [-1, 0])
async def test_a_failure_before_the_first_token_moves_the_job(
    host: AdapterHost, fail_after: int
) -> None:
    """Another replica answers; the Started of the failed attempt is never seen."""
    host.bind("p", "a", Engine("a", failure=RESET, fail_after=fail_after).bound())
    host.bind("p", "b", Engine("b").bound())
    await host.health("p")
    async with host.submit("p", task()) as stream:
        events = [event async for event in stream]
    assert [e.replica_id for e in events if isinstance(e, Started)] == ["b"]
    assert [e.text for e in events if isinstance(e, Token)] == ["b0 ", "b1 ", "b2 "]
    assert isinstance(events[-1], End)
    assert events[-1].metrics.attempts == 2
    assert host.snapshot().pools[0].retries == 1


async def test_a_failure_after_the_first_token_ends_the_job(host: AdapterHost) -> None:
    """What was delivered cannot be taken back: no other replica is asked."""
    other = Engine("b")
    host.bind("p", "a", Engine("a", failure=RESET, fail_after=1).bound())
    host.bind("p", "b", other.bound())
    await host.health("p")
    async with host.submit("p", task()) as stream:
        events = []
        async for event in stream:
            events.append(event)
            if isinstance(event, Error):
                break
    assert isinstance(events[-1], Error)
    assert events[-1].error.code == "WORKER_RESET"
    assert events[-1].error.tokens_emitted == 1
    assert not other.tasks


async def test_what_may_not_be_repeated_ends_the_job(host: AdapterHost) -> None:
    """A refused request goes to no other replica and counts against none."""
    other = Engine("b")
    host.bind("p", "a", Engine("a", failure=INVALID).bound())
    host.bind("p", "b", other.bound())
    await host.health("p")
    with pytest.raises(InvalidRequest) as caught:
        await host.submit("p", task())
    assert caught.value.message == "no such field"
    assert not other.tasks
    assert host.snapshot().pools[0].replicas[0].failures == 0


async def test_the_error_tells_how_many_attempts_there_were(host: AdapterHost) -> None:
    """After several attempts the last one's error names them, also in explain."""
    for name in "abcd":
        host.bind("p", name, Engine(name, failure=REFUSED).bound())
    await host.health("p")
    with pytest.raises(EngineUnavailable, match=r"the last of 3 attempts, on a, b, c") as caught:
        await host.submit("p", task())
    assert caught.value.retriable
    assert caught.value.job_id == "job"
    explained = str(host.explain("job"))
    assert all(word in explained for word in ("POOL_UNAVAILABLE", "a", "b", "c"))


async def test_attempts_most_bounds_a_job(host: AdapterHost) -> None:
    """With attempts_most=1 there is no failover."""
    host.set_policy("p", PoolPolicy(attempts_most=1))
    host.bind("p", "a", Engine("a", failure=REFUSED).bound())
    host.bind("p", "b", Engine("b").bound())
    await host.health("p")
    with pytest.raises(EngineUnavailable):
        await host.submit("p", task())


async def test_the_retry_budget_bounds_the_pool(host: AdapterHost) -> None:
    """A pool in which everything fails makes few more attempts than it has jobs."""
    policy = PoolPolicy(retry_floor_per_s=0.0, breaker=BreakerPolicy(failures=10_000))
    host.set_policy("p", policy)
    engines = [Engine(name, failure=REFUSED) for name in "ab"]
    for engine in engines:
        host.bind("p", engine.name, engine.bound())
    await host.health("p")
    for number in range(100):
        with pytest.raises(EngineUnavailable):
            await host.submit("p", task(str(number)))
    attempts = sum(len(engine.tasks) for engine in engines)
    assert 100 < attempts <= 120


async def test_a_replica_is_asked_again_where_there_is_no_other(host: AdapterHost) -> None:
    """After a pause the only replica gets the job again."""
    engine = Engine(failure=RESET)
    host.bind("p", "a", engine.bound())
    job = asyncio.create_task(host.submit("p", task()).text())
    await until(lambda: len(engine.tasks) == 1)
    engine.failure = None
    assert await job == "a0 a1 a2 "
    assert len(engine.tasks) == 2


async def test_cancel_works_in_the_pause_before_another_attempt(host: AdapterHost) -> None:
    """A job in backoff holds nothing and is cancelled at once."""
    engine = Engine(failure=CapacityExceeded(ErrorCode.ADMISSION_REJECT, "busy", None, 5000))
    host.bind("p", "a", engine.bound())
    job = asyncio.create_task(host.submit("p", task()).text())
    await until(lambda: host.snapshot().pools[0].retries == 1)
    assert await host.cancel("p", "job")
    with pytest.raises(WorkerError, match="cancelled"):
        await job
    assert host.snapshot().pools[0].replicas[0].in_flight == 0


async def test_a_pause_that_does_not_fit_the_deadline_is_not_begun(host: AdapterHost) -> None:
    """The error comes at once and carries what the engine asked to wait."""
    engine = Engine(failure=CapacityExceeded(ErrorCode.ADMISSION_REJECT, "busy", None, 5000))
    host.bind("p", "a", engine.bound())
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    with pytest.raises(CapacityExceeded) as caught:
        await host.submit("p", task(deadline_s=4.9))
    assert loop.time() - began_at < 4.5
    assert caught.value.retry_after_ms == 5000
    assert len(engine.tasks) == 1


async def test_a_replica_that_asks_for_a_rest_gets_it(host: AdapterHost) -> None:
    """Other jobs pass over a replica that said when it wants to be asked again."""
    busy = Engine("a", failure=CapacityExceeded(ErrorCode.ADMISSION_REJECT, "busy", None, 5000))
    host.bind("p", "a", busy.bound())
    host.bind("p", "b", Engine("b").bound())
    await host.health("p")
    for number in range(5):
        assert (await host.submit("p", task(str(number))).text()).startswith("b0")
    assert len(busy.tasks) == 1
    assert breaker_of(host) == "closed"


async def test_a_replica_that_keeps_failing_is_left_alone(host: AdapterHost) -> None:
    """Its breaker opens after the policy's failures and no job is sent there (ORCH-3602)."""
    host.set_policy("p", PoolPolicy(breaker=BreakerPolicy(failures=3), retry_floor_per_s=100.0))
    bad = Engine("a", failure=RESET)
    host.bind("p", "a", bad.bound())
    host.bind("p", "b", Engine("b").bound())
    await host.health("p")
    for number in range(10):
        await host.submit("p", task(str(number))).text()
    assert breaker_of(host) == "open"
    assert len(bad.tasks) == 3
    assert "open" in str(host.explain("9"))


async def test_one_job_tries_a_replica_that_was_left_alone() -> None:
    """After open_s one job goes there; its success closes the breaker (ORCH-3602)."""
    clock = Clock()
    policy = PoolPolicy(breaker=BreakerPolicy(failures=1, open_s=5.0), attempts_most=1)
    async with AdapterHost(defaults=policy, clock=clock) as host:
        engine = Engine(failure=RESET)
        host.bind("p", "a", engine.bound())
        with pytest.raises(WorkerReset):
            await host.submit("p", task())
        assert breaker_of(host) == "open"
        clock.now += 5.1
        engine.failure, engine.gate = None, asyncio.Event()
        jobs = [asyncio.create_task(host.submit("p", task(str(n))).text()) for n in range(3)]
        await until(lambda: engine.streams == 1)
        await asyncio.sleep(0.02)
        assert (breaker_of(host), engine.streams) == ("half_open", 1)
        engine.gate.set()
        await asyncio.gather(*jobs)
        assert breaker_of(host) == "closed"


async def test_jobs_wait_for_a_breaker_if_that_fits() -> None:
    """When all are left alone a job waits for the first, or fails at once if it cannot."""
    policy = PoolPolicy(breaker=BreakerPolicy(failures=1, open_s=0.3), attempts_most=1)
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
    await host.health("p")
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
    host.set_policy("p", PoolPolicy(breaker=BreakerPolicy(failures=1), attempts_most=1))
    host.bind("p", "a", Engine("a", failure=RESET).bound())
    with pytest.raises(WorkerReset):
        await host.submit("p", task())
    await host.rebind("p", "a", Engine("b").bound())
    assert breaker_of(host) == "closed"
    assert await host.submit("p", task()).text() == "b0 b1 b2 "


async def test_explain_tells_the_whole_way(host: AdapterHost) -> None:
    """Every attempt, skip and choice is in the ledger; unknown jobs are None."""
    host.bind("p", "a", Engine("a", failure=RESET).bound())
    host.bind("p", "b", Engine("b").bound())
    await host.health("p")
    await host.submit("p", task()).text()
    explanation = host.explain("job")
    assert explanation is not None
    kinds = [(step.kind, step.replica_id) for step in explanation.steps]
    assert kinds == [
        ("choose", "a"),
        ("attempt", "a"),
        ("skip", "a"),
        ("choose", "b"),
        ("attempt", "b"),
        ("end", None),
    ]
    assert explanation.outcome == "ok"
    assert host.explain("unknown") is None


async def test_end_and_error_tell_every_attempt(host: AdapterHost) -> None:
    """The ledger travels with the outcome: in End, in its frame, in an error that is pickled."""
    host.bind("p", "a", Engine("a", failure=RESET).bound())
    host.bind("p", "b", Engine("b").bound())
    await host.health("p")
    end = [event async for event in host.submit("p", task())][-1]
    assert isinstance(end, End)
    attempts = [step for step in end.metrics.ledger if step["kind"] == "attempt"]
    assert [(step["replica_id"], step["reason"]) for step in attempts] == [
        ("a", "WORKER_RESET"),
        ("b", "ok"),
    ]
    assert end.metrics.ledger[-1]["kind"] == "end"
    explained = host.explain("job")
    assert explained is not None
    assert end.metrics.ledger == tuple(attrs.asdict(step) for step in explained.steps)
    assert from_frame(json.loads(json.dumps(to_frame(end)))) == end
    await host.unbind("p", "b")
    with pytest.raises(WorkerError) as caught:
        await host.submit("p", task("lost")).text()
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.ledger == caught.value.ledger
    assert {"attempt", "end"} <= {step["kind"] for step in again.ledger}


async def test_a_missed_deadline_tells_it_too(host: AdapterHost) -> None:
    """An error that the clock made, and no replica, has the steps up to there."""
    host.bind("p", "a", Engine("a", gate=asyncio.Event()).bound())
    await host.health("p")
    with pytest.raises(WorkerTimeout) as caught:
        await host.submit("p", task(deadline_s=0.05)).text()
    assert caught.value.ledger[-1]["reason"] == "DEADLINE_UNMET"


async def test_without_a_host_there_is_no_ledger() -> None:
    """A job that no host ran says nothing of one, in its frames neither."""
    async with Engine("a").bound() as adapter:
        frames = [frame async for frame in adapter.submit(task()).frames()]
    assert "ledger" not in frames[-1]["metrics"]
