"""The scripted HTTP server: it does on the wire exactly what a script says, and records it.

It speaks HTTP/1.1 on asyncio transports, so that a script controls every byte, the framing, and how
the connection ends. It shares no code with any client.
"""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Self, cast

import attrs

from adapter_api.faults.scenario import Scenario
from adapter_api.faults.scenarios import SCENARIOS
from adapter_api.faults.wire import ClientGone, Connection, Request, Wire

SCRIPT_LIMIT_S = 60.0
"""The limit for a script, whatever the client does: longer than any limit of a test."""

SEND_BUFFER_BYTES = 64 << 10
"""The kernel's, for each connection: small, so that a client that does not read is noticed soon."""

MAX_REQUEST_BYTES = 32 << 20
"""Far above any request of a test; the server aborts a connection that sends more."""

CLOSE_LIMIT_S = 5.0

_BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n"
    b"Send HTTP/1.1 requests whose body has a Content-Length or is chunked.\n"
)

Script = Callable[[Request, Wire], Awaitable[None]]
"""Answers one request. When it returns, the connection is kept or closed as `Wire.keep_alive`
says."""


class ScriptServer:
    """Serves a script while entered (`async with`), and records requests and connections.

    Args:
        script: Called for each request, as soon as its body is complete.
        tls: Serve https with this context.
        host: The address to listen on.
        port: 0 for any free one.
        on_end: Called when an answer is over, however it ended.

    Attributes:
        requests: The requests, in order.
        connections: The connections, in order.
        failures: Exceptions of scripts, other than ClientGone and timeouts.

    Raises:
        ExceptionGroup: On leaving, if a script failed and no other exception is under way.
    """

    keep_alive = True

    def __init__(
        self,
        script: Script,
        *,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        on_end: Callable[[Request, Connection], None] = lambda request, connection: None,
    ) -> None:
        self._script = script
        self._tls = tls
        self._host = host
        self._on_end = on_end
        self.port = port
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self.failures: list[Exception] = []
        self._counts: Counter[tuple[str, str]] = Counter()
        self._talks: set[_Talk] = set()
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        """Return `http://HOST:PORT`."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    @property
    def posts(self) -> list[Request]:
        """Return the requests that ask for an answer."""
        return [request for request in self.requests if request.method == "POST"]

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """Return the tasks of the scripts that run."""
        return {talk._script for talk in self._talks if talk._script is not None}

    def is_early(self, request: Request) -> bool:
        """Return whether the script starts before the request's body has arrived."""
        return False

    async def start(self) -> None:
        """Listen; on the same port as before, if it was stopped."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Talk(self), self._host, self.port, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and abort every connection."""
        if self._server is not None:
            await stop_listening(self._server)
        await asyncio.gather(*(talk.stop() for talk in list(self._talks)))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()
        if self.failures and exc_info[0] is None:
            raise ExceptionGroup("scripts failed", self.failures)

    async def all_closed(self, limit_s: float = CLOSE_LIMIT_S) -> bool:
        """Return whether every connection is closed within `limit_s` seconds."""
        try:
            async with asyncio.timeout(limit_s):
                for connection in self.connections:
                    await connection.gone.wait()
        except TimeoutError:
            return False
        return True


class FaultServer(ScriptServer):
    """Serves the scenarios of faults, while entered.

    The first segment of a request's path names the scenario: give a client
    `server.url("fin-mid-event")` as its base URL. GET requests get an ordinary model list or a 404,
    unless `fault_gets`.

        async with FaultServer() as server:
            ...
            assert len(server.requests) == 1

    Args:
        scenarios: The scenarios by name.
        fault_gets: GET requests get the scenario's answer, too.
        host: The address to listen on.
        port: 0 for any free one.
        on_end: Called when an answer is over, however it ended.
    """

    keep_alive = False

    def __init__(
        self,
        scenarios: Mapping[str, Scenario] = SCENARIOS,
        *,
        fault_gets: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
        on_end: Callable[[Request, Connection], None] = lambda request, connection: None,
    ) -> None:
        super().__init__(self._answer, host=host, port=port, on_end=on_end)
        self.scenarios = scenarios
        self.fault_gets = fault_gets

    def url(self, scenario: str) -> str:
        """Return the base URL of a scenario.

        Raises:
            KeyError: If the scenario does not exist.
        """
        return f"{self.base_url}/{self.scenarios[scenario].name}"

    def forget(self, scenario: str) -> None:
        """Count the requests of a scenario from 1 again."""
        for kind in [kind for kind in self._counts if kind[0] == scenario]:
            del self._counts[kind]

    def is_early(self, request: Request) -> bool:
        """Return whether the scenario starts before the request's body has arrived."""
        scenario = self.scenarios.get(request.scenario)
        return scenario is not None and scenario.early

    async def _answer(self, request: Request, wire: Wire) -> None:
        scenario = self.scenarios.get(request.scenario)
        if scenario is None:
            await wire.answer_json(404, {"scenarios": sorted(self.scenarios)})
        elif request.method == "POST" or self.fault_gets:
            await scenario.script(wire)
        elif request.path.endswith("/models"):
            await wire.answer_json(200, {"object": "list", "data": [{"id": "fault"}]})
        else:
            await wire.answer_json(404, {"error": {"message": "nothing here"}})


async def stop_listening(server: asyncio.Server) -> None:
    """Close the server, once every connection that it accepted has its protocol.

    asyncio loses a connection whose transport it makes after the close: it stays open, and is
    reported when it is garbage-collected.
    """
    loop = asyncio.get_running_loop()
    for listener in server.sockets:
        loop.remove_reader(listener.fileno())
    for _ in range(2):  # the transport is made, and calls connection_made
        await asyncio.sleep(0)
    server.close()


class _Talk(asyncio.Protocol):
    """One connection: reads requests and runs the script for each."""

    _transport: asyncio.Transport
    _record: Connection

    def __init__(self, server: ScriptServer) -> None:
        self._server = server
        self._inbox = bytearray()
        self._skip_bytes = 0  # of a request's body that its script did not wait for
        self._script: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._lost = asyncio.Event()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: uvloop's transports are not subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        if self._server._tls is None:  # uvloop's TLS never resumes from a limit of 0
            self._transport.set_write_buffer_limits(high=0)
        self._transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES
        )
        self._writable.set()
        connections = self._server.connections
        self._record = Connection(len(connections) + 1)
        connections.append(self._record)
        self._server._talks.add(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        skipped = min(self._skip_bytes, len(data))
        self._skip_bytes -= skipped
        self._inbox += data[skipped:]
        if len(self._inbox) > MAX_REQUEST_BYTES:
            self._transport.abort()
        else:
            self._next_request()

    def eof_received(self) -> bool:
        # No client of this protocol closes half a connection: this one is gone.
        self._note_gone()
        # The script closes the other half when it ends; TLS cannot be half-closed.
        return self._script is not None and self._server._tls is None

    def connection_lost(self, exc: Exception | None) -> None:
        self._note_gone()
        self._writable.set()
        self._lost.set()
        self._server._talks.discard(self)

    def _note_gone(self) -> None:
        if not self._record.closed:
            self._record.closed_by_client_at = _now_s()
        self._record.gone.set()

    # The conversation

    def _next_request(self) -> None:
        end = self._inbox.find(b"\r\n\r\n")
        if self._script is not None or end < 0:
            return
        try:
            request = self._parse_head(self._inbox[:end].decode("latin-1"))
            early = self._server.is_early(request)
            found = _read_body(self._inbox, end + 4, request.headers, early=early)
        except ValueError:
            self._refuse()
            return
        if early:
            self._transport.pause_reading()
        if found is None:
            return
        body, consumed, self._skip_bytes = found
        del self._inbox[:consumed]
        self._start(attrs.evolve(request, body=body))

    def _parse_head(self, text: str) -> Request:
        """Parse a request's head.

        Raises:
            ValueError: If this server cannot read it.
        """
        first, *lines = text.split("\r\n")
        method, target, _ = first.split(" ", 2)
        if target.startswith(("http://", "https://")):  # as to a proxy (RFC 9112, 3.2.2)
            target = "/" + "/".join(target.split("/")[3:])
        if not target.startswith("/"):
            raise ValueError
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        return Request(0, self._record, method, target, headers, b"", _now_s())

    def _start(self, request: Request) -> None:
        server = self._server
        kind = (request.scenario, request.method)
        server._counts[kind] += 1
        request = attrs.evolve(request, number=server._counts[kind])
        server.requests.append(request)
        self._record.requests += 1
        self._script = asyncio.get_running_loop().create_task(self._answer(request))

    def _refuse(self) -> None:
        """Answer an invalid request with a 400, and close this connection."""
        self._skip_bytes = MAX_REQUEST_BYTES
        self._transport.write(_BAD_REQUEST)
        self._transport.close()

    async def _answer(self, request: Request) -> None:
        server = self._server
        wire = Wire(request, self._transport, self._writable, keep_alive=server.keep_alive)
        try:
            async with asyncio.timeout(SCRIPT_LIMIT_S):
                await server._script(request, wire)
        except (ClientGone, TimeoutError):
            wire.keep_alive = False
        except Exception as exc:
            wire.keep_alive = False
            server.failures.append(exc)
        finally:
            self._script = None
            if wire.keep_alive and not wire.gone:
                self._transport.resume_reading()
                self._next_request()
            else:
                await wire.close()
            server._on_end(request, self._record)

    async def stop(self) -> None:
        """End the conversation, whatever its state."""
        if self._script is not None:
            self._script.cancel()
            await asyncio.wait([self._script])
        self._transport.abort()
        await self._lost.wait()


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _read_body(
    inbox: bytearray, start: int, headers: Mapping[str, str], *, early: bool
) -> tuple[bytes, int, int] | None:
    """Read a request's body from `start` on.

    Returns:
        The body; where it ends in the inbox; the number of its bytes that are still to come, which
        is 0 unless `early`. None if it has not arrived.

    Raises:
        ValueError: If it is neither chunked nor has a valid length.
    """
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _read_chunks(inbox, start)
    end = start + int(headers.get("content-length", "0"))
    if end < start or "transfer-encoding" in headers:
        raise ValueError
    missing = max(0, end - len(inbox))
    if missing and not early:
        return None
    return bytes(inbox[start:end]), min(end, len(inbox)), missing


def _read_chunks(inbox: bytearray, at: int) -> tuple[bytes, int, int] | None:
    body = bytearray()
    while (line_end := inbox.find(b"\r\n", at)) >= 0:
        size = int(inbox[at:line_end].partition(b";")[0], 16)
        at = line_end + 2 + size + 2
        if len(inbox) < at:
            return None
        body += inbox[line_end + 2 : at - 2]
        if size == 0:
            return bytes(body), at, 0
    return None
