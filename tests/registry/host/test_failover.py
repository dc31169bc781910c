"""From one replica to another: what moves a job, what ends it, what the breakers make of it."""

import asyncio

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
)
from adapter_api.faults import Request, Wire
from adapters.openai_http import OpenAIHttpAdapter
from registry import AdapterHost, PoolPolicy
from registry.host.breaker import Breaker, BreakerPolicy
from registry.host.pool import Pool, Progress, Wait
from registry.host.replica import Replica
from registry.host.routing import Choice
from registry.host.snapshot import Binding
from tests.engines_in_process import READY, Engine, states, task, until
from tests.fake_openai import FakeOpenAI
from tests.virtual_time import in_virtual_time, now_s

RESET = WorkerReset(ErrorCode.WORKER_RESET, "scripted")
BROKEN = WorkerReset(ErrorCode.WORKER_RESET, "out of memory", status=500)
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
    await host.check("p")
    async with host.submit("p", task()) as stream:
        events = [event async for event in stream]
    assert [e.replica_id for e in events if isinstance(e, Started)] == ["b"]
    assert [e.text for e in events if isinstance(e, Token)] == ["b0 ", "b1 ", "b2 "]
    assert isinstance(events[-1], End)
    assert events[-1].metrics.attempts == 2
    assert host.snapshot().pools[0].retries == 1


async def test_a_failure_after_the_first_token_ends_the_job(host: AdapterHost) -> None:
    """After a delivered token there is no failover."""
    other = Engine("b")
    host.bind("p", "a", Engine("a", failure=RESET, fail_after=1).bound())
    host.bind("p", "b", other.bound())
    await host.check("p")
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
    await host.check("p")
    with pytest.raises(InvalidRequest) as caught:
        await host.submit("p", task())
    assert caught.value.message == "no such field"
    assert not other.tasks
    assert host.snapshot().pools[0].replicas[0].failures == 0


async def test_the_error_names_the_number_of_attempts(host: AdapterHost) -> None:
    """After several attempts the last one's error names them, also in explain."""
    for name in "abcd":
        host.bind("p", name, Engine(name, failure=REFUSED).bound())
    await host.check("p")
    with pytest.raises(EngineUnavailable, match=r"the last of 3 attempts, on a, b, c") as caught:
        await host.submit("p", task())
    assert caught.value.retriable
    assert caught.value.job_id == "job"
    explained = str(host.explain("job"))
    assert all(word in explained for word in ("POOL_UNAVAILABLE", "a", "b", "c"))


async def test_attempts_most_bounds_a_job(host: AdapterHost) -> None:
    """With max_attempts=1 there is no failover."""
    host.set_policy("p", PoolPolicy(max_attempts=1))
    host.bind("p", "a", Engine("a", failure=REFUSED).bound())
    host.bind("p", "b", Engine("b").bound())
    await host.check("p")
    with pytest.raises(EngineUnavailable):
        await host.submit("p", task())


async def test_the_retry_budget_bounds_the_pool(host: AdapterHost) -> None:
    """A pool in which everything fails makes few more attempts than it has jobs, where they cost
    the engines work."""
    policy = PoolPolicy(retry_floor_per_s=0.0, breaker=BreakerPolicy(failures=10_000))
    host.set_policy("p", policy)
    engines = [Engine(name, failure=BROKEN) for name in "ab"]
    for engine in engines:
        host.bind("p", engine.name, engine.bound())
    await host.check("p")
    for number in range(100):
        with pytest.raises(WorkerReset):
            await host.submit("p", task(str(number)))
    attempts = sum(len(engine.tasks) for engine in engines)
    assert 100 < attempts <= 120


async def test_a_replica_is_tried_again_if_there_is_no_other(host: AdapterHost) -> None:
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


async def test_a_replica_that_requests_a_rest_gets_it(host: AdapterHost) -> None:
    """Other jobs pass over a replica that said when it wants to be asked again."""
    busy = Engine("a", failure=CapacityExceeded(ErrorCode.ADMISSION_REJECT, "busy", None, 5000))
    host.bind("p", "a", busy.bound())
    host.bind("p", "b", Engine("b").bound())
    await host.check("p")
    for number in range(5):
        assert (await host.submit("p", task(str(number))).text()).startswith("b0")
    assert len(busy.tasks) == 1
    assert breaker_of(host) == "closed"


async def test_an_attempt_in_a_pool_is_one_request(host: AdapterHost) -> None:
    """The pool alone asks again: no adapter repeats by itself what the budget must pay for."""
    engine = Engine(failure=RESET)
    host.bind("p", "a", engine.bound())
    with pytest.raises(WorkerError):
        await host.submit("p", task(deadline_s=None))
    assert [asked.max_attempts for asked in engine.tasks] == [1, 1, 1]


async def test_a_task_may_allow_fewer_attempts(host: AdapterHost) -> None:
    """max_attempts of the task bounds the pool's."""
    engine = Engine(failure=RESET)
    host.bind("p", "a", engine.bound())
    with pytest.raises(WorkerReset):
        await host.submit("p", task(max_attempts=1))
    assert len(engine.tasks) == 1


@pytest.mark.parametrize(
    ("gives_started", "code"), [(False, "POOL_UNAVAILABLE"), (True, "DECODE_TIMEOUT")]
)
async def test_a_replica_that_gives_no_token_in_time_loses_the_job(
    host: AdapterHost, gives_started: bool, code: str
) -> None:
    """first_token_timeout_s moves it to another one, and counts (AH-1006)."""
    policy = PoolPolicy(first_token_timeout_s=0.1, breaker=BreakerPolicy(failures=1))
    host.set_policy("p", policy)
    wedged = Engine("a", gate=asyncio.Event(), silent=not gives_started)
    host.bind("p", "a", wedged.bound())
    host.bind("p", "b", Engine("b").bound())
    await host.check("p")
    assert await host.submit("p", task()).text() == "b0 b1 b2 "
    assert wedged.streams == 0
    assert [r.breaker for r in host.snapshot().pools[0].replicas] == ["open", "closed"]
    assert code in str(host.explain("job"))


@in_virtual_time
async def test_each_replica_has_a_pause_of_its_own() -> None:
    """A long pause of one replica does not delay a retry on another."""
    async with AdapterHost() as host:
        busy = CapacityExceeded(ErrorCode.ADMISSION_REJECT, "busy", None, 8000)
        first, second = Engine("a", failure=RESET), Engine("b", failure=busy)
        for engine in (first, second):
            host.bind("p", engine.name, engine.bound())
        await host.check("p")
        job = asyncio.create_task(host.submit("p", task(deadline_s=5.0)).text())
        await until(lambda: second.tasks and not second.streams)
        first.failure = None
        assert await job == "a0 a1 a2 "


@in_virtual_time
async def test_a_job_is_woken_for_the_replica_whose_pause_ends_first() -> None:
    """Also where the other one that failed it may be asked already, and is full."""
    pool = Pool("p", PoolPolicy(), lambda *_: None)
    for name in "ab":
        binding = Binding(Engine(name).bound(), limit=1)
        replica = Replica("p", name, binding.adapter, Breaker(BreakerPolicy()), binding)
        replica.note_health(READY, None)
        pool.members.put(replica)
    now = now_s()
    pool.members.lease(pool.members.replicas["a"], None, 0.0)
    job = Progress(task(), None, now, tried={"a": now + 0.1, "b": now + 0.2})
    await asyncio.sleep(0.15)
    assert pool.next_step(job, now_s()) == Wait("full", until=now + 0.2)
    await asyncio.sleep(0.1)
    step = pool.next_step(job, now_s())
    assert isinstance(step, Choice)
    assert step.replica_id == "b"


@pytest.mark.parametrize("limit_s", [None, 0.3])
async def test_a_pools_limit_hides_no_refusal(limit_s: float | None) -> None:
    """A 400 whose text is slow to come is a 400: not repeated, and no failure of the replica."""

    async def refuses(request: Request, wire: Wire) -> None:
        await wire.raw(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\n")
        await wire.until_closed(30)

    async with FakeOpenAI({"/v1/completions": refuses}) as server, AdapterHost() as host:
        adapter = OpenAIHttpAdapter(server.base_url, first_token_timeout_s=0.6)
        host.set_policy("p", PoolPolicy(first_token_timeout_s=limit_s))
        host.bind("p", "a", adapter)
        await until(lambda: states(host) == {"a": "ready"})
        with pytest.raises(InvalidRequest) as caught:
            await host.submit("p", task())
        assert caught.value.status == 400
        assert host.snapshot().pools[0].replicas[0].failures == 0
        assert len(server.posts) == 1


async def test_a_job_follows_its_pool(host: AdapterHost) -> None:
    """It moves to a replica of a pool that was emptied and bound again meanwhile."""
    first = Engine("a", gate=asyncio.Event(), failure=RESET, fail_after=-2, silent=True)
    host.bind("p", "a", first.bound())
    job = asyncio.create_task(host.submit("p", task()).text())
    await until(lambda: first.streams == 1)
    await host.unbind("p", "a")
    host.bind("p", "b", Engine("b").bound())
    await host.check("p")
    first.fail_after = -1
    first.gate.set()
    assert await job == "b0 b1 b2 "
