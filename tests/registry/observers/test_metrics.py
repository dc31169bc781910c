"""MetricsObserver: counts and bounded summaries."""

from threading import Thread
from typing import Any

import pytest

from adapter_api import (
    AdapterNotice,
    End,
    HealthState,
    HealthStatus,
    JobNotice,
    Metrics,
    Started,
    TaskRequest,
    ToolCall,
    WorkerError,
    hookimpl,
)
from registry import Registry
from registry.adapter import BoundAdapter
from registry.observers import MetricsObserver, Observers, Summary
from tests.witness import Recorder


def _task(**fields: Any) -> TaskRequest:
    return TaskRequest(**{"prompt": "hi", "model": "m", "session_id": "s", **fields})


async def test_the_metrics_observer() -> None:
    """Dispatches, outcomes, tokens and times are counted for each adapter (ORCH-3028)."""
    metrics = MetricsObserver()
    registry = Registry(observers=[metrics])
    async with registry.get("mock", {}) as good, registry.get("mock", {}) as other:
        for _ in range(3):
            await good.submit(_task()).text()
        stream = other.submit(_task())
        await stream
        assert metrics.snapshot().total.running == 1
        await stream.aclose()
    async with registry.get("mock", {"replica_id": "bad", "error_code": "WORKER_RESET"}) as bad:
        with pytest.raises(WorkerError):
            await bad.submit(_task()).text()
    total = metrics.snapshot().total
    assert (total.dispatches, total.ended, total.cancels, total.running) == (5, 3, 1, 0)
    assert total.failures == {"WORKER_RESET": 1}
    assert (total.tokens_out, total.retries) == (27, 0)
    assert total.latency_first_token_ms.count == 3
    adapters = metrics.snapshot().adapters
    by_replica = {notice.replica_id: jobs for notice, jobs in adapters.items()}
    assert by_replica["bad"].dispatches == 1
    assert by_replica[None].latency_first_token_ms.count == 3
    assert by_replica[None].latency_decode_ms.count == 3


def test_a_summary_keeps_its_bounds() -> None:
    """Count, sum, least and most are those of the values."""
    one, other = Summary(), Summary()
    for value in (3.0, None, 2.0):
        one.note(value)
    other.note(1.0)
    assert one + other == other + one == Summary(3, 6.0, 1.0, 3.0)
    assert one + Summary() == Summary() + one == one == Summary(2, 5.0, 2.0, 3.0)
    assert one + Summary() is not one


def test_a_snapshot_stays_as_it_was() -> None:
    """A snapshot does not change afterwards."""
    metrics = MetricsObserver()
    job = JobNotice("j", None, None, AdapterNotice("a", "d", "1"), code="WORKER_RESET")
    metrics.job_failed(job)
    before = metrics.snapshot()
    metrics.job_failed(job)
    assert before.total.failures == {"WORKER_RESET": 1}
    assert metrics.snapshot().total.failures == {"WORKER_RESET": 2}


def test_metrics_of_several_threads() -> None:
    """Registries may be used in one event loop per thread; no count is lost."""
    metrics = MetricsObserver()
    job = JobNotice("j", None, None, AdapterNotice("a", "d", "1"), tokens_out=3)

    def work() -> None:
        for _ in range(500):
            metrics.job_submitted(job)
            metrics.job_ended(job)

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = metrics.snapshot().total
    assert (total.dispatches, total.ended, total.tokens_out) == (2000, 2000, 6000)


async def test_tool_calls_are_counted() -> None:
    """Complete calls of an answer are counted; their arguments appear in no notice."""

    class Calling:
        @hookimpl
        async def submit(self, task: TaskRequest) -> Any:
            yield Started(task.job_id, "made", "1")
            calls = (ToolCall("a", "f", '{"x": 1}'), ToolCall("b", "g", "{}"))
            yield End(Metrics(0), "tool_calls", "finish_reason", tool_calls=calls)

        @hookimpl
        async def health(self) -> HealthStatus:
            return HealthStatus(HealthState.HEALTHY)

    metrics, recorder = MetricsObserver(), Recorder()
    observers = Observers([metrics, recorder])
    async with BoundAdapter(Calling(), name="calling", observers=observers) as adapter:
        await adapter.submit(_task()).answer()
    assert metrics.snapshot().total.tool_calls == 2
    assert recorder.last("job_ended").tool_calls == 2
    assert '"x"' not in repr(recorder.told)
