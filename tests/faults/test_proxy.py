"""The fault proxy damages what it relays, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from adapter_api.faults import PASS, Damage, FaultProxy, Request, ScriptServer, Wire, proxy

EVENTS = [b"data: one\n\n", b"data: two\n\n", b"data: three\n\n"]
BODY = b"".join(EVENTS)


async def _events(request: Request, wire: Wire) -> None:
    """Answer in chunks that are not events, or with what was sent."""
    if request.path == "/echo":
        await wire.reply({"target": request.target, "got": request.body.decode()})
        return
    await wire.stream_head({"X-Kept": "yes"})
    await wire.chunk(BODY[:15])
    await wire.chunk(BODY[15:])
    await wire.end()


@asynccontextmanager
async def _client(damage: Damage) -> AsyncIterator[tuple[httpx.AsyncClient, FaultProxy]]:
    async with (
        ScriptServer(_events) as server,
        FaultProxy(server.base_url, damage) as front,
        httpx.AsyncClient(base_url=front.base_url, trust_env=False, timeout=5.0) as client,
    ):
        yield client, front


async def _read(client: httpx.AsyncClient) -> tuple[bytes, str]:
    """Return the body as far as it came, and the name of the error that ended it."""
    body = b""
    try:
        async with client.stream("POST", "/v1/x", content=b"{}") as response:
            async for data in response.aiter_raw():
                body += data
    except httpx.TransportError as exc:
        return body, type(exc).__name__
    return body, ""


async def test_without_damage_it_is_transparent() -> None:
    """Path, query, body, status, headers and answer pass; the pieces are the events."""
    async with _client(PASS) as (client, front):
        echo = (await client.post("/echo?a=1", content=b"hi")).json()
        assert echo == {"target": "/echo?a=1", "got": "hi"}
        response = await client.post("/v1/x", content=b"{}")
        assert (response.headers["x-kept"], response.content) == ("yes", BODY)
        assert front.answers[-1].sent == EVENTS


@pytest.mark.parametrize(
    ("damage", "body", "error"),
    [
        (proxy.cut(0, "end"), b"", ""),
        (proxy.cut(2, "end"), b"".join(EVENTS[:2]), ""),
        (proxy.cut(1, "close"), EVENTS[0], "RemoteProtocolError"),
        (proxy.cut(1, "reset"), EVENTS[0], "ReadError"),
        (proxy.cut(1, "end", inside=True), EVENTS[0] + EVENTS[1][:5], ""),
        (proxy.drip(9), BODY, ""),
        (proxy.delay(0.5), BODY, ""),
        (proxy.double(1), EVENTS[0] + EVENTS[1] * 2 + EVENTS[2], ""),
        (proxy.swap(0), EVENTS[1] + EVENTS[0] + EVENTS[2], ""),
        (proxy.report_error(1, b"!", rest=False), EVENTS[0] + b"!", ""),
        (proxy.report_error(1, b"!", rest=True), EVENTS[0] + b"!" + EVENTS[1] + EVENTS[2], ""),
        (proxy.stall(-1), b"", "ReadTimeout"),
        (proxy.stall(1), EVENTS[0], "ReadTimeout"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
async def test_damage(damage: Damage, body: bytes, error: str) -> None:
    """Each damage is what its name says."""
    async with _client(damage) as (client, _):
        assert await _read(client) == (body, error)


async def test_refusals_replace_the_answer() -> None:
    """The status and the body are the proxy's."""
    async with _client(proxy.refuse(503)) as (client, _):
        response = await client.post("/v1/x")
        assert (response.status_code, response.json()["error"]["code"]) == (503, 503)
    async with _client(proxy.refuse(200, html=True)) as (client, _):
        response = await client.post("/v1/x")
        assert response.headers["content-type"] == "text/html"


async def test_a_client_that_goes_ends_the_relay() -> None:
    """The server behind sees its connection closed when the client closes its own."""
    seen: list[Wire] = []

    async def endless(request: Request, wire: Wire) -> None:
        seen.append(wire)
        await wire.stream_head()
        await wire.chunk(EVENTS[0])
        await wire.wait_closed()

    async with ScriptServer(endless) as server, FaultProxy(server.base_url) as front:
        async with (
            httpx.AsyncClient(base_url=front.base_url, trust_env=False) as client,
            client.stream("POST", "/") as response,
        ):
            assert await anext(response.aiter_raw()) == EVENTS[0]
        async with asyncio.timeout(1.0):
            await seen[0].connection.gone.wait()


async def test_a_server_that_is_gone_closes_the_connection() -> None:
    """The client sees a connection that ends without an answer."""
    async with ScriptServer(_events) as server:
        url = server.base_url
    async with FaultProxy(url) as front, httpx.AsyncClient(base_url=front.base_url) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/")


async def test_a_reset_of_a_connection_that_has_just_closed() -> None:
    """It needs none, and none fails the script: the socket may close while the reset waits."""

    async def late(_: Request, wire: Wire) -> None:
        real = wire._transport
        taken = real.get_extra_info("socket").dup()
        taken.close()

        class Closed(asyncio.Transport):
            def get_extra_info(self, name: str, default: object = None) -> object:
                return taken

            def abort(self) -> None:
                real.abort()

        wire._transport = Closed()
        await wire.reset()

    async with ScriptServer(late) as server, httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.TransportError):
            await client.post(server.base_url)
    assert server.failures == []
