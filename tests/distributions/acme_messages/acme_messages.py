"""An adapter for Anthropic's Messages API: server-sent events with text and tool calls."""

from collections.abc import AsyncIterator
from typing import Any

import attrs
import httpx

import adapter_api as api
from adapters import http_util

WHOLE = ("end_turn", "stop_sequence", "tool_use", "max_tokens")  # docs.anthropic.com/en/api
VERSION = {"anthropic-version": "2023-06-01"}


@attrs.frozen
class MessagesConfig:
    """The options."""

    base_url: str = attrs.field(metadata={"help": "The server's address, without /v1"})
    api_key: str | None = attrs.field(default=None, repr=False, metadata={"secret": True})
    first_token_timeout_s: float | None = 30.0
    stall_timeout_s: float | None = 30.0


@attrs.define(eq=False)
class MessagesAdapter:
    """Streams the answers of POST /v1/messages."""

    config: MessagesConfig
    _client: Any = attrs.field(init=False, repr=False, factory=http_util.make_client)

    @property
    def _key(self) -> dict[str, str]:
        return {"x-api-key": self.config.api_key} if self.config.api_key else {}

    @api.hookimpl
    def submit(self, task: api.TaskRequest) -> api.TokenStream:
        """Run a job."""
        clock = api.StreamClock(task.deadline_s)
        return api.TokenStream(self._events(task, clock), task, clock=clock)

    async def _events(
        self, task: api.TaskRequest, clock: api.StreamClock
    ) -> AsyncIterator[api.TokenEvent]:
        secrets = list(self._key.values())
        calls, usage, reason, whole = http_util.CallParts(), dict[str, int](), None, False
        async with http_util.open_stream(
            self._client,
            f"{self.config.base_url.rstrip('/')}/v1/messages",
            request(task),
            decoder=http_util.SSEDecoder(),
            clock=clock,
            task=task,
            headers={**VERSION, **self._key},
            secrets=secrets,
            first_s=self.config.first_token_timeout_s,
            stall_s=self.config.stall_timeout_s,
        ) as answer:
            yield api.Started(task.job_id, "anthropic", "2023-06-01", task.model)
            async for event in answer:
                match http_util.decode_json(event.data):
                    case {"type": "ping" | "content_block_stop"}:
                        pass
                    case {"type": "message_start", "message": {"usage": dict(counts)}}:
                        usage |= counts
                    case {"type": "content_block_start", "index": at, "content_block": dict(block)}:
                        if block.get("type") == "tool_use":
                            yield calls.begin(at, answer.progress(), block["id"], block["name"])
                    case {"type": "content_block_delta", "index": at, "delta": dict(delta)}:
                        if text := delta.get("text"):
                            yield api.Token(text, answer.progress())
                        elif part := delta.get("partial_json"):
                            yield calls.add(at, answer.progress(), part)
                        else:
                            clock.progress()  # thinking, and its signature
                    case {"type": "message_delta", "delta": dict(delta), "usage": counts}:
                        reason, usage = delta.get("stop_reason"), usage | counts
                    case {"type": "message_stop"}:
                        whole = True
                        break
                    case unknown:  # {"type": "error"}, and whatever else says something
                        raise http_util.error_from_payload(unknown, secrets=secrets)
            if not whole or reason not in WHOLE:
                why = f"it ended with stop_reason {http_util.safe_text(str(reason), secrets)}"
                code = "CONTENT_FILTER" if reason == "refusal" else "STREAM_TRUNCATED"
                raise api.WorkerError.of(code, why)
            await answer.settle()
            good, bad = calls.finish(cut=reason == "max_tokens")
            metrics = answer.metrics(usage.get("output_tokens"), usage.get("input_tokens"))
        yield api.End(metrics, reason, "finish_reason", good, bad)

    @api.hookimpl
    async def health(self) -> api.HealthStatus:
        """Ask for the models, which costs nothing."""
        url, headers = f"{self.config.base_url}/v1/models", {**VERSION, **self._key}
        try:
            good = (await self._client.get(url, headers=headers, timeout=5.0)).status_code == 200
        except httpx.HTTPError:
            good = False
        return api.HealthStatus(api.HealthState.HEALTHY if good else api.HealthState.UNHEALTHY)

    @api.hookimpl
    async def aclose(self) -> None:
        await self._client.aclose()


def request(task: api.TaskRequest) -> dict[str, Any]:
    """Return the body of a job's request."""
    messages = task.messages or (api.Message("user", task.prompt or ""),)
    tools = [t if isinstance(t, api.Tool) else api.Tool(**t["function"]) for t in task.tools]
    fields = {name: getattr(task, name) for name in ("temperature", "top_p")} | {
        "messages": [_message(m) for m in messages if m.role != "system"],
        "system": "\n".join(str(m.content) for m in messages if m.role == "system"),
        "stop_sequences": list(task.stop),
        "tools": [{"name": t.name, "input_schema": dict(t.parameters)} for t in tools],
    }
    known = {name: value for name, value in fields.items() if value not in (None, [], "")}
    always = {"model": task.model or "default", "max_tokens": task.max_tokens or 4096}
    return {**always, **known, "stream": True, **task.extra}


def _message(message: api.Message) -> dict[str, Any]:
    if message.role == "tool":
        result = {"tool_use_id": message.tool_call_id, "content": message.content}
        return {"role": "user", "content": [{"type": "tool_result", **result}]}
    uses = [{"id": c.id, "name": c.name, "input": c.json()} for c in message.tool_calls]
    text = [{"type": "text", "text": message.content}] if message.content and uses else []
    content = text + [{"type": "tool_use", **use} for use in uses]
    return {"role": message.role, "content": content or message.content}
