"""One connection: where bodies end, and what is bounded."""

import asyncio

import httpx
import pytest

from adapters.http_util.transport.connection import MAX_HEAD_BYTES
from tests.adapters.http_util.transport.in_memory import GET, body_of, exchange, in_memory, whole

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


# Framing


@pytest.mark.parametrize(
    ("answer", "body", "reusable"),
    [
        (OK, b"ok", True),
        (CHUNKED + b"2\r\nok\r\n0\r\n\r\n", b"ok", True),
        (CHUNKED + b"1\r\no\r\n1;a=b\r\nk\r\n0\r\nT: x\r\n\r\n", b"ok", True),
        (b"HTTP/1.1 200 OK\r\n\r\nok", b"ok", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok", b"ok", False),
        (b"HTTP/1.0 200 OK\r\n\r\nok", b"ok", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", b"ok", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nokmore", b"ok", False),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", b"", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b"", True),
        (b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\n" + OK, b"ok", True),
        (b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 199 ?\r\nX: y\r\n\r\n" + OK, b"ok", True),
        (OK + b"junk", b"ok", False),
        (OK + b"H", b"ok", False),
        (OK + b"HTTP/1.1 404 Evil\r\nX: y\r\nContent-Length: 4\r\n\r\nevil", b"ok", False),
        (CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + OK, b"ok", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("bytewise", [False, True])
async def test_where_a_body_ends_and_whether_another_may_follow(
    answer: bytes, body: bytes, reusable: bool, bytewise: bool
) -> None:
    """Length, chunks, end of the connection; what comes after the answer is not part of it."""
    connection, transport = in_memory()
    pieces = [bytes([byte]) for byte in answer] if bytewise else [answer]
    await exchange(connection, transport, pieces)
    if not reusable:
        connection.eof_received()
    assert b"".join([piece async for piece in body_of(connection)]) == body
    assert connection.reusable is reusable
    assert connection.status == int(answer.rpartition(b"HTTP/1.")[2][2:5]) or b"Evil" in answer
    assert (b"X", b"y") not in connection.headers
    assert (b"T", b"x") not in connection.headers
    assert (b"Link", b"x") not in connection.headers
    await connection.aclose()


async def test_head_is_answered_without_a_body() -> None:
    """And its connection is not used again: llhttp would wait for the body."""
    connection, transport = in_memory()
    sending = asyncio.create_task(connection.send(GET, bodiless=True))
    await asyncio.sleep(0)
    transport.feed([b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"])
    await sending
    assert await connection.read() == b""
    assert not connection.reusable
    await connection.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\nmore",
        b"HTTP/1.1 099 Early\r\n\r\n" + OK,
        b"HTTP/1.1 150 Odd\r\nContent-Length: 5\r\n\r\nhello" + OK,
        b"HTTP/1.1 150 Odd\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + OK,
        b"HTTP/1.1 103 Early\r\nContent-Length: 5\r\n\r\n" + OK,
    ],
)
async def test_false_interim_answers_are_refused(answer: bytes) -> None:
    """RFC 9110, 15.2: they have no body, which could be taken for a part of the answer's."""
    assert await whole([answer]) is None
    connection, transport = in_memory()
    with pytest.raises(httpx.RemoteProtocolError):
        await exchange(connection, transport, [answer])
    await connection.aclose()


@pytest.mark.parametrize(
    "coding",
    [b"gzip", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"x", b"", b"chunked;q=1",
     b"chunked\r\nTransfer-Encoding: chunked", b"chunked\r\nTransfer-Encoding: identity",
     b"identity\r\nTransfer-Encoding: chunked"],
)  # fmt: skip
async def test_unrequested_transfer_codings_are_refused(coding: bytes) -> None:
    """Compressed or doubly framed bodies are refused; only chunked and identity are accepted."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + coding + b"\r\n\r\n"
    assert await whole([head + b"2\r\nok\r\n0\r\n\r\n"]) is None


@pytest.mark.parametrize(
    ("answer", "given_first"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", [b"ok"]),
        (CHUNKED + b"2\r\nok\r\n", [b"ok"]),
        (CHUNKED + b"5\r\nok", [b"ok"]),
        (CHUNKED + b"2\r\nok\r\n0\r\nT: x\r\n", [b"ok"]),
        (CHUNKED, []),
    ],
)
async def test_a_body_that_is_cut_is_given_and_then_refused(
    answer: bytes, given_first: list[bytes]
) -> None:
    """Received data is returned first, then each read raises the error."""
    connection, transport = in_memory()
    await exchange(connection, transport, [answer])
    transport.end()
    for expected in given_first:
        assert await connection.read() == expected
    for _ in range(2):
        with pytest.raises(httpx.ReadError, match="closed the connection"):
            await connection.read()


async def test_a_broken_connection_says_why() -> None:
    """A reset names its cause; until-close bodies do not end by a reset."""
    connection, transport = in_memory()
    await exchange(connection, transport, [b"HTTP/1.1 200 OK\r\n\r\nok"])
    connection.connection_lost(ConnectionResetError(104, "reset by peer"))
    assert await connection.read() == b"ok"
    with pytest.raises(httpx.ReadError, match="reset by peer"):
        await connection.read()
    assert transport.aborted


# Bounds


@pytest.mark.parametrize(
    ("before", "endless"),
    [
        (b"", b"\r\n"),
        (b"HTTP/1.1 200 O", b"K"),
        (b"HTTP/1.1 200 OK\r\nX", b"x"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (CHUNKED + b"2;", b"a"),
        (CHUNKED + b"2\r\nok\r\n0\r\n", b"T: x\r\n"),
        (CHUNKED + b"2\r\nok\r\n0\r\nT: ", b"x"),
        (CHUNKED, b"0"),
    ],
)
async def test_data_outside_the_body_is_bounded(before: bytes, endless: bytes) -> None:
    """Heads, interim answers, chunk sizes, extensions and trailers end after 64 KiB."""
    connection, transport = in_memory()
    sending = asyncio.create_task(connection.send(GET))
    await asyncio.sleep(0)
    transport.feed([before])
    fed = 0
    while not transport.aborted:
        transport.feed([endless * (997 // len(endless) + 1)])
        fed += 997
        assert fed < MAX_HEAD_BYTES + 5000
    with pytest.raises(httpx.RemoteProtocolError):
        await sending
        while await connection.read():
            pass


async def test_long_heads_below_the_bound_are_read() -> None:
    """60 KiB of headers are unusual, but no attack."""
    answer = b"HTTP/1.1 200 OK\r\nX: " + b"y" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n"
    got = await whole([answer[n : n + 1000] for n in range(0, len(answer), 1000)])
    assert got is not None
    assert len(got.headers[0][1]) == 60_000


async def test_framing_of_many_small_chunks_is_accepted() -> None:
    """The bound is for what comes between two pieces of body."""
    answer = CHUNKED + b"1;x=yyyyyyyyyyyyyyyy\r\na\r\n" * 10_000 + b"0\r\n\r\n"
    got = await whole([answer])
    assert got is not None
    assert got.body == b"a" * 10_000
