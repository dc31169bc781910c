"""The transport over real sockets: HTTP/1.1 as servers speak it, and as they should not."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from adapter_api.faults import Request, Wire
from adapters.http_util.transport.connection import MAX_HEAD_BYTES
from tests.adapters.http_util.conftest import OK, client_of, pool_at, raw

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


# Answers


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK, b"ok"),
        (CHUNKED + b"1\r\no\r\n1;x=y\r\nk\r\n0\r\nT: x\r\n\r\n", b"ok"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 200\r\ncontent-length:2\r\n\r\nok", b"ok"),
    ],
)
async def test_bodies_of_every_framing_keep_the_connection(answer: bytes, body: bytes) -> None:
    """Three requests, one connection; interim answers are skipped."""
    async with pool_at(raw(answer)) as (server, client, transport):
        for _ in range(3):
            assert (await client.get(server.base_url)).content == body
        assert len(server.connections) == 1
        assert transport.idle_connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nok",
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        OK + b"junk",
    ],
)
async def test_answers_that_end_their_connection(answer: bytes) -> None:
    """After close, HTTP/1.0, until-close or extra bytes, the next request gets a new connection."""
    async with pool_at(raw(answer, close=True)) as (server, client, transport):
        for _ in range(3):
            response = await client.get(server.base_url)
            assert response.content == b"ok"
        assert transport.open_connections == 0
        assert len(server.connections) == 3


async def test_an_answer_is_reported_as_by_httpx() -> None:
    """Status, reason, headers and version are returned; the body is read only on request."""
    answer = (
        b"HTTP/1.1 418 I'm a teapot\r\nX: 1\r\nX: 2\r\nY: \xe4\r\nZ:\r\nContent-Length: 2\r\n\r\nok"
    )
    async with pool_at(raw(answer)) as (server, client, _):
        async with client.stream("GET", server.base_url + "/a%20b?c=d") as response:
            assert (response.status_code, response.reason_phrase) == (418, "I'm a teapot")
            assert response.http_version == "HTTP/1.1"
            assert response.headers.get_list("x") == ["1", "2"]
            assert (response.headers["y"], response.headers["z"]) == ("ä", "")
            assert not response.is_stream_consumed
        assert server.requests[0].target == "/a%20b?c=d"
        assert server.requests[0].headers["host"] == f"127.0.0.1:{server.port}"


async def test_head_has_no_body() -> None:
    """HEAD is answered with headers only, whatever they announce."""
    async with pool_at(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")) as (
        server,
        client,
        _,
    ):
        for _ in range(2):
            assert (await client.head(server.base_url)).headers["content-length"] == "99"


BROKEN: list[tuple[bytes, type[Exception]]] = [
    (b"", httpx.ReadError),
    (b"HTTP/1.1 200 OK\r\nConte", httpx.ReadError),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", httpx.ReadError),
    (CHUNKED + b"5\r\nok", httpx.ReadError),
    (CHUNKED + b"2\r\nok\r\n", httpx.ReadError),
    (b"hello", httpx.RemoteProtocolError),
    (b"SSH-2.0-OpenSSH_9.2\r\n", httpx.RemoteProtocolError),
    (CHUNKED + b"zz\r\nok", httpx.RemoteProtocolError),
    (CHUNKED + b"-1\r\nok", httpx.RemoteProtocolError),
    (CHUNKED + b"2\r\nokk\r\n", httpx.RemoteProtocolError),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
     httpx.RemoteProtocolError),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
     b"2\r\nok\r\n0\r\n\r\n", httpx.RemoteProtocolError),
    (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", httpx.RemoteProtocolError),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", httpx.RemoteProtocolError),
    (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
     httpx.RemoteProtocolError),
    (b"HTTP/1.1 150 Odd\r\nContent-Length: 2\r\n\r\nno" + OK, httpx.RemoteProtocolError),
    (b"HTTP/1.1 200 OK\r\n" + b"A: " + b"x" * 200_000, httpx.RemoteProtocolError),
    (b"HTTP/1.1 200 OK\r\n" + b"A: x\r\n" * 50_000, httpx.RemoteProtocolError),
    (b"HTTP/1.1 100 C\r\n\r\n" * 10_000, httpx.RemoteProtocolError),
    (CHUNKED + b"2\r\nok\r\n0\r\n" + b"T: x\r\n" * 50_000, httpx.RemoteProtocolError),
    (CHUNKED + b"2;" + b"x" * 200_000, httpx.RemoteProtocolError),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "kind"), BROKEN, ids=lambda v: str(v)[:60])
async def test_broken_answers_are_httpx_errors(answer: bytes, kind: type[Exception]) -> None:
    """Refused, never guessed; the connection is closed, the next request works."""

    async def script(request: Request, wire: Wire) -> None:
        first = request is server.requests[0]
        await wire.raw(answer if first else OK)
        if first:
            await wire.close()

    async with pool_at(script) as (server, client, transport):
        with pytest.raises(kind):
            await client.get(server.base_url)
        assert transport.open_connections == 0
        assert (await client.get(server.base_url)).content == b"ok"


def test_the_limit_of_heads_is_a_named_one() -> None:
    """64 KiB, as the decision record says."""
    assert MAX_HEAD_BYTES == 65536


async def test_a_reset_in_the_body_breaks_it() -> None:
    """A body without a length ends by a close, never by a reset."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.raw(b"HTTP/1.1 200 OK\r\n\r\nok")
        await wire.reset()

    async with pool_at(script) as (server, client, transport):
        async with client.stream("GET", server.base_url) as response:
            with pytest.raises(httpx.ReadError):
                await response.aread()
        assert transport.open_connections == 0


async def test_a_body_left_in_the_middle_closes_its_connection() -> None:
    """Leaving early does not wait for the rest, and closes the connection at once."""

    async def endless(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        while not wire.gone:
            await wire.chunk(b"x" * 10_000)

    async with pool_at(endless) as (server, client, transport):
        async with client.stream("GET", server.base_url) as response:
            async for _ in response.aiter_raw():
                break
        assert transport.open_connections == 0
        assert await server.all_closed()


# Requests


async def test_a_body_is_uploaded_whole() -> None:
    """With a length, also where httpx would have sent chunks, and once only."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 100_000

    async with pool_at(raw(OK)) as (server, client, _):
        await client.post(server.base_url, content=b"y" * 1_000_000)
        await client.post(server.base_url, content=pieces())
        await client.post(server.base_url, content=b"12345", headers={"Content-Length": "2"})
        await client.post(server.base_url, content=b"", headers={"Transfer-Encoding": "chunked"})
        await client.get(server.base_url)
        sizes = [len(request.body) for request in server.requests]
        assert sizes == [1_000_000, 300_000, 5, 0, 0]
        assert all("transfer-encoding" not in request.headers for request in server.requests)
        lengths = [request.headers.get("content-length") for request in server.requests]
        assert lengths == ["1000000", "300000", "5", "0", None]


async def test_an_early_refusal_of_a_large_body_is_read() -> None:
    """A 413 before the body was read is returned, and the connection is not reused."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await asyncio.sleep(0.2)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with client_of() as (client, transport):
        port = server.sockets[0].getsockname()[1]
        response = await client.post(f"http://127.0.0.1:{port}", content=b"x" * 50_000_000)
        assert (response.status_code, response.content) == (413, b"no")
        assert transport.open_connections == 0
    server.close()
    await asyncio.sleep(0.25)


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b", "a\r"])
async def test_a_line_break_in_a_header_is_refused(value: str) -> None:
    """No request is split in two."""
    async with pool_at(raw(OK)) as (server, client, transport):
        with pytest.raises(httpx.LocalProtocolError, match="line break"):
            await client.get(server.base_url, headers={"X-A": value})
        assert transport.open_connections == 0
        assert server.requests == []


@pytest.mark.parametrize("name", ["X\r\nX-Evil: 1\r\nY", "X Y", "X:", "", "X\0", " X"])
async def test_invalid_header_names_are_refused(name: str) -> None:
    """A header name with a line break is refused, too."""
    async with pool_at(raw(OK)) as (server, client, _):
        with pytest.raises(httpx.LocalProtocolError, match="not a header name"):
            await client.get(server.base_url, headers={name: "1"})
        assert server.requests == []


@pytest.mark.parametrize("method", ["GET / HTTP/1.1\r\nX:", "", "G T", "GÉT"])
async def test_invalid_methods_are_refused(method: str) -> None:
    """A method with a line break is refused, too."""
    async with pool_at(raw(OK)) as (server, client, _):
        with pytest.raises(httpx.LocalProtocolError, match="not an HTTP method"):
            await client.request(method, server.base_url)
        assert server.requests == []
