"""An adapter for Ollama's native API: newline-delimited JSON with text and tool calls."""
# Source: https://github.com/ollama/ollama/blob/main/docs/api.md

import json
from collections.abc import AsyncIterator
from typing import Any

import attrs
import httpx

import adapter_api as api
from adapters import http_util

WHOLE = ("stop", "length")


@attrs.frozen
class GenerateConfig:
    """The options."""

    base_url: str = attrs.field(metadata={"help": "The server's address"})
    api_key: str | None = attrs.field(default=None, repr=False, metadata={"secret": True})
    first_token_timeout_s: float | None = 30.0
    stall_timeout_s: float | None = 30.0


@attrs.define(eq=False)
class GenerateAdapter:
    """Streams the answers of POST /api/chat."""

    config: GenerateConfig
    _client: Any = attrs.field(init=False, repr=False, factory=http_util.make_client)

    @api.hookimpl
    def submit(self, task: api.TaskRequest) -> api.TokenStream:
        """Run a job."""
        clock = api.StreamClock(task.deadline_s)
        return api.TokenStream(self._events(task, clock), task, clock=clock)

    async def _events(
        self, task: api.TaskRequest, clock: api.StreamClock
    ) -> AsyncIterator[api.TokenEvent]:
        secrets = [self.config.api_key] if self.config.api_key else []
        headers = http_util.with_bearer({}, secrets[0]) if secrets else {}
        calls, last = http_util.CallParts(), dict[str, Any]()
        async with http_util.open_stream(
            self._client,
            f"{self.config.base_url.rstrip('/')}/api/chat",
            request(task),
            decoder=http_util.LineDecoder(),
            clock=clock,
            task=task,
            headers=headers,
            secrets=secrets,
            first_s=self.config.first_token_timeout_s,
            stall_s=self.config.stall_timeout_s,
        ) as answer:
            yield api.Started(task.job_id, "ollama", "unknown", task.model)
            async for line in answer:
                match http_util.decode_json(line):
                    case {"message": dict(message), "done": done, **more} if "error" not in more:
                        if text := message.get("content"):
                            yield api.Token(text, answer.progress())
                        elif message.get("thinking"):
                            clock.progress()
                        for call in message.get("tool_calls") or ():
                            number, function = len(calls), call["function"]
                            yield calls.begin(number, answer.progress(), "", function["name"])
                            arguments = json.dumps(function.get("arguments") or {})
                            yield calls.add(number, answer.progress(), arguments)
                        if done:
                            last = more
                            break
                    case unknown:  # {"error": ...}, and whatever else says something
                        raise http_util.error_from_payload(unknown, secrets=secrets)
            reason = last.get("done_reason")
            if reason not in WHOLE:
                why = f"it ended with done_reason {http_util.safe_text(str(reason), secrets)}"
                raise api.StreamingError("STREAM_TRUNCATED", why)
            await answer.settle()
            good, bad = calls.finish(cut=reason == "length")
            metrics = answer.metrics(last.get("eval_count"), last.get("prompt_eval_count"))
        yield api.End(metrics, reason, "finish_reason", good, bad)

    @api.hookimpl
    async def health(self) -> api.HealthStatus:
        """Ask for the version, which costs nothing."""
        try:
            response = await self._client.get(f"{self.config.base_url}/api/version", timeout=5.0)
        except httpx.HTTPError as exc:
            return api.HealthStatus(api.HealthState.UNHEALTHY, type(exc).__name__)
        good = response.status_code == 200
        return api.HealthStatus(api.HealthState.HEALTHY if good else api.HealthState.UNHEALTHY)

    @api.hookimpl
    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def request(task: api.TaskRequest) -> dict[str, Any]:
    """Return the body of a job's request."""
    options = {name: getattr(task, name) for name in ("temperature", "top_p", "seed")}
    options |= {"num_predict": task.max_tokens, "stop": list(task.stop) or None}
    messages = [_message(m) for m in task.messages or (api.Message("user", task.prompt or ""),)]
    tools = [t.to_wire() if isinstance(t, api.Tool) else t for t in task.tools]
    return {
        "model": task.model or "default",
        "messages": messages,
        "options": {name: value for name, value in options.items() if value is not None},
        **({"tools": tools} if tools else {}),
        **task.extra,
    }


def _message(message: api.Message) -> dict[str, Any]:
    wire = {"role": message.role, "content": message.content or ""}
    calls = [{"function": {"name": c.name, "arguments": c.json()}} for c in message.tool_calls]
    return {**wire, "tool_calls": calls} if calls else wire
