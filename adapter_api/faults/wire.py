"""A request, its connection, and the Wire with which a script answers it."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Mapping
from typing import Any, Literal

import attrs

PIECES = ("Hello", " wörld", " 🙂")
"""The pieces of the answer that most scenarios give or begin."""

TEXT = "".join(PIECES)

USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
"""The engine's usage. It is not the number of pieces: events are not tokens."""

DONE = b"data: [DONE]\n\n"

Framing = Literal["chunked", "close"] | int
"""The body ends with a chunk of size 0, with the connection, or after this many bytes."""


class ClientGone(ConnectionError):
    """The client has closed the connection."""


@attrs.define(eq=False)
class Connection:
    """The record of one connection. Times are in seconds of the server's event loop.

    Args:
        number: 1, 2, ... in the order of arrival.
        closed_by_client_at: When the client was seen to close it, None if it did not.
        closed_by_server_at: When the server closed or reset it, None if it did not.
        requests: The number of requests on it.
        statuses: The statuses that `Wire.head` sent on it.
        whole_answers: How many whole answers of the completions protocol were sent on it.
        sent_bytes: Bytes that the kernel took from the server.
        refused_bytes: Bytes that a script tried to send after the client had closed it.
        gone: Set once either side has closed it.
    """

    number: int
    closed_by_client_at: float | None = None
    closed_by_server_at: float | None = None
    requests: int = 0
    statuses: list[int] = attrs.field(factory=list)
    whole_answers: int = 0
    sent_bytes: int = 0
    refused_bytes: int = 0
    gone: asyncio.Event = attrs.field(factory=asyncio.Event, repr=False)

    @property
    def closed(self) -> bool:
        """Return whether either side has closed it."""
        return self.closed_by_client_at is not None or self.closed_by_server_at is not None


@attrs.frozen
class Request:
    """A request as it arrived.

    Args:
        number: 1, 2, ... among the requests with this method and this first path segment.
        connection: Its connection.
        method: GET or POST.
        target: The path with the query.
        headers: By lower-case name.
        body: The part of the body that had arrived when the answer began.
        at: When it arrived, in seconds of the server's event loop.
    """

    number: int
    connection: Connection
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def path(self) -> str:
        """Return the target without its query."""
        return self.target.partition("?")[0]

    @property
    def scenario(self) -> str:
        """Return the first segment of the path, which names a FaultServer's scenario."""
        return self.path.split("/")[1]

    @property
    def chat(self) -> bool:
        """Return whether it asks the chat endpoint."""
        return self.path.endswith("/chat/completions")

    @property
    def credential(self) -> str:
        """Return its API key. Scripts repeat it where careless servers do."""
        bearer = self.headers.get("authorization", "").partition(" ")[2]
        return bearer or self.headers.get("api-key", "") or self.headers.get("x-api-key", "")

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body or b"{}")


class Wire:
    """Answers one request. Methods that send or wait raise ClientGone when the client closes.

    Sending waits until the kernel has taken every byte, so a client that does not read stops the
    script.

    Args:
        request: The request.
        transport: Its connection's transport.
        writable: Set while the kernel takes bytes.
        keep_alive: Whether the connection stays open if the script does not say otherwise.
    """

    def __init__(
        self,
        request: Request,
        transport: asyncio.Transport,
        writable: asyncio.Event,
        *,
        keep_alive: bool = False,
    ) -> None:
        self.request = request
        self.connection = request.connection
        self.keep_alive = keep_alive
        self._transport = transport
        self._writable = writable
        self._chunked = False

    # Bytes

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self.connection.closed:
            self.connection.refused_bytes += len(data)
            raise ClientGone
        self._transport.write(data)
        await asyncio.sleep(0)  # let a client in the same loop run, however fast this server is
        await self._writable.wait()
        if not self.connection.closed:
            self.connection.sent_bytes += len(data)

    async def drip(self, data: bytes, pause_s: float = 0.0) -> None:
        """Send bytes one by one."""
        for i in range(len(data)):
            await self.raw(data[i : i + 1])
            await asyncio.sleep(pause_s)

    async def sleep(self, seconds: float) -> None:
        """Wait, sending nothing."""
        try:
            await asyncio.wait_for(self.connection.gone.wait(), seconds)
        except TimeoutError:
            return
        raise ClientGone

    async def wait_closed(self) -> None:
        """Send nothing more, and wait for the client to close."""
        self.keep_alive = False
        await self.connection.gone.wait()

    async def until_closed(self, limit_s: float = 5.0) -> None:
        """Send nothing more, and wait at most `limit_s` seconds for the client to close.

        Raises:
            TimeoutError: If it does not.
        """
        async with asyncio.timeout(limit_s):
            await self.wait_closed()

    @property
    def gone(self) -> bool:
        """Return whether the connection is closed."""
        return self.connection.gone.is_set()

    async def close(self) -> None:
        """Close the connection (FIN)."""
        self.keep_alive = False
        if not self.connection.closed:
            self.connection.closed_by_server_at = asyncio.get_running_loop().time()
        self._transport.close()

    async def reset(self) -> None:
        """Reset the connection (RST)."""
        self.keep_alive = False
        await self.sleep(0.02)  # a reset may overtake what was sent before it
        if not self.connection.closed:
            self.connection.closed_by_server_at = asyncio.get_running_loop().time()
        raw_socket = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # the client has closed the connection first
            raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    # HTTP

    async def head(
        self,
        *headers: str,
        status: int = 200,
        reason: str = "OK",
        framing: Framing = "chunked",
        kind: str = "text/event-stream",
    ) -> None:
        """Send a status line and headers. What `chunk` sends is then framed accordingly."""
        lines = [f"HTTP/1.1 {status} {reason}", f"Content-Type: {kind}"]
        lines.append(f"X-Request-Id: req-{self.request.number} {self.request.credential}")
        if framing == "chunked":
            lines.append("Transfer-Encoding: chunked")
        elif framing == "close":
            lines.append("Connection: close")
        else:
            lines.append(f"Content-Length: {framing}")
        self._chunked = framing == "chunked"
        self.connection.statuses.append(status)
        await self.raw("".join(f"{line}\r\n" for line in [*lines, *headers, ""]).encode())

    async def chunk(self, data: bytes) -> None:
        """Send a piece of the body, at most one chunk; nothing if it is empty."""
        if not data:
            return
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)

    async def end(self) -> None:
        """End the answer; the connection may be used again."""
        if self._chunked:
            await self.raw(b"0\r\n\r\n")
        self.keep_alive = True

    async def answer(
        self,
        status: int,
        body: bytes,
        *headers: str,
        reason: str = "Whatever",
        kind: str = "application/json",
    ) -> None:
        """Send a whole answer with a Content-Length."""
        await self.head(*headers, status=status, reason=reason, framing=len(body), kind=kind)
        await self.chunk(body)
        await self.end()

    async def start(
        self, status: int = 200, headers: Mapping[str, str] | None = None, *, reason: str = "X"
    ) -> None:
        """Send a status line and exactly these headers; `chunk` then sends HTTP chunks."""
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{k}: {v}" for k, v in (headers or {}).items())]
        self._chunked = True
        self.connection.statuses.append(status)
        await self.raw(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def stream_head(self, headers: Mapping[str, str] | None = None) -> None:
        """Begin a chunked event stream."""
        base = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}
        await self.start(200, {**base, **(headers or {})})

    async def reply(
        self, payload: object, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a whole answer: JSON, or bytes as they are."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        kind = "text/plain" if isinstance(payload, bytes) else "application/json"
        base = {"Content-Type": kind, "Content-Length": str(len(body))}
        await self.start(status, {**base, **(headers or {})})
        await self.raw(body)
        self.keep_alive = True

    async def answer_json(self, status: int, payload: Any, *headers: str) -> None:
        """Send a whole answer of JSON."""
        await self.answer(status, to_json(payload), *headers)

    # The completions protocol

    def payload(
        self, piece: str | None = None, finish_reason: str | None = None, **more: Any
    ) -> dict[str, Any]:
        """Return an event: one choice of the requested endpoint, with `piece` as its text.

        `more` adds or replaces keys of the event.
        """
        choice: dict[str, Any]
        if self.request.chat:
            choice = {"index": 0, "delta": {} if piece is None else {"content": piece}}
        else:
            choice = {"index": 0, "text": piece or "", "logprobs": None}
        return {
            "id": "fault-1",
            "object": "chat.completion.chunk" if self.request.chat else "text_completion",
            "created": 1795397022,
            "model": "fault",
            "choices": [{**choice, "finish_reason": finish_reason}],
            **more,
        }

    def with_choice(self, **keys: Any) -> dict[str, Any]:
        """Return an event whose only choice has `keys` added or replaced.

        The completions endpoint has no `delta`: its content is the choice's text there, too.
        """
        payload = self.payload("x")
        if not self.request.chat and isinstance(delta := keys.get("delta"), dict):
            keys = {"text": delta.get("content") or "", **keys}
        payload["choices"][0] |= keys
        return payload

    def complaint(self, message: str = "the engine failed", **more: Any) -> dict[str, Any]:
        """Return an error object of a server that repeats the client's key."""
        return {"error": {"message": f"{message} (you are {self.request.credential})", **more}}

    def stream(self, *, newline: str = "\n", space: str = " ") -> bytes:
        """Return the body of a whole answer: TEXT, finish_reason, USAGE and [DONE]."""
        events = [
            *(self.payload(piece) for piece in PIECES),
            self.payload(finish_reason="stop"),
            self.payload(choices=[], usage=USAGE),
        ]
        lines = [f"data:{space}{to_json(event).decode()}{newline * 2}" for event in events]
        return "".join([*lines, f"data:{space}[DONE]{newline * 2}"]).encode()

    async def event(self, payload: Any, name: str = "") -> None:
        """Send one event in a chunk of its own: bytes and str as they are, all else as JSON."""
        await self.chunk((f"event: {name}\n" if name else "").encode() + to_event(payload))

    async def begin(self, *pieces: str) -> None:
        """Begin an event stream, and send an event for each piece of text."""
        await self.head()
        await self.text(*pieces)

    async def text(self, *pieces: str) -> None:
        """Send an event for each piece of text."""
        for piece in pieces:
            await self.event(self.payload(piece))

    async def finish(self, reason: str = "stop", **more: Any) -> None:
        """Send the event with the finish_reason. `more` adds keys to it."""
        await self.event(self.payload(finish_reason=reason, **more))

    async def usage(self, usage: Any = None) -> None:
        """Send the event that has nothing but the usage."""
        await self.event(self.payload(choices=[], usage=USAGE if usage is None else usage))

    async def done(self) -> None:
        """Send [DONE], and end the answer."""
        await self.chunk(DONE)
        await self.end()

    async def whole_answer(self, *headers: str) -> None:
        """Send a whole answer, and count it."""
        await self.head(*headers)
        await self.text(*PIECES)
        self.connection.whole_answers += 1  # before its end, so that no client is faster
        await self.rest()

    async def rest(self) -> None:
        """Send what follows the text of a whole answer."""
        await self.finish()
        await self.usage()
        await self.done()


def to_json(payload: Any) -> bytes:
    """Return `payload` as JSON in UTF-8, without escaping non-ASCII characters."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def to_event(payload: Any) -> bytes:
    """Return `payload` as the data of one event: bytes and str as they are, all else as JSON."""
    data = payload.encode() if isinstance(payload, str) else payload
    return b"data: %s\n\n" % (data if isinstance(data, bytes) else to_json(data))
