"""A collector receives one trace over OTLP/HTTP, from the client to the engine."""

from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import attrs
import httpx
import pytest
from opentelemetry import propagate
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import registry
from adapter_api.faults import Request, Script, ScriptServer, Wire
from registry.observers.otel import OpenTelemetryObserver
from tests.openai_chunks import delta, usage
from tests.registry.gateway.conftest import CHAT, start

__all__ = ["start"]  # the gateway's fixture


@attrs.define(eq=False)
class Collector:
    """The spans and metrics that came over OTLP/HTTP."""

    url: str
    spans: list[Any] = attrs.field(factory=list)
    services: list[str] = attrs.field(factory=list)
    metrics: dict[str, Any] = attrs.field(factory=dict)
    lock: Lock = attrs.field(factory=Lock)

    def receive(self, path: str, body: bytes) -> None:
        """Keep the spans or the metrics of one request."""
        with self.lock:
            if path == "/v1/traces":
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    names = {it.key: it.value.string_value for it in resource.resource.attributes}
                    self.services.append(names["service.name"])
                    self.spans += (it for scope in resource.scope_spans for it in scope.spans)
            else:
                for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    for scope in resource.scope_metrics:
                        self.metrics |= {metric.name: metric for metric in scope.metrics}


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector on a loopback port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.receive(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        server.shutdown()
        thread.join()


def _engine(tracers: TracerProvider, *, works: bool) -> Script:
    """An engine that continues the trace of each request; one that does not work resets it."""

    async def script(request: Request, wire: Wire) -> None:
        if request.method != "POST":
            await wire.reply({"data": [{"id": "mock"}]})
            return
        context = propagate.extract(request.headers)
        with tracers.get_tracer("engine").start_as_current_span("engine", context):
            if not works:
                await wire.reset()
                return
            await wire.stream_head()
            await wire.event(delta({"role": "assistant", "content": "Hello"}))
            await wire.event(delta({}, "stop"))
            await wire.event(usage(2, 1))
            await wire.event("[DONE]")
            await wire.end()

    return script


async def test_one_trace_from_the_client_to_the_engine(collector: Collector, start: Any) -> None:
    """The request's span, the job, its attempts and the engines' spans are one tree."""
    spans, metrics = f"{collector.url}/v1/traces", f"{collector.url}/v1/metrics"
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(spans)))
    meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(metrics))])
    observer = OpenTelemetryObserver(tracers, meters)
    async with (
        ScriptServer(_engine(tracers, works=False)) as first,
        ScriptServer(_engine(tracers, works=True)) as second,
        registry.AdapterHost(observers=[observer]) as host,
    ):
        for name, server in (("r0", first), ("r1", second)):
            adapter = registry.get("openai-http", base_url=server.base_url, api="chat")
            host.bind("default", name, adapter)
        await host.check("default")
        gateway = await start(host=host, trace_context=True)
        async with httpx.AsyncClient(trust_env=False) as client:
            headers: dict[str, str] = {}
            with tracers.get_tracer("client").start_as_current_span("client"):
                propagate.inject(headers)
                url = f"{gateway.url}/v1/chat/completions"
                answer = await client.post(url, json=CHAT, headers=headers)
        assert answer.json()["choices"][0]["message"]["content"] == "Hello"
    tracers.shutdown()
    meters.shutdown()
    assert len({span.trace_id for span in collector.spans}) == 1
    names = {span.span_id: span.name for span in collector.spans} | {b"": ""}
    tree = Counter((names[span.parent_span_id], span.name) for span in collector.spans)
    assert tree == {
        ("", "client"): 1,
        ("client", "chat mock"): 1,
        ("chat mock", "attempt 1"): 1,
        ("chat mock", "attempt 2"): 1,
        ("attempt 1", "engine"): 1,
        ("attempt 2", "engine"): 1,
    }
    durations = collector.metrics["gen_ai.client.operation.duration"]
    assert (durations.unit, durations.histogram.data_points[0].count) == ("s", 1)
    tokens = collector.metrics["gen_ai.client.token.usage"].histogram.data_points
    assert sorted(point.sum for point in tokens) == [1, 2]
