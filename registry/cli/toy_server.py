"""A small OpenAI-compatible server with a toy engine, for the demo and for trying things out.

The engine is no model: it strings words together, always the same for the same prompt and seed. The
protocol around it is real: HTTP/1.1 with keep-alive, server-sent events, usage, error objects.
"""

import asyncio
import json
import random
from typing import Any, Self

VERSION = "toy-1.0"
MODEL = "toy"
MAX_BODY_BYTES = 1 << 20

_WORDS = ["the", "a", "one", "every", "quiet", "bright", "small", "old", "river", "lantern", "engine", "token", "stream", "harbour", "orchard", "signal", "carries", "follows", "becomes", "answers", "remembers", "crosses", "keeps", "and", "but", "while", "then", "softly", "again", "never", "always", "without", "beyond", "toward", "light", "stone", "winter"]


def toy_words(prompt: str, seed: int | None, count: int) -> list[str]:
    """The engine: `count` words that depend on prompt and seed only."""
    rng = random.Random(f"{seed}:{prompt}")
    words = [rng.choice(_WORDS) for _ in range(count)]
    return [words[0].capitalize(), *(f" {word}" for word in words[1:])] if words else []


class _Refusal(Exception):
    def __init__(self, status: int, message: str, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": None, "code": None}}


class ToyServer:
    """Serves on a loopback port of its own while entered (`async with`).

    Args:
        api_key: If given, requests need it as bearer token.
        delay_s: Seconds between two tokens.
        natural_end: How many words the engine has to say at most.
    """

    def __init__(
        self, *, api_key: str | None = None, delay_s: float = 0.0, natural_end: int = 400
    ) -> None:
        self._api_key = api_key
        self._delay_s = delay_s
        self._natural_end = natural_end
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.base_url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client went away, or speaks no HTTP
        except asyncio.CancelledError:
            if self._server is None or self._server.is_serving():
                raise
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request. False when the connection is over."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *lines = head.split("\r\n")
        method, target, _ = request_line.split(" ", 2)
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines if line)
        }
        length = int(headers.get("content-length", "0"))
        try:
            if length > MAX_BODY_BYTES:
                raise _Refusal(413, "the request is too large")
            body = await reader.readexactly(length)
            await self._answer(method, target.partition("?")[0], headers, body, writer)
        except _Refusal as refusal:
            _write_json(writer, refusal.status, refusal.body)
        await writer.drain()
        return headers.get("connection", "").lower() != "close" and length <= MAX_BODY_BYTES

    async def _answer(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        writer: asyncio.StreamWriter,
    ) -> None:
        if path == "/health":
            return _write_json(writer, 200, {"status": "ok"})
        if self._api_key is not None and headers.get("authorization") != f"Bearer {self._api_key}":
            raise _Refusal(401, "Incorrect API key provided", "authentication_error")
        if path == "/version":
            return _write_json(writer, 200, {"version": VERSION})
        if path == "/v1/models":
            entry = {"id": MODEL, "object": "model", "created": 0, "owned_by": "toy"}
            return _write_json(writer, 200, {"object": "list", "data": [entry]})
        if path not in ("/v1/completions", "/v1/chat/completions"):
            raise _Refusal(404, f"there is no {path} here")
        if method != "POST":
            raise _Refusal(405, f"{method} is not allowed here")
        return await self._complete(path == "/v1/chat/completions", _parse(body), writer)

    async def _complete(
        self, chat: bool, request: dict[str, Any], writer: asyncio.StreamWriter
    ) -> None:
        prompt = _prompt(chat, request)
        limit = request.get("max_tokens") or 16
        if type(limit) is not int or limit < 1:
            raise _Refusal(400, "max_tokens must be an integer of at least 1")
        words = toy_words(prompt, request.get("seed"), min(limit, self._natural_end))
        finish_reason = "stop" if limit > self._natural_end else "length"
        prompt_tokens = len(prompt.split())
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": len(words),
            "total_tokens": prompt_tokens + len(words),
        }
        chunks = _Chunks(chat)
        if not request.get("stream"):
            answer = chunks.whole("".join(words), finish_reason)
            return _write_json(writer, 200, {**answer, "usage": usage})
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for word in words:
            _write_event(writer, chunks.piece(word))
            await writer.drain()
            await asyncio.sleep(self._delay_s)
            if writer.is_closing():  # nobody listens: stop generating
                raise ConnectionResetError
        _write_event(writer, chunks.piece("", finish_reason))
        if (request.get("stream_options") or {}).get("include_usage"):
            _write_event(writer, chunks.usage(usage))
        _write_event(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")
        return None


class _Chunks:
    """The objects of one answer, for the completions or the chat endpoint."""

    def __init__(self, chat: bool) -> None:
        self._chat = chat
        self._base = {"id": "chatcmpl-toy" if chat else "cmpl-toy", "created": 0, "model": MODEL}

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._base, "object": kind, "choices": choices, "system_fingerprint": VERSION}

    def piece(self, text: str, finish_reason: str | None = None) -> dict[str, Any]:
        part = {"delta": {"content": text} if text else {}} if self._chat else {"text": text}
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        return self._object(kind, [{"index": 0, **part, "finish_reason": finish_reason}])

    def usage(self, usage: dict[str, int]) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        return {**self._object(kind, []), "usage": usage}

    def whole(self, text: str, finish_reason: str) -> dict[str, Any]:
        message = {"message": {"role": "assistant", "content": text}}
        part: dict[str, Any] = message if self._chat else {"text": text}
        kind = "chat.completion" if self._chat else "text_completion"
        return self._object(kind, [{"index": 0, **part, "finish_reason": finish_reason}])


def _parse(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except ValueError as error:
        raise _Refusal(400, f"the body is not JSON: {error}") from None
    if not isinstance(request, dict):
        raise _Refusal(400, "the body must be a JSON object")
    return request


def _prompt(chat: bool, request: dict[str, Any]) -> str:
    if not chat:
        prompt = request.get("prompt")
        if not isinstance(prompt, str):
            raise _Refusal(400, "prompt must be a string")
        return prompt
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _Refusal(400, "messages must be a non-empty list")
    return "\n".join(str(m.get("content", "")) if isinstance(m, dict) else "" for m in messages)


_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}


def _write_json(writer: asyncio.StreamWriter, status: int, payload: object) -> None:
    body = json.dumps(payload).encode()
    writer.write(
        b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % (status, _REASONS.get(status, "Refused").encode(), len(body))
        + body
    )


def _write_event(writer: asyncio.StreamWriter, payload: object) -> None:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    data = f"data: {text}\n\n".encode()
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
