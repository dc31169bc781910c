"""Adapters for another protocol, Anthropic's Messages: a right one, and one for each mistake.

They use httpx directly, as an author who starts from nothing would.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, ClassVar

import attrs
import httpx

from adapter_api import (
    End,
    EngineUnavailable,
    ErrorCode,
    HealthState,
    HealthStatus,
    InvalidRequest,
    Metrics,
    Started,
    StreamingError,
    TaskRequest,
    Token,
    TokenEvent,
    WorkerError,
    WorkerReset,
    WorkerTimeout,
    hookimpl,
)

REASONS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}
CODES = {
    400: "INVALID_PARAMS",
    401: "UPSTREAM_AUTH",
    403: "UPSTREAM_AUTH",
    404: "UPSTREAM_NOT_FOUND",
}


@attrs.frozen
class MessagesConfig:
    """The server's address, and the limits on waiting for it."""

    base_url: str
    timeout_s: float = 20.0


@attrs.define(eq=False)
class RightMessages:
    """Keeps the contract."""

    ABSENT: ClassVar[dict[str, str]] = {
        "seed": "the protocol has none",
        "tools": "this sample has none",
    }
    config: MessagesConfig
    limited: ClassVar[bool] = True

    def client(self) -> httpx.AsyncClient:
        """Return a client."""
        limit_s = self.config.timeout_s if self.limited else None
        url = self.config.base_url
        # Without certificates, as loading them takes longer than everything else here.
        return httpx.AsyncClient(base_url=url, timeout=limit_s, trust_env=False, verify=False)

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        """Ask, and read the answer."""
        try:
            async with aclosing(self.answer(task)) as events:
                async for event in events:
                    yield event
        except httpx.TimeoutException as exc:
            raise WorkerTimeout("DECODE_TIMEOUT", "the server is silent") from exc
        except httpx.ConnectError as exc:
            raise EngineUnavailable("POOL_UNAVAILABLE", "the server cannot be reached") from exc
        except httpx.HTTPError as exc:
            raise WorkerReset("WORKER_RESET", "the connection broke") from exc

    async def answer(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        """Yield the events of one answer."""
        asked = {"model": task.model, "max_tokens": task.max_tokens, "messages": _said(task)}
        async with (
            self.client() as client,
            client.stream("POST", "/v1/messages", json={**asked, "stream": True}) as response,
        ):
            self.check(response)
            yield Started(task.job_id, "messages", "1")
            count, reason, stopped = 0, None, False
            async for event in self.events(response):
                match event.get("type"):
                    case "content_block_delta":
                        yield Token(event["delta"]["text"], count)
                        count += 1
                    case "message_delta":
                        reason = event["delta"]["stop_reason"]
                    case "error":
                        self.failed(event["error"])
                    case "message_stop":
                        stopped = True
                        break
            await self.ended(stopped and reason in REASONS)
            yield End(Metrics(count), REASONS.get(reason or "", "stop"), "finish_reason")

    def check(self, response: httpx.Response) -> None:
        """Refuse what is not a stream."""
        status = response.status_code
        if status == 200 and "event-stream" in response.headers.get("content-type", ""):
            return
        if status == 429 or status >= 500:
            raise WorkerError.of("POOL_UNAVAILABLE", f"the server answered {status}")
        code = CODES.get(status, "UPSTREAM_PROTOCOL")
        raise WorkerError.of(code, f"the server answered {status}")

    async def events(self, response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
        """Yield the data of the server's events."""
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                try:
                    found = json.loads(line[6:])
                except ValueError as exc:
                    raise WorkerError.of("UPSTREAM_PROTOCOL", "an event is not JSON") from exc
                yield found

    def failed(self, error: dict[str, Any]) -> None:
        """Raise the server's error."""
        raise WorkerReset("WORKER_RESET", str(error.get("message")))

    async def ended(self, whole: bool) -> None:
        """Refuse an answer without proof."""
        if not whole:
            raise StreamingError(ErrorCode.STREAM_TRUNCATED, "the answer was cut")

    @hookimpl
    async def health(self) -> HealthStatus:
        """Ask for the models."""
        try:
            async with self.client() as client, asyncio.timeout(1.0):
                found = await client.get("/v1/models")
        except (httpx.HTTPError, TimeoutError) as exc:
            return HealthStatus(HealthState.UNHEALTHY, f"no answer: {exc!r}")
        well = found.status_code == 200
        state = HealthState.HEALTHY if well else HealthState.UNHEALTHY
        return HealthStatus(state, f"the server answered {found.status_code}")

    def __attrs_post_init__(self) -> None:
        if not self.config.base_url.startswith("http"):
            raise InvalidRequest("INVALID_PARAMS", "base_url must be a URL")


def _said(task: TaskRequest) -> list[Any]:
    return (
        [{"role": "user", "content": task.prompt}]
        if task.messages is None
        else [{"role": message.role, "content": message.content} for message in task.messages]
    )


class Lingers(RightMessages):
    """Waits a second after the end of each answer."""

    async def ended(self, whole: bool) -> None:
        await asyncio.sleep(1.0)
        await RightMessages.ended(self, whole)


class TakesCuts(RightMessages):
    """Takes every end of the body for the end of the answer."""

    async def ended(self, whole: bool) -> None:
        pass


class AsksAgain(RightMessages):
    """Sends the request again whenever a connection breaks."""

    async def answer(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        try:
            async with aclosing(RightMessages.answer(self, task)) as events:
                async for event in events:
                    yield event
        except httpx.ReadError:
            async with aclosing(RightMessages.answer(self, task)) as events:
                async for _ in events:
                    pass
            raise


class TrustsRefusals(RightMessages):
    """Counts on JSON in every refusal."""

    def check(self, response: httpx.Response) -> None:
        if "html" in response.headers.get("content-type", ""):
            raise KeyError("error")
        RightMessages.check(self, response)


class IgnoresErrors(RightMessages):
    """Skips events that it does not know, errors among them."""

    def failed(self, error: dict[str, Any]) -> None:
        pass


class ReadsChunks(RightMessages):
    """Takes each chunk of the body for one event."""

    async def events(self, response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
        async for chunk in response.aiter_text():
            for line in chunk.splitlines():
                if line.startswith("data: ") and line.endswith("}"):
                    yield json.loads(line[6:])


class TrustsOrder(RightMessages):
    """Counts on one message_start, and on what it holds."""

    async def events(self, response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
        waiting = ["message_start"]
        async for event in RightMessages.events(self, response):
            if event["type"] == "message_start":
                waiting.remove("message_start")
            yield event


class WaitsForEver(RightMessages):
    """Has no limit on waiting."""

    limited = False
