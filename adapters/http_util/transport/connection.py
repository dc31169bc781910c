"""One HTTP/1.1 connection: asyncio moves the bytes, llhttp (httptools) understands them.

The reader takes what has arrived without a task switch, reading from the socket stops while it
has not (backpressure), and closing never waits for the peer. Every buffer is bounded.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import cast

import httptools
import httpx

from adapters.http_util.transport.wakeup import Wakeup

MAX_HEAD_BYTES = 64 << 10
"""Status line and headers, or trailers. Common servers send below 1 KiB and refuse above 64."""

MAX_UNREAD_BYTES = 256 << 10
"""Body that waits for its reader. Above it the socket is not read: about 1,000 tokens."""

READ_BUFFER_BYTES = 64 << 10
"""Most bytes one read takes; shared by all connections of a transport, as reads do not overlap."""


class Connection(asyncio.BufferedProtocol):
    """One request at a time: `send`, then `read` until it gives b"", then `release` or `abort`.

    Args:
        buffer: Where reads go; may be shared with other connections of the same loop.
        on_closed: Called once, when the connection is gone.
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
        self._parser: httptools.HttpResponseParser | None = None
        self._wakeup = Wakeup(self._loop)
        self._awaits_head = False
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._body: list[bytes] = []  # whole pieces, as llhttp found them
        self._paused = False
        self.exchanges = 0
        self.idle_since = 0.0
        self.idle_limit_s: float | None = None
        self._reset(bodiless=False)

    def _reset(self, bodiless: bool) -> None:
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.received = False  # any byte of the answer
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
            request: Everything: request line, headers and body.
            bodiless: The answer has no body, whatever its headers say (HEAD).

        Raises:
            httpx.ReadError: The connection broke. If `received` is False, not one byte came back.
            httpx.RemoteProtocolError: The answer is not HTTP.
        """
        assert self._transport is not None
        self._reset(bodiless)
        self.exchanges += 1
        if self._gone.done():
            raise httpx.ReadError("the server closed the connection")
        # llhttp's callback for each piece, looked up by the parser; most pieces are one token.
        self.on_body = _ignore if bodiless else self._body.append
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)
        self._awaits_head = True
        try:
            while not self._head_done:
                if self._error is not None:
                    raise self._error
                await self._wakeup
        finally:
            self._awaits_head = False

    async def read(self) -> bytes:
        """The next piece of the body; b"" when it is complete.

        Raises:
            httpx.ReadError: The connection ended before the body did.
            httpx.RemoteProtocolError: The body is not valid HTTP.
        """
        while not self._body:
            if self._error is not None:
                raise self._error
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
        """Whether the body is complete and has been read."""
        return self._complete and not self._body and self._error is None

    @property
    def reusable(self) -> bool:
        """Whether the exchange ended so that another may follow."""
        return (
            self._complete
            and self._keep_alive
            and self._error is None
            and not self._gone.done()
            and self._transport is not None
            and not self._transport.is_closing()
            and self._transport.get_write_buffer_size() == 0  # it answered without reading it all
        )

    def rest(self) -> None:
        """Get ready to lie idle."""
        self._parser = None
        self._body.clear()
        self.idle_since = monotonic()
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once, without a word to the peer."""
        if self._transport is not None:
            self._transport.abort()

    async def aclose(self) -> None:
        """Close at once and wait until the socket is closed: one turn of the event loop."""
        self.abort()
        if self._transport is not None and not self._gone.done():
            await asyncio.shield(self._gone)

    def abandon(self) -> None:
        """Close at once and count as gone: the event loop was interrupted while it connected.

        Nobody may say so later: of a connection that was made before the task that asked for it
        was cancelled, uvloop never reports the end.
        """
        self.abort()
        self.connection_lost(None)

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        if self._gone.done():  # abandoned
            self.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        parser = self._parser
        if parser is None:  # an idle server has nothing to say
            self.abort()
            return
        self.received = True
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
        """Let the reader go on if there is something for it. Last in each callback of asyncio's:
        the reader may do anything with this connection before this returns."""
        found = self._head_done if self._awaits_head else self._body or self._complete
        if found or self._error is not None:
            self._wakeup.wake()

    # llhttp's side

    def on_message_begin(self) -> None:
        if self._complete:  # the first one stands, and nothing is read any more
            raise httptools.HttpParserError("a second answer to one request")

    def on_status(self, reason: bytes) -> None:
        if not self._head_done:
            self.reason += reason  # it may come in pieces

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done:  # trailers are counted and left aside
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        if self._complete or self._error is not None:
            return
        status = self._parser.get_status_code()
        sized = any(name.lower() == b"content-length" for name, _ in self.headers)
        codings = [v.lower() for k, v in self.headers if k.lower() == b"transfer-encoding"]
        if status < 200:  # an interim answer: the real one follows
            # llhttp would read a body of some. Source: RFC 9110, 15.2 (no body) and 7.8 (upgrade).
            if status < 100 or status == 101 or sized or codings:
                self._fail(httpx.RemoteProtocolError(f"a false interim answer, status {status}"))
            self.headers.clear()
            self.reason = b""
            return
        if codings not in ([], [b"chunked"], [b"identity"]):  # llhttp would pass the coded bytes on
            self._fail(httpx.RemoteProtocolError("a transfer coding nobody asked for"))
            return
        self.status = status
        self._head_done = True
        self._until_close = not sized and codings != [b"chunked"]  # RFC 9112, 6.3
        if self._bodiless:
            self._complete = True

    def on_message_complete(self) -> None:
        assert self._parser is not None
        if self._head_done and not self._complete:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()


def _ignore(data: bytes) -> None:
    """A body that an answer may not have."""
