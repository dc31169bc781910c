"""A host reports each job once, and each request as an attempt of it."""

import asyncio
import logging

import pytest

from adapter_api import AdapterNotice, CapacityExceeded, ErrorCode, WorkerError, WorkerReset
from adapter_api.faults import Request, ScriptServer, Wire
from registry import PoolPolicy, Registry
from registry.host import AdapterHost
from registry.observers import MetricsObserver
from tests.engines_in_process import Engine, task, until
from tests.witness import Recorder

RESET = WorkerReset(ErrorCode.WORKER_RESET, "scripted")
BUSY = CapacityExceeded(ErrorCode.ADMISSION_REJECT, "busy", status=429, retry_after_ms=5)


async def _answered(host: AdapterHost, jobs: int) -> None:
    for _ in range(jobs):
        await host.submit("chat", task()).text()


async def test_each_job_is_reported_once() -> None:
    """Seven answered jobs on a pool with a failing replica are seven dispatches (ORCH-3028)."""
    metrics, recorder = MetricsObserver(), Recorder()
    async with AdapterHost(registry=Registry(observers=[metrics]), observers=[recorder]) as host:
        host.bind("chat", "r1", Engine("r1", failure=RESET).bound())
        host.bind("chat", "r2", Engine("r2").bound())
        await host.check("chat")
        await _answered(host, 7)
    snapshot = metrics.snapshot()
    failed = snapshot.attempts[AdapterNotice("toy-r1", "unknown", "unknown", "chat", "r1")]
    whole = snapshot.attempts[AdapterNotice("toy-r2", "unknown", "unknown", "chat", "r2")]
    total = snapshot.total
    assert (total.dispatches, total.ended, total.failures.total()) == (7, 7, 0)
    assert total.retries == failed.failures.total() == failed.started > 0
    assert whole.ended == 7
    assert total.running == failed.in_flight == whole.in_flight == 0
    assert [notice.pool_id for notice in snapshot.adapters] == ["chat"]
    assert recorder.outcomes() == ["job_ended"] * 7


async def test_attempts_lie_within_their_job() -> None:
    """A job that moves on is submitted, tried twice and ended; notices name the replicas."""
    recorder = Recorder()
    async with AdapterHost(observers=[recorder]) as host:
        host.bind("chat", "r1", Engine("r1", failure=RESET).bound())
        host.bind("chat", "r2", Engine("r2").bound())
        await host.check("chat")
        await host.submit("chat", task()).text()
    of_job = [(hook, it) for hook, it in recorder.told if hasattr(it, "job_id")]
    assert [hook for hook, _ in of_job] == [
        "job_submitted",
        "attempt_started",
        "attempt_ended",
        "attempt_started",
        "job_first_token",
        "attempt_ended",
        "job_ended",
    ]
    first, second = (it for hook, it in of_job if hook == "attempt_ended")
    assert (first.number, first.adapter.replica_id, first.code) == (1, "r1", "WORKER_RESET")
    assert (second.number, second.adapter.replica_id, second.code) == (2, "r2", None)
    ended = recorder.last("job_ended")
    assert (ended.adapter.name, ended.pool_id, ended.replica_id) == ("host", "chat", "r2")
    assert (ended.attempts, ended.engine) == (2, "toy")


async def test_refusals_and_cancels_in_line_are_reported() -> None:
    """A job that no replica was asked for has an outcome, and no attempt (ORCH-3028)."""
    metrics = MetricsObserver()
    policy = PoolPolicy(max_queue=1)
    async with AdapterHost(observers=[metrics], defaults=policy) as host:
        engine = Engine("r1", gate=asyncio.Event())
        host.bind("chat", "r1", engine.bound(), limit=1)
        await host.check("chat")
        running = host.submit("chat", task())
        reading = asyncio.create_task(running.text())
        await until(lambda: engine.streams)
        waiting = host.submit("chat", task("waiting"))
        in_line = asyncio.create_task(waiting.text())
        await until(lambda: metrics.snapshot().total.dispatches == 2)
        with pytest.raises(WorkerError) as refused:
            await host.submit("chat", task("refused"))
        assert refused.value.code is ErrorCode.ADMISSION_REJECT
        assert await host.cancel("chat", "waiting")
        assert await running.cancel()
        await asyncio.wait([reading, in_line])
        for done in (reading, in_line):
            done.exception()
    snapshot = metrics.snapshot()
    assert snapshot.total.dispatches == 3
    assert snapshot.total.cancels == 2
    assert snapshot.total.failures == {"ADMISSION_REJECT": 1}
    assert [attempts.started for attempts in snapshot.attempts.values()] == [1]


async def test_observers_of_the_adapters_hear_of_the_hosts_jobs() -> None:
    """Binding an adapter adds its registry's observers to the host's; none is notified twice."""
    recorder = Recorder()
    registry = Registry(observers=[recorder])
    async with AdapterHost(registry=registry, observers=[recorder]) as host:
        host.bind("chat", "r1", registry.get("mock", {}))
        host.bind("chat", "r2", registry.get("mock", {}))
        await _answered(host, 1)
    assert recorder.hooks().count("job_submitted") == 1
    assert recorder.outcomes() == ["job_ended"]
    other = Recorder()
    async with AdapterHost() as host:
        host.bind("chat", "r1", Registry(observers=[other]).get("mock", {}))
        await _answered(host, 1)
    assert other.outcomes() == ["job_ended"]


async def test_every_record_names_the_hosts_place(caplog: pytest.LogCaptureFixture) -> None:
    """A replica bound as chat/r1 is never logged as default/r0 (ORCH-3027)."""
    caplog.set_level(logging.DEBUG, "worker_adapters")
    registry = Registry()
    async with AdapterHost() as host:
        host.bind("chat", "r1", registry.get("openai-http", base_url="http://127.0.0.1:9"))
        with pytest.raises(WorkerError):
            await host.submit("chat", task())
    records = [vars(record) for record in caplog.records]
    assert {record["pool_id"] for record in records if "pool_id" in record} == {"chat"}
    assert {record.get("replica_id") for record in records} <= {"r1", None}
    (failed,) = (r for r in records if r["levelno"] == logging.WARNING and "job_id" in r)
    assert failed["code"] == "POOL_UNAVAILABLE"
    assert failed["human"] == "the job failed with POOL_UNAVAILABLE"


async def test_an_adapter_below_a_host_may_be_used_alone() -> None:
    """A job submitted to a replica's own adapter is a job of that adapter."""
    recorder = Recorder()
    async with AdapterHost(observers=[recorder]) as host:
        host.bind("chat", "r1", Registry().get("mock", {}))
        await host.check("chat")
        await host.adapter("chat", "r1").submit(task()).text()
    assert recorder.last("job_ended").adapter.name == "mock"
    assert recorder.last("job_ended").replica_id == "r1"


async def test_an_attempt_carries_the_requested_delay() -> None:
    """A busy engine's refusal is an attempt with the wait that the engine asked for."""
    recorder = Recorder()
    async with AdapterHost(observers=[recorder], defaults=PoolPolicy(max_attempts=1)) as host:
        host.bind("chat", "r1", Engine("r1", failure=BUSY).bound())
        await host.check("chat")
        with pytest.raises(WorkerError):
            await host.submit("chat", task())
    attempt = recorder.last("attempt_ended")
    assert (attempt.code, attempt.status) == ("ADMISSION_REJECT", 429)
    assert attempt.retry_after_ms == 5
    assert attempt.owner.pool_id == "chat"


async def test_retries_of_a_lone_adapter_are_attempts() -> None:
    """A server that is busy twice makes three attempts of one job, and two retries (ORCH-3028)."""
    busy = 2

    async def script(request: Request, wire: Wire) -> None:
        nonlocal busy
        if busy:
            busy -= 1
            await wire.answer_json(503, {"error": {"message": "loading"}}, "Retry-After: 0")
        else:
            await wire.stream_head()
            await wire.text("one")
            await wire.finish()
            await wire.done()

    recorder, metrics = Recorder(), MetricsObserver()
    registry = Registry(observers=[recorder, metrics])
    async with ScriptServer(script) as server:
        options = {"base_url": server.base_url, "replica_id": "r1"}
        async with registry.get("openai-http", options) as adapter:
            await adapter.submit(task()).text()
    attempts = [it for hook, it in recorder.told if hook == "attempt_ended"]
    assert [(it.number, it.code, it.status) for it in attempts] == [
        (1, "POOL_UNAVAILABLE", 503),
        (2, "POOL_UNAVAILABLE", 503),
        (3, None, None),
    ]
    assert recorder.last("job_ended").attempts == 3
    assert recorder.outcomes() == ["job_ended"]
    assert metrics.snapshot().total.retries == 2
    (counted,) = metrics.snapshot().attempts.values()
    assert (counted.started, counted.ended, counted.in_flight) == (3, 1, 0)
