"""The transport over real sockets: connecting, backpressure and TLS."""

import asyncio
import datetime
import socket
import ssl
from typing import Any

import httpx
import pytest

from adapter_api.faults import Request, ScriptServer, Wire
from adapters.http_util import NoTls, StreamTransport, error_from_exception
from adapters.http_util.transport.connection import MAX_UNREAD_BYTES
from tests.adapters.http_util.conftest import OK, client_of, pool_at, raw, transport_of, until
from tests.certificates import tls_pair
from tests.silent_port import silent_port

# Connecting


async def test_connecting_fails_as_httpx_says() -> None:
    """Refused, and unknown: the error names host and port, and nothing stays open."""
    async with client_of(connect=1.0) as (client, transport):
        with pytest.raises(httpx.ConnectError, match=r"127\.0\.0\.1:9"):
            await client.get("http://127.0.0.1:9")
        with pytest.raises(httpx.ConnectError, match="no-such-host"):
            await client.get("http://no-such-host.invalid")
        with pytest.raises(httpx.UnsupportedProtocol, match="http:// or https://, not ftp"):
            await client.get("ftp://127.0.0.1")
        assert transport.open_connections == 0


@pytest.mark.parametrize(
    "url",
    [f"http://{'a' * 64}.example", "http://a..example", "https://.example", "http://127.0.0.1:99999",
     "http://127.0.0.1:0", "http://a%20b"],
)  # fmt: skip
async def test_impossible_addresses_are_connect_errors(url: str) -> None:
    """A name that no resolver accepts raises the same kind of exception."""
    async with client_of() as (_, transport):
        with pytest.raises(httpx.ConnectError):
            await transport.handle_async_request(httpx.Request("GET", url))
        assert transport.open_connections == 0


async def test_an_international_host_is_looked_up_as_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """IDNA 2008 for the look-up as for the Host header; Python's own codec would say strasse."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, flags: int = 0, **kwargs: Any) -> list[Any]:
        if flags:
            raise OSError("not an address")
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with pool_at(raw(OK)) as (server, client, _):
        await client.get(f"http://straße.example:{server.port}")
        assert asked == ["xn--strae-oqa.example"]
        assert server.requests[0].headers["host"] == f"xn--strae-oqa.example:{server.port}"


async def test_connecting_has_a_limit() -> None:
    """ADAPT-3005: for TCP as for TLS; what was opened is closed."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client gives up
        assert await reader.read() == b""
        ended.set()
        writer.close()

    ended = asyncio.Event()
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with client_of(connect=0.1) as (client, transport):
        with pytest.raises(httpx.ConnectTimeout, match=r"in 0\.1 s"):
            await client.get(f"https://127.0.0.1:{port}")
        assert transport.open_connections == 0
        await asyncio.wait_for(ended.wait(), 1)
        with silent_port() as full, pytest.raises(httpx.ConnectTimeout):
            await client.get(f"http://127.0.0.1:{full}")
        assert transport.open_connections == 0
    server.close()


async def test_read_timeouts_of_httpx_are_kept() -> None:
    """A read timeout raises ReadTimeout, before and in the body."""

    async def script(request: Request, wire: Wire) -> None:
        if request.path == "/body":
            await wire.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok")
        await wire.until_closed()

    async with pool_at(script, timeouts={"read": 0.1}) as (server, client, transport):
        for path in ("/", "/body"):
            with pytest.raises(httpx.ReadTimeout) as caught:
                await client.get(server.base_url + path)
            code = error_from_exception(caught.value, answering=path == "/body").code
            assert code == ("DECODE_TIMEOUT" if path == "/body" else "POOL_UNAVAILABLE")
            assert transport.open_connections == 0
        assert await server.all_closed()


# Backpressure


@pytest.mark.parametrize("tls", [False, True])
async def test_who_does_not_read_stops_the_sender(tls: bool) -> None:
    """The buffer is bounded; data flows again when it is read, and nothing is missing."""
    chunk, count = bytes(range(256)) * 256, 600

    async def script(request: Request, wire: Wire) -> None:
        await wire.start(200, {"Transfer-Encoding": "chunked"})
        for _ in range(count):
            await wire.chunk(chunk)
        await wire.end()

    server_context, client_context = tls_pair()
    async with (
        ScriptServer(script, tls=server_context if tls else None) as server,
        client_of(transport_of(ssl_context=lambda: client_context)) as (client, _),
        client.stream("GET", server.base_url) as response,
    ):
        sent = -1
        while sent < server.connections[0].sent_bytes:
            sent = server.connections[0].sent_bytes
            await asyncio.sleep(0.1)
        assert sent < count * len(chunk) / 2
        body = response.extensions["body_stream"]
        assert body._connection._unread_bytes <= MAX_UNREAD_BYTES + 65536
        size = 0
        async for piece in response.aiter_raw():
            assert piece[:1] == chunk[size % 256 :][:1]
            size += len(piece)
        assert size == count * len(chunk)


# TLS


async def test_tls_is_verified() -> None:
    """HTU-1001: an unknown authority is refused by name; large bodies of a known one are intact."""
    server_context, trusting = tls_pair()
    blob = bytes(range(256)) * 20_000

    async def script(request: Request, wire: Wire) -> None:
        await wire.reply(blob)

    async with ScriptServer(script, tls=server_context) as server:
        async with client_of() as (client, transport):
            with pytest.raises(httpx.ConnectError, match="the certificate is not trusted: "):
                await client.get(server.base_url)
            assert transport.open_connections == 0
        async with client_of(transport_of(ssl_context=lambda: trusting)) as (client, transport):
            for _ in range(3):
                response = await client.post(server.base_url, content=blob)
                assert response.content == blob
            assert transport.open_connections == 1
            assert {len(request.body) for request in server.requests} == {len(blob)}


async def test_a_certificate_for_another_name_is_refused() -> None:
    """HTU-1001: who answers must be who was called."""
    server_context, trusting = tls_pair()
    async with (
        ScriptServer(raw(OK), tls=server_context) as server,
        client_of(transport_of(ssl_context=lambda: trusting)) as (client, _),
    ):
        with pytest.raises(httpx.ConnectError, match=r"not trusted: .*mismatch.*name into the URL"):
            await client.get(f"https://localhost:{server.port}")


async def test_an_expired_certificate_is_not_a_matter_of_authorities() -> None:
    """The advice is the one that helps."""
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    server_context, trusting = tls_pair(not_before=past, not_after=past)
    async with (
        ScriptServer(raw(OK), tls=server_context) as server,
        client_of(transport_of(ssl_context=lambda: trusting)) as (client, _),
    ):
        with pytest.raises(httpx.ConnectError, match=r"expired\. The operator .* must renew it"):
            await client.get(server.base_url)


async def test_a_server_that_speaks_no_tls_is_a_connect_error() -> None:
    """https to an http port, and the other way round."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with client_of() as (client, _):
        with pytest.raises(
            NoTls, match=r"does not speak TLS at this port\. Write http://"
        ) as caught:
            await client.get(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert not error_from_exception(caught.value).retriable
    server.close()
    server_context, _ = tls_pair()
    async with ScriptServer(raw(OK), tls=server_context) as secure, client_of() as (client, _):
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await client.get(f"http://127.0.0.1:{secure.port}")


async def test_a_tls_connection_is_closed_without_waiting_for_a_goodbye() -> None:
    """A peer that hangs must not keep a connection of ours open."""
    server_context, trusting = tls_pair()

    async def hang(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        await wire.until_closed()

    async with (
        ScriptServer(hang, tls=server_context) as server,
        client_of(transport_of(ssl_context=lambda: trusting)) as (client, transport),
    ):
        async with client.stream("GET", server.base_url):
            assert transport.open_connections == 1
        assert transport.open_connections == 0
        assert await server.all_closed(1)


async def test_the_configuration_of_tls_is_made_when_it_is_needed() -> None:
    """Not for http, and once per connection for https."""
    made: list[ssl.SSLContext] = []
    server_context, trusting = tls_pair()

    def context() -> ssl.SSLContext:
        made.append(trusting)
        return trusting

    transport = StreamTransport(ssl_context=context)
    async with (
        ScriptServer(raw(OK)) as plain,
        ScriptServer(raw(OK), tls=server_context) as secure,
        client_of(transport) as (client, _),
    ):
        await client.get(plain.base_url)
        assert not made
        await client.get(secure.base_url)
        await client.get(secure.base_url)
        assert len(made) == 1
        await until(lambda: transport.idle_connections == 2)
