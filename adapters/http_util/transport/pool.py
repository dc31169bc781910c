"""The connection pool of one event loop."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress

import httpx

from adapters.http_util.transport.connecting import Resolver, connect_error, open_socket
from adapters.http_util.transport.connection import READ_BUFFER_BYTES, Connection
from adapters.http_util.transport.wire import Origin, announced_idle_s

MAX_CONNECTIONS = 1000
"""Open connections of one transport by default: below the usual limit of 1,024 open files."""

IDLE_S = 60.0
"""How long an unused connection is kept, unless the server announces less."""

Timeouts = Mapping[str, float | None]
"""httpx's: seconds to "connect", to wait for the "pool", to "read"; None or absent for no limit."""


class Pool:
    """The connections of one event loop.

    A connection counts as long as it is in `_open`. It is removed when it could not be made, or
    when asyncio reports its socket closed, whatever happened to the task that used it.

    Args:
        loop: The loop, which closes the pool when it ends.
        ssl_context: As in StreamTransport.
        max_connections: As in StreamTransport.
        idle_s: As in StreamTransport.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ssl_context: Callable[[], ssl.SSLContext],
        max_connections: int,
        idle_s: float,
    ) -> None:
        self.loop = loop
        self._ssl_context = ssl_context
        self._max_connections = max_connections
        self._idle_s = idle_s
        self._buffer = memoryview(bytearray(READ_BUFFER_BYTES))
        self._resolver = Resolver()
        self._open: set[Connection] = set()
        self._idle: dict[Origin, deque[Connection]] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._promised = 0  # room for woken waiters that have not taken it yet
        self._closed = False
        self._guard = _close_at_the_end(self)
        with suppress(StopIteration):  # start it, so that the loop knows it
            self._guard.asend(None).send(None)

    @property
    def open_connections(self) -> int:
        """Connections that are open or being opened."""
        return len(self._open)

    @property
    def idle_connections(self) -> int:
        """Open connections that no request uses."""
        return sum(map(len, self._idle.values()))

    # Taking a connection

    def take_at_once(self, origin: Origin) -> Connection | None:
        """Return an idle connection to `origin` unless its room is reserved for waiting ones."""
        return None if self._promised else self._take_idle(origin)

    def _take_idle(self, origin: Origin) -> Connection | None:
        """Return the idle connection to `origin` that was used last."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if self._is_fresh(connection) and connection.reusable and connection.silent:
                return connection
            self._drop(connection)
        return None

    async def acquire(
        self, origin: Origin, timeouts: Timeouts, *, fresh: bool = False
    ) -> Connection:
        """Return an idle connection to `origin` or a new one, once there is room for it.

        Args:
            origin: The scheme, host and port.
            timeouts: Limits in seconds.
            fresh: Return a new one.

        Raises:
            httpx.TransportError: PoolTimeout, ConnectTimeout, ConnectError or LocalProtocolError.
        """
        self._check_open()
        if not self._has_room():  # `_wake` reserves free room for waiting requests
            try:
                async with asyncio.timeout(timeouts.get("pool")):
                    await self._wait_for_room()
            except TimeoutError as exc:
                raise httpx.PoolTimeout("no connection became free in time") from exc
            self._check_open()
        if not fresh and (connection := self._take_idle(origin)) is not None:
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

    def _is_fresh(self, connection: Connection) -> bool:
        """Return whether the connection has not been idle for too long."""
        limit_s = self._idle_s if connection.idle_limit_s is None else connection.idle_limit_s
        return self.loop.time() - connection.idle_since < limit_s

    def _evict_idle(self) -> None:
        idle = next(filter(None, self._idle.values()))  # there is one, or there would be no room
        self._drop(idle.popleft())

    def _drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        connection.abort()

    async def _wait_for_room(self) -> None:
        waiter: asyncio.Future[None] = self.loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.cancelled():
                with suppress(ValueError):  # `_wake` may have passed over it
                    self._waiters.remove(waiter)
            else:
                self._promised -= 1
                self._wake()  # the room reserved for this request goes to the next one
            raise
        self._promised -= 1

    def _wake(self) -> None:
        """Reserve all free room for waiting requests, in order."""
        while self._waiters and (self._closed or self._has_room()):
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._promised += 1
                waiter.set_result(None)

    # Making a connection

    async def _connect(self, origin: Origin, timeout_s: float | None) -> Connection:
        connection = Connection(self._buffer, self._on_closed)
        self._open.add(connection)
        try:
            await self._open_connection(connection, origin, timeout_s)
            self._check_open()
        except BaseException:
            connection.abandon()  # in TLS, asyncio would wait for the peer's close_notify
            raise
        return connection

    async def _open_connection(
        self, connection: Connection, origin: Origin, timeout_s: float | None
    ) -> None:
        scheme, host, port = origin
        try:
            context = self._ssl_context() if scheme == "https" else None
        except (OSError, ValueError) as exc:
            raise httpx.LocalProtocolError(f"the files for TLS cannot be used: {exc}") from exc
        try:
            async with asyncio.timeout(timeout_s):
                sock = await open_socket(await self._resolver.addresses(host, port))
                try:
                    await self.loop.create_connection(
                        lambda: connection,
                        sock=sock,
                        ssl=context,
                        server_hostname=host if context is not None else None,
                    )
                except BaseException:
                    connection.abandon()
                    sock.close()
                    raise
                connection.socket = sock
        except TimeoutError as exc:
            raise httpx.ConnectTimeout(f"no connection to {host}:{port} in {timeout_s} s") from exc
        except (OSError, ValueError, OverflowError) as exc:
            raise connect_error(exc, f"{host}:{port}") from exc

    # Returning a connection

    def put_back(self, origin: Origin, connection: Connection) -> bool:
        """Keep a connection whose exchange is over for the next request.

        Returns:
            False if it cannot be used again: it must be closed.
        """
        if not connection.reusable or self._closed:
            return False
        connection.idle_limit_s = announced_idle_s(connection.headers)
        connection.rest()
        idle = self._idle.setdefault(origin, deque())
        idle.append(connection)
        while idle and not self._is_fresh(idle[0]):
            self._drop(idle.popleft())
        if self._waiters:
            self._wake()
        return True

    def _on_closed(self, connection: Connection) -> None:
        self._open.discard(connection)
        for idle in self._idle.values():
            if connection in idle:
                idle.remove(connection)
        self._wake()

    # The end

    def close(self) -> None:
        """Begin to close every connection, and refuse new ones."""
        self._closed = True
        self._idle.clear()
        self._wake()
        for connection in list(self._open):
            connection.abort()

    async def aclose(self) -> None:
        """Close every connection."""
        self.close()
        for connection in list(self._open):
            await connection.aclose()

    def discard(self) -> None:
        """Close the sockets of a loop that was closed without its usual shutdown."""
        self._closed = True
        self._idle.clear()
        for connection in self._open:
            connection.discard()
        self._open.clear()


async def _close_at_the_end(pool: Pool) -> AsyncGenerator[None, None]:
    """Close the pool when its loop ends: asyncio.run closes the generators that are still open."""
    try:
        yield
    finally:
        await pool.aclose()
