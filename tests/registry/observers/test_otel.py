"""Traces and metrics of jobs, made with OpenTelemetry's own SDK."""

import asyncio
import gc
import json
from collections.abc import Iterator
from typing import Any

import attrs
import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as names
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.trace import SpanKind, StatusCode

from adapter_api import (
    ErrorCode,
    Message,
    TaskRequest,
    Tool,
    ToolCall,
    WorkerError,
    WorkerReset,
)
from adapter_api.faults import Request, Script, ScriptServer, Wire
from adapter_api.notices import AdapterNotice, JobNotice
from adapter_api.propagation import request_headers, set_request_headers
from registry import AdapterHost, PoolPolicy, Registry
from registry.observers.otel import (
    ChunkTimes,
    ContentRecorder,
    OpenTelemetryObserver,
    TraceContext,
)
from tests.engines_in_process import Engine, task
from tests.openai_chunks import whole_answer

RESET = WorkerReset(ErrorCode.WORKER_RESET, "scripted")


@attrs.define(eq=False)
class Telemetry:
    """An SDK in memory, and the observer that reports to it."""

    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    tracers: TracerProvider
    meters: MeterProvider
    observer: OpenTelemetryObserver

    @classmethod
    def make(cls) -> "Telemetry":
        exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
        tracers, meters = TracerProvider(), MeterProvider([reader])
        tracers.add_span_processor(SimpleSpanProcessor(exporter))
        return cls(exporter, reader, tracers, meters, OpenTelemetryObserver(tracers, meters))

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def points(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def units(self) -> dict[str, str | None]:
        data = self.reader.get_metrics_data()
        assert data is not None
        scopes = data.resource_metrics[0].scope_metrics
        return {metric.name: metric.unit for scope in scopes for metric in scope.metrics}


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """A fresh SDK."""
    made = Telemetry.make()
    yield made
    made.tracers.shutdown()
    made.meters.shutdown()


def _noting(seen: list[Request]) -> Script:
    """Answer every job, and keep its request."""

    async def script(request: Request, wire: Wire) -> None:
        seen.append(request)
        await whole_answer(wire)

    return script


async def test_a_job_of_a_pool_is_one_trace(telemetry: Telemetry) -> None:
    """A failover shows as a job with two attempts below it, and names why the second came."""
    async with AdapterHost(observers=[telemetry.observer]) as host:
        host.bind("chat", "r1", Engine("r1", failure=RESET).bound())
        host.bind("chat", "r2", Engine("r2").bound())
        await host.check("chat")
        await host.submit("chat", task()).text()
    spans = telemetry.spans()
    first, second = spans["attempt 1"], spans["attempt 2"]
    (job,) = (span for name, span in spans.items() if not name.startswith("attempt"))
    assert job.parent is None
    assert job.kind is first.kind is SpanKind.CLIENT
    assert first.parent == second.parent == job.context
    assert [event.name for event in job.events] == [
        "worker_adapters.left_queue",
        "worker_adapters.failover",
        "worker_adapters.first_token",
    ]
    assert first.attributes is not None and job.attributes is not None
    assert first.attributes["error.type"] == "WORKER_RESET"
    assert first.status.status_code is StatusCode.ERROR
    assert job.status.status_code is second.status.status_code is StatusCode.UNSET
    assert job.attributes["worker_adapters.attempts"] == 2
    assert job.attributes["worker_adapters.replica_id"] == "r2"


async def test_the_names_are_those_of_the_conventions(telemetry: Telemetry) -> None:
    """Attributes, metrics and units match the published conventions."""
    async with Registry(
        observers=[telemetry.observer], middleware=[ChunkTimes(telemetry.meters)]
    ).get("mock", {"echo": True}) as adapter:
        await adapter.submit(
            TaskRequest(prompt="one two three", model="m", session_id="s", job_id="j")
        ).text()
    job = telemetry.spans()["text_completion m"]
    assert job.attributes is not None
    attributes = dict(job.attributes)
    assert attributes[names.GEN_AI_OPERATION_NAME] == "text_completion"
    assert attributes[names.GEN_AI_REQUEST_MODEL] == "m"
    assert attributes[names.GEN_AI_CONVERSATION_ID] == "s"
    assert attributes[names.GEN_AI_REQUEST_STREAM] is True
    assert attributes[names.GEN_AI_PROVIDER_NAME] == "mock"
    assert attributes[names.GEN_AI_RESPONSE_FINISH_REASONS] == ("stop",)
    assert names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK in attributes
    known = {value for name, value in vars(names).items() if name.startswith("GEN_AI_")}
    assert {name for name in attributes if name.startswith("gen_ai.")} <= known
    assert telemetry.units() | {"gen_ai.client.token.usage": "{token}"} == {
        gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION: "s",
        gen_ai_metrics.GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK: "s",
        gen_ai_metrics.GEN_AI_CLIENT_OPERATION_TIME_PER_OUTPUT_CHUNK: "s",
        gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE: "{token}",
    }


async def test_only_what_the_engine_counted_is_usage(telemetry: Telemetry) -> None:
    """Tokens are reported with the engine's usage, and not where we counted pieces."""
    seen: list[Request] = []
    async with ScriptServer(_noting(seen)) as server:
        adapters = Registry(observers=[telemetry.observer])
        async with adapters.get("openai-http", base_url=server.base_url) as adapter:
            await adapter.submit(TaskRequest(prompt="x")).text()
    counts = {
        point.attributes["gen_ai.token.type"]: point.sum
        for point in telemetry.points()["gen_ai.client.token.usage"]
    }
    assert counts == {"input": 2, "output": 2}


async def test_uncounted_tokens_are_not_usage(telemetry: Telemetry) -> None:
    """Where the engine reports no usage there is no token metric."""
    async with AdapterHost(observers=[telemetry.observer]) as host:
        host.bind("chat", "r1", Engine("r1").bound())
        await host.check("chat")
        await host.submit("chat", task()).text()
    assert "gen_ai.client.token.usage" not in telemetry.points()


async def test_the_engine_gets_the_attempts_context(telemetry: Telemetry) -> None:
    """`traceparent` names the attempt's span, in the trace of the caller's own span."""
    seen: list[Request] = []
    tracer = telemetry.tracers.get_tracer("application")
    async with ScriptServer(_noting(seen)) as server:
        adapters = Registry(observers=[telemetry.observer])
        async with adapters.get("openai-http", base_url=server.base_url) as adapter:
            with tracer.start_as_current_span("caller"):
                await adapter.submit(TaskRequest(prompt="x")).text()
    spans = telemetry.spans()
    attempt, caller = spans["attempt 1"].context, spans["caller"].context
    assert attempt is not None and caller is not None
    assert attempt.trace_id == caller.trace_id
    _, trace_id, span_id, _ = seen[0].headers["traceparent"].split("-")
    assert (int(trace_id, 16), int(span_id, 16)) == (attempt.trace_id, attempt.span_id)


async def test_without_the_observer_no_header_is_sent(telemetry: Telemetry) -> None:
    """Headers belong to one job: the next one of the same task does not send them."""
    seen: list[Request] = []
    async with ScriptServer(_noting(seen)) as server:
        for observers in ([telemetry.observer], []):
            adapters = Registry(observers=observers)
            async with adapters.get("openai-http", base_url=server.base_url) as adapter:
                await adapter.submit(TaskRequest(prompt="x")).text()
    assert ["traceparent" in request.headers for request in seen] == [True, False]


async def test_no_content_is_recorded(telemetry: Telemetry) -> None:
    """Neither the prompt nor the answer is in a span, an event or a metric."""
    prompt = "canary-of-the-prompt"
    async with Registry(observers=[telemetry.observer]).get("mock", {"echo": True}) as adapter:
        assert prompt in await adapter.submit(TaskRequest(prompt=prompt)).text()
    spans = "".join(span.to_json() for span in telemetry.exporter.get_finished_spans())
    assert "worker_adapters.first_token" in spans
    assert prompt not in spans + str(telemetry.points())


def test_headers_that_cannot_be_sent_are_left_out() -> None:
    """A propagator's strange names and values do not break the request."""
    set_request_headers("j", {"ok": "1", "line": "a\r\nb", "not a name": "x", "é": "x", "u": "é"})
    assert request_headers("j") == {"ok": "1"}
    assert request_headers("other") == {}


@pytest.mark.parametrize("how", ["cancel", "drop", "fail", "refuse"])
async def test_every_job_ends_its_spans(how: str, telemetry: Telemetry) -> None:
    """Spans end when a job is cancelled, dropped, fails, or is refused before an attempt."""
    failure = RESET if how == "fail" else None
    policy = PoolPolicy(max_attempts=1)
    async with AdapterHost(observers=[telemetry.observer], defaults=policy) as host:
        if how != "refuse":
            host.bind("chat", "r1", Engine("r1", failure=failure).bound())
            await host.check("chat")
        stream = host.submit("chat" if how != "refuse" else "none", task())
        if how in ("fail", "refuse"):
            with pytest.raises(WorkerError):
                await stream.text()
        else:
            await stream
            if how == "cancel":
                await stream.aclose()
            else:
                with pytest.warns(ResourceWarning):
                    del stream
                    gc.collect()
                    await asyncio.sleep(0)
        await asyncio.sleep(0)
    spans = telemetry.exporter.get_finished_spans()
    (job,) = (span for span in spans if not span.name.startswith("attempt"))
    assert job.attributes is not None
    code = {"fail": "WORKER_RESET", "refuse": "POOL_UNAVAILABLE"}.get(how, "CANCELLED")
    assert job.attributes["error.type"] == code
    assert (job.status.status_code is StatusCode.ERROR) == (how in ("fail", "refuse"))
    assert telemetry.observer._jobs == {}


async def test_a_request_continues_its_clients_trace(telemetry: Telemetry) -> None:
    """An application behind TraceContext runs in the trace that the request's headers name."""
    found: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(trace.get_current_span().get_span_context().trace_id)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    transport = httpx.ASGITransport(TraceContext(app))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        parent = f"00-{0xAB:032x}-{0xCD:016x}-01"
        await client.get("/", headers={"traceparent": parent})
        await client.get("/")
    assert found == [0xAB, 0]


async def test_the_newer_conventions(telemetry: Telemetry) -> None:
    """With `conventions="genai-0.1"` the metrics have the names of that version."""
    observer = OpenTelemetryObserver(telemetry.tracers, telemetry.meters, conventions="genai-0.1")
    times = ChunkTimes(telemetry.meters, conventions="genai-0.1")
    async with ScriptServer(_noting([])) as server:
        adapters = Registry(observers=[observer], middleware=[times])
        async with adapters.get("openai-http", base_url=server.base_url) as adapter:
            await adapter.submit(TaskRequest(prompt="x")).text()
    prefix = "gen_ai.client.inference"
    assert telemetry.units() == {
        f"{prefix}.duration": "s",
        f"{prefix}.time_to_first_chunk": "s",
        f"{prefix}.time_per_output_chunk": "s",
        f"{prefix}.usage.input_tokens": "{token}",
        f"{prefix}.usage.output_tokens": "{token}",
        f"{prefix}.operation.input_tokens": "{token}",
        f"{prefix}.operation.output_tokens": "{token}",
    }
    (used,) = telemetry.points()[f"{prefix}.usage.output_tokens"]
    (each,) = telemetry.points()[f"{prefix}.operation.output_tokens"]
    assert (used.value, each.sum, each.count) == (2, 2, 1)
    assert used.attributes["gen_ai.token.modality"] == "unknown"
    assert "gen_ai.token.modality" not in each.attributes


def test_the_buckets_are_those_of_the_conventions(telemetry: Telemetry) -> None:
    """Times have buckets from 10 ms to 82 s, and counts of tokens powers of 4."""
    for conventions, times, tokens in (
        ("1.41", "gen_ai.client.operation.duration", "gen_ai.client.token.usage"),
        (
            "genai-0.1",
            "gen_ai.client.inference.duration",
            "gen_ai.client.inference.operation.input_tokens",
        ),
    ):
        made = Telemetry.make()
        observer: Any = OpenTelemetryObserver(
            made.tracers,
            made.meters,
            conventions=conventions,  # type: ignore[arg-type]
        )
        adapter = AdapterNotice("mock", "d", "1")
        job = JobNotice("j", None, None, adapter, usage_source="engine", tokens_in=2, tokens_out=2)
        observer.job_submitted(job)
        observer.job_ended(job)
        points = made.points()
        assert points[times][0].explicit_bounds == tuple(0.01 * 2**n for n in range(14))
        assert points[tokens][0].explicit_bounds == tuple(4**n for n in range(14))
        made.tracers.shutdown()
        made.meters.shutdown()


def test_unknown_conventions_are_refused() -> None:
    """A version of the conventions that is not known is named in the error."""
    with pytest.raises(ValueError, match=r"conventions must be '1\.41' or 'genai-0\.1', got '2'"):
        OpenTelemetryObserver(conventions="2")  # type: ignore[arg-type]


async def test_content_is_recorded_when_switched_on(telemetry: Telemetry) -> None:
    """ContentRecorder puts redacted messages, answers and tool calls into the job's span."""
    recorder = ContentRecorder(lambda text: text.replace("secret", "***"), max_chars=20)
    adapters = Registry(observers=[telemetry.observer], middleware=[recorder])
    call = {"name": "add", "arguments": {"a": "secret"}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [
        Message("user", [{"type": "text", "text": "a secret"}, image]),
        Message("assistant", tool_calls=[ToolCall("c0", "add")]),
        Message("tool", "5", tool_call_id="c0"),
    ]
    config = {"tokens": ["the secret ", "x" * 30], "tool_calls": [call]}
    async with adapters.get("mock", config) as adapter:
        await adapter.submit(TaskRequest(messages=messages, tools=[Tool("add")])).answer()
    (job,) = (span for name, span in telemetry.spans().items() if name == "chat")
    assert job.attributes is not None
    assert json.loads(str(job.attributes[names.GEN_AI_INPUT_MESSAGES])) == [
        {
            "role": "user",
            "parts": [{"type": "text", "content": "a ***"}, {"type": "image_url"}],
        },
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c0", "name": "add", "arguments": "{}"}],
        },
        {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": "c0", "response": "5"}],
        },
    ]
    (answer,) = json.loads(str(job.attributes[names.GEN_AI_OUTPUT_MESSAGES]))
    said, called = answer["parts"]
    assert said == {"type": "text", "content": "the *** " + "x" * 9}
    assert (called["name"], "secret" in called["arguments"]) == ("add", False)


async def test_content_needs_a_span() -> None:
    """Without an observer, or in a trace that is not sampled, no content is read."""
    read: list[str] = []
    recorder = ContentRecorder(lambda text: read.append(text) or text)
    tracers = TracerProvider(sampler=ALWAYS_OFF)
    for observers in ([], [OpenTelemetryObserver(tracers)]):
        adapters = Registry(observers=observers, middleware=[recorder])
        async with adapters.get("mock", {"echo": True}) as adapter:
            await adapter.submit(TaskRequest(prompt="x")).text()
    tracers.shutdown()
    assert read == []
