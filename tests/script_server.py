"""A server that does on the wire exactly what a script says: right, wrong, or nothing.

It knows no adapter: any HTTP client may talk to it. What the client sent, and when it closed its
connections, is recorded.
"""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any, Self

import attrs

from adapter_api.faults.server import stop_listening

CLOSE_LIMIT_S = 5.0


@attrs.define(eq=False)
class Connection:
    """One accepted connection, as the server saw it.

    Args:
        opened_at: When it was accepted (time.monotonic).
        closed_at: When the client closed it, None while it is open.
        sent_bytes: What the server wrote.
        requests: How many requests came on it.
    """

    opened_at: float
    closed_at: float | None = None
    sent_bytes: int = 0
    requests: int = 0
    gone: asyncio.Event = attrs.field(factory=asyncio.Event)


@attrs.frozen
class Request:
    """One request as it came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: Connection

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class Wire:
    """What a script writes with."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: Connection
    ) -> None:
        self._reader = reader
        self._writer = writer
        self.connection = connection
        self.keep_alive = True

    async def raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        self._writer.write(data)
        self.connection.sent_bytes += len(data)
        await self._writer.drain()

    async def head(
        self, status: int = 200, headers: Mapping[str, str] | None = None, *, reason: str = "X"
    ) -> None:
        """Write a status line and headers."""
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{k}: {v}" for k, v in (headers or {}).items())]
        await self.raw(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def stream_head(self, headers: Mapping[str, str] | None = None) -> None:
        """Begin a chunked event stream."""
        base = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}
        await self.head(200, {**base, **(headers or {})})

    async def chunk(self, data: bytes) -> None:
        """Write one chunk of a chunked body."""
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def event(self, payload: object) -> None:
        """Write one event; anything but str and bytes becomes JSON."""
        if isinstance(payload, bytes):
            data = payload
        else:
            data = (payload if isinstance(payload, str) else json.dumps(payload)).encode()
        await self.chunk(b"data: " + data + b"\n\n")

    async def end(self) -> None:
        """End a chunked body."""
        await self.raw(b"0\r\n\r\n")

    async def answer(
        self, payload: object, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """A whole answer with a body: JSON, or bytes as they are."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        kind = "text/plain" if isinstance(payload, bytes) else "application/json"
        base = {"Content-Type": kind, "Content-Length": str(len(body))}
        await self.head(status, {**base, **(headers or {})})
        await self.raw(body)

    async def close(self) -> None:
        """Close the connection in order (FIN)."""
        self.keep_alive = False
        self._writer.close()

    async def reset(self) -> None:
        """Break the connection (RST)."""
        self.keep_alive = False
        await asyncio.sleep(0.02)  # what was written before shall arrive
        raw: socket.socket = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def until_closed(self, limit_s: float = CLOSE_LIMIT_S) -> None:
        """Do nothing until the client closes the connection."""
        self.keep_alive = False
        async with asyncio.timeout(limit_s):
            await self.connection.gone.wait()

    @property
    def gone(self) -> bool:
        """Whether the client has closed the connection."""
        return self.connection.gone.is_set()


Script = Callable[[Request, Wire], Awaitable[None]]


class _Protocol(asyncio.StreamReaderProtocol):
    def __init__(self, server: "ScriptServer") -> None:
        self.connection = Connection(monotonic())
        reader = asyncio.StreamReader(limit=1 << 22)
        super().__init__(reader, lambda r, w: server._serve(r, w, self.connection))

    def _note_gone(self) -> None:
        if self.connection.closed_at is None:
            self.connection.closed_at = monotonic()
            self.connection.gone.set()

    def eof_received(self) -> bool | None:
        self._note_gone()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._note_gone()
        super().connection_lost(exc)


class ScriptServer:
    """Serves a script on a loopback port while entered (`async with`).

    Args:
        script: Called for each request.
        tls: Serve https with this context.
    """

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self.failures: list[BaseException] = []
        self.port = 0

    @property
    def base_url(self) -> str:
        """Where it listens."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def posts(self) -> list[Request]:
        """The requests that ask for an answer."""
        return [request for request in self.requests if request.method == "POST"]

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Protocol(self), "127.0.0.1", 0, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        await stop_listening(self._server)
        await asyncio.sleep(0)  # `_serve` begins
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: Connection
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.append(writer)
        self.connections.append(connection)
        wire = Wire(reader, writer, connection)
        try:
            while wire.keep_alive:
                request = await _read_request(reader, connection)
                self.requests.append(request)
                await self._script(request, wire)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # the client closed the connection
        except asyncio.CancelledError:
            pass  # the server is closed
        except BaseException as error:
            self.failures.append(error)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def all_closed(self, limit_s: float = CLOSE_LIMIT_S) -> bool:
        """Whether the client closes every connection within `limit_s` seconds."""
        try:
            async with asyncio.timeout(limit_s):
                for connection in self.connections:
                    await connection.gone.wait()
        except TimeoutError:
            return False
        return True


async def _read_request(reader: asyncio.StreamReader, connection: Connection) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *rest = head.rstrip("\r\n").split("\r\n")
    method, target, _ = line.split(" ")
    headers = {k.strip().lower(): v.strip() for k, _, v in (item.partition(":") for item in rest)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    connection.requests += 1
    return Request(method, target, headers, body, connection)
