"""Traces and metrics for OpenTelemetry, by its conventions for generative AI (extra `[otel]`).

A job is a span of the convention's kind "inference"; each of its attempts is a child span, whose
context goes to the engine. The names, units and buckets come from
open-telemetry/semantic-conventions-genai. Only the API is used: the application sets up an SDK, and
without one nothing is recorded.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from typing import Any

import attrs
from opentelemetry import metrics, propagate, trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider

from adapter_api.events import Started, Token, TokenEvent
from adapter_api.hookspecs import hookimpl
from adapter_api.notices import AdapterNotice, AttemptNotice, JobNotice
from adapter_api.propagation import set_request_headers
from adapter_api.task import TaskRequest
from adapter_api.version import __version__

_SCOPE = "worker_adapters"

_SECONDS = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
_TOKENS = tuple(4**power for power in range(14))

_PROVIDERS = {"azure": "azure.ai.openai", "mistral": "mistral_ai"}
"""Engines that the conventions call by another name; others keep their own."""

_Attributes = dict[str, Any]


@attrs.define(eq=False)
class _Job:
    """The open spans of one job.

    Args:
        span: The job's.
        attributes: Those that every measurement of the job has.
        replica_id: The replica that was asked last.
        attempt: The span of the attempt under way.
    """

    span: Span
    attributes: _Attributes
    replica_id: str | None = None
    attempt: Span | None = None


class OpenTelemetryObserver:
    """Makes a span for each job, one for each attempt, and the client metrics.

    Spans end with the job, also if it is cancelled or its stream is dropped. They hold ids, models,
    counts, times and error codes, and never a prompt or an answer: notices do not have them.

    Args:
        tracer_provider: Makes the spans; by default the application's global one.
        meter_provider: Makes the metrics; by default the application's global one.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider)
        meter = metrics.get_meter(_SCOPE, __version__, meter_provider)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._first_chunk = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            unit="s",
            description="Time to receive the first chunk.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._usage = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self._jobs: dict[tuple[str, AdapterNotice], _Job] = {}

    @hookimpl
    def job_submitted(self, job: JobNotice) -> None:
        """Begin the job's span, below the caller's."""
        attributes: _Attributes = {"gen_ai.operation.name": job.operation}
        name: str = job.operation
        if job.model is not None:
            name = f"{name} {job.model}"
            attributes["gen_ai.request.model"] = job.model
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        self._jobs[job.job_id, job.adapter] = _Job(span, attributes)

    @hookimpl
    def attempt_started(self, attempt: AttemptNotice) -> None:
        """Begin an attempt's span, and have its context sent to the engine."""
        job = self._jobs.get((attempt.job_id, attempt.owner))
        if job is None:
            return
        replica_id = attempt.adapter.replica_id
        if job.span.is_recording():
            self._note_attempt(job, attempt, replica_id)
        job.replica_id = replica_id
        below = trace.set_span_in_context(job.span)
        name = f"attempt {attempt.number}"
        job.attempt = self._tracer.start_span(name, below, SpanKind.CLIENT)
        headers: dict[str, str] = {}
        propagate.inject(headers, trace.set_span_in_context(job.attempt, below))
        set_request_headers(attempt.job_id, headers)

    @hookimpl
    def attempt_ended(self, attempt: AttemptNotice) -> None:
        """End the attempt's span."""
        job = self._jobs.get((attempt.job_id, attempt.owner))
        if job is None or job.attempt is None:
            return
        span, job.attempt = job.attempt, None
        if span.is_recording():
            known = {
                "worker_adapters.adapter": attempt.adapter.name,
                "worker_adapters.replica_id": attempt.adapter.replica_id,
                "gen_ai.response.model": attempt.model,
                "worker_adapters.engine_version": attempt.engine_version,
                "http.response.status_code": attempt.status,
                "worker_adapters.retry_after_ms": attempt.retry_after_ms,
                "error.type": attempt.code,
            }
            span.set_attributes(_present(known))
            _set_status(span, attempt.code)
        span.end()

    @hookimpl
    def job_first_token(self, job: JobNotice) -> None:
        """Note when the first token came."""
        known = self._jobs.get((job.job_id, job.adapter))
        if known is not None:
            known.span.add_event("worker_adapters.first_token")

    @hookimpl
    def job_ended(self, job: JobNotice) -> None:
        """End the span of a whole answer, and record its tokens."""
        attributes = self._end(job)
        if attributes is None or job.usage_source != "engine":
            return
        self._usage.record(job.tokens_out, attributes | {"gen_ai.token.type": "output"})
        if job.tokens_in is not None:
            self._usage.record(job.tokens_in, attributes | {"gen_ai.token.type": "input"})

    @hookimpl
    def job_failed(self, job: JobNotice) -> None:
        """End the span with an error."""
        self._end(job)

    @hookimpl
    def job_cancelled(self, job: JobNotice) -> None:
        """End the span; a cancel is an `error.type`, and no error of the span's status."""
        self._end(job)

    def _note_attempt(self, job: _Job, attempt: AttemptNotice, replica_id: str | None) -> None:
        """Note in the job's span why an attempt starts."""
        if attempt.number == 1:
            if attempt.owner is not attempt.adapter:
                job.span.add_event("worker_adapters.left_queue")
        elif replica_id == job.replica_id:
            job.span.add_event("worker_adapters.retry")
        else:
            facts = _present({"worker_adapters.replica_id": replica_id})
            job.span.add_event("worker_adapters.failover", facts)

    def _end(self, job: JobNotice) -> _Attributes | None:
        """End a job's spans, record its times, and return its attributes."""
        known = self._jobs.pop((job.job_id, job.adapter), None)
        if known is None:
            return None
        if known.attempt is not None:
            known.attempt.end()
        provider = job.engine or job.adapter.name
        shared = known.attributes
        shared["gen_ai.provider.name"] = _PROVIDERS.get(provider, provider)
        if job.engine is not None and job.model is not None:
            shared["gen_ai.response.model"] = job.model
        if job.time_to_first_token_ms is not None:
            self._first_chunk.record(job.time_to_first_token_ms / 1000, shared)
        failed = shared if job.code is None else shared | {"error.type": job.code}
        self._duration.record(job.elapsed_ms / 1000, failed)
        if known.span.is_recording():
            known.span.set_attributes(failed | _outcome(job))
            _set_status(known.span, job.code)
        known.span.end()
        return shared


def _outcome(job: JobNotice) -> _Attributes:
    """Return the span attributes that only the end of a job knows."""
    known: _Attributes = {
        "gen_ai.request.stream": True,
        "gen_ai.conversation.id": job.session_id,
        "worker_adapters.job_id": job.job_id,
        "worker_adapters.adapter": job.adapter.name,
        "worker_adapters.pool_id": job.pool_id,
        "worker_adapters.attempts": job.attempts,
        "worker_adapters.replica_id": job.replica_id,
        "worker_adapters.engine_version": job.engine_version,
    }
    if job.time_to_first_token_ms is not None:
        known["gen_ai.response.time_to_first_chunk"] = job.time_to_first_token_ms / 1000
    if job.finish_reason is not None:
        known["gen_ai.response.finish_reasons"] = (job.finish_reason,)
    if job.usage_source == "engine":
        known["gen_ai.usage.input_tokens"] = job.tokens_in
        known["gen_ai.usage.output_tokens"] = job.tokens_out
    return _present(known)


def _set_status(span: Span, code: str | None) -> None:
    if code is not None and code != "CANCELLED":
        span.set_status(Status(StatusCode.ERROR, code))


def _present(attributes: Mapping[str, Any]) -> _Attributes:
    return {name: value for name, value in attributes.items() if value is not None}


class ChunkTimes:
    """Middleware that records `gen_ai.client.operation.time_per_output_chunk`.

    Observers are not notified of every token, so this metric is apart: each token costs one more
    step and one record. The time between two tokens is that between their deliveries.

    Args:
        meter_provider: Makes the metric; by default the application's global one.
    """

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        meter = metrics.get_meter(_SCOPE, __version__, meter_provider)
        self._times = meter.create_histogram(
            "gen_ai.client.operation.time_per_output_chunk",
            unit="s",
            description="Time per output chunk, recorded for each chunk after the first one.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )

    @hookimpl(wrapper=True)
    def submit(
        self, task: TaskRequest
    ) -> Generator[None, AsyncIterator[TokenEvent], AsyncIterator[TokenEvent]]:
        """Measure the stream of one task."""
        events = yield
        return self._measured(task, events)

    async def _measured(
        self, task: TaskRequest, events: AsyncIterator[TokenEvent]
    ) -> AsyncIterator[TokenEvent]:
        operation = "text_completion" if task.messages is None else "chat"
        shared = _present({"gen_ai.operation.name": operation, "gen_ai.request.model": task.model})
        before: float | None = None
        record, clock = self._times.record, time.perf_counter
        async for event in events:
            if isinstance(event, Token):
                now = clock()
                if before is not None:
                    record(now - before, shared)
                before = now
            elif isinstance(event, Started):
                provider = event.engine
                shared["gen_ai.provider.name"] = _PROVIDERS.get(provider, provider)
                if event.model is not None:
                    shared["gen_ai.response.model"] = event.model
            yield event


_Message = Any
_App = Callable[
    [_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]],
    Awaitable[None],
]


class TraceContext:
    """ASGI middleware that continues the trace which a request's headers name.

    Put it around the gateway, or around an application of your own that submits jobs. It makes no
    span; use an instrumentation of your framework instead if you want spans for requests.

    Args:
        app: The ASGI application.
    """

    def __init__(self, app: _App) -> None:
        self._app = app

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Run the application in the context of the request."""
        token = attach(_context_of(scope))
        try:
            await self._app(scope, receive, send)
        finally:
            detach(token)


def _context_of(scope: _Message) -> Context:
    if scope["type"] != "http":
        return get_current()
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return propagate.extract(headers)
