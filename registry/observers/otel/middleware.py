"""Middleware that sees every event of a job: times between tokens, and contents of spans."""

import json
import time
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span

from adapter_api.events import End, Started, Token, TokenEvent
from adapter_api.hookspecs import hookimpl
from adapter_api.messages import Message, ToolCall
from adapter_api.task import TaskRequest
from registry.observers.otel.instruments import Conventions, chunk_times, provider_of
from registry.observers.otel.spans import span_of

# A sampled span in the context would make an exemplar of every token, at twice the cost.
_NO_SPAN = Context({"worker_adapters": True})

_Submit = Generator[None, AsyncIterator[TokenEvent], AsyncIterator[TokenEvent]]


class ChunkTimes:
    """Middleware that records the time from each token to the next one.

    Observers are not notified of every token, so this metric needs middleware: each token costs one
    more step and one record. The time is measured between the deliveries of two tokens.

    Args:
        meter_provider: Makes the metric; by default the application's global one.
        conventions: The version of the conventions that names it.
    """

    def __init__(
        self, meter_provider: MeterProvider | None = None, *, conventions: Conventions = "1.41"
    ) -> None:
        self._times = chunk_times(meter_provider, conventions)

    @hookimpl(wrapper=True)
    def submit(self, task: TaskRequest) -> _Submit:
        """Measure the stream of one task."""
        events = yield
        return self._measured(task, events)

    async def _measured(
        self, task: TaskRequest, events: AsyncIterator[TokenEvent]
    ) -> AsyncIterator[TokenEvent]:
        shared = {"gen_ai.operation.name": "text_completion" if task.messages is None else "chat"}
        if task.model is not None:
            shared["gen_ai.request.model"] = task.model
        before: float | None = None
        record, clock = self._times.record, time.perf_counter
        async for event in events:
            if isinstance(event, Token):
                now = clock()
                if before is not None:
                    record(now - before, shared, _NO_SPAN)
                before = now
            elif isinstance(event, Started):
                shared["gen_ai.provider.name"] = provider_of(event.engine)
                if event.model is not None:
                    shared["gen_ai.response.model"] = event.model
            yield event


class ContentRecorder:
    """Middleware that records prompts and answers in the spans of an OpenTelemetryObserver.

    They are the span's `gen_ai.input.messages` and `gen_ai.output.messages`, as JSON. Contents that
    are not text, such as images, are named by their type only. Without the observer, or where the
    trace is not sampled, nothing is recorded.

    Args:
        redact: Receives every text, and the arguments of every tool call, and returns what may be
            recorded of it. Called while the job runs: it must be fast.
        max_chars: Of each text, only this many characters are recorded.
    """

    def __init__(self, redact: Callable[[str], str], *, max_chars: int = 10_000) -> None:
        self._redact = redact
        self._max_chars = max_chars

    @hookimpl(wrapper=True)
    def submit(self, task: TaskRequest) -> _Submit:
        """Record the contents of one task and of its answer."""
        events = yield
        return self._recorded(task, events)

    async def _recorded(
        self, task: TaskRequest, events: AsyncIterator[TokenEvent]
    ) -> AsyncIterator[TokenEvent]:
        span = span_of(task.job_id)
        is_recording = span is not None and span.is_recording()
        if span is not None and is_recording:
            _set(span, "gen_ai.input.messages", self._input(task))
        texts: list[str] = []
        kept_chars = 0
        async for event in events:
            if isinstance(event, Token):
                if is_recording and kept_chars < self._max_chars:
                    texts.append(event.text)
                    kept_chars += len(event.text)
            elif isinstance(event, End) and span is not None and is_recording:
                parts = self._text("".join(texts)) + self._calls(event.tool_calls)
                _set(span, "gen_ai.output.messages", [{"role": "assistant", "parts": parts}])
            yield event

    def _input(self, task: TaskRequest) -> list[dict[str, Any]]:
        if task.messages is None:
            return [{"role": "user", "parts": self._text(task.prompt or "")}]
        return [{"role": it.role, "parts": self._parts(it)} for it in task.messages]

    def _parts(self, message: Message) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        if isinstance(message.content, str):
            parts += self._text(message.content)
        for part in message.content if isinstance(message.content, tuple) else ():
            is_text = isinstance(part.get("text"), str)
            parts += self._text(part["text"]) if is_text else [{"type": str(part.get("type"))}]
        if message.tool_call_id is not None:
            answer = "".join(part.get("content", "") for part in parts)
            return [{"type": "tool_call_response", "id": message.tool_call_id, "response": answer}]
        return parts + self._calls(message.tool_calls)

    def _text(self, text: str) -> list[dict[str, Any]]:
        return [{"type": "text", "content": self._redact(text[: self._max_chars])}] if text else []

    def _calls(self, calls: tuple[ToolCall, ...]) -> list[dict[str, Any]]:
        return [
            {
                "type": "tool_call",
                "id": call.id,
                "name": call.name,
                "arguments": self._redact(call.arguments[: self._max_chars]),
            }
            for call in calls
        ]


def _set(span: Span, name: str, messages: list[dict[str, Any]]) -> None:
    span.set_attribute(name, json.dumps(messages, ensure_ascii=False))
