"""The gateway's server: uvicorn, with time limits on clients and a graceful shutdown."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from types import FrameType

import attrs
import uvicorn
from starlette.types import ASGIApp

from registry.gateway.app import application
from registry.gateway.gateway import Gateway
from registry.gateway.protocol import GatewayProtocol

BACKLOG = 2048
"""Connections that the kernel holds while the event loop is busy."""

KEEP_ALIVE_S = 75.0
"""How long an idle connection of a client stays open: longer than the 60 s of common balancers,
which would otherwise send requests on connections that are just being closed."""


CUT_S = 1.0
"""The time for cancelled jobs to send their error to clients, some of which do not read."""


@attrs.frozen(kw_only=True)
class ServerSettings:
    """The settings for listening and stopping.

    Args:
        host: The address to listen on.
        port: The port; 0 for a free one.
        header_s: Seconds within which the head of a request must have come.
        max_connections: The maximum number of connections; requests on further ones get a 503.
        notice_s: Seconds from the signal until new requests are refused. During that time readiness
            is 503, so that load balancers remove the gateway.
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
            if gateway.table.jobs and isinstance(connection, GatewayProtocol):
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
    class Protocol(GatewayProtocol):
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
