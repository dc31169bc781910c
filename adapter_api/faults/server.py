"""A server that misbehaves on purpose, and takes notes.

It speaks HTTP/1.1 from raw asyncio transports, so that it can do everything to a connection that
the other end of the world can. Nothing of any client's code is in it.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Self, cast

from adapter_api.faults.scenario import Scenario
from adapter_api.faults.scenarios import SCENARIOS
from adapter_api.faults.wire import ClientGone, Connection, Request, Wire

SCRIPT_LIMIT_S = 15.0
"""No script runs for longer, whatever the client does: several times any limit in use here."""

SEND_BUFFER_BYTES = 64 << 10
"""The kernel's, for each connection: little, so that a client that does not read soon shows."""

MAX_REQUEST_BYTES = 32 << 20
"""Far above any request of a test; a client that sends more is cut off."""


_NO_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n"
    b"Send HTTP/1.1 requests whose body has a Content-Length.\n"
)


class FaultServer:
    """Serves the scenarios, while entered.

    The first segment of a request's path names the scenario: give a client
    `server.url("fin-mid-event")` as its base URL. Requests with GET get an ordinary model list or a
    404, unless `fault_gets`.

        async with FaultServer() as server:
            ...
            assert len(server.requests) == 1

    Args:
        scenarios: What to serve, by name.
        fault_gets: GET requests get the scenario's answer too.
        host: The address to listen on.
        port: 0 for any free one.
        tell: Called when an answer is over, however it ended.

    Raises:
        ExceptionGroup: On leaving, if a script failed with anything but ClientGone, and no other
            exception is under way.
    """

    def __init__(
        self,
        scenarios: Mapping[str, Scenario] = SCENARIOS,
        *,
        fault_gets: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
        tell: Callable[[Request, Connection], None] = lambda request, connection: None,
    ) -> None:
        self.scenarios = scenarios
        self.fault_gets = fault_gets
        self._host = host
        self._port = port
        self._tell = tell
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self._talks: set[_Talk] = set()
        self._failures: list[Exception] = []
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        """`http://HOST:PORT`."""
        assert self._server is not None, "the server runs inside `async with` only"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._server.sockets[0].getsockname()[1]}"

    def url(self, scenario: str) -> str:
        """The base URL of a scenario.

        Raises:
            KeyError: There is no such scenario.
        """
        return f"{self.base_url}/{self.scenarios[scenario].name}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Talk(self), self._host, self._port, backlog=1024
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        await stop_listening(self._server)
        await asyncio.gather(*(talk.stop() for talk in list(self._talks)))
        if self._failures and exc_info[0] is None:
            raise ExceptionGroup("scripts failed", self._failures)


async def stop_listening(server: asyncio.Server) -> None:
    """Close the server, once every connection that it accepted has told its protocol.

    asyncio loses a connection whose transport it makes after the close: it stays open, and is
    reported when it is collected.
    """
    loop = asyncio.get_running_loop()
    for listener in server.sockets:
        loop.remove_reader(listener.fileno())
    for _ in range(2):  # the transport is made, and makes itself known
        await asyncio.sleep(0)
    server.close()


class _Talk(asyncio.Protocol):
    """One connection: reads requests and runs a script for each."""

    _transport: asyncio.Transport
    _record: Connection

    def __init__(self, server: FaultServer) -> None:
        self._server = server
        self._inbox = bytearray()
        self._skip_bytes = 0  # of a request's body that its script did not wait for
        self._script: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._lost = asyncio.Event()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)
        self._transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES
        )
        self._writable.set()
        connections = self._server.connections
        self._record = Connection(len(connections) + 1, monotonic())
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
        return self._script is not None  # which closes the other half when it ends

    def connection_lost(self, exc: Exception | None) -> None:
        self._note_gone()
        self._writable.set()
        self._lost.set()
        self._server._talks.discard(self)

    def _note_gone(self) -> None:
        if not self._record.closed:
            self._record.closed_by_client_at = monotonic()
        self._record.gone.set()

    # The conversation

    def _next_request(self) -> None:
        end = self._inbox.find(b"\r\n\r\n")
        if self._script is not None or end < 0:
            return
        try:
            method, path, headers, length = _parse_head(self._inbox[:end].decode("latin-1"))
        except ValueError:
            self._refuse()
            return
        body_start = end + 4
        body_end = body_start + length
        name = path.split("/")[1].partition("?")[0]
        scenario = self._server.scenarios.get(name)
        if scenario is not None and scenario.early:
            self._transport.pause_reading()
        elif len(self._inbox) < body_end:
            return
        body = bytes(self._inbox[body_start:body_end])
        self._skip_bytes = max(0, body_end - len(self._inbox))
        del self._inbox[:body_end]
        requests = self._server.requests
        number = 1 + sum(request.scenario == name for request in requests)
        request = Request(
            name, number, self._record.number, method, path, headers, body, monotonic()
        )
        requests.append(request)
        self._record.requests += 1
        self._script = asyncio.get_running_loop().create_task(self._answer(scenario, request))

    def _refuse(self) -> None:
        """End a conversation that is not one. Never anything but this connection suffers."""
        self._skip_bytes = MAX_REQUEST_BYTES
        self._transport.write(_NO_REQUEST)
        self._transport.close()

    async def _answer(self, scenario: Scenario | None, request: Request) -> None:
        wire = Wire(request, self._record, self._transport, self._writable)
        try:
            async with asyncio.timeout(SCRIPT_LIMIT_S):
                if scenario is None:
                    await wire.answer_json(404, {"scenarios": sorted(self._server.scenarios)})
                elif request.method == "POST" or self._server.fault_gets:
                    await scenario.script(wire)
                elif request.path.endswith("/models"):
                    await wire.answer_json(200, {"object": "list", "data": [{"id": "fault"}]})
                else:
                    await wire.answer_json(404, {"error": {"message": "nothing here"}})
        except (ClientGone, TimeoutError):
            pass
        except Exception as exc:
            self._server._failures.append(exc)
        finally:
            self._script = None
            if wire.ended and not self._record.gone.is_set():
                self._transport.resume_reading()
                self._next_request()
            else:
                await wire.close()
            self._server._tell(request, self._record)

    async def stop(self) -> None:
        """End the conversation, whatever its state."""
        if self._script is not None:
            self._script.cancel()
            await asyncio.wait([self._script])
        self._transport.abort()
        await self._lost.wait()


def _parse_head(text: str) -> tuple[str, str, dict[str, str], int]:
    """Method, path, headers by lower-case name, and the body's length.

    Raises:
        ValueError: If it is not a request that this server can read.
    """
    first, *lines = text.split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    length = int(headers.get("content-length", "0"))
    if not path.startswith("/") or length < 0 or "transfer-encoding" in headers:
        raise ValueError
    return method, path, headers, length
