"""Observers are notified of everything once, and affect nothing."""

import asyncio
import gc
import logging
import re
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs
import pytest

from adapter_api import (
    AdapterNotice,
    BreakerNotice,
    HealthNotice,
    HealthState,
    JobNotice,
    ReplicaNotice,
    TaskRequest,
    Token,
    TokenStream,
    WorkerError,
    hookimpl,
)
from registry import Registry
from registry.observers import JobReport, Observers
from tests.witness import OUTCOMES, Recorder


def _task(**fields: Any) -> TaskRequest:
    return TaskRequest(**{"prompt": "hi", "model": "m", "session_id": "s", **fields})


async def test_a_whole_job_is_reported_step_by_step() -> None:
    """Start, submit, first token, end and aclose are reported, with ids and timings (ORCH-3027)."""
    recorder = Recorder()
    registry = Registry(observers=[recorder])
    async with registry.get("mock", {"replica_id": "r7"}) as adapter:
        task = _task(correlation_id="c1")
        await adapter.submit(task).text()
    assert recorder.hooks() == [
        *("adapter_started", "job_submitted", "job_first_token", "job_ended", "adapter_closed")
    ]
    submitted, first = recorder.last("job_submitted"), recorder.last("job_first_token")
    ended = recorder.last("job_ended")
    assert submitted.adapter == AdapterNotice(
        "mock", "worker-adapters", version("worker-adapters"), None, "r7"
    )
    assert (ended.job_id, ended.session_id, ended.correlation_id) == (task.job_id, "s", "c1")
    assert (ended.engine, ended.engine_version, ended.model) == ("mock", "1.0", "m")
    assert ended.tokens_out == 9
    assert ended.tokens_in is None  # the mock does not report it
    assert ended.replica_id == submitted.replica_id == "r7"
    assert ended.attempts == 1
    assert ended.finish_reason == "stop"
    assert ended.code is None
    assert 0 <= first.time_to_first_token_ms == ended.time_to_first_token_ms <= ended.elapsed_ms
    assert ended.decode_time_ms >= 0


async def test_a_failure_is_reported_with_its_code() -> None:
    """A job that fails after Tokens is reported with the number of delivered ones."""
    recorder = Recorder()
    options = {"error_code": "WORKER_RESET", "error_after": 2}
    async with Registry(observers=[recorder]).get("mock", options) as adapter:
        with pytest.raises(WorkerError):
            await adapter.submit(_task()).text()
    failed = recorder.last("job_failed")
    assert (failed.code, failed.retriable, failed.tokens_out) == ("WORKER_RESET", True, 2)
    assert OUTCOMES & set(recorder.hooks()) == {"job_failed"}


async def test_a_failure_before_started_is_reported() -> None:
    """A job that the engine does not accept is reported as submitted and failed."""
    recorder = Recorder()
    async with Registry(observers=[recorder]).get("mock", error_code="UPSTREAM_AUTH") as adapter:
        with pytest.raises(WorkerError):
            await adapter.submit(_task())
    assert recorder.hooks()[1:3] == ["job_submitted", "job_failed"]
    assert recorder.last("job_failed").engine is None


async def test_a_stream_that_is_never_read_is_not_reported() -> None:
    """Nothing was sent, so nothing is reported."""
    recorder = Recorder()
    async with Registry(observers=[recorder]).get("mock", {}) as adapter:
        await adapter.submit(_task()).aclose()
    assert recorder.hooks() == ["adapter_started", "adapter_closed"]


async def test_a_dropped_stream_is_cancelled() -> None:
    """A stream that is dropped in mid-answer is reported as cancelled, and is not kept alive."""
    recorder = Recorder()
    async with Registry(observers=[recorder]).get("mock", {}) as adapter:
        stream = adapter.submit(_task())
        async for event in stream:
            if isinstance(event, Token):
                break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del stream
            gc.collect()
        assert "job_cancelled" not in recorder.hooks()  # a destructor calls no foreign code
        await asyncio.sleep(0.01)
        cancelled = recorder.last("job_cancelled")
        assert (cancelled.code, cancelled.tokens_out) == ("CANCELLED", 1)
    assert sum(hook in OUTCOMES for hook in recorder.hooks()) == 1


async def test_health_is_reported_when_it_changes() -> None:
    """The first check and every change are reported, not every check (ORCH-3057)."""
    recorder = Recorder()
    adapter = Registry(observers=[recorder]).get("mock", {})
    await adapter.health()
    await adapter.health()
    adapter.adapter.config = attrs.evolve(adapter.adapter.config, health="degraded")
    await adapter.health()
    await adapter.aclose()
    await adapter.health()
    changes = [notice for hook, notice in recorder.told if hook == "health_changed"]
    assert [(c.before, c.after) for c in changes] == [
        (None, HealthState.HEALTHY),
        (HealthState.HEALTHY, HealthState.DEGRADED),
        (HealthState.DEGRADED, HealthState.UNHEALTHY),
    ]
    assert (changes[-1].live, changes[-1].ready) == (False, False)


async def test_a_raising_observer_affects_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged without its text; the job and the other observers continue."""

    class Raising:
        @hookimpl
        def job_submitted(self) -> None:
            raise ValueError("sk-secret")

        @hookimpl
        def job_ended(self, job: JobNotice) -> None:
            raise asyncio.InvalidStateError

    recorder = Recorder()
    registry = Registry(observers=[Raising(), recorder])
    async with registry.get("mock", {}) as adapter:
        assert await adapter.submit(_task()).text()
    assert recorder.hooks().count("job_ended") == 1
    messages = [r.getMessage() for r in caplog.records if r.name == "worker_adapters.observers"]
    assert len(messages) == 2
    assert "Raising failed in job_submitted with ValueError" in messages[0]
    assert "sk-secret" not in caplog.text


@pytest.mark.parametrize("raised", [asyncio.CancelledError, GeneratorExit, SystemExit])
async def test_base_exceptions_are_failures_of_the_observer(
    raised: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """It ends neither the job nor the program, and the other observers are notified."""

    class Raising:
        @hookimpl
        def job_first_token(self) -> None:
            raise raised

        @hookimpl
        def job_cancelled(self) -> None:
            raise raised

        @hookimpl
        def health_changed(self) -> None:
            raise raised

    recorder = Recorder()
    async with Registry(observers=[Raising(), recorder]).get("mock", {}) as adapter:
        stream = adapter.submit(_task())
        async for event in stream:
            if isinstance(event, Token):
                break
        assert await adapter.cancel(stream.job_id)
        assert (await adapter.health()).state is HealthState.HEALTHY
    assert recorder.outcomes() == ["job_cancelled"]
    assert {"job_first_token", "health_changed"} <= set(recorder.hooks())
    assert f"failed in job_cancelled with {raised.__name__}" in caplog.text


def test_an_interruption_goes_on() -> None:
    """KeyboardInterrupt in an observer propagates."""

    class Interrupted:
        @hookimpl
        def job_ended(self, job: JobNotice) -> None:
            raise KeyboardInterrupt

    observers = Observers([Interrupted()])
    with pytest.raises(KeyboardInterrupt):
        observers.notify("job_ended", None)


async def test_what_the_caller_sees_is_what_is_reported() -> None:
    """With middleware the outermost stream is reported: here one from a cache (ORCH-3055)."""

    class Cache:
        @hookimpl(wrapper=True)
        def submit(self, task: TaskRequest) -> Any:
            stream = yield
            return stream if task.prompt == "new" else self.cached(task, stream)

        async def cached(self, task: TaskRequest, stream: Any) -> Any:
            async for event in stream:
                yield attrs.evolve(event, text="?") if isinstance(event, Token) else event

    recorder = Recorder()
    registry = Registry(observers=[recorder], middleware=[Cache()])
    async with registry.get("mock", {}) as adapter:
        assert await adapter.submit(_task()).text() == "?" * 9
        assert await adapter.submit(_task(prompt="new")).text() != "?" * 9
    assert recorder.hooks().count("job_ended") == recorder.hooks().count("job_submitted") == 2


async def test_a_middleware_may_return_a_stream_that_it_watches() -> None:
    """A stream has one watcher: this one is watched through one around it."""
    mine, recorder = Recorder(), Recorder()

    class Watching:
        @hookimpl(wrapper=True)
        def submit(self, task: TaskRequest) -> Any:
            stream = yield
            assert isinstance(stream, TokenStream)
            return stream.watch(
                JobReport(Observers([mine]), task, AdapterNotice("mock", "mine", "1"))
            )

    registry = Registry(observers=[recorder], middleware=[Watching()])
    async with registry.get("mock", {}) as adapter:
        await adapter.start()
        assert await adapter.submit(_task()).text()
    assert mine.outcomes() == recorder.outcomes() == ["job_ended"]


async def test_the_logging_observer(caplog: pytest.LogCaptureFixture) -> None:
    """Records carry the facts as attributes, and a sentence without ids (ORCH-3027, ORCH-3300)."""
    caplog.set_level(logging.DEBUG, "worker_adapters.jobs")
    observers = Observers([])
    options = {"replica_id": "r1"}
    async with Registry().get("mock", options) as adapter:
        task = _task()
        await adapter.submit(task).text()
        await adapter.health()
        adapter.adapter.config = attrs.evolve(adapter.adapter.config, error_code="WORKER_RESET")
        with pytest.raises(WorkerError):
            await adapter.submit(_task()).text()
        adapter.adapter.config = attrs.evolve(adapter.adapter.config, error_code=None)
        stream = adapter.submit(_task())
        await stream
        await stream.aclose()
    observers.notify("replica_changed", ReplicaNotice("p", "r", None, "ready", "bound"))
    observers.notify("breaker_changed", BreakerNotice("p", "r", "closed", "open", 100))
    observers.notify(
        "health_changed",
        HealthNotice(AdapterNotice("a", "d", "1"), None, HealthState.UNHEALTHY, False, False),
    )
    records = [r for r in caplog.records if r.name == "worker_adapters.jobs"]
    assert [r.getMessage() for r in records] == [
        "an adapter was started",
        "a job was submitted",
        "attempt 1 started",
        "the first token arrived",
        "attempt 1 was answered",
        "the answer is whole",
        "the engine is healthy",
        "a job was submitted",
        "attempt 1 started",
        "attempt 1 failed with WORKER_RESET",
        "the job failed with WORKER_RESET",
        "a job was submitted",
        "attempt 1 started",
        "attempt 1 failed with CANCELLED",
        "the job was cancelled",
        "an adapter was closed",
        "a replica is ready",
        "a circuit breaker is open",
        "the engine is unhealthy",
    ]
    whole = vars(records[5])
    assert (whole["adapter"], whole["replica_id"]) == ("mock", "r1")
    assert (whole["job_id"], whole["session_id"], whole["engine"]) == (task.job_id, "s", "mock")
    assert whole["tokens_out"] == 9
    assert whole["latency_first_token_ms"] >= 0
    assert whole["human"] == "the answer is whole"
    assert vars(records[-3])["reason"] == "bound"
    assert [r.levelname for r in records[-2:]] == ["WARNING", "WARNING"]


async def test_the_prometheus_observer() -> None:
    """The same numbers for Prometheus, under labels (ORCH-3310)."""
    from prometheus_client import CollectorRegistry, generate_latest

    from registry.observers.prometheus import PrometheusObserver

    collector = CollectorRegistry()
    observer = PrometheusObserver(collector)
    registry = Registry(observers=[observer])
    async with registry.get("mock", {}) as adapter:
        await adapter.submit(_task()).text()
        stream = adapter.submit(_task())
        await stream
        await stream.aclose()
        adapter.adapter.config = attrs.evolve(adapter.adapter.config, error_code="WORKER_RESET")
        with pytest.raises(WorkerError):
            await adapter.submit(_task()).text()
    observers = Observers([observer])
    observers.notify("replica_changed", ReplicaNotice("p", "r", None, "ready"))
    observers.notify("breaker_changed", BreakerNotice("p", "r", "closed", "open"))
    text = generate_latest(collector).decode()
    owner = 'adapter="mock",pool_id=""'
    lines = [
        f"worker_adapters_dispatches_total{{{owner}}} 3.0",
        'worker_adapters_outcomes_total{adapter="mock",outcome="ended",pool_id=""} 1.0',
        'worker_adapters_outcomes_total{adapter="mock",outcome="cancelled",pool_id=""} 1.0',
        f"worker_adapters_tokens_out_total{{{owner}}} 9.0",
        f"worker_adapters_first_token_seconds_count{{{owner}}} 1.0",
        f"worker_adapters_jobs_waiting{{{owner}}} 0.0",
        'worker_adapters_in_flight{adapter="mock",pool_id="",replica_id=""} 0.0',
        'worker_adapters_replica_ready{pool_id="p",replica_id="r"} 1.0',
        'worker_adapters_breaker_state{pool_id="p",replica_id="r"} 2.0',
        'worker_adapters_breaker_transitions_total{pool_id="p",replica_id="r",state="open"} 1.0',
    ]
    assert [line for line in lines if line not in text] == []
    observers.notify("replica_changed", ReplicaNotice("p", "r", "ready", None))
    assert 'replica_ready{pool_id="p"' not in generate_latest(collector).decode()


def test_every_metric_is_documented() -> None:
    """docs/reference/metrics.md lists each name with its labels, and no other (ORCH-3310)."""
    from prometheus_client import CollectorRegistry

    from registry.observers.prometheus import PrometheusObserver

    observer = PrometheusObserver(CollectorRegistry())
    metrics: list[Any] = [value.metric for value in vars(observer).values()]
    page = (Path(__file__).parents[3] / "docs/reference/metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", page, re.MULTILINE)
    listed = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    known = {}
    for metric in metrics:
        name = metric._name.removeprefix("worker_adapters_")
        known[name + ("_total" if metric._type == "counter" else "")] = set(metric._labelnames)
    assert listed == known


async def test_a_busy_replica_accepts_work() -> None:
    """A degraded replica that answers counts as ready; a removed one is not exported."""
    from prometheus_client import CollectorRegistry

    from registry.observers.prometheus import PrometheusObserver

    collector = CollectorRegistry()
    observers = Observers([PrometheusObserver(collector)])
    place = {"pool_id": "p", "replica_id": "r"}
    for state, ready in (("starting", 0), ("ready", 1), ("busy", 1), ("draining", 0)):
        observers.notify("replica_changed", ReplicaNotice("p", "r", "x", state))
        assert collector.get_sample_value("worker_adapters_replica_ready", place) == ready
    observers.notify("replica_changed", ReplicaNotice("p", "r", "ready", None))
    assert collector.get_sample_value("worker_adapters_replica_ready", place) is None
