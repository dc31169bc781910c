"""The host acts on what it knows: models, refusals, busy answers, readiness, speed, priorities."""

import asyncio
import logging
import random
from collections import Counter

import pytest

from adapter_api import (
    AuthenticationFailed,
    CapacityExceeded,
    EngineProps,
    EngineUnavailable,
    ErrorCode,
    HealthState,
    HealthStatus,
    InvalidRequest,
    NotFound,
    Started,
    StreamingError,
    TaskRequest,
    WorkerError,
    WorkerReset,
    hookimpl,
)
from registry.host import AdapterHost, BreakerPolicy, LeastLoaded, LoadedModel, PoolPolicy
from tests.engines_in_process import DOWN, LOADING, Engine, states, task, until
from tests.scripted import collect
from tests.virtual_time import in_virtual_time

BUSY = CapacityExceeded(ErrorCode.ADMISSION_REJECT, "busy", status=429)
NO_KEY = AuthenticationFailed(ErrorCode.UPSTREAM_AUTH, "invalid key", status=401)
NO_MODEL = NotFound(ErrorCode.UPSTREAM_NOT_FOUND, "no model m", status=404)
NO_QUOTA = CapacityExceeded(ErrorCode.QUOTA_EXHAUSTED, "no credit left", status=402)
NOT_HERE = InvalidRequest(ErrorCode.INVALID_PARAMS, "method not allowed", status=405)
MOVED = StreamingError(ErrorCode.UPSTREAM_PROTOCOL, "it points elsewhere", status=308)
INVALID = InvalidRequest(ErrorCode.INVALID_PARAMS, "bad request", status=400)
RESET = WorkerReset(ErrorCode.WORKER_RESET, "reset")


class Serving(Engine):
    """An engine that lists models, and answers as one."""

    models: tuple[str, ...] = ()
    says: str | None = None

    @hookimpl
    async def props(self) -> EngineProps:
        return EngineProps("toy", self.version, slots_total=self.slots, models=self.models)

    @hookimpl
    async def submit(self, task):  # type: ignore[no-untyped-def]
        async for event in super().submit(task):
            if isinstance(event, Started):
                yield Started(event.job_id, event.engine, event.engine_version, self.says)
            else:
                yield event


def serving(name: str, *models: str, says: str | None = None, **fields: object) -> Serving:
    engine = Serving(name, **fields)  # type: ignore[arg-type]
    engine.models, engine.says = models, says
    return engine


async def bound(host: AdapterHost, *engines: Engine, **options: object) -> None:
    for engine in engines:
        host.bind("p", engine.name, engine.bound(), **options)  # type: ignore[arg-type]
    await host.check("p")


async def answered_by(host: AdapterHost, count: int, **fields: object) -> Counter[str]:
    """The engines that answer `count` jobs, one after another."""
    texts = [await host.submit("p", task(str(n), **fields)).text() for n in range(count)]
    return Counter(text[0] for text in texts)


# Models


async def test_a_job_goes_to_a_replica_that_lists_its_model(host: AdapterHost) -> None:
    """Others only get it if none lists it, and the ledger says why they were passed over."""
    await bound(host, serving("a", "other"), serving("b", "m"), serving("c"))
    assert await answered_by(host, 6, model="m") == {"b": 6}
    assert "other_model" in str(host.explain("0"))
    assert set(await answered_by(host, 24, model="unlisted")) == {"a", "b", "c"}


@in_virtual_time
async def test_models_are_read_again_while_a_replica_is_ready() -> None:
    """At once where its own model is missing, else each minute: servers change what they load."""
    async with AdapterHost(defaults=PoolPolicy(probe_interval_s=10.0)) as host:
        engine = serving("a", "m")
        await bound(host, engine)
        engine.models = ("n",)
        await asyncio.sleep(40.0)
        assert host.models() == {"p": ("m",)}
        await asyncio.sleep(40.0)
        assert host.models() == {"p": ("n",)}
        engine.models = ("o",)
        engine.status = HealthStatus(HealthState.DEGRADED, "not listed", model_listed=False)
        await asyncio.sleep(12.0)
        assert host.models() == {"p": ("o",)}


async def test_the_tag_of_the_latest_model_may_be_left_out(host: AdapterHost) -> None:
    """A task for "m" goes where "m:latest" is listed."""
    await bound(host, serving("a", "m:8b"), serving("b", "m:latest"))
    assert await answered_by(host, 6, model="m") == {"b": 6}
    assert await answered_by(host, 6, model="m:8b") == {"a": 6}


async def test_models_are_listed_again_after_a_refusal(host: AdapterHost) -> None:
    """A replica that no longer has a model stops being a candidate for it, without a restart."""
    losing = serving("a", "m", failure=NO_MODEL)
    await bound(host, losing, serving("b", "m"))
    losing.models = ("other",)
    assert await answered_by(host, 2, model="m") == {"b": 2}
    await until(lambda: "other" in host.models()["p"])
    losing.failure = None
    assert await answered_by(host, 6, model="m") == {"b": 6}
    assert await answered_by(host, 1, model="other") == {"a": 1}


async def test_a_replica_that_lacks_its_own_model_is_passed_over(host: AdapterHost) -> None:
    """A health check that missed the configured model keeps jobs without a model away."""
    lacking = HealthStatus(HealthState.DEGRADED, "model not listed", model_listed=False)
    await bound(host, Engine("a", status=lacking), Engine("b"))
    assert await answered_by(host, 6) == {"b": 6}
    await host.unbind("p", "b")
    assert await answered_by(host, 2) == {"a": 2}


async def test_an_alias_becomes_the_replicas_own_name(host: AdapterHost) -> None:
    """Tasks name the alias; each engine gets its own name for the model."""
    first, second = Engine("a"), Engine("b")
    host.bind("p", "a", first.bound(), model="org/m-awq", aliases=["m"])
    host.bind("p", "b", second.bound(), model="m.gguf", aliases=["m"])
    await host.check("p")
    await answered_by(host, 4, model="m")
    assert {asked.model for asked in first.tasks} == {"org/m-awq"}
    assert {asked.model for asked in second.tasks} == {"m.gguf"}
    assert host.models() == {"p": ("m", "m.gguf", "org/m-awq")}
    await host.submit("p", task("own", model="m.gguf")).text()
    assert second.tasks[-1].model == "m.gguf"


async def test_an_answer_of_another_model_is_reported(
    host: AdapterHost, caplog: pytest.LogCaptureFixture
) -> None:
    """In the ledger of each job, and once in the log; a dated name is the same model."""
    caplog.set_level(logging.WARNING, "worker_adapters.host")
    await bound(host, serving("a", "m", says="quite-another"))
    await answered_by(host, 3, model="m")
    assert "other_model" in str(host.explain("2"))
    warnings = [r for r in caplog.records if "answers with another model" in r.getMessage()]
    assert len(warnings) == 1
    await host.rebind("p", "a", serving("a", "m", says="M-2024-08-06.gguf").bound())
    await answered_by(host, 1, model="m")
    assert "other_model" not in str(host.explain("0"))


async def test_a_job_goes_where_its_model_is_loaded(host: AdapterHost) -> None:
    """Two models on two engines that hold one each: two loads for forty jobs."""
    host.set_policy("p", PoolPolicy(routing=LoadedModel()))
    engines = [serving("a", "m", "n"), serving("b", "m", "n")]
    await bound(host, *engines)
    for number in range(40):
        await host.submit("p", task(str(number), model="mn"[number % 2])).text()
    asked = [{sent.model for sent in engine.tasks} for engine in engines]
    assert sorted(map(sorted, asked)) == [["m"], ["n"]]


# Refusals


@pytest.mark.parametrize("failure", [NO_KEY, NO_MODEL, NO_QUOTA, NOT_HERE, MOVED])
async def test_a_replica_that_refuses_for_itself_is_no_black_hole(
    host: AdapterHost, failure: WorkerError
) -> None:
    """The job moves on once, the replica's health is checked, and two in a row rest it."""
    bad = Engine("a", failure=failure)
    await bound(host, bad, Engine("b"))
    checks = bad.checks
    assert await answered_by(host, 20) == {"b": 20}
    assert len(bad.tasks) == 2
    await until(lambda: bad.checks > checks)
    (replica, _) = host.snapshot().pools[0].replicas
    assert (replica.failures, replica.breaker) == (0, "closed")
    assert replica.rests_s > 0


async def test_a_defect_of_one_adapter_loses_no_job(host: AdapterHost) -> None:
    """A job that failed with INTERNAL before its answer moves on, once; the replica is not judged,
    since another task may be what its adapter cannot handle."""
    broken = WorkerError.of(ErrorCode.INTERNAL, "the adapter failed with ValueError")
    bad = Engine("a", failure=broken)
    await bound(host, bad, Engine("b"))
    assert await answered_by(host, 6) == {"b": 6}
    replica = host.snapshot().pools[0].replicas[0]
    assert (replica.failures, replica.rests_s, replica.breaker) == (0, 0, "closed")
    bad.fail_after = 1
    with pytest.raises(WorkerError, match="INTERNAL"):
        await answered_by(host, 2)


async def test_a_replica_whose_answers_cannot_be_read_is_no_black_hole(host: AdapterHost) -> None:
    """A sign-in page instead of an answer: the job moves on once, the breaker counts it."""
    page = StreamingError(ErrorCode.UPSTREAM_PROTOCOL, "HTML", status=200, retriable=False)
    bad = Engine("a", failure=page)
    await bound(host, bad, Engine("b"))
    assert await answered_by(host, 12) == {"b": 12}
    assert len(bad.tasks) == 5
    assert host.snapshot().pools[0].replicas[0].breaker == "open"
    both = Engine("b", failure=page)
    await host.rebind("p", "a", Engine("a", failure=page).bound())
    await host.rebind("p", "b", both.bound())
    with pytest.raises(StreamingError):
        await host.submit("p", task("x"))
    assert len(host.asked("x")) == 2


async def test_a_job_that_moved_on_is_told_the_refusal_when_the_other_replica_goes(
    host: AdapterHost,
) -> None:
    """It waits for the only replica that is left to it; that one is unbound, and closes."""
    bad, other = Engine("a", failure=NO_KEY), Engine("b", gate=asyncio.Event())
    host.bind("p", "a", bad.bound())
    host.bind("p", "b", other.bound(), limit=1)
    await host.check("p")
    busy = asyncio.create_task(host.submit("p", task("0")).text())
    await until(lambda: len(bad.tasks) + len(other.tasks) == 2)
    waiting = asyncio.create_task(host.submit("p", task("1")).text())
    await until(lambda: host.snapshot().pools[0].queued_interactive == 1)
    await host.unbind("p", "b")
    with pytest.raises(AuthenticationFailed):
        await waiting
    assert other.gate is not None
    other.gate.set()
    assert await busy == "b0 b1 b2 "
    await until(lambda: other.closed == 1)


async def test_where_no_other_can_answer_a_refusal_is_told_at_once(host: AdapterHost) -> None:
    """The only replica does not rest: no job waits to hear that the key is wrong."""
    bad = Engine("a", failure=NO_KEY)
    await bound(host, bad)
    for number in range(6):
        with pytest.raises(AuthenticationFailed):
            await host.submit("p", task(str(number)))
    assert host.snapshot().pools[0].replicas[0].rests_s == 0
    assert len(bad.tasks) == 6


async def test_a_refusal_moves_a_job_only_once(host: AdapterHost) -> None:
    """A key that is wrong everywhere is two requests, not one for each replica."""
    engines = [Engine(name, failure=NO_KEY) for name in "abcd"]
    await bound(host, *engines)
    with pytest.raises(AuthenticationFailed):
        await host.submit("p", task())
    assert sum(len(engine.tasks) for engine in engines) == 2
    await host.unbind("p", "b")
    with pytest.raises(InvalidRequest):
        await bound(host, Engine("e", failure=INVALID))
        await host.drain("p", "a", timeout_s=0)
        await host.drain("p", "c", timeout_s=0)
        await host.drain("p", "d", timeout_s=0)
        await host.submit("p", task())


@pytest.mark.parametrize(
    "failure",
    [
        INVALID,
        WorkerReset(ErrorCode.WORKER_RESET, "image input is not supported", status=500),
        WorkerReset(ErrorCode.WORKER_RESET, "tensor of shape 3 expected", status=500),
        WorkerReset(ErrorCode.WORKER_RESET, "jinja: roles must alternate", status=500),
    ],
)
async def test_one_users_bad_requests_close_no_replica(
    host: AdapterHost, failure: WorkerError
) -> None:
    """Neither a 400, nor a 500 that refuses, nor the same words from two replicas count."""
    host.set_policy("p", PoolPolicy(breaker=BreakerPolicy(failures=2), retry_floor_per_s=100.0))
    engines = [Engine(name, failure=failure) for name in "ab"]
    await bound(host, *engines)
    for number in range(10):
        with pytest.raises(type(failure)):
            await host.submit("p", task(str(number)))
    assert [r.breaker for r in host.snapshot().pools[0].replicas] == ["closed"] * 2
    for engine in engines:
        engine.failure = None
    assert (await answered_by(host, 4)).total() == 4


async def test_a_job_counts_once_against_a_replica(host: AdapterHost) -> None:
    """Three attempts of one job at the only replica are one failure for its breaker."""
    host.set_policy("p", PoolPolicy(breaker=BreakerPolicy(failures=2)))
    await bound(host, Engine("a", failure=RESET))
    with pytest.raises(WorkerReset):
        await host.submit("p", task())
    assert host.snapshot().pools[0].replicas[0].breaker == "closed"
    with pytest.raises(WorkerReset):
        await host.submit("p", task())
    assert host.snapshot().pools[0].replicas[0].breaker == "open"


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
    """A pool that is busy for ever gives the job back; a limit that the task names is kept."""
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


# Choice


async def test_weight_and_priority_of_replicas_count(host: AdapterHost) -> None:
    """A spare gets work only when the others have no room; weights share the load."""
    host.set_policy("p", PoolPolicy(routing=LeastLoaded()))
    gate = asyncio.Event()
    heavy, light, spare = (Engine(name, gate=gate) for name in "abc")
    host.bind("p", "a", heavy.bound(), weight=3.0, limit=6)
    host.bind("p", "b", light.bound(), limit=2)
    host.bind("p", "c", spare.bound(), priority=1)
    await host.check("p")
    jobs = [asyncio.create_task(host.submit("p", task(str(n))).text()) for n in range(8)]
    await until(lambda: heavy.streams + light.streams + spare.streams == 8)
    assert (heavy.streams, light.streams, spare.streams) == (6, 2, 0)
    jobs += [asyncio.create_task(host.submit("p", task(f"more {n}")).text()) for n in range(2)]
    await until(lambda: spare.streams == 2)
    gate.set()
    await asyncio.gather(*jobs)


@in_virtual_time
async def test_a_slow_replica_gets_little_at_low_load() -> None:
    """One after another, jobs go to the quick ones, equally; the slow one is tried seldom."""

    class Timed(Engine):
        first_s = 0.05

        @hookimpl
        async def submit(self, task):  # type: ignore[no-untyped-def]
            await asyncio.sleep(self.first_s)
            async for event in super().submit(task):
                yield event

    async with AdapterHost() as host:
        engines = [Timed(name) for name in "abc"]
        engines[0].first_s = 1.0
        await bound(host, *engines)
        counts = await answered_by(host, 41)
        assert counts["a"] == 1
        assert abs(counts["b"] - counts["c"]) <= 1


# Fallback


async def test_a_pool_that_cannot_serve_falls_back(host: AdapterHost) -> None:
    """Before the first token, over pools that are missing, with a line in the ledger."""
    host.set_policy("p", PoolPolicy(fallback=("nowhere", "spare"), ready_wait_s=0.0))
    host.bind("spare", "s", Engine("s").bound())
    await host.check("spare")
    assert await host.submit("p", task()).text() == "s0 s1 s2 "
    kinds = [(step.kind, step.reason) for step in host.explain("job").steps]  # type: ignore[union-attr]
    assert kinds.count(("fallback", "POOL_UNAVAILABLE")) == 2
    host.bind("p", "a", Engine("a", failure=RESET).bound())
    await host.check("p")
    assert await host.submit("p", task("2", max_attempts=1)).text() == "s0 s1 s2 "
    broken = Engine("b", failure=RESET, fail_after=1)
    await host.rebind("p", "a", broken.bound())
    with pytest.raises(WorkerReset):
        await host.submit("p", task("3")).text()
    await host.rebind("p", "a", Engine("a", failure=INVALID).bound())
    with pytest.raises(InvalidRequest):
        await host.submit("p", task("4")).text()


async def test_a_fallback_that_cannot_be_used_is_named(host: AdapterHost) -> None:
    """Pools can be made later, so a missing one is no error before a job needs it."""
    host.set_policy("p", PoolPolicy(fallback=("nowhere", "spare"), max_attempts=1))
    host.bind("spare", "s", Engine("s").bound())
    assert await host.drain("spare")
    await bound(host, Engine("a", failure=RESET))
    with pytest.raises(WorkerReset) as caught:
        await host.submit("p", task())
    assert str(caught.value).endswith(
        "; no fallback: there is no pool 'nowhere'; pools: p, spare; pool 'spare' is draining"
    )


async def test_a_pool_is_never_its_own_fallback(host: AdapterHost) -> None:
    """Defaults of all pools may name one of them: its jobs fail as they would without."""
    host.set_policy("p", PoolPolicy(fallback=("p",), max_attempts=1))
    engine = Engine("a", failure=RESET)
    await bound(host, engine)
    with pytest.raises(WorkerReset):
        await host.submit("p", task()).text()
    assert "fallback" not in [step.kind for step in host.explain("job").steps]  # type: ignore[union-attr]


async def test_without_a_fallback_that_works_the_first_failure_is_told(host: AdapterHost) -> None:
    """The last pool's refusal hides nothing."""
    host.set_policy("p", PoolPolicy(fallback=("spare",), max_attempts=1))
    host.set_policy("spare", PoolPolicy(ready_wait_s=0.0))
    await bound(host, Engine("a", failure=RESET))
    with pytest.raises(WorkerReset):
        await host.submit("p", task())


# Overviews


async def test_overviews_never_wait_and_show_breakers() -> None:
    """health and props return the known facts, also about an engine that hangs."""
    policy = PoolPolicy(breaker=BreakerPolicy(failures=1), max_attempts=1)
    async with AdapterHost(defaults=policy) as host:
        hung = Engine("a", hung=True)
        host.bind("p", "a", hung.bound())
        host.bind("p", "b", Engine("b", failure=RESET).bound())
        await until(lambda: states(host)["b"] == "ready")
        loop = asyncio.get_running_loop()
        before = loop.time()
        health, props = await host.health("p"), await host.props("p")
        assert loop.time() - before < 0.1
        assert health.replicas["a"].message == "not checked yet"
        assert props["a"] == EngineProps()
        with pytest.raises(WorkerReset):
            await host.submit("p", task())
        health = await host.health("p")
        assert (health.state, health.ready) == (HealthState.UNHEALTHY, False)
        assert health.breakers["b"] == "open"
        assert "breaker of b is open" in health.message


async def test_a_pool_is_an_adapter(host: AdapterHost) -> None:
    """submit, cancel, health, props and version of a pool; closing it leaves the host alone."""
    engine = Engine("a", slots=2, count=100)
    await bound(host, engine, Engine("b", slots=3, count=100))
    pool = host.pool("p")
    await pool.start()
    assert (await pool.health()).ready
    props = await pool.props()
    assert (props.engine, props.slots_total) == ("toy", 5)
    assert await pool.engine_version() == "1"
    stream = await pool.submit(task())
    assert stream.job_id == "job"
    assert await pool.cancel("job")
    assert not await pool.cancel("job")
    engine.gate = asyncio.Event()
    await host.unbind("p", "b")
    running = asyncio.create_task(pool.submit(task("running")).text())
    await until(lambda: engine.streams == 1)
    await pool.aclose()
    with pytest.raises(WorkerError, match="closed before its end"):
        await running
    engine.gate = None
    assert await host.submit("p", task("on", max_tokens=2)).text() == "a0 a1 "
    assert not (await host.pool("nowhere").health()).live


async def test_a_host_in_another_loop_says_so(host: AdapterHost) -> None:
    """It does not fail somewhere within."""
    await bound(host, Engine("a"))

    def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(host.submit("p", TaskRequest(prompt="x")).text())

    async def submit() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            host.submit("p", TaskRequest(prompt="x"))

    await asyncio.to_thread(asyncio.run, submit())


def test_a_host_outside_of_an_event_loop_says_where_it_belongs() -> None:
    """bind at the top of a script is an error that names `async def` and the blocking host."""
    with pytest.raises(RuntimeError, match=r"inside one `async def`, or use registry\.sync\.host"):
        AdapterHost().bind("p", "r", Engine("a"))


async def test_a_task_in_the_place_of_the_pool() -> None:
    """The arguments the wrong way round are a TypeError about the task."""
    async with AdapterHost() as host:
        with pytest.raises(TypeError, match="submit takes a task.*of type str$"):
            host.submit(TaskRequest(prompt="Hello"), "p")  # type: ignore[arg-type]


async def test_an_unknown_pool_is_refused_with_the_known_ones() -> None:
    """A misspelt pool is an error that lists the pools; without any it says what to do."""
    async with AdapterHost() as host:
        with pytest.raises(EngineUnavailable, match="no pool 'caht'; pools: none; bind a replica"):
            await host.submit("caht", TaskRequest(prompt="Hello")).text()
        host.bind("chat", "r", Engine("a"))
        with pytest.raises(EngineUnavailable, match="there is no pool 'caht'; pools: chat$"):
            await host.submit("caht", TaskRequest(prompt="Hello")).text()
