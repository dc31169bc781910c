"""A small OpenAI-compatible server with a toy engine, for the demo and for trying things out.

There is no model. The protocol around it is real: HTTP/1.1 with keep-alive, server-sent events
in chunks, usage, error objects; a client that goes away stops the generation.
"""

import asyncio
import json
from typing import Any, Self

import attrs

from tests.toy.engine import MODEL, VERSION, Answer, Job, Refusal, parse_job

MAX_BODY_BYTES = 1 << 20  # far more than a prompt to a toy needs

_CHAT = "/v1/chat/completions"
_METHODS = {
    "/health": "GET",
    "/version": "GET",
    "/v1/models": "GET",
    "/v1/completions": "POST",
    _CHAT: "POST",
}
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    411: "Length Required",
    413: "Content Too Large",
    505: "HTTP Version Not Supported",
}


@attrs.frozen
class _Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def last(self) -> bool:
        """Whether the client wants no more answers on this connection."""
        return "close" in self.headers.get("connection", "").lower()


class ToyServer:
    """Serves on a loopback port of its own while entered (`async with`).

    Args:
        api_key: If given, everything under /v1 needs it as bearer token.
        delay_s: Seconds before each word.
        max_words: How many words the engine has to say at most.

    Attributes:
        base_url: Where it listens, once entered.
        running: How many streams are being generated now.
    """

    def __init__(
        self, *, api_key: str | None = None, delay_s: float = 0.002, max_words: int = 400
    ) -> None:
        self._api_key = api_key
        self._delay_s = delay_s
        self._max_words = max_words
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._closed = False
        self.base_url = ""
        self.running = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop at once, breaking off whatever is being answered. Idempotent."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:  # accepted before, but only served now
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client went away, or what it speaks is not HTTP
        except asyncio.CancelledError:
            pass  # by aclose; a cancelled task makes asyncio 3.11 log a traceback here
        finally:
            writer.transport.abort()
            self._connections.discard(task)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request. Returns whether another may follow on this connection."""
        try:
            request = await _read(reader)
        except Refusal as refusal:  # where the next request begins is not known
            _write_json(writer, refusal.status, refusal.body, last=True)
            await writer.drain()
            return False
        try:
            answer = self._route(request)
        except Refusal as refusal:
            _write_json(writer, refusal.status, refusal.body, last=request.last)
        else:
            if isinstance(answer, Job):
                await self._complete(answer, reader, writer, last=request.last)
            else:
                _write_json(writer, 200, answer, last=request.last)
        await writer.drain()
        return not request.last

    def _route(self, request: _Request) -> dict[str, Any] | Job:
        path = request.path
        if path not in _METHODS:
            raise Refusal(404, f"there is no {path} here")
        if request.method != _METHODS[path]:
            raise Refusal(405, f"{path} takes {_METHODS[path]} only")
        if path == "/health":
            return {"status": "ok"}
        if path == "/version":
            return {"version": VERSION}
        given = request.headers.get("authorization")
        if self._api_key is not None and given != f"Bearer {self._api_key}":
            raise Refusal(401, "Incorrect API key provided", "authentication_error")
        if path == "/v1/models":
            model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "toy"}
            return {"object": "list", "data": [model]}
        return parse_job(path == _CHAT, request.body)

    async def _complete(
        self, job: Job, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, last: bool
    ) -> None:
        answer = Answer(job, self._max_words)
        if not job.stream:
            await asyncio.sleep(self._delay_s * len(answer.words))
            _write_json(writer, 200, answer.whole(), last=last)
            return
        _write_head(
            writer,
            200,
            "Content-Type: text/event-stream",
            "Cache-Control: no-cache",
            "Transfer-Encoding: chunked",
            last=last,
        )
        self.running += 1
        try:
            for chunk in answer.chunks():
                await asyncio.sleep(self._delay_s)
                if writer.is_closing() or reader.at_eof():
                    raise ConnectionResetError("the client has closed the connection")
                _write_event(writer, json.dumps(chunk))
                await writer.drain()
        finally:
            self.running -= 1
        for chunk in answer.last_chunks():
            _write_event(writer, json.dumps(chunk))
        _write_event(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")


async def _read(reader: asyncio.StreamReader) -> _Request:
    """The next request.

    Raises:
        Refusal: If it cannot be read; what follows on the connection cannot be either.
        IncompleteReadError: If there is none.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    request_line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    match request_line.split(" "):
        case [method, target, "HTTP/1.1"]:
            pass
        case [_, _, version] if version.startswith("HTTP/"):
            raise Refusal(505, "this server speaks HTTP/1.1 only")
        case _:
            raise Refusal(400, "this is not an HTTP request")
    pairs = [line.partition(":") for line in lines]
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if "transfer-encoding" in headers:
        raise Refusal(411, "a request needs a Content-Length; chunks are not understood")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise Refusal(400, "Content-Length must be a number")
    if len(length) > 9 or int(length) > MAX_BODY_BYTES:
        raise Refusal(413, f"a request may have {MAX_BODY_BYTES} bytes at most")
    body = await reader.readexactly(int(length))
    return _Request(method, target.partition("?")[0], headers, body)


def _write_head(writer: asyncio.StreamWriter, status: int, *headers: str, last: bool) -> None:
    connection = ("Connection: close",) if last else ()
    lines = (f"HTTP/1.1 {status} {_REASONS[status]}", *headers, *connection, "", "")
    writer.write("\r\n".join(lines).encode("ascii"))


def _write_json(
    writer: asyncio.StreamWriter, status: int, payload: dict[str, Any], *, last: bool
) -> None:
    body = json.dumps(payload).encode()
    headers = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    _write_head(writer, status, *headers, last=last)
    writer.write(body)


def _write_event(writer: asyncio.StreamWriter, data: str) -> None:
    event = f"data: {data}\n\n".encode()
    writer.write(b"%x\r\n%s\r\n" % (len(event), event))
