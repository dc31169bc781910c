"""The gateway within a client's trace."""

from typing import Any

import httpx
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import registry
from registry import AdapterHost
from registry.observers.otel import OpenTelemetryObserver
from tests.registry.gateway.conftest import CHAT, Start


async def test_jobs_continue_the_clients_trace(start: Start) -> None:
    """The job of a request is a child of the span that the request's headers name."""
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    adapters: Any = registry.Registry(observers=[OpenTelemetryObserver(tracers)])
    served = await start(adapters.get("mock", {"echo": True}), trace_context=True)
    parent = f"00-{0xAB:032x}-{0xCD:016x}-01"
    async with httpx.AsyncClient() as client:
        url = f"{served.url}/v1/chat/completions"
        answer = await client.post(url, json=CHAT, headers={"traceparent": parent})
    assert answer.status_code == 200
    assert isinstance(served.host, AdapterHost)
    job = next(span for span in exporter.get_finished_spans() if span.name.startswith("chat"))
    assert job.parent is not None
    assert (job.parent.trace_id, job.parent.span_id) == (0xAB, 0xCD)
