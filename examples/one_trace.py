"""Show a job, its attempts and the engine's own work as one trace.

Needs the OpenTelemetry SDK: `pip install 'worker-adapters[otel]' opentelemetry-sdk`. The engines
are scripted: the first one resets the connection, the second one makes a span of its own.
"""

import asyncio

from opentelemetry import propagate
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import registry
from adapter_api import TaskRequest
from adapter_api.faults import Request, ScriptServer, Wire
from registry.observers.otel import OpenTelemetryObserver

# An application exports to a collector instead, with opentelemetry-exporter-otlp.
spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
engine_tracer = provider.get_tracer("engine")


async def broken(request: Request, wire: Wire) -> None:
    if request.method == "POST":
        await wire.reset()
    else:
        await wire.reply({"data": [{"id": "m"}]})


async def traced(request: Request, wire: Wire) -> None:
    """Answer as an engine that continues the trace of its request, such as vLLM."""
    if request.method != "POST":
        await wire.reply({"data": [{"id": "m"}]})
        return
    with engine_tracer.start_as_current_span("engine", propagate.extract(request.headers)):
        await wire.stream_head()
        await wire.event({"choices": [{"index": 0, "text": "Hello", "finish_reason": "stop"}]})
        await wire.event("[DONE]")
        await wire.end()


def show(parent: int | None, depth: int = 0) -> None:
    """Print the spans below `parent` as a tree."""
    for span in spans.get_finished_spans():
        if (span.parent.span_id if span.parent else None) == parent:
            print("  " * depth + described(span))
            if span.context is not None:
                show(span.context.span_id, depth + 1)


def described(span: ReadableSpan) -> str:
    error = (span.attributes or {}).get("error.type")
    events = [event.name.removeprefix("worker_adapters.") for event in span.events]
    return " ".join(map(str, filter(None, (span.name, error, ", ".join(events)))))


async def main() -> None:
    observer = OpenTelemetryObserver(provider)
    async with (
        ScriptServer(broken) as first,
        ScriptServer(traced) as second,
        registry.AdapterHost(observers=[observer]) as host,
    ):
        for name, server in (("r0", first), ("r1", second)):
            adapter = registry.get("openai-http", base_url=server.base_url)
            host.bind("chat", name, adapter)
        print(await host.submit("chat", TaskRequest(prompt="Hello")).text())
    show(None)


asyncio.run(main())
