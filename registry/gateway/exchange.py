"""One request on a client's connection, with its answer written directly to the socket.

An answer through ASGI takes two calls and a dict for each token. If the server is ours and no
middleware is in between, the endpoints use the connection itself.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from registry.gateway.access import Access
from registry.gateway.reply import STREAM_HEADERS, AsgiReply, Reply, Send
from registry.serving.openai_api.answers import KEEP_ALIVE
from registry.serving.openai_api.errors import Headers

EXTENSION = "worker_adapters.exchange"
"""The key of a scope's extension with the Exchange; our own server has it."""


LINGER_S = 5.0
"""How long the rest of a body is read and discarded after its answer. A client that is still
sending when the connection closes gets a reset, and loses the answer."""


class Connection(HttpToolsProtocol):
    """A client's connection whose end is reported to the request that runs on it.

    Attributes:
        watched: The request, and what is called if the client leaves.
        lingers: Whether the answer is sent, and everything that still comes is dropped.
    """

    watched: tuple[RequestResponseCycle, Callable[[], None]] | None = None
    lingers = False
    _end_timer: asyncio.TimerHandle | None = None

    def linger(self) -> None:
        """Send no more, and close when the client does, or after LINGER_S."""
        if self.transport.is_closing():
            return
        self.lingers = True
        self.transport.write_eof()
        self.flow.resume_reading()
        self._end_timer = self.loop.call_later(LINGER_S, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._end_timer is not None:
            self._end_timer.cancel()
        if self.watched is not None:
            cycle, lost = self.watched
            cycle.disconnected = True  # uvicorn notes it for the last request of a pipeline only
            lost()


class Exchange:
    """A request on a connection of our own server.

    Args:
        connection: The connection.

    Attributes:
        cycle: uvicorn's state of the request.
    """

    __slots__ = ("_connection", "cycle")

    cycle: RequestResponseCycle

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def take_body(self) -> bytearray | None:
        """Return the whole body if all of it has arrived."""
        cycle = self.cycle
        if cycle.more_body or cycle.disconnected:
            return None
        body, cycle.body = cycle.body, bytearray()
        return body

    def reply(self, send: Send, access: Access, headers: Callable[[], Headers]) -> Reply:
        """Return the answer to the request; the arguments are those of AsgiReply.

        It goes through `send` only if middleware has replaced that.
        """
        if getattr(send, "__self__", None) is self.cycle:
            return WireReply(self._connection, self.cycle, access, headers)
        return AsgiReply(send, access, headers)

    def abort(self) -> None:
        """Break the connection at once."""
        self._connection.transport.abort()

    def watch(self, lost: Callable[[], None]) -> None:
        """Call `lost` if the client leaves, or has left already. One watcher at a time."""
        connection = self._connection
        connection.watched = (self.cycle, lost)
        connection.flow.resume_reading()  # a large body has paused it: the end would not be seen
        if self.cycle.disconnected:
            connection.loop.call_soon(lost)

    def unwatch(self) -> None:
        """Stop watching."""
        watched = self._connection.watched
        if watched is not None and watched[0] is self.cycle:
            self._connection.watched = None


class WireReply(Reply):
    """An answer that is written to the connection without ASGI.

    Args:
        connection: The connection.
        cycle: uvicorn's state of the request, which is kept as its own `send` keeps it.
        access: Gets the status and the size of the answer.
        headers: Returns the headers that every answer to this request has.
    """

    def __init__(
        self,
        connection: Connection,
        cycle: RequestResponseCycle,
        access: Access,
        headers: Callable[[], Headers],
    ) -> None:
        super().__init__(access, headers)
        self._cycle = cycle
        self._flow = connection.flow
        self._write = connection.transport.write
        self._close = connection.transport.close
        self._linger = connection.linger
        self._head = b""
        self._is_chunked = False

    def take_head(self, status: int, headers: Headers, length: int | None) -> None:
        cycle = self._cycle
        # HTTP/1.0 has no chunks: the end of the connection is the end of the body.
        self._is_chunked = length is None and cycle.scope["http_version"] != "1.0"
        if self._is_chunked:
            headers.append((b"transfer-encoding", b"chunked"))
        if (b"connection", b"close") in headers:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            headers.append((b"connection", b"close"))
        lines = [b"%b: %b\r\n" % pair for pair in (*cycle.default_headers, *headers)]
        head = b"".join([STATUS_LINE[status], *lines, b"\r\n"])
        if head.count(b"\n") != len(lines) + 2:
            raise ValueError("a header has a line break in it")
        self._head = head
        cycle.response_started = True
        cycle.waiting_for_100_continue = False

    def write(self, body: bytes, *, last: bool = False) -> Coroutine[Any, Any, None] | None:
        cycle, flow = self._cycle, self._flow
        if cycle.disconnected:
            return None
        # Called in place, an attribute would be looked up as if it were a method.
        now, write = self.now, self._write
        self.idle_since = now()
        self.access.sent_bytes += len(body)
        if self._is_chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body)
        if self._head or last:
            write(b"%b%b%b" % (self._head, body, self._tail(last)))
            self._head = b""
            if last:
                self._end()
        else:
            write(body)
        return self._room() if flow.write_paused else None

    def beat(self) -> None:
        if not self.started:
            self.start(200, STREAM_HEADERS)
        if (room := self.write(KEEP_ALIVE)) is not None:
            room.close()

    def _tail(self, last: bool) -> bytes:
        return b"0\r\n\r\n" if last and self._is_chunked else b""

    def _end(self) -> None:
        self.ended = True
        cycle = self._cycle
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            (self._linger if cycle.more_body else self._close)()
        cycle.on_response()

    async def _room(self) -> None:
        """Wait while the client does not read."""
        self.sending_since = self.now()
        try:
            await self._flow.drain()
        finally:
            self.sending_since = None
