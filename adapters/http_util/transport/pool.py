"""The default transport: httpx's interface over our own HTTP/1.1 connections and pool.

Why not httpx's own: docs/explanation/decisions/0001-own-transport.md.
"""

import asyncio
import re
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from time import monotonic

import httpx

from adapters.http_util.transport.connection import READ_BUFFER_BYTES, Connection

MAX_CONNECTIONS = 1000
"""Open connections of one transport, unless the config says otherwise: below the usual limit of
1,024 open files."""

IDLE_S = 60.0
"""How long an unused connection is kept, unless the server announces less."""

Origin = tuple[str, str, int]
"""Scheme, host and port."""

RawHeaders = list[tuple[bytes, bytes]]
Timeouts = Mapping[str, float | None]
"""httpx's: seconds to "connect", to wait for the "pool", to "read"; None or absent for no limit."""

_USUAL_NAMES = frozenset(
    {
        b"Accept",
        b"Accept-Encoding",
        b"Authorization",
        b"Connection",
        b"Content-Length",
        b"Content-Type",
        b"Host",
        b"User-Agent",
        b"X-Correlation-Id",
    }
)
_LENGTH_NAMES = (b"content-length", b"transfer-encoding")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2


class StreamTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 over TCP or TLS, for many long streams at once.

    Cancelling any request at any point gives its connection back or closes it: a connection
    is counted as long as its object is in `_open`, and it leaves that when it could not be made
    or when asyncio reports the socket gone, whatever the task that used it went through. To be
    used in one event loop.

    Args:
        ssl_context: Makes the TLS configuration when the first https request needs it.
        max_connections: Open connections at most; further requests wait for one, first come
            first served, up to the request's pool timeout.
        idle_s: Seconds an unused connection is kept.
    """

    def __init__(
        self,
        *,
        ssl_context: Callable[[], ssl.SSLContext],
        max_connections: int = MAX_CONNECTIONS,
        idle_s: float = IDLE_S,
    ) -> None:
        self._ssl_context = ssl_context
        self._max_connections = max_connections
        self._idle_s = idle_s
        self._buffer = memoryview(bytearray(READ_BUFFER_BYTES))
        self._open: set[Connection] = set()
        self._idle: dict[Origin, deque[Connection]] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._promised = 0  # room for waiters that were woken and have not taken it yet
        self._closed = False

    @property
    def open_connections(self) -> int:
        """Connections that are open or being opened."""
        return len(self._open)

    @property
    def idle_connections(self) -> int:
        """Open connections that no request uses."""
        return sum(len(connections) for connections in self._idle.values())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request; the answer's body streams.

        Raises:
            httpx.ConnectError, ConnectTimeout, PoolTimeout, ReadError, ReadTimeout,
            RemoteProtocolError, LocalProtocolError, UnsupportedProtocol.
        """
        content = await request.aread()
        method = request.method.encode("ascii", "replace")
        wire = serialize(method, request.url.raw_path, request.headers.raw, content)
        timeouts: Timeouts = request.extensions.get("timeout", {})
        body = await self.exchange(
            origin_of(request.url), wire, timeouts, bodiless=method == b"HEAD"
        )
        if body.resent:
            request.extensions["resent"] = True
        return httpx.Response(
            body.status,
            headers=body.headers,
            stream=body,
            # Without the server's reason phrase: httpx logs it, and it could be anything.
            extensions={"http_version": b"HTTP/1.1", "body_stream": body},
        )

    async def exchange(
        self, origin: Origin, wire: bytes, timeouts: Timeouts, *, bodiless: bool = False
    ) -> "BodyStream":
        """Send the bytes of a request; an answer with its head read, and its body to come.

        Args:
            origin: Where to.
            wire: What `serialize` gave.
            timeouts: Limits in seconds.
            bodiless: The answer has no body, whatever its headers say (HEAD).

        Raises:
            httpx.TransportError: As handle_async_request.
        """
        connection = await self._acquire(origin, timeouts)
        resent = False
        try:
            await self._send(connection, wire, timeouts, bodiless)
        except httpx.ReadError:
            await connection.aclose()
            if connection.exchanges == 1 or connection.received:
                raise
            # The server closed an idle connection while our request was on its way.
            resent = True
            connection = await self._acquire(origin, timeouts, fresh=True)
            try:
                await self._send(connection, wire, timeouts, bodiless)
            except BaseException:
                await connection.aclose()
                raise
        except BaseException:
            await connection.aclose()
            raise
        release = partial(self._release, origin, connection)
        return BodyStream(connection, release, timeouts.get("read"), resent)

    async def _send(
        self, connection: Connection, wire: bytes, timeouts: Timeouts, bodiless: bool
    ) -> None:
        limit_s = timeouts.get("read")
        if limit_s is None:
            await connection.send(wire, bodiless=bodiless)
            return
        try:
            async with asyncio.timeout(limit_s):
                await connection.send(wire, bodiless=bodiless)
        except TimeoutError as exc:
            raise httpx.ReadTimeout("no answer in time") from exc

    # The pool

    async def _acquire(
        self, origin: Origin, timeouts: Timeouts, *, fresh: bool = False
    ) -> Connection:
        self._check_open()
        if not self._has_room():  # while others wait there is none: `_wake` promised it to them
            try:
                async with asyncio.timeout(timeouts.get("pool")):
                    await self._wait_for_room()
            except TimeoutError as exc:
                raise httpx.PoolTimeout("no connection became free in time") from exc
            self._check_open()
        connection = None if fresh else self._take_idle(origin)
        if connection is not None:
            return connection
        if self.open_connections >= self._max_connections:
            self._evict_idle()
        return await self._connect(origin, timeouts.get("connect"))

    def _check_open(self) -> None:
        if self._closed:
            raise httpx.ConnectError("the transport is closed")

    def _has_room(self) -> bool:
        in_use = self.open_connections - self.idle_connections
        return in_use + self._promised < self._max_connections

    def _take_idle(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if self._may_rest(connection):
                return connection
            self._drop(connection)
        return None

    def _may_rest(self, connection: Connection) -> bool:
        limit_s = self._idle_s if connection.idle_limit_s is None else connection.idle_limit_s
        return connection.reusable and monotonic() - connection.idle_since < limit_s

    def _evict_idle(self) -> None:
        idle = next(filter(None, self._idle.values()))  # there is one, or there were no room
        self._drop(idle.popleft())

    def _drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        connection.abort()

    async def _wait_for_room(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.cancelled():
                with suppress(ValueError):  # `_wake` may have passed over it
                    self._waiters.remove(waiter)
            else:
                self._promised -= 1
                self._wake()  # the room that was meant for us goes to the next
            raise
        self._promised -= 1

    def _wake(self) -> None:
        """Promise all room there is, first come first served. Who comes later waits behind."""
        while self._waiters and (self._closed or self._has_room()):
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._promised += 1
                waiter.set_result(None)

    async def _connect(self, origin: Origin, timeout_s: float | None) -> Connection:
        connection = Connection(self._buffer, self._on_closed)
        self._open.add(connection)
        try:
            await self._open_connection(connection, origin, timeout_s)
            self._check_open()
        except BaseException:
            connection.abandon()  # in TLS, asyncio would wait for the peer's goodbye
            raise
        return connection

    async def _open_connection(
        self, connection: Connection, origin: Origin, timeout_s: float | None
    ) -> None:
        scheme, host, port = origin
        try:
            context = self._ssl_context() if scheme == "https" else None
        except OSError as exc:
            raise httpx.LocalProtocolError(f"the files for TLS cannot be used: {exc}") from exc
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection,
                    host,
                    port,
                    ssl=context,
                    server_hostname=host if context is not None else None,
                )
        except TimeoutError as exc:
            raise httpx.ConnectTimeout(f"no connection to {host}:{port} in {timeout_s} s") from exc
        # ssl.SSLError is an OSError, and so is a failed look-up; ValueError: no possible host name;
        # OverflowError: no possible port.
        except (OSError, ValueError, OverflowError) as exc:
            raise httpx.ConnectError(f"{host}:{port}: {_reason(exc)}") from exc

    def _on_closed(self, connection: Connection) -> None:
        self._open.discard(connection)
        for idle in self._idle.values():
            if connection in idle:
                idle.remove(connection)
        self._wake()

    async def _release(self, origin: Origin, connection: Connection) -> None:
        if not connection.reusable or self._closed:
            await connection.aclose()
            return
        connection.idle_limit_s = _announced_idle_s(connection.headers)
        connection.rest()
        idle = self._idle.setdefault(origin, deque())
        idle.append(connection)
        while idle and not self._may_rest(idle[0]):
            self._drop(idle.popleft())
        self._wake()

    async def aclose(self) -> None:
        """Close every connection."""
        self._closed = True
        self._idle.clear()
        self._wake()
        for connection in list(self._open):
            connection.abort()
        for connection in list(self._open):
            await connection.aclose()


class BodyStream(httpx.AsyncByteStream):
    """A body as it arrives.

    Iterate over it, or call `read` for one piece at a time. `aclose` gives the connection back
    if the body was complete, and closes it otherwise.

    Args:
        connection: With the head of its answer read.
        release: Takes the connection back.
        read_timeout_s: Seconds for each piece; None for no limit.
        resent: Whether the request was sent twice.
    """

    def __init__(
        self,
        connection: Connection,
        release: Callable[[], Awaitable[None]],
        read_timeout_s: float | None,
        resent: bool,
    ) -> None:
        self.status = connection.status
        self.headers = connection.headers
        self.resent = resent
        self._connection = connection
        self._release = release
        self._read_timeout_s = read_timeout_s
        self._released = False

    def read(self) -> Awaitable[bytes]:
        """The next piece; b"" at the end. Raises as `Connection.read`, and httpx.ReadTimeout."""
        if self._released:  # the connection may serve another request by now
            raise httpx.StreamClosed
        if self._read_timeout_s is None:
            return self._connection.read()
        return self._read_in_time(self._read_timeout_s)

    def ended(self) -> bool:
        """Whether `read` would say at once that the body is over."""
        return not self._released and self._connection.at_end

    async def _read_in_time(self, limit_s: float) -> bytes:
        try:
            async with asyncio.timeout(limit_s):
                return await self._connection.read()
        except TimeoutError as exc:
            raise httpx.ReadTimeout("the server went silent") from exc

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.read():
            yield piece

    async def aclose(self) -> None:
        if not self._released:
            self._released = True
            await self._release()


def origin_of(url: httpx.URL) -> Origin:
    """Where a request for `url` goes.

    Raises:
        httpx.UnsupportedProtocol: Not http or https.
    """
    if url.scheme not in ("http", "https"):
        raise httpx.UnsupportedProtocol(
            f"the URL must begin with http:// or https://, not {url.scheme}"
        )
    port = (443 if url.scheme == "https" else 80) if url.port is None else url.port
    return url.scheme, url.raw_host.decode("ascii"), port


def serialize(method: bytes, path: bytes, headers: RawHeaders, content: bytes) -> bytes:
    """The bytes of a request. Content-Length is added where there is content.

    Raises:
        httpx.LocalProtocolError: The method or a header is not one.
    """
    # The content is known whole, and so is its length.
    sized = [line for line in headers if line[0].lower() not in _LENGTH_NAMES]
    end = [(b"Content-Length", b"%d" % len(content))] if content or sized != headers else []
    return serialize_head(method, path, sized) + header_lines(end) + b"\r\n" + content


def serialize_head(method: bytes, path: bytes, headers: RawHeaders) -> bytes:
    """The first line of a request and lines of its head; more of them may follow.

    Raises:
        httpx.LocalProtocolError: The method or a header is not one.
    """
    if not _TOKEN.fullmatch(method):
        raise httpx.LocalProtocolError(f"{method.decode('ascii')!r} is no method")
    return b"%s %s HTTP/1.1\r\n" % (method, path) + header_lines(headers)


def header_lines(headers: RawHeaders) -> bytes:
    """The headers as they are sent.

    Raises:
        httpx.LocalProtocolError: A name or value is none.
    """
    parts: list[bytes] = []
    for name, value in headers:
        if name not in _USUAL_NAMES and not _TOKEN.fullmatch(name):
            raise httpx.LocalProtocolError(f"{name.decode('latin-1')!r} is no header name")
        if b"\r" in value or b"\n" in value or b"\0" in value:
            raise httpx.LocalProtocolError(
                f"header {name.decode('latin-1')!r} has a line break in it"
            )
        parts += (name, b": ", value, b"\r\n")
    return b"".join(parts)


def _announced_idle_s(headers: list[tuple[bytes, bytes]]) -> float | None:
    """One second less than the server's `Keep-Alive: timeout=N`, None if it has none."""
    for name, value in headers:
        if name.lower() == b"keep-alive":
            for item in value.split(b","):
                key, _, seconds = item.strip().partition(b"=")
                if key.lower() == b"timeout" and seconds.isdigit() and len(seconds) < 9:
                    return max(0.0, float(seconds) - 1.0)
    return None


def _reason(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {exc.verify_message}"
    said = exc.strerror if isinstance(exc, OSError) else None
    return said or str(exc) or type(exc).__name__
