"""One HTTP/1.1 connection: asyncio moves the bytes, llhttp (httptools) parses them.

The reader takes what has arrived without a task switch. While it does not read, nothing is read
from the socket either (backpressure). Closing never waits for the peer. Every buffer is bounded.
"""

import asyncio
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from typing import cast

import httptools
import httpx

from adapters.http_util.transport.wakeup import Wakeup

MAX_HEAD_BYTES = 64 << 10
"""Maximum size of the status line and headers, or of trailers. Servers usually send under 1 KiB."""

MAX_UNREAD_BYTES = 256 << 10
"""Maximum size of unread body, about 1,000 tokens. Above it the socket is not read."""

READ_BUFFER_BYTES = 64 << 10
"""The maximum size of one read. Reads do not overlap, so all connections of a loop share it."""


class Connection(asyncio.BufferedProtocol):
    """A connection for one request at a time: `send`, then `read` until it returns b"".

    Args:
        buffer: Where reads go; may be shared with other connections of the same loop.
        on_closed: Called once, when the connection is closed.
    """

    def __init__(
        self,
        buffer: memoryview,
        on_closed: "Callable[[Connection], None]",
    ) -> None:
        self._buffer = buffer
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._below: asyncio.Transport | None = None
        self._has_arrived: Callable[[], bool] | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._wakeup = Wakeup(self._loop)
        self._awaits_head = False
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._body: list[bytes] = []  # pieces as llhttp found them
        self._paused = False
        self.socket: socket.socket | None = None
        self.exchanges = 0
        self.idle_since = 0.0
        self.idle_limit_s: float | None = None
        self._reset(bodiless=False)

    def _reset(self, bodiless: bool) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.received = False  # any byte of the answer
        self._early = False  # the answer began before the request was sent
        self._bodiless = bodiless
        self._unread_bytes = 0
        self._plain_bytes = 0  # received since the last piece of body: head, framing, trailers
        self._head_done = False
        self._until_close = False
        self._complete = False
        self._keep_alive = False
        self._error: Exception | None = None
        self._body.clear()

    # The user's side

    async def send(self, request: bytes, *, bodiless: bool = False) -> None:
        """Send a request and wait for the head of its answer.

        Args:
            request: The request line, headers and body.
            bodiless: The answer has no body, despite its headers (HEAD).

        Raises:
            httpx.ReadError: If the connection broke. If `received` is False, no byte of an
                answer to this request came.
            httpx.RemoteProtocolError: If the answer is not HTTP.

        Cancellation:
            The connection must be closed: its answer may still come.
        """
        assert self._transport is not None
        self._reset(bodiless)
        self.exchanges += 1
        if self._gone.done():
            raise httpx.ReadError("the server closed the connection")
        # llhttp calls this with each piece; most pieces are one token.
        self.on_body = _ignore if bodiless else self._body.append
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)
        self._awaits_head = True
        try:
            while not self._head_done:
                if self._error is not None:
                    raise copy(self._error)  # its traceback holds this connection
                await self._wakeup
        finally:
            self._awaits_head = False

    async def read(self) -> bytes:
        """Return the next piece of the body; b"" when it is complete.

        Raises:
            httpx.ReadError: If the connection ended before the body did.
            httpx.RemoteProtocolError: If the body is not valid HTTP.
        """
        while not self._body:
            if self._error is not None:
                raise copy(self._error)
            if self._complete:
                return b""
            await self._wakeup
        body = self._body
        data = body[0] if len(body) == 1 else b"".join(body)
        body.clear()
        self._unread_bytes = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    @property
    def at_end(self) -> bool:
        """Return whether the body is complete and has been read."""
        return self._complete and not self._body and self._error is None

    @property
    def reusable(self) -> bool:
        """Return whether the exchange ended in a way that allows another one."""
        return (
            self._complete
            and self._keep_alive
            and self._error is None
            and not self._gone.done()
            and self._transport is not None
            and not self._transport.is_closing()
            and not self._has_unsent()  # else the server left the request unread
        )

    @property
    def silent(self) -> bool:
        """Return whether the kernel holds no bytes that the event loop has not read yet.

        An idle server has nothing to send. Unexpected data, such as a second answer or the end of
        the connection, must not be taken for the answer to the next request.
        """
        return self._has_arrived is None or not self._has_arrived()

    def rest(self) -> None:
        """Prepare the connection for idling."""
        self._parser = None
        self._body.clear()
        self.idle_since = self._loop.time()
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once, without a TLS close_notify."""
        if self._transport is not None:
            self._transport.abort()

    async def aclose(self) -> None:
        """Close at once and wait until the socket is closed: one iteration of the event loop."""
        self.abort()
        if self._transport is not None and not self._gone.done():
            await asyncio.shield(self._gone)

    def abandon(self) -> None:
        """Close at once and count as closed, because connecting was interrupted.

        uvloop never reports the end of a connection whose task was cancelled while connecting.
        """
        self.abort()
        self.connection_lost(None)

    def discard(self) -> None:
        """Close the socket although the event loop is closed."""
        with suppress(RuntimeError):  # asyncio cannot schedule the end
            self.abort()
        if self.socket is not None:
            self.socket.close()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: uvloop's transports are not subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
        sock = transport.get_extra_info("socket")
        self._has_arrived = None if sock is None else _look_at(sock)
        if self._gone.done():  # abandoned
            self.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        parser = self._parser
        if parser is None:  # an idle server has nothing to send
            self.abort()
            return
        if not self.received:
            self.received = True
            self._early = self._has_unsent()
        pieces = len(self._body)
        try:
            parser.feed_data(self._buffer[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            if self._complete:
                self._keep_alive = False  # bytes after the answer
            else:
                self._fail(httpx.RemoteProtocolError(f"{exc}"))
        if len(self._body) > pieces:
            self._note_body(nbytes)
        elif not self._complete:
            self._note_plain(nbytes)
        self._wake_reader()

    def _has_unsent(self) -> bool:
        """Return whether a part of the request waits to be sent."""
        assert self._transport is not None
        return self._transport.get_write_buffer_size() > 0 or (
            # asyncio's TLS transport does not count what its own transport holds.
            self._below is not None and self._below.get_write_buffer_size() > 0
        )

    def _note_body(self, nbytes: int) -> None:
        self._plain_bytes = 0
        self._unread_bytes += nbytes
        if self._unread_bytes > MAX_UNREAD_BYTES and not self._paused:
            assert self._transport is not None
            self._paused = True
            self._transport.pause_reading()

    def _note_plain(self, nbytes: int) -> None:
        self._plain_bytes += nbytes
        if self._plain_bytes > MAX_HEAD_BYTES:
            self._fail(
                httpx.RemoteProtocolError(
                    f"more than {MAX_HEAD_BYTES} bytes of headers or chunk framing"
                )
            )

    def eof_received(self) -> None:
        self._end_of_bytes(None)
        self._wake_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_of_bytes(exc)
        self._parser = None
        if not self._gone.done():
            self._gone.set_result(None)
            self._on_closed(self)
        self._wake_reader()

    def _end_of_bytes(self, exc: Exception | None) -> None:
        if not self._complete and self._error is None:
            if self._head_done and exc is None and self._until_close:
                self._complete = True
            else:
                why = f": {exc}" if exc else ""
                self._fail(httpx.ReadError(f"the server closed the connection{why}"))
        self._keep_alive = False

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self.abort()

    def _wake_reader(self) -> None:
        """Resume the reader if there is something for it.

        This must be the last step of each callback from asyncio, because the reader may use this
        connection before it returns.
        """
        found = self._head_done if self._awaits_head else self._body or self._complete
        if found or self._error is not None:
            self._wakeup.wake()

    # llhttp's side

    def on_message_begin(self) -> None:
        if self._complete:  # the first one counts; a second one ends the connection
            raise httptools.HttpParserError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done:  # trailers are counted and ignored
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        if self._complete or self._error is not None:
            return
        status = self._parser.get_status_code()
        sized, codings = False, []
        for name, value in self.headers:
            lowered = name.lower()
            if lowered == b"content-length":
                sized = True
            elif lowered == b"transfer-encoding":
                codings.append(value.lower())
        if status < 200:  # an interim answer: the real one follows
            # llhttp would read a body for some. Source: RFC 9110, 15.2 (no body) and 7.8 (upgrade).
            if status < 100 or status == 101 or sized or codings:
                self._fail(httpx.RemoteProtocolError(f"an invalid interim answer, {status}"))
            self.headers.clear()
            return
        if codings not in ([], [b"chunked"], [b"identity"]):  # llhttp would pass the coded bytes on
            self._fail(httpx.RemoteProtocolError("a transfer coding that was not requested"))
            return
        if self._early and not self._accepts_early(status):
            return
        self.status = status
        self._head_done = True
        self._until_close = not sized and codings != [b"chunked"]  # RFC 9112, 6.3
        if self._bodiless:
            self._complete = True

    def _accepts_early(self, status: int) -> bool:
        """Return whether an answer may begin before its request was sent.

        A new connection may refuse the request early. Anything else does not belong to it.
        """
        if self.exchanges > 1:
            self.received = False  # it answers an earlier request, and this one can be sent again
            self._fail(httpx.ReadError("an answer came before the request was sent"))
        elif status < 400:
            self._fail(httpx.RemoteProtocolError("an answer came before the request was sent"))
        return self._error is None

    def on_message_complete(self) -> None:
        assert self._parser is not None
        if self._head_done and not self._complete:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()


def _ignore(data: bytes) -> None:
    """Drop a body that the answer must not have."""


def _look_at(sock: socket.socket) -> Callable[[], bool]:
    """Return a function that returns whether the kernel holds unread bytes or an EOF."""
    if not hasattr(select, "poll"):  # Windows
        return lambda: bool(select.select([sock], [], [], 0)[0])
    poller = select.poll()
    poller.register(sock.fileno(), select.POLLIN)
    return lambda: bool(poller.poll(0))
