"""The client: limits, HTTP/2, proxies and bodies, whatever the transport (HTU-1001)."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
import trustme

from adapter_api.faults import Request, ScriptServer, Wire
from adapters.http_util import (
    BodyStream,
    ClientOptions,
    StreamTransport,
    body_reader,
    make_client,
    make_transport,
    read_bounded,
)
from tests.adapters.http_util.conftest import hello
from tests.certificates import server_context


async def test_the_client_has_the_house_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTU-1001: connect limit, no read limit, no redirects, nothing from the environment."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with ScriptServer(hello) as server, make_client(ClientOptions()) as client:
        assert client.timeout.connect == 5.0
        assert client.timeout.read is client.timeout.write is None
        assert client.timeout.pool is not None
        assert not client.follow_redirects
        assert not client.trust_env
        assert (await client.get(server.base_url + "/x")).text == "GET /x"
        assert server.requests[0].headers["accept-encoding"] == "identity"
    async with make_client(ClientOptions(connect_timeout_s=0.5)) as client:
        assert client.timeout.connect == 0.5


async def test_a_transport_of_the_callers_is_used() -> None:
    """A caller may pass a transport."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text="mock"))
    async with make_client(ClientOptions(), transport) as client:
        assert (await client.get("http://nowhere")).text == "mock"


def test_options_hide_the_proxy_whose_url_may_hold_a_password() -> None:
    """HTU-1004."""
    assert "hunter2" not in repr(ClientOptions(proxy="http://me:hunter2@proxy:3128"))


def test_http2_without_its_package_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTU-1001: it says what to install; HTTP/1.1 needs nothing."""
    monkeypatch.setitem(sys.modules, "h2", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r"pip install 'worker-adapters\[http2\]'"):
        make_transport(ClientOptions(http2=True))
    assert isinstance(make_transport(ClientOptions()), StreamTransport)


async def test_our_transport_unless_http2_or_a_proxy_is_configured() -> None:
    """HTU-1001: HTTP/2 and proxies only when named, and then by httpx's own transport."""
    for options, kind in [
        (ClientOptions(), StreamTransport),
        (ClientOptions(http2=True), httpx.AsyncHTTPTransport),
        (ClientOptions(proxy="http://127.0.0.1:9"), httpx.AsyncHTTPTransport),
    ]:
        transport = make_transport(options)
        assert type(transport) is kind
        await transport.aclose()


class H2Server(asyncio.Protocol):
    """Answers HTTP/2 with "two" and HTTP/1.1 with "one"; remembers what handshakes agreed on."""

    def __init__(self, agreed: list[str | None]) -> None:
        self._agreed = agreed
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        chosen = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        self._agreed.append(chosen)
        if chosen == "h2":
            self._h2.initiate_connection()
            transport.write(self._h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        if self._agreed[-1] != "h2":
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")
            return
        for event in self._h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self._h2.send_headers(event.stream_id, [(":status", "200")])
                self._h2.send_data(event.stream_id, b"two", end_stream=True)
        self._transport.write(self._h2.data_to_send())


async def test_http2_is_used_only_where_it_is_configured(
    authority: trustme.CA, ca_file: str
) -> None:
    """HTU-1001: an adapter with http2=True does not make the others of the process offer it."""
    agreed: list[str | None] = []
    context = server_context(authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: H2Server(agreed), "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        for http2, expected in [(True, "two"), (False, "one")]:
            async with make_client(ClientOptions(ca_file=ca_file, http2=http2)) as client:
                assert (await client.get(url)).text == expected
    finally:
        server.close()
        await asyncio.sleep(0.01)  # until the connections are closed too
    assert agreed == ["h2", "http/1.1"]


# Proxies


class Proxy:
    """A forward proxy: absolute URLs for http, CONNECT for https. Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.headers: list[str] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Its URL, while it runs."""
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await self._serve(reader, writer)
            except (ConnectionError, asyncio.CancelledError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, _, headers = head.partition("\r\n")
        self.asked.append(line)
        self.headers.append(headers)
        method, target, _ = line.split(" ")
        url = httpx.URL(f"//{target}" if method == "CONNECT" else target)
        upstream, up_writer = await asyncio.open_connection(url.host, url.port)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Established\r\n\r\n")
        else:
            up_writer.write(f"{method} {url.raw_path.decode()} HTTP/1.1\r\n{headers}".encode())

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            sink.close()

        try:
            await asyncio.gather(pump(reader, up_writer), pump(upstream, writer))
        finally:
            up_writer.close()


async def test_a_proxy_that_is_named_is_used(authority: trustme.CA, ca_file: str) -> None:
    """OC-ADAPT-OAI 6021: absolute URLs for http, a verified tunnel for https; with its password."""
    proxy = Proxy()
    async with (
        proxy.serving() as proxy_url,
        ScriptServer(hello) as plain,
        ScriptServer(hello, tls=server_context(authority)) as secure,
    ):
        options = ClientOptions(proxy=proxy_url.replace("://", "://me:pw@"), ca_file=ca_file)
        async with make_client(options) as client:
            assert (await client.get(plain.base_url + "/a")).text == "GET /a"
            assert (await client.get(secure.base_url + "/b")).text == "GET /b"
        assert proxy.asked == [
            f"GET {plain.base_url}/a HTTP/1.1",
            f"CONNECT 127.0.0.1:{secure.port} HTTP/1.1",
        ]
        assert all("proxy-authorization: basic " in headers.lower() for headers in proxy.headers)
        assert "proxy-authorization" not in secure.requests[0].headers


@pytest.mark.parametrize("proxy", ["http://user:SECRET@host:SECRET", "http://:SECRET", "ftp://x"])
def test_a_wrong_proxy_is_refused_without_being_shown(proxy: str) -> None:
    """httpx's own errors repeat what stands in the place of the port."""
    with pytest.raises(ValueError, match="proxy must be a URL such as") as caught:
        make_transport(ClientOptions(proxy=proxy))
    assert caught.value.__context__ is None


# Bodies


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_the_body_of_any_transport_is_read_piece_by_piece() -> None:
    """Empty pieces are left out: b"" means the end, again and again."""
    response = httpx.Response(200, content=_pieces(b"", b"a", b"", b"b"))
    read = body_reader(response)
    assert [await read() for _ in range(4)] == [b"a", b"b", b"", b""]


async def test_the_body_of_our_transport_is_read_without_detours() -> None:
    """The reader is the connection's own."""
    async with (
        ScriptServer(hello) as server,
        make_client(ClientOptions()) as client,
        client.stream("GET", server.base_url) as response,
    ):
        body = response.extensions["body_stream"]
        assert isinstance(body, BodyStream)
        read = body_reader(response)
        assert read == body.read
        assert await read() == b"GET /"
        assert await read() == b""


@pytest.mark.parametrize("max_bytes", [0, 1, 3, 4, 6, 7, 100])
async def test_a_bounded_read_stops_at_its_bound(max_bytes: int) -> None:
    """For every split into pieces, no further byte is returned."""
    response = httpx.Response(200, content=_pieces(b"ab", b"cd", b"ef"))
    assert await read_bounded(response, max_bytes) == b"abcdef"[:max_bytes]


async def test_a_bounded_read_of_an_endless_body_ends() -> None:
    """At most one piece is read beyond the bound."""

    async def endless(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        while not wire.gone:
            await wire.chunk(b"x" * 10_000)

    async with ScriptServer(endless) as server, make_client(ClientOptions()) as client:
        async with client.stream("GET", server.base_url) as response:
            assert await read_bounded(response, 15_000) == b"x" * 15_000
        assert await server.all_closed()
