"""An adapter for Anthropic's Messages API: server-sent events with text and tool calls."""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import attrs
import httpx

import adapter_api as api
from adapters import http_util

WHOLE = ("end_turn", "stop_sequence", "tool_use", "max_tokens")  # docs.anthropic.com/en/api
VERSION = {"anthropic-version": "2023-06-01"}
Events = AsyncIterator[api.TokenEvent]


@attrs.frozen
class MessagesConfig:
    base_url: str = attrs.field(metadata={"help": "The server's address, without /v1"})
    api_key: str | None = attrs.field(default=None, repr=False, metadata={"secret": True})
    first_token_timeout_s: float | None = 30.0
    stall_timeout_s: float | None = 30.0


@attrs.define(eq=False)
class MessagesAdapter:
    config: MessagesConfig
    _client: Any = attrs.field(init=False, repr=False, factory=http_util.make_client)

    def _to(self, path: str) -> tuple[str, dict[str, str]]:
        key = {"x-api-key": self.config.api_key} if self.config.api_key else {}
        return f"{self.config.base_url.rstrip('/')}/v1/{path}", {**VERSION, **key}

    @api.hookimpl
    def submit(self, task: api.TaskRequest) -> api.TokenStream:
        clock = api.StreamClock(task.deadline_s)
        return api.TokenStream(self._events(task, clock), task, clock=clock)

    async def _events(self, task: api.TaskRequest, clock: api.StreamClock) -> Events:
        url, headers = self._to("messages")
        secrets, reason, whole = [self.config.api_key] if self.config.api_key else [], None, False
        calls, usage = http_util.CallParts(), dict[str, int]()
        async with http_util.open_stream(
            self._client,
            url,
            request(task),
            decoder=http_util.SSEDecoder(),
            clock=clock,
            task=task,
            headers=headers,
            secrets=secrets,
            first_s=self.config.first_token_timeout_s,
            stall_s=self.config.stall_timeout_s,
        ) as answer:
            yield api.Started(task.job_id, "anthropic", "2023-06-01", task.model)
            async for event in answer:
                match http_util.decode_json(event.data):
                    case {"type": "message_start", "message": {"usage": dict(counts)}}:
                        usage |= counts
                    case {"content_block": {"type": "tool_use"} as block, "index": at}:
                        yield calls.begin(at, answer.progress(), block["id"], block["name"])
                    case {"type": "content_block_delta", "index": at, "delta": dict(delta)}:
                        clock.progress()  # also for thinking, and its signature
                        if text := delta.get("text"):
                            yield api.Token(text, answer.progress())
                        elif part := delta.get("partial_json"):
                            yield calls.add(at, answer.progress(), part)
                    case {"type": "message_delta", "delta": dict(delta), "usage": counts}:
                        reason, usage = delta.get("stop_reason"), usage | counts
                    case {"type": "message_stop"}:
                        whole = True
                        break
                    case {"type": "ping" | "content_block_start" | "content_block_stop"}:
                        pass
                    case unknown:  # {"type": "error"}, and whatever else says something
                        raise http_util.error_from_payload(unknown, secrets=secrets)
            if not whole or reason not in WHOLE:
                code = "CONTENT_FILTER" if reason == "refusal" else "STREAM_TRUNCATED"
                said = http_util.safe_text(str(reason), secrets)
                raise api.WorkerError.of(code, f"the answer ended with stop_reason {said}")
            await answer.settle()
            good, bad = calls.finish(cut=reason == "max_tokens")
            metrics = answer.metrics(usage.get("output_tokens"), usage.get("input_tokens"))
        yield api.End(metrics, reason, "finish_reason", good, bad)

    @api.hookimpl
    async def health(self) -> api.HealthStatus:
        (url, headers), good = self._to("models"), False
        with suppress(httpx.HTTPError):
            good = (await self._client.get(url, headers=headers, timeout=5.0)).status_code == 200
        return api.HealthStatus(api.HealthState.HEALTHY if good else api.HealthState.UNHEALTHY)

    @api.hookimpl
    async def aclose(self) -> None:
        await self._client.aclose()


def request(task: api.TaskRequest) -> dict[str, Any]:
    """Return the body of a job's request."""
    messages = task.messages or (api.Message("user", task.prompt or ""),)
    tools = [t if isinstance(t, api.Tool) else api.Tool(**t["function"]) for t in task.tools]
    fields = {n: getattr(task, n) for n in ("model", "max_tokens", "temperature", "top_p")} | {
        "messages": [_message(m) for m in messages if m.role != "system"],
        "system": "\n".join(str(m.content) for m in messages if m.role == "system"),
        "stop_sequences": list(task.stop),
        "tools": [{"name": t.name, "input_schema": dict(t.parameters)} for t in tools],
    }
    known = {name: value for name, value in fields.items() if value not in (None, [], "")}
    return {"model": "default", "max_tokens": 4096, "stream": True, **known, **task.extra}


def _message(m: api.Message) -> dict[str, Any]:
    if m.role == "tool":
        result = {"type": "tool_result", "tool_use_id": m.tool_call_id, "content": m.content}
        return {"role": "user", "content": [result]}
    calls = [{"id": c.id, "name": c.name, "input": c.json()} for c in m.tool_calls]
    text = [{"type": "text", "text": m.content}] if m.content and calls else []
    content = text + [{"type": "tool_use", **c} for c in calls]
    return {"role": m.role, "content": content or m.content}
