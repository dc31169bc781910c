"""A proxy that damages the answers of any HTTP server on their way to the client.

It stands between a client and a server that works, and knows no protocol above HTTP: an answer is a
list of pieces, which are events of an event stream, lines of NDJSON, or HTTP chunks.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import attrs

from adapter_api.faults.server import ScriptServer
from adapter_api.faults.wire import Request, Wire

MAX_PIECE_BYTES = 1 << 20
"""A longer piece is passed on unsplit: the answer has no such borders."""

MAX_HEAD_BYTES = 64 << 10

TICK_S = 0.01

_HOP = {"connection", "content-length", "transfer-encoding", "keep-alive", "trailer"}
"""Headers of one connection; the proxy frames what it passes on itself."""

EVENT_ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "overloaded"}}
"""An error inside a stream, as the known protocols of event streams send it: the event is named
"error", and its object has a key "error"."""

LINE_ERROR = {"error": "the engine failed"}
"""The same for NDJSON, as Ollama sends it."""


@attrs.define(eq=False)
class Answer:
    """The answer of the server behind the proxy.

    Args:
        status: Its status.
        headers: Its headers, without those of the connection.
        reader: The rest of the connection.
        framing: The body's length in bytes, "chunked" or "close".
        sent: The pieces read so far.
    """

    status: int
    headers: dict[str, str]
    _reader: asyncio.StreamReader
    _framing: int | str
    sent: list[bytes] = attrs.field(factory=list)
    _whole: list[bytes] = attrs.field(factory=list, init=False)
    _rest: bytes = attrs.field(default=b"", init=False)
    _over: bool = attrs.field(default=False, init=False)
    _lines: bool | None = attrs.field(default=None, init=False)

    @property
    def border(self) -> bytes:
        """Return what ends a piece: of an event stream, of lines of JSON; empty for other bodies.

        Lines of JSON are recognized by their first chunk, too: some servers call them JSON.
        """
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/event-stream":
            return b"\n\n"
        return b"\n" if "ndjson" in kind or "jsonl" in kind or self._lines else b""

    async def next(self) -> bytes | None:
        """Return the next piece, None after the last."""
        while not self._whole and not self._over:
            data = await self._read()
            if self._lines is None:
                self._lines = data.startswith(b"{") and data.endswith(b"\n")
            *self._whole, self._rest = _split(self._rest + data, self.border)
        if not self._whole and not self._rest:
            return None
        piece = self._whole.pop(0) if self._whole else self._rest
        self._rest = self._rest if piece is not self._rest else b""
        self.sent.append(piece)
        return piece

    async def _read(self) -> bytes:
        """Return what comes next of the body; empty at its end."""
        reader = self._reader
        if self._framing == "chunked":
            size = int((await reader.readline()).partition(b";")[0], 16)
            data = (await reader.readexactly(size + 2))[:-2]
        elif isinstance(self._framing, int):
            data = await reader.read(self._framing)
            self._framing -= len(data)
        else:
            data = await reader.read(MAX_HEAD_BYTES)
        self._over = not data
        return data


def _split(data: bytes, border: bytes) -> list[bytes]:
    """Split data behind each border; the last item is what follows the last one."""
    if not border or len(data) > MAX_PIECE_BYTES:
        return [data, b""] if data else [b""]
    *whole, rest = data.replace(b"\r\n", b"\n").split(border)
    return [*(piece + border for piece in whole), rest]


Relay = Callable[[Answer, Wire], Awaitable[None]]
"""Passes an answer on, damaged or not."""


@attrs.frozen
class Damage:
    """One way to damage answers.

    Args:
        name: Its name in reports.
        relay: Passes an answer on, damaged.
    """

    name: str
    relay: Relay = attrs.field(repr=False)


async def _begin(answer: Answer, wire: Wire) -> None:
    headers = {**answer.headers, "Transfer-Encoding": "chunked"}
    await wire.start(answer.status, headers, reason="Passed")


async def _pass_first(answer: Answer, wire: Wire, count: int) -> bytes | None:
    """Pass on the head and the first `count` pieces. Return the next one."""
    await _begin(answer, wire)
    for _ in range(count):
        piece = await answer.next()
        if piece is None:
            return None
        await wire.chunk(piece)
    return await answer.next()


async def _pass_rest(answer: Answer, wire: Wire) -> None:
    while (piece := await answer.next()) is not None:
        await wire.chunk(piece)
    await wire.end()


async def _pass_all(answer: Answer, wire: Wire) -> None:
    await _begin(answer, wire)
    await _pass_rest(answer, wire)


PASS = Damage("nothing", _pass_all)
"""No damage."""


def cut(after: int, ending: str, *, inside: bool = False) -> Damage:
    """Cut the answer after some pieces.

    Args:
        after: The number of pieces that are passed on.
        ending: "end": the body ends as if it were complete. "close": the connection closes in
            the middle of the body. "reset": it is reset.
        inside: Pass on half of the next piece, too.
    """

    async def relay(answer: Answer, wire: Wire) -> None:
        piece = await _pass_first(answer, wire, after)
        if inside and piece is not None:
            await wire.chunk(piece[: max(1, len(piece) // 2)])
        if ending == "end":
            await wire.end()
        elif ending == "reset":
            await wire.reset()
        else:
            await wire.close()

    return Damage(f"{ending}{' inside' if inside else ''} after {after} pieces", relay)


def stall(after: int) -> Damage:
    """Pass on some pieces, then nothing more; -1 to send not even the head."""

    async def relay(answer: Answer, wire: Wire) -> None:
        if after >= 0:
            await _pass_first(answer, wire, after)
        await wire.wait_closed()

    return Damage("silence instead of an answer" if after < 0 else f"silence after {after}", relay)


def delay(seconds: float) -> Damage:
    """Delay the head of the answer."""

    async def relay(answer: Answer, wire: Wire) -> None:
        await wire.sleep(seconds)
        await PASS.relay(answer, wire)

    return Damage(f"a head that comes after {seconds:g} s", relay)


def drip(count: int) -> Damage:
    """Send the first `count` bytes one by one, and the rest in pieces of a few bytes."""

    async def relay(answer: Answer, wire: Wire) -> None:
        await _begin(answer, wire)
        left = count
        while (piece := await answer.next()) is not None:
            for part in _crumbs(piece, left):
                await wire.chunk(part)
                await asyncio.sleep(0)
            left -= min(left, len(piece))
        await wire.end()

    return Damage("a slow drip of bytes", relay)


def _crumbs(piece: bytes, left: int) -> Iterator[bytes]:
    single = min(left, len(piece))
    yield from (piece[i : i + 1] for i in range(single))
    yield from (piece[i : i + 7] for i in range(single, len(piece), 7))


def double(at: int) -> Damage:
    """Send one piece twice."""

    async def relay(answer: Answer, wire: Wire) -> None:
        piece = await _pass_first(answer, wire, at)
        if piece is not None:
            await wire.chunk(piece * 2)
        await _pass_rest(answer, wire)

    return Damage(f"piece {at} twice", relay)


def swap(at: int) -> Damage:
    """Send one piece after the piece that follows it."""

    async def relay(answer: Answer, wire: Wire) -> None:
        first = await _pass_first(answer, wire, at) or b""
        await wire.chunk((await answer.next() or b"") + first)
        await _pass_rest(answer, wire)

    return Damage(f"piece {at} after the next", relay)


def report_error(at: int, event: bytes | None = None, *, rest: bool) -> Damage:
    """Send an error event after some pieces.

    Args:
        at: The number of pieces before it.
        event: The event; by default the one that fits the kind of the stream.
        rest: Send the rest of the answer, too. Without it the body ends as if it were complete.
    """

    async def relay(answer: Answer, wire: Wire) -> None:
        piece = await _pass_first(answer, wire, at)
        await wire.chunk(event or error_event(answer))
        if not rest:
            await wire.end()
            return
        await wire.chunk(piece or b"")
        await _pass_rest(answer, wire)

    return Damage(f"an error event after {at} pieces{', then the rest' if rest else ''}", relay)


def error_event(answer: Answer) -> bytes:
    """Return an error as the answer's kind of stream has it; empty where none is known."""
    if answer.border == b"\n\n":
        return b"event: error\ndata: %s\n\n" % json.dumps(EVENT_ERROR).encode()
    return b"%s\n" % json.dumps(LINE_ERROR).encode() if answer.border else b""


def refuse(status: int, *, html: bool = False) -> Damage:
    """Send another answer instead: an error as most servers write it, or a page of HTML."""
    error = {"type": "error", "message": "no", "code": status}
    body = json.dumps({"error": error}).encode()
    page = b"<!DOCTYPE html><html><body>It works</body></html>"

    async def relay(answer: Answer, wire: Wire) -> None:
        kind = "text/html" if html else "application/json"
        await wire.reply(page if html else body, status, {"Content-Type": kind})

    return Damage(f"status {status} {'with HTML' if html else 'with an error'}", relay)


def flood(at: int) -> Damage:
    """Repeat one piece without end, as fast as the client reads."""

    async def relay(answer: Answer, wire: Wire) -> None:
        piece = await _pass_first(answer, wire, at)
        while piece:
            await wire.chunk(piece * 16)

    return Damage("a flood", relay)


class FaultProxy(ScriptServer):
    """Passes requests on to a server, and damages the answers to POST requests, while entered.

        async with FaultProxy("http://127.0.0.1:11434", cut(3, "end")) as proxy:
            adapter = registry.get("my-adapter", base_url=proxy.base_url)

    Args:
        upstream: The server's base URL, http or https.
        damage: The damage to answers.
        path: Damage only answers to requests for this path; None for all POST requests.

    Attributes:
        answers: The answers to POST requests, in order, with the pieces that were read.
    """

    keep_alive = False

    def __init__(self, upstream: str, damage: Damage = PASS, *, path: str | None = None) -> None:
        super().__init__(self._pass)
        self.damage = damage
        self.path = path
        self.answers: list[Answer] = []
        self._upstream = urlsplit(upstream)

    @property
    def base_url(self) -> str:
        """Return the URL to give to the client in place of the server's."""
        return f"{super().base_url}{self._upstream.path}"

    async def _pass(self, request: Request, wire: Wire) -> None:
        """Relay one request, until the client or the answer is gone."""
        relaying = asyncio.ensure_future(self._relay(request, wire))
        gone = asyncio.ensure_future(wire.connection.gone.wait())
        try:
            await asyncio.wait({relaying, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (relaying, gone):
                task.cancel()
            await asyncio.wait({relaying, gone})
        if not relaying.cancelled():
            await relaying

    async def _relay(self, request: Request, wire: Wire) -> None:
        hurt = request.method == "POST" and self.path in (None, request.path)
        try:
            async with self._ask(request) as answer:
                if request.method == "POST":
                    self.answers.append(answer)
                await (self.damage if hurt else PASS).relay(answer, wire)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            await wire.close()  # the server behind is gone, or does not speak HTTP

    @asynccontextmanager
    async def _ask(self, request: Request) -> AsyncIterator[Answer]:
        url = self._upstream
        secure = url.scheme == "https"
        port = url.port or (443 if secure else 80)
        tls = ssl.create_default_context() if secure else None
        reader, writer = await asyncio.open_connection(url.hostname, port, ssl=tls)
        try:
            writer.write(_request_head(request, url.netloc.rpartition("@")[2]) + request.body)
            await writer.drain()
            yield await _read_head(reader, head=request.method == "HEAD")
        finally:
            writer.close()


def _request_head(request: Request, host: str) -> bytes:
    """Return the head of the request to the server: one request, one connection, no compression."""
    dropped = {*_HOP, "host", "accept-encoding", "expect"}
    lines = [f"{request.method} {request.target} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [f"{name}: {text}" for name, text in request.headers.items() if name not in dropped]
    if request.body or request.method == "POST":
        lines.append(f"Content-Length: {len(request.body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _read_head(reader: asyncio.StreamReader, *, head: bool) -> Answer:
    """Read a response's head, past informational ones."""
    status, rest = 100, list[str]()
    while 100 <= status < 200:
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = text.rstrip("\r\n").split("\r\n")
        status = int(line.split(" ")[1])
    pairs = (item.partition(":") for item in rest)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    framing: int | str = "close"
    if "chunked" in headers.get("transfer-encoding", "").lower():
        framing = "chunked"
    elif "content-length" in headers:
        framing = int(headers["content-length"])
    if head or status in (204, 304):
        framing = 0
    return Answer(status, {k: v for k, v in headers.items() if k not in _HOP}, reader, framing)
