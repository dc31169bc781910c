"""The default transport: httpx's interface over our own HTTP/1.1 connections and pool.

Why not httpx's own: docs/explanation/decisions/0001-own-transport.md.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx

from adapters.http_util.transport.connection import Connection
from adapters.http_util.transport.pool import IDLE_S, MAX_CONNECTIONS, Pool, Timeouts
from adapters.http_util.transport.wire import Origin, by_name, origin_of, serialize


class StreamTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 over TCP or TLS, for many long streams at once.

    Each event loop that uses the transport has a pool of its own. The loop closes its connections
    when it ends, so one transport may serve several calls of asyncio.run.

    Args:
        ssl_context: Makes the TLS configuration when the first https request needs it.
        max_connections: Open connections in one loop. Further requests wait for one in order,
            up to the request's pool timeout.
        idle_s: Seconds an unused connection is kept.

    Cancellation:
        Cancelling a request at any point returns its connection or closes it.
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
        self._pools: dict[asyncio.AbstractEventLoop, Pool] = {}
        self._latest: Pool | None = None
        self._closed = False

    @property
    def open_connections(self) -> int:
        """Connections that are open or being opened."""
        return sum(pool.open_connections for pool in self._pools.values())

    @property
    def idle_connections(self) -> int:
        """Open connections that no request uses."""
        return sum(pool.idle_connections for pool in self._pools.values())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request; the body of its answer streams.

        Raises:
            httpx.TransportError: ConnectError, ConnectTimeout, PoolTimeout, ReadError, ReadTimeout,
                RemoteProtocolError, LocalProtocolError or UnsupportedProtocol.
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
            headers=body.raw_headers,
            stream=body,
            # The server's reason phrase is left out: httpx logs it, and it may hold a secret.
            extensions={"http_version": b"HTTP/1.1", "body_stream": body},
        )

    async def exchange(
        self, origin: Origin, wire: bytes, timeouts: Timeouts, *, bodiless: bool = False
    ) -> "BodyStream":
        """Send the bytes of a request and read the head of its answer.

        Args:
            origin: Where to send it.
            wire: The result of `serialize`.
            timeouts: Limits in seconds.
            bodiless: The answer has no body, despite its headers (HEAD).

        Returns:
            The body to come, which must be closed.

        Raises:
            httpx.TransportError: As handle_async_request.
        """
        pool = self._latest
        if pool is None or pool.loop is not asyncio.get_running_loop():
            pool = self._latest = self._pool()
        limit_s = timeouts.get("read")
        connection = pool.take_at_once(origin) or await pool.acquire(origin, timeouts)
        resent = False
        try:
            if limit_s is None:
                await connection.send(wire, bodiless=bodiless)
            else:
                await _send(connection, wire, limit_s, bodiless)
        except httpx.ReadError:
            await connection.aclose()
            if connection.exchanges == 1 or connection.received:
                raise
            # The server closed an idle connection while our request was on its way.
            resent = True
            connection = await pool.acquire(origin, timeouts, fresh=True)
            try:
                await _send(connection, wire, limit_s, bodiless)
            except BaseException:
                await connection.aclose()
                raise
        except BaseException:
            await connection.aclose()
            raise
        return BodyStream(connection, pool, origin, limit_s, resent)

    def _pool(self) -> Pool:
        """Return the running loop's pool, and drop the pools of closed loops."""
        loop = asyncio.get_running_loop()
        for other in [other for other in self._pools if other.is_closed()]:
            self._pools.pop(other).discard()
        pool = self._pools.get(loop)
        if pool is None:
            pool = Pool(loop, self._ssl_context, self._max_connections, self._idle_s)
            if self._closed:
                pool.close()
            else:
                self._pools[loop] = pool
        return pool

    async def aclose(self) -> None:
        """Close every connection."""
        self._closed = True
        self._latest = None
        for loop, pool in list(self._pools.items()):
            if loop is asyncio.get_running_loop():
                await pool.aclose()
            elif loop.is_closed():
                pool.discard()
            else:
                loop.call_soon_threadsafe(pool.close)


async def _send(connection: Connection, wire: bytes, limit_s: float | None, bodiless: bool) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await connection.send(wire, bodiless=bodiless)
    except TimeoutError as exc:
        raise httpx.ReadTimeout(f"no answer in {limit_s or 0:g} s") from exc


class BodyStream(httpx.AsyncByteStream):
    """A response body as it arrives.

    Iterate over it, or call `read` for one piece at a time. `aclose` returns the connection to the
    pool if the body was complete, and closes it otherwise.

    Args:
        connection: With the head of its answer read.
        pool: Takes the connection back.
        origin: Where the connection leads.
        read_timeout_s: Seconds for each piece; None for no limit.
        resent: Whether the request was sent twice.
    """

    def __init__(
        self,
        connection: Connection,
        pool: Pool,
        origin: Origin,
        read_timeout_s: float | None,
        resent: bool,
    ) -> None:
        self.status = connection.status
        self.raw_headers = connection.headers
        self._headers: dict[str, str] | None = None
        self.resent = resent
        self._connection = connection
        self._pool = pool
        self._origin = origin
        self._read_timeout_s = read_timeout_s
        self._released = False

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers, by names in lower case."""
        if self._headers is None:
            self._headers = by_name(self.raw_headers)
        return self._headers

    def read(self) -> Awaitable[bytes]:
        """Return the next piece; b"" at the end. Raises as `Connection.read`, and ReadTimeout."""
        if self._released:  # the connection may serve another request by now
            raise httpx.StreamClosed
        if self._read_timeout_s is None:
            return self._connection.read()
        return self._read_in_time(self._read_timeout_s)

    def ended(self) -> bool:
        """Return whether `read` would return b"" at once."""
        return not self._released and self._connection.at_end

    async def _read_in_time(self, limit_s: float) -> bytes:
        try:
            async with asyncio.timeout(limit_s):
                return await self._connection.read()
        except TimeoutError as exc:
            raise httpx.ReadTimeout(f"nothing came for {limit_s:g} s") from exc

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.read():
            yield piece

    async def aclose(self) -> None:
        """Return or close the connection. Idempotent."""
        if not self._released:
            self._released = True
            if not self._pool.put_back(self._origin, self._connection):
                await self._connection.aclose()
