"""The host as its user meets it: submit, cancel, health, props, snapshot, limits and lines."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest

from adapter_api import (
    CapacityExceeded,
    ContractError,
    End,
    EngineUnavailable,
    ErrorCode,
    HealthState,
    InternalError,
    InvalidRequest,
    Metrics,
    Started,
    TaskRequest,
    Token,
    WorkerTimeout,
    hookimpl,
)
from adapters.mock import MockAdapter
from registry import AdapterHost, PoolPolicy
from registry.host import Candidate, Choice
from tests.engines_in_process import BUSY, DOWN, LOADING, Engine, states, task, until


async def test_a_job_goes_to_a_replica_of_its_pool(host: AdapterHost) -> None:
    """submit gives an ordinary stream; Started names the replica (AH-1002)."""
    host.bind("p", "r1", Engine("a").bound())
    host.bind("other", "r2", Engine("b").bound())
    async with host.submit("p", task()) as stream:
        events = [event async for event in stream]
    assert events[0] == Started("job", "toy", "1", replica_id="r1")
    assert [event.text for event in events if isinstance(event, Token)] == ["a0 ", "a1 ", "a2 "]
    assert isinstance(events[-1], End)
    assert events[-1].metrics.attempts == 1


async def test_an_unknown_pool_is_an_error_of_the_job(host: AdapterHost) -> None:
    """Opening the stream of an unknown pool fails and is not retriable."""
    with pytest.raises(EngineUnavailable, match="no pool 'nowhere'") as caught:
        await host.submit("nowhere", task())
    assert not caught.value.retriable


async def test_the_correlation_id_is_made_if_absent(host: AdapterHost) -> None:
    """The engine gets the task's correlation_id, or a UUIDv4 (AH-1003)."""
    engine = Engine()
    host.bind("p", "r", engine.bound())
    await host.submit("p", task()).text()
    await host.submit("p", task(correlation_id="mine")).text()
    made, given = [sent.correlation_id for sent in engine.tasks]
    assert UUID(made).version == 4
    assert given == "mine"


async def test_the_engine_gets_what_is_left_of_the_deadline(host: AdapterHost) -> None:
    """Waiting in line is charged to the task's one deadline."""
    engine = Engine(gate=asyncio.Event())
    host.bind("p", "r", engine.bound(), limit=1)
    first = ask(host, "1")
    await until(lambda: engine.streams == 1)
    second = ask(host, "2")
    await asyncio.sleep(0.05)
    engine.gate.set()
    await asyncio.gather(first, second)
    assert engine.tasks[1].deadline_s < 9.96
    assert engine.tasks[0].deadline_s > engine.tasks[1].deadline_s


def ask(host: AdapterHost, job_id: str, **fields) -> "asyncio.Task[str]":
    return asyncio.create_task(host.submit("p", task(job_id, **fields)).text())


async def test_the_policy_gives_a_deadline_to_tasks_without_one(host: AdapterHost) -> None:
    """A pool's deadline_s holds where the task has none (AH-1006)."""
    host.set_policy("p", PoolPolicy(deadline_s=0.05))
    host.bind("p", "r", Engine(gate=asyncio.Event()).bound())
    with pytest.raises(WorkerTimeout, match=r"its deadline of 0\.05 s") as caught:
        await host.submit("p", TaskRequest(prompt="x")).text()
    assert caught.value.code == "DEADLINE_UNMET"


@pytest.mark.parametrize("status", [LOADING, DOWN])
async def test_only_ready_replicas_get_work(host: AdapterHost, status) -> None:
    """A replica that is loading or down is passed over; a busy one is not."""
    away, busy = Engine("a", status=status), Engine("b", status=BUSY)
    host.bind("p", "a", away.bound())
    host.bind("p", "b", busy.bound())
    for number in range(5):
        assert (await host.submit("p", task(str(number))).text()).startswith("b0")
    assert not away.tasks
    assert states(host)["b"] == "busy"


async def test_a_pool_that_is_down_refuses_at_once(host: AdapterHost) -> None:
    """Without a replica that may become ready the error comes at once and says who is how."""
    host.bind("p", "a", Engine(status=DOWN).bound())
    await until(lambda: states(host) == {"a": "down"})
    with pytest.raises(EngineUnavailable, match=r"a is down \(connection refused\)") as caught:
        await host.submit("p", task())
    assert caught.value.retriable
    assert caught.value.retry_after_ms == 50


async def test_a_job_waits_for_a_replica_that_loads(host: AdapterHost) -> None:
    """Where the only replica is loading a job waits, and goes to it when it is ready."""
    engine = Engine(status=LOADING)
    host.bind("p", "a", engine.bound())
    await until(lambda: states(host) == {"a": "loading"})
    job = ask(host, "1")
    await asyncio.sleep(0.02)
    engine.status = BUSY
    assert await job == "a0 a1 a2 "


async def test_the_wait_for_a_loading_replica_is_bounded(host: AdapterHost) -> None:
    """After ready_wait_s the job fails; the error is retriable."""
    host.set_policy("p", PoolPolicy(ready_wait_s=0.05))
    host.bind("p", "a", Engine(status=LOADING).bound())
    with pytest.raises(EngineUnavailable, match="a is not ready") as caught:
        await host.submit("p", task())
    assert caught.value.retriable


async def test_the_limit_bounds_what_runs_on_a_replica(host: AdapterHost) -> None:
    """More jobs than the limit wait in line, and all are served."""
    engine = Engine(gate=asyncio.Event())
    host.bind("p", "a", engine.bound(), limit=2)
    jobs = [ask(host, str(number)) for number in range(5)]
    # Before the replica's health is known, all of them wait.
    await until(lambda: engine.streams == 2 and host.snapshot().pools[0].queued_interactive == 3)
    assert host.snapshot().pools[0].replicas[0].in_flight == 2
    engine.gate.set()
    assert await asyncio.gather(*jobs) == ["a0 a1 a2 "] * 5


async def test_the_engines_slots_are_the_limit_if_none_is_given(host: AdapterHost) -> None:
    """slots_total bounds a replica; the policy's max_in_flight bounds one that reports no slots."""
    host.set_policy("p", PoolPolicy(max_in_flight=7))
    host.bind("p", "a", Engine(slots=3).bound())
    host.bind("p", "b", Engine().bound())
    host.bind("p", "c", Engine(slots=3).bound(), limit=1)
    await host.check("p")
    assert [r.limit for r in host.snapshot().pools[0].replicas] == [3, 7, 1]


async def test_a_full_line_refuses(host: AdapterHost) -> None:
    """A full line is ADMISSION_REJECT with a time after which to ask again (AH-1005)."""
    host.set_policy("p", PoolPolicy(max_queue=1))
    engine = Engine(gate=asyncio.Event())
    host.bind("p", "a", engine.bound(), limit=1)
    await host.check("p")
    jobs = [ask(host, str(number)) for number in range(2)]
    await until(lambda: host.snapshot().pools[0].queued_interactive == 1)
    with pytest.raises(CapacityExceeded) as caught:
        await host.submit("p", task())
    assert caught.value.code == "ADMISSION_REJECT"
    assert caught.value.retriable
    assert caught.value.retry_after_ms > 0
    engine.gate.set()
    await asyncio.gather(*jobs)


async def test_retry_after_waits_for_a_replica_that_rests(host: AdapterHost) -> None:
    """A full queue reports when a retry makes sense (AH-1005)."""
    host.set_policy("p", PoolPolicy(max_queue=0, max_attempts=1))
    busy = CapacityExceeded(ErrorCode.ADMISSION_REJECT, "busy", None, 30_000)
    host.bind("p", "a", Engine("a", failure=busy).bound())
    await host.check("p")
    with pytest.raises(CapacityExceeded, match="busy"):
        await host.submit("p", task())
    with pytest.raises(CapacityExceeded, match="queue of pool 'p' is full") as caught:
        await host.submit("p", task(deadline_s=60.0))
    assert 29_000 < caught.value.retry_after_ms <= 30_000


async def test_only_answers_tell_how_long_an_answer_takes(host: AdapterHost) -> None:
    """Jobs that fail at once do not make a full line look quick (AH-1005)."""
    host.set_policy("p", PoolPolicy(max_queue=0))
    engine = Engine(failure=InvalidRequest(ErrorCode.INVALID_PARAMS, "no"))
    host.bind("p", "a", engine.bound(), limit=1)
    await host.check("p")
    for number in range(20):
        with pytest.raises(InvalidRequest):
            await host.submit("p", task(str(number)))
    engine.failure, engine.gate = None, asyncio.Event()
    running = ask(host, "running")
    await until(lambda: engine.streams == 1)
    with pytest.raises(CapacityExceeded) as caught:
        await host.submit("p", task())
    assert caught.value.retry_after_ms == 1000  # what is guessed while nothing was measured
    engine.gate.set()
    await running


async def test_a_newcomer_may_push_out_a_batch_job(host: AdapterHost) -> None:
    """With drop_oldest_batch an interactive job takes the place of the oldest batch job."""
    host.set_policy("p", PoolPolicy(max_queue=1, queue_full="drop_oldest_batch"))
    engine = Engine(gate=asyncio.Event())
    host.bind("p", "a", engine.bound(), limit=1)
    await host.check("p")
    running = ask(host, "running")
    await until(lambda: engine.streams == 1)
    batch = asyncio.create_task(host.submit("p", task("batch"), priority="batch").text())
    await until(lambda: host.snapshot().pools[0].queued_batch == 1)
    urgent = ask(host, "urgent")
    with pytest.raises(CapacityExceeded) as caught:
        await batch
    assert caught.value.retry_after_ms > 0
    engine.gate.set()
    assert await running == await urgent


async def test_interactive_jobs_go_before_batch_jobs(host: AdapterHost) -> None:
    """The line has two priorities, each first come, first served."""
    engine = Engine(gate=asyncio.Event())
    host.bind("p", "a", engine.bound(), limit=1)
    jobs = [ask(host, "running")]
    await until(lambda: engine.streams == 1)
    for job_id, priority in [("b1", "batch"), ("i1", "interactive"), ("i2", "interactive")]:
        stream = host.submit("p", task(job_id), priority=priority)
        jobs.append(asyncio.create_task(stream.text()))
        await asyncio.sleep(0.01)
    engine.gate.set()
    await asyncio.gather(*jobs)
    assert [sent.job_id for sent in engine.tasks] == ["running", "i1", "i2", "b1"]


class Failing:
    """A routing policy that can be made to fail."""

    fails = False
    choice = "a"

    def choose(self, task: TaskRequest, candidates: Sequence[Candidate]) -> Choice:
        """Or not."""
        if self.fails:
            raise ZeroDivisionError("mine")
        return Choice(self.choice, "mine")


async def test_a_policy_that_fails_ends_the_job_it_fails_for(host: AdapterHost) -> None:
    """At once or in line, with what it raised as the cause; no other job notices."""
    routing = Failing()
    host.set_policy("p", PoolPolicy(routing=routing))
    engine = Engine(gate=asyncio.Event())
    host.bind("p", "a", engine.bound(), limit=1)
    await host.check("p")
    running, waiting = ask(host, "running"), ask(host, "waiting")
    await until(lambda: host.snapshot().pools[0].queued_interactive == 1)
    routing.fails = True
    engine.gate.set()
    assert await running == "a0 a1 a2 "
    for failed in (waiting, ask(host, "late")):
        with pytest.raises(
            InternalError, match="policy of pool 'p' failed with ZeroDivision"
        ) as it:
            await failed
        assert isinstance(it.value.__cause__, ZeroDivisionError)
    routing.fails = False
    assert await host.submit("p", task()).text() == "a0 a1 a2 "


async def test_a_policy_chooses_among_the_candidates(host: AdapterHost) -> None:
    """A policy's choice of an absent or full replica fails the job."""
    routing = Failing()
    routing.choice = "b"
    host.set_policy("p", PoolPolicy(routing=routing))
    host.bind("p", "a", Engine().bound())
    with pytest.raises(InternalError, match="policy of pool 'p' failed") as caught:
        await host.submit("p", task())
    assert "'b' was not among the candidates" in str(caught.value.__cause__)


async def test_a_policy_cannot_end_the_process(host: AdapterHost) -> None:
    """SystemExit of a policy fails its job, like any other exception of it."""

    class Exits:
        def choose(self, task: TaskRequest, candidates: Sequence[Candidate]) -> Choice:
            raise SystemExit(1)

    host.set_policy("p", PoolPolicy(routing=Exits()))
    host.bind("p", "a", Engine().bound())
    with pytest.raises(InternalError, match="policy of pool 'p' failed with SystemExit"):
        await host.submit("p", task())


async def test_a_priority_that_is_none_is_refused(host: AdapterHost) -> None:
    """A misspelt priority fails at once."""
    with pytest.raises(ValueError, match="interactive"):
        host.submit("p", task(), priority="urgent")  # type: ignore[arg-type]


async def test_an_adapter_that_was_made_by_hand_can_be_bound(host: AdapterHost) -> None:
    """Without the registry, and without a BoundAdapter around it."""
    host.bind("p", "a", MockAdapter(tokens=("x",)))
    assert await host.submit("p", task("1")).text() == "x"
    assert host.snapshot().pools[0].replicas[0].adapter == "MockAdapter"
    await host.rebind("p", "a", MockAdapter(tokens=("y",)))
    assert await host.submit("p", task("2")).text() == "y"
    with pytest.raises(ContractError, match="object"):
        host.bind("p", "b", object())


async def test_health_and_props_of_a_pool(host: AdapterHost) -> None:
    """health asks every replica now; props are kept per replica (AH-1002, ORCH-3603)."""
    host.bind("p", "a", Engine("a", slots=2).bound())
    host.bind("p", "b", Engine("b", status=DOWN).bound())
    health = await host.check("p")
    assert (health.state, health.live, health.ready) == (HealthState.DEGRADED, True, True)
    assert health.message == "1 of 2 replicas accept work"
    assert health.replicas["b"] == DOWN
    props = await host.props("p")
    assert props["a"].slots_total == 2
    assert set(props) == {"a", "b"}
    with pytest.raises(LookupError, match="no pool 'q'; pools: p"):
        await host.check("q")


async def test_mixed_versions_are_reported(host: AdapterHost) -> None:
    """The snapshot lists the versions if a pool has more than one (ORCH-3046)."""
    host.bind("p", "a", Engine("a", version="1").bound())
    await host.check("p")
    assert host.snapshot().pools[0].mixed_versions == ()
    host.bind("p", "b", Engine("b", version="2").bound())
    await host.check("p")
    assert host.snapshot().pools[0].mixed_versions == ("1", "2")


async def test_mixed_versions_can_be_refused(host: AdapterHost) -> None:
    """A pool may keep to one version; it moves on when no replica runs that any more."""
    host.set_policy("p", PoolPolicy(refuse_mixed_versions=True))
    old, new = Engine("a", version="1"), Engine("b", version="2")
    host.bind("p", "a", old.bound())
    await host.check("p")
    host.bind("p", "b", new.bound())
    await host.check("p")
    for number in range(4):
        await host.submit("p", task(str(number))).text()
    assert len(old.tasks) == 4
    assert "other_version" in str(host.explain("3"))
    await host.unbind("p", "a")
    assert (await host.submit("p", task()).text()).startswith("b0")


async def test_the_snapshot_counts(host: AdapterHost) -> None:
    """Jobs, first-token time and rate of a replica are in the snapshot."""
    host.bind("p", "a", Engine().bound())
    await host.submit("p", task()).text()
    (pool,) = host.snapshot().pools
    (replica,) = pool.replicas
    assert (pool.jobs, pool.retries, replica.jobs, replica.failures) == (1, 0, 1, 0)
    assert (replica.engine, replica.engine_version, replica.adapter) == ("toy", "1", "toy-a")
    assert replica.first_token_ms is not None
    assert replica.breaker == "closed"


async def test_tokens_that_came_at_once_cross_the_host_at_once(host: AdapterHost) -> None:
    """An adapter's lists of Tokens are handed on as lists, and read one by one."""

    class Batching(Engine):
        @hookimpl
        async def submit(self, task):
            yield Started(task.job_id, "toy", "1")
            for first in (0, 4):
                yield [Token(f"{index} ", index) for index in range(first, first + 4)]
            yield End(Metrics(8), "stop", "finish_reason")

    host.bind("p", "a", Batching().bound())
    steps = 0
    async with host.submit("p", task()) as stream:
        texts = []
        async for event in stream:
            steps += not stream._ready
            if isinstance(event, Token):
                texts.append(event.text)
    assert texts == [f"{index} " for index in range(8)]
    assert steps < 8
    assert host.snapshot().pools[0].replicas[0].tokens_per_s >= 0.0
