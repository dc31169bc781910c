"""The cost of tracing and of chunk times for a job."""

import time
from typing import Any

import pytest
from opentelemetry import propagate, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind

from adapter_api import (
    TaskRequest,
    hookimpl,
)
from adapter_api.notices import AttemptNotice, JobNotice
from registry import Registry
from registry.observers.otel import (
    ChunkTimes,
    OpenTelemetryObserver,
)


class _Bare:
    """An observer that makes the SDK calls which a job of the mock needs, all at its end."""

    def __init__(self, tracers: TracerProvider, meters: MeterProvider) -> None:
        self.tracer = tracers.get_tracer("bare")
        self.record = meters.get_meter("bare").create_histogram("bare").record
        self.few = {f"name.{i}": "value" for i in range(2)}
        self.many = {f"name.{i}": "value" for i in range(9)}

    @hookimpl
    def job_submitted(self, job: JobNotice) -> None:
        """Cost what a notice costs."""

    @hookimpl
    def attempt_started(self, attempt: AttemptNotice) -> None:
        """Cost what a notice costs."""

    @hookimpl
    def attempt_ended(self, attempt: AttemptNotice) -> None:
        """Cost what a notice costs."""

    @hookimpl
    def job_ended(self, job: JobNotice) -> None:
        """Make two spans with an event and attributes, inject one, and record two values."""
        span = self.tracer.start_span("job", kind=SpanKind.CLIENT, attributes=self.few)
        below = trace.set_span_in_context(span)
        attempt = self.tracer.start_span("attempt", below, SpanKind.CLIENT)
        propagate.inject({}, trace.set_span_in_context(attempt, below))
        attempt.set_attributes(self.few)
        attempt.end()
        self.record(1.0, self.few)
        self.record(1.0, self.few)
        span.add_event("first token")
        span.set_attributes(self.many)
        span.end()


@pytest.mark.timing
async def test_what_tracing_adds_to_a_job() -> None:
    """A traced job costs less than twice an observer of bare SDK calls; the figures are printed."""
    rounds, jobs = 6, 100
    tracers, meters = TracerProvider(), MeterProvider([InMemoryMetricReader()])
    observers: list[list[Any]] = [
        [],
        [_Bare(tracers, meters)],
        [OpenTelemetryObserver(tracers, meters)],
    ]
    adapters = [Registry(observers=them).get("mock", {"echo": True}) for them in observers]

    async def cost(adapter: Any) -> float:
        began = time.process_time()
        for _ in range(jobs):
            await adapter.submit(TaskRequest(prompt="x")).text()
        return (time.process_time() - began) / jobs * 1e6

    costs = [[await cost(adapter) for adapter in adapters] for _ in range(rounds)]
    plain, bare, traced = (min(column) for column in zip(*costs, strict=True))
    for adapter in adapters:
        await adapter.aclose()
    print(f"a job takes {plain:.0f} us; traced {traced - plain:.0f} us more", end="; ")
    print(f"an observer of bare SDK calls {bare - plain:.0f} us more")
    assert traced - plain < 2 * (bare - plain)


@pytest.mark.timing
async def test_what_chunk_times_add_to_a_token() -> None:
    """A measured token costs less than three of the SDK's records; the figures are printed."""
    rounds, tokens = 6, 500
    meters = MeterProvider([InMemoryMetricReader()])
    record = meters.get_meter("bare").create_histogram("bare").record
    shared = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "mock"}
    config = {"tokens": ["x "] * tokens}
    plain = Registry().get("mock", config)
    measured = Registry(middleware=[ChunkTimes(meters)]).get("mock", config)

    async def cost(adapter: Any) -> float:
        began = time.process_time()
        if adapter is None:
            for _ in range(tokens):
                record(1.0, shared)
        else:
            await adapter.submit(TaskRequest(prompt="x")).text()
        return (time.process_time() - began) / tokens * 1e6

    async with plain, measured:
        costs = [[await cost(it) for it in (plain, measured, None)] for _ in range(rounds)]
    without, with_it, sdk = (min(column) for column in zip(*costs, strict=True))
    print(f"a measured token takes {with_it - without:.1f} us more; a bare record {sdk:.1f} us")
    assert with_it - without < 3 * sdk
