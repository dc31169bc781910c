"""OpenTelemetryObserver: spans of jobs and attempts, and the metrics of jobs.

A job is a span of the convention's kind "inference"; each of its attempts is a child span, whose
context goes to the engine.
"""

import time
from contextvars import ContextVar

import attrs
from opentelemetry import propagate, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider

from adapter_api.hookspecs import hookimpl
from adapter_api.notices import AdapterNotice, AttemptNotice, JobNotice
from adapter_api.propagation import set_request_headers
from adapter_api.version import __version__
from registry.observers.otel.instruments import (
    SCOPE,
    Attributes,
    Conventions,
    Instruments,
    provider_of,
)

_SPAN: ContextVar[tuple[str, Span | None]] = ContextVar("worker_adapters_span", default=("", None))


@attrs.define(eq=False)
class _Job:
    """The open spans of one job.

    Args:
        span: The job's.
        began_at_ns: When it began, in nanoseconds since 1970.
        attributes: Those that every measurement of the job has.
        replica_id: The replica of the latest attempt.
        attempt: The span of the attempt in flight.
    """

    span: Span
    began_at_ns: int
    attributes: Attributes
    replica_id: str | None = None
    attempt: Span | None = None


class OpenTelemetryObserver:
    """Makes a span for each job, one for each attempt, and the client metrics.

    Spans end with the job, also if it is cancelled or its stream is dropped. They hold ids, models,
    counts, times and error codes. Prompts and answers are recorded by a ContentRecorder only.

    Args:
        tracer_provider: Makes the spans; by default the application's global one.
        meter_provider: Makes the metrics; by default the application's global one.
        conventions: The version of the conventions that names the metrics.

    Raises:
        ValueError: If `conventions` is unknown.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        conventions: Conventions = "1.41",
    ) -> None:
        self._tracer = trace.get_tracer(SCOPE, __version__, tracer_provider)
        self._metrics = Instruments(meter_provider, conventions)
        self._jobs: dict[tuple[str, AdapterNotice], _Job] = {}

    @hookimpl
    def job_submitted(self, job: JobNotice) -> None:
        """Begin the job's span, below the caller's."""
        attributes: Attributes = {"gen_ai.operation.name": job.operation}
        name: str = job.operation
        if job.model is not None:
            name = f"{name} {job.model}"
            attributes["gen_ai.request.model"] = job.model
        began_at_ns = time.time_ns()
        span = self._tracer.start_span(
            name, kind=SpanKind.CLIENT, attributes=attributes, start_time=began_at_ns
        )
        self._jobs[job.job_id, job.adapter] = _Job(span, began_at_ns, attributes)

    @hookimpl
    def attempt_started(self, attempt: AttemptNotice) -> None:
        """Begin an attempt's span, and have its context sent to the engine."""
        job = self._jobs.get((attempt.job_id, attempt.owner))
        if job is None:
            return
        _note_attempt(job, attempt)
        below = trace.set_span_in_context(job.span)
        job.attempt = self._tracer.start_span(f"attempt {attempt.number}", below, SpanKind.CLIENT)
        headers: dict[str, str] = {}
        propagate.inject(headers, trace.set_span_in_context(job.attempt, below))
        set_request_headers(attempt.job_id, headers)
        _SPAN.set((attempt.job_id, job.span))

    @hookimpl
    def attempt_ended(self, attempt: AttemptNotice) -> None:
        """End the attempt's span."""
        job = self._jobs.get((attempt.job_id, attempt.owner))
        if job is None or job.attempt is None:
            return
        span, job.attempt = job.attempt, None
        if span.is_recording():
            span.set_attributes(_facts_of_attempt(attempt))
            _set_status(span, attempt.code)
        span.end()

    @hookimpl
    def job_ended(self, job: JobNotice) -> None:
        """End the span of a whole answer, and record its tokens."""
        attributes = self._end(job)
        if attributes is not None and job.usage_source == "engine":
            self._metrics.record_tokens(job, attributes)

    @hookimpl
    def job_failed(self, job: JobNotice) -> None:
        """End the span with an error."""
        self._end(job)

    @hookimpl
    def job_cancelled(self, job: JobNotice) -> None:
        """End the span; a cancel is an `error.type`, but not an error of the span's status."""
        self._end(job)

    def _end(self, job: JobNotice) -> Attributes | None:
        """End a job's spans, record its times, and return its attributes."""
        known = self._jobs.pop((job.job_id, job.adapter), None)
        if known is None:
            return None
        if known.attempt is not None:
            known.attempt.end()
        shared, span = known.attributes, known.span
        shared["gen_ai.provider.name"] = provider_of(job.engine or job.adapter.name)
        if job.engine is not None and job.model is not None:
            shared["gen_ai.response.model"] = job.model
        if job.time_to_first_token_ms is not None:
            self._metrics.first_chunk.record(job.time_to_first_token_ms / 1000, shared)
        failed = shared if job.code is None else {**shared, "error.type": job.code}
        self._metrics.duration.record(job.elapsed_ms / 1000, failed)
        if span.is_recording():
            if job.time_to_first_token_ms is not None:
                first_at_ns = known.began_at_ns + round(job.time_to_first_token_ms * 1e6)
                span.add_event("worker_adapters.first_token", timestamp=first_at_ns)
            span.set_attributes(_facts_of_job(job))
            _set_status(span, job.code)
        # The span lasts as long as the metric says.
        span.end(known.began_at_ns + round(job.elapsed_ms * 1e6))
        return shared


def span_of(job_id: str) -> Span | None:
    """Return the span of the job that this task reads, if an observer made one."""
    owner, span = _SPAN.get()
    return span if owner == job_id else None


def _note_attempt(job: _Job, attempt: AttemptNotice) -> None:
    """Note in the job's span why an attempt starts."""
    before, job.replica_id = job.replica_id, attempt.adapter.replica_id
    if attempt.number == 1:
        if attempt.owner is not attempt.adapter:
            job.span.add_event("worker_adapters.left_queue")
    elif job.replica_id == before:
        job.span.add_event("worker_adapters.retry")
    else:
        facts = {"worker_adapters.replica_id": job.replica_id or ""}
        job.span.add_event("worker_adapters.failover", facts)


def _facts_of_attempt(attempt: AttemptNotice) -> Attributes:
    facts: Attributes = {"worker_adapters.adapter": attempt.adapter.name}
    if attempt.adapter.replica_id is not None:
        facts["worker_adapters.replica_id"] = attempt.adapter.replica_id
    if attempt.engine_version is not None:
        facts["worker_adapters.engine_version"] = attempt.engine_version
    if attempt.code is not None:
        facts["error.type"] = attempt.code
        if attempt.status is not None:
            facts["http.response.status_code"] = attempt.status
        if attempt.retry_after_ms is not None:
            facts["worker_adapters.retry_after_ms"] = attempt.retry_after_ms
    return facts


def _facts_of_job(job: JobNotice) -> Attributes:
    """Return the span attributes that only the end of a job knows."""
    facts: Attributes = {
        "gen_ai.provider.name": provider_of(job.engine or job.adapter.name),
        "gen_ai.request.stream": True,
        "worker_adapters.job_id": job.job_id,
        "worker_adapters.attempts": job.attempts,
    }
    for name, value in (
        ("gen_ai.conversation.id", job.session_id),
        ("gen_ai.response.model", None if job.engine is None else job.model),
        ("worker_adapters.pool_id", job.pool_id),
        ("worker_adapters.replica_id", job.replica_id),
        ("worker_adapters.engine_version", job.engine_version),
        ("error.type", job.code),
    ):
        if value is not None:
            facts[name] = value
    if job.time_to_first_token_ms is not None:
        facts["gen_ai.response.time_to_first_chunk"] = job.time_to_first_token_ms / 1000
    if job.finish_reason is not None:
        facts["gen_ai.response.finish_reasons"] = (job.finish_reason,)
    elif job.code is not None:
        facts["gen_ai.response.finish_reasons"] = ("error",)
    if job.usage_source == "engine":
        for name, tokens in (
            ("gen_ai.usage.input_tokens", job.tokens_in),
            ("gen_ai.usage.output_tokens", job.tokens_out),
            ("gen_ai.usage.cache_read.input_tokens", job.cached_tokens),
            ("gen_ai.usage.reasoning.output_tokens", job.reasoning_tokens),
        ):
            if tokens is not None:
                facts[name] = tokens
    return facts


def _set_status(span: Span, code: str | None) -> None:
    if code is not None and code != "CANCELLED":
        span.set_status(Status(StatusCode.ERROR, code))
