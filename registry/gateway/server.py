"""The gateway's server: uvicorn, with time limits on clients and a shutdown in order."""

import asyncio
import contextlib
import http
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from types import FrameType
from typing import Any

import attrs
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from registry.gateway.access import Access
from registry.gateway.app import application
from registry.gateway.completions import CONNECTION
from registry.gateway.gateway import Gateway
from registry.gateway.relay import Message, Receive, Reply, Send
from registry.serving.openai_api.errors import ApiError

BACKLOG = 2048
"""Connections that the kernel holds while the event loop is busy."""

KEEP_ALIVE_S = 75.0
"""How long an idle connection of a client stays open: longer than the 60 s of common balancers,
which would otherwise send requests on connections that are just being closed."""


MAX_HEAD_BYTES = 64 << 10
"""The largest head of a request: some times what balancers allow."""

CUT_S = 1.0
"""How long jobs that are cut off have to tell their clients, some of which do not read."""


@attrs.frozen(kw_only=True)
class ServerSettings:
    """The settings for listening and stopping.

    Args:
        host: The address to listen on.
        port: The port; 0 for a free one.
        header_s: Seconds within which the head of a request must have come.
        max_connections: The maximum number of connections; requests on further ones get a 503.
        notice_s: Seconds from the signal until new requests are refused. Meanwhile readiness is
            503, so that balancers take the gateway out.
        grace_s: Seconds that jobs get to end after that.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    header_s: float = 10.0
    max_connections: int = 10_000
    notice_s: float = 0.0
    grace_s: float = 30.0


class Stop:
    """A request to stop: the first call lets jobs end, the second one cancels them."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()
        self.signal: int | None = None

    def __call__(self, number: int | None = None) -> None:
        """Stop.

        Args:
            number: The signal that is the reason, if one is.
        """
        if self.asked.is_set():
            self.at_once.set()
        self.signal = self.signal or number
        self.asked.set()


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Stop on SIGINT, SIGTERM or SIGHUP; a second signal cuts jobs off."""
    stop, loop = Stop(), asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, stop, number)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def serve(
    gateway: Gateway,
    served: ASGIApp,
    settings: ServerSettings,
    stop: Stop,
    *,
    listening: Callable[[str], None],
) -> bool:
    """Serve until `stop` is called.

    Args:
        gateway: The gateway.
        served: Its ASGI application.
        settings: How to listen and stop.
        stop: Ends it.
        listening: Called with the base URL once requests are accepted.

    Returns:
        Whether every job came to its own end.

    Raises:
        OSError: If the address cannot be used.
    """
    listener = _listen(settings)
    server = _Server(_config(served, settings))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.up.wait()
        listening(_url(listener))
        await stop.asked.wait()
        whole = await _drain(gateway, settings, stop)
        for connection in list(server.server_state.connections):
            if gateway.table.jobs and isinstance(connection, _Protocol):
                connection.transport.abort()  # its client does not read
        server.should_exit = True
        await serving
        return whole
    finally:
        if not serving.done():
            serving.cancel()
            await asyncio.wait({serving})
        listener.close()


@contextlib.asynccontextmanager
async def running(gateway: Gateway, settings: ServerSettings) -> AsyncIterator[str]:
    """Serve while entered; yield the base URL. Leaving it cuts off the jobs that are left.

    Args:
        gateway: The gateway.
        settings: How to listen.

    Raises:
        OSError: If the address cannot be used.
    """
    stop, url = Stop(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve(gateway, application(gateway), settings, stop, listening=url.set_result)
    )
    await asyncio.wait({serving, url}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    try:
        yield url.result()
    finally:
        stop()
        stop()
        await serving


def _url(listener: socket.socket) -> str:
    address, port = listener.getsockname()[:2]
    return f"http://{f'[{address}]' if ':' in address else address}:{port}"


async def _drain(gateway: Gateway, settings: ServerSettings, stop: Stop) -> bool:
    """Let the jobs end; return whether all did in time."""
    at_once = asyncio.create_task(stop.at_once.wait())
    drained = None
    try:
        gateway.is_leaving = True
        await asyncio.wait({at_once}, timeout=settings.notice_s)
        gateway.is_draining = True
        drained = asyncio.create_task(gateway.table.finish())
        await asyncio.wait(
            {drained, at_once}, timeout=settings.grace_s, return_when=asyncio.FIRST_COMPLETED
        )
        whole = drained.done()
        for job in gateway.table.jobs:
            gateway.cancel(job.job_id)
        await asyncio.wait({drained}, timeout=CUT_S)
        return whole
    finally:
        for task in (at_once, drained):
            if task is not None:
                task.cancel()


def _listen(settings: ServerSettings) -> socket.socket:
    family, kind, proto, _, address = socket.getaddrinfo(
        settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _config(served: ASGIApp, settings: ServerSettings) -> uvicorn.Config:
    class Protocol(_Protocol):
        header_s = settings.header_s
        max_connections = settings.max_connections

    return uvicorn.Config(
        served,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=int(KEEP_ALIVE_S),
        timeout_graceful_shutdown=5,
    )


class _Server(uvicorn.Server):
    """uvicorn's server, whose signals are ours."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        raise AssertionError("signals are handled by serve()")


_LARGE_HEAD = ApiError(
    431, f"The head of the request is larger than {MAX_HEAD_BYTES} bytes.", code="head_too_large"
)
_FULL = ApiError(
    503, "The gateway has its maximum of connections.", code="overloaded", retry_after_ms=1000
)


def _answering(error: ApiError) -> Any:
    """Return an application that answers every request with an error and closes."""

    async def refuse(scope: Message, receive: Receive, send: Send) -> None:
        await Reply(send, Access(scope), lambda: [(b"connection", b"close")]).fail(error)

    return refuse


class Writes(asyncio.Transport):
    """A transport that writes the head of an answer together with what follows it.

    The head never waits: the endpoints send it with the first piece of the body.

    Args:
        transport: Writes.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._head: bytes | None = None
        self._is_head = False
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]
        self.is_closing = transport.is_closing  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]

    def begin(self) -> None:
        """Hold the next write, which is the head of an answer, for the one that follows."""
        self._is_head = True

    def write(self, data: Any) -> None:
        """Write, unless it is a head."""
        if self._is_head:
            self._is_head, self._head = False, data
            return
        if self._head is not None:
            data, self._head = self._head + data, None
        self._transport.write(data)

    def close(self) -> None:
        """Write a head without a body, and close."""
        if self._head is not None:
            self.write(b"")
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._head = None
        self._transport.abort()


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with limits on the head of a request, and refusals in OpenAI's shape."""

    header_s: float
    max_connections: int
    _writes: "Writes"
    _lost: Callable[[], None] | None = None
    _head_timer: asyncio.TimerHandle | None = None
    _in_head = True
    _begins_here = False  # in this read
    _read_bytes = 0  # of this read
    _head_bytes = 0  # of the reads before it, since the head began
    _other_bytes = 0  # of these, those that may be the end of a body
    _is_too_many = False

    def data_received(self, data: bytes) -> None:
        self._begins_here, self._read_bytes = False, len(data)
        super().data_received(data)
        if not self._in_head:
            return
        if self._head_timer is None:
            self._await_head()
        self._head_bytes += len(data)
        if self._begins_here:
            self._other_bytes = len(data)
        elif self._head_bytes - self._other_bytes > MAX_HEAD_BYTES:
            self._refuse(_LARGE_HEAD)

    def send_400_response(self, msg: str) -> None:
        self._refuse(ApiError(400, f"This is not HTTP: {msg}", code="invalid_http"))

    def _refuse(self, error: ApiError) -> None:
        """Answer what never became a request, and close the connection."""
        self._have_head()
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()  # anything else would become part of that answer
            return
        body = error.body()
        status = http.HTTPStatus(error.status)
        head = (
            f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._writes = Writes(transport)
        super().connection_made(self._writes)
        self._is_too_many = len(self.connections) > self.max_connections
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_head()
        super().connection_lost(exc)
        if self._lost is not None:
            self._lost()

    # A Connection, for the endpoints

    @property
    def has_body(self) -> bool:
        """True if all of the request has come."""
        return not self.cycle.more_body

    def abort(self) -> None:
        """Break the connection at once."""
        self.transport.abort()

    def watch(self, lost: Callable[[], None]) -> None:
        """Call `lost` if the client leaves, or has left already."""
        self._lost = lost
        self.flow.resume_reading()  # a large body has paused it, and the end would not be seen
        if self.cycle.disconnected:
            self.loop.call_soon(lost)

    def unwatch(self, lost: Callable[[], None]) -> None:
        """Call `lost` no more."""
        if self._lost is lost:
            self._lost = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = self._begins_here = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._have_head()
        self.scope["extensions"] = {CONNECTION: {"it": self}}
        app, before = self.app, self.cycle
        if self._is_too_many:
            self.app = _answering(_FULL)
        elif self._head_bytes + self._read_bytes > MAX_HEAD_BYTES and self._is_large():
            self.app = _answering(_LARGE_HEAD)
        try:
            super().on_headers_complete()
        finally:
            self.app = app
        is_next = before is None or before.response_complete
        if is_next and self.scope["method"] == "POST" and not self.expect_100_continue:
            self._writes.begin()  # its answer has a head and a body, and nothing before them

    def _is_large(self) -> bool:
        """Return whether the head is too large; with it a part of the body may have come."""
        size = sum(len(name) + len(value) for name, value in self.headers)
        return size + len(self.url) > MAX_HEAD_BYTES

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.header_s, self._head_is_late)

    def _have_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self.transport.abort()
