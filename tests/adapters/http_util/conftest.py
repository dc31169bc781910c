"""Helpers for the tests of the transport."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from adapter_api.faults import Request, Script, ScriptServer, Wire
from adapters.http_util import StreamTransport
from adapters.http_util.transport.pool import Pool

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def raw(answer: bytes, *, close: bool = False) -> Script:
    """Answers every request with these bytes."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.raw(answer)
        if close:
            await wire.close()

    return script


async def hello(request: Request, wire: Wire) -> None:
    """Answers with what was asked for."""
    await wire.reply(f"{request.method} {request.target}".encode())


def transport_of(**options: Any) -> StreamTransport:
    """A transport; TLS is as usual unless the options say otherwise."""
    return StreamTransport(ssl_context=options.pop("ssl_context", _default_context), **options)


def pool_of(transport: StreamTransport) -> Pool:
    """The pool of the running loop."""
    return transport._pools[asyncio.get_running_loop()]


def _default_context() -> ssl.SSLContext:
    return ssl.create_default_context()


@asynccontextmanager
async def client_of(
    transport: StreamTransport | None = None, **timeouts: float | None
) -> AsyncIterator[tuple[httpx.AsyncClient, StreamTransport]]:
    """A client with these timeouts and no others. At its end nothing is in use, then all closed."""
    transport = transport or transport_of()
    limits = httpx.Timeout(**{"timeout": None, **timeouts})
    async with httpx.AsyncClient(transport=transport, timeout=limits, trust_env=False) as client:
        yield client, transport
        assert transport.open_connections == transport.idle_connections
    assert transport.open_connections == 0


@asynccontextmanager
async def pool_at(
    script: Script, **options: Any
) -> AsyncIterator[tuple[ScriptServer, httpx.AsyncClient, StreamTransport]]:
    """A server, and a client whose transport has these options; `timeouts` are httpx's."""
    timeouts = options.pop("timeouts", {})
    async with (
        ScriptServer(script) as server,
        client_of(transport_of(**options), **timeouts) as (client, transport),
    ):
        yield server, client, transport
    assert server.failures == []


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until `condition()` holds."""
    async with asyncio.timeout(2):
        while not condition():
            await asyncio.sleep(0.001)
