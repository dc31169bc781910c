"""What a script holds in its hands: one request, and the connection to answer it on."""

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from functools import cached_property
from time import monotonic
from typing import Any, Literal

import attrs

PIECES = ("Hello", " wörld", " 🙂")
"""The pieces of the answer that most scenarios give, or begin to give."""

TEXT = "".join(PIECES)

USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
"""What the engine counts. Not the number of pieces: events are not tokens."""

DONE = b"data: [DONE]\n\n"

Framing = Literal["chunked", "close"] | int
"""What tells the body's end: a chunk of size 0, the end of the connection, or its length."""


class ClientGone(ConnectionError):
    """The client has closed the connection; the script has nobody to talk to."""


@attrs.frozen
class Request:
    """A request as it arrived.

    Args:
        scenario: The first segment of its path.
        number: 1, 2, ... among the requests for this scenario.
        connection: The number of its connection.
        method: GET or POST.
        path: The whole path, with the query.
        headers: By lower-case name.
        body: What was read of the body when the answer began.
        at: When it arrived, in seconds of the monotonic clock.
    """

    scenario: str
    number: int
    connection: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def chat(self) -> bool:
        """Whether it asks the chat endpoint."""
        return self.path.partition("?")[0].endswith("/chat/completions")

    @property
    def credential(self) -> str:
        """The key it brought. Scripts repeat it where careless servers do."""
        bearer = self.headers.get("authorization", "").partition(" ")[2]
        return bearer or self.headers.get("api-key", "")

    @cached_property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body or b"{}")


@attrs.define(eq=False)
class Connection:
    """What became of one connection. Times are in seconds of the monotonic clock.

    Args:
        number: 1, 2, ... in the order of arrival.
        opened_at: When it was accepted.
        closed_by_client_at: When the client was seen to close it, None if it did not.
        closed_by_server_at: When the server closed or reset it, None if it did not.
        requests: How many requests came on it.
        statuses: Those that answers on it began with, as far as `Wire.head` sent them.
        sent_bytes: Bytes the kernel took from the server.
        refused_bytes: Bytes a script wanted to send after the client had closed it.
        gone: Set once it is closed, by whichever side.
    """

    number: int
    opened_at: float
    closed_by_client_at: float | None = None
    closed_by_server_at: float | None = None
    requests: int = 0
    statuses: list[int] = attrs.field(factory=list)
    sent_bytes: int = 0
    refused_bytes: int = 0
    gone: asyncio.Event = attrs.field(factory=asyncio.Event, repr=False)

    @property
    def closed(self) -> bool:
        """Whether either side has closed it."""
        return self.closed_by_client_at is not None or self.closed_by_server_at is not None


class Wire:
    """Answers one request. Every method that sends raises ClientGone if nobody is there.

    Sending waits until the kernel has taken every byte, so a client that does not read stops the
    script. Waiting ends with ClientGone too, at once, when the client closes.

    Args:
        request: The request.
        record: What is noted of its connection.
        transport: The connection.
        writable: Set while the kernel takes bytes.
    """

    def __init__(
        self,
        request: Request,
        record: Connection,
        transport: asyncio.Transport,
        writable: asyncio.Event,
    ) -> None:
        self.request = request
        self.ended = False
        """Whether the answer is complete, so that another request may follow."""
        self._record = record
        self._transport = transport
        self._writable = writable
        self._chunked = False

    # Bytes

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self._record.closed:
            self._record.refused_bytes += len(data)
            raise ClientGone
        self._transport.write(data)
        await asyncio.sleep(0)  # a client in the same loop has its turn, however fast we are
        await self._writable.wait()
        if not self._record.closed:
            self._record.sent_bytes += len(data)

    async def drip(self, data: bytes, pause_s: float = 0.0) -> None:
        """Send bytes one by one."""
        for i in range(len(data)):
            await self.raw(data[i : i + 1])
            await asyncio.sleep(pause_s)

    async def sleep(self, seconds: float) -> None:
        """Wait, sending nothing."""
        try:
            await asyncio.wait_for(self._record.gone.wait(), seconds)
        except TimeoutError:
            return
        raise ClientGone

    async def wait_closed(self) -> None:
        """Send nothing more, and wait for the client to close."""
        await self._record.gone.wait()

    async def close(self) -> None:
        """Close the connection (FIN)."""
        if not self._record.closed:
            self._record.closed_by_server_at = monotonic()
        self._transport.close()

    async def reset(self) -> None:
        """Break the connection (RST)."""
        await self.sleep(0.02)  # a reset may overtake what was sent before it
        if not self._record.closed:
            self._record.closed_by_server_at = monotonic()
        raw_socket = self._transport.get_extra_info("socket")
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
        self._record.statuses.append(status)
        await self.raw("".join(f"{line}\r\n" for line in [*lines, *headers, ""]).encode())

    async def chunk(self, data: bytes) -> None:
        """Send a piece of the body, at most one chunk."""
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)

    async def end(self) -> None:
        """The answer is complete; the connection may be used again."""
        if self._chunked:
            await self.raw(b"0\r\n\r\n")
        self.ended = True

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

    async def answer_json(self, status: int, payload: Any, *headers: str) -> None:
        """Send a whole answer of JSON."""
        await self.answer(status, to_json(payload), *headers)

    # The completions protocol

    def payload(
        self, piece: str | None = None, finish_reason: str | None = None, **more: Any
    ) -> dict[str, Any]:
        """What an event says: one choice of the endpoint that was asked, with `piece` as its text.
        `more` adds keys to the event, or replaces them."""
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
        """What an event says whose only choice has `keys` added, or replaced."""
        payload = self.payload("x")
        payload["choices"][0] |= keys
        return payload

    def complaint(self, message: str = "the engine failed", **more: Any) -> dict[str, Any]:
        """An error object, from a server that repeats the key it was given."""
        return {"error": {"message": f"{message} (you are {self.request.credential})", **more}}

    def stream(self, *, newline: str = "\n", space: str = " ") -> bytes:
        """The body of a whole answer: TEXT, finish_reason, USAGE and [DONE]."""
        events = [
            *(self.payload(piece) for piece in PIECES),
            self.payload(finish_reason="stop"),
            self.payload(choices=[], usage=USAGE),
        ]
        lines = [f"data:{space}{to_json(event).decode()}{newline * 2}" for event in events]
        return "".join([*lines, f"data:{space}[DONE]{newline * 2}"]).encode()

    async def event(self, payload: Any, name: str = "") -> None:
        """Send one event with `payload` as JSON, in a chunk of its own."""
        await self.chunk((f"event: {name}\n" if name else "").encode() + to_event(payload))

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
        """Send [DONE]."""
        await self.chunk(DONE)

    async def rest(self) -> None:
        """Send what follows the text of a whole answer."""
        await self.finish()
        await self.usage()
        await self.done()
        await self.end()


def to_json(payload: Any) -> bytes:
    """`payload` as JSON in UTF-8, non-ASCII characters as they are."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def to_event(payload: Any) -> bytes:
    """`payload` as the data of one event."""
    return b"data: %s\n\n" % to_json(payload)
