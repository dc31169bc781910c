"""One connection: what llhttp and asyncio make of the bytes of one server."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from adapters.http_util import Connection
from adapters.http_util.transport.connection import (
    MAX_UNREAD_BYTES,
    READ_BUFFER_BYTES,
)
from tests.adapters.http_util.transport.in_memory import GET, exchange, in_memory

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


# Over a socket


@asynccontextmanager
async def connected(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object],
) -> AsyncIterator[Connection]:
    """A connection to a server that does what `serve` says."""
    tasks: set[asyncio.Task[None]] = set()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)  # type: ignore[misc]
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    closed: list[Connection] = []
    buffer = memoryview(bytearray(READ_BUFFER_BYTES))
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: Connection(buffer, closed.append), *server.sockets[0].getsockname()
    )
    try:
        yield connection
    finally:
        await connection.aclose()
        assert closed == [connection]
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every request with "ok"."""
    while True:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)


async def test_one_exchange_after_the_other() -> None:
    """Send, read to the end, and again; b"" means the end, again and again."""
    async with connected(answering) as connection:
        for n in (1, 2, 3):
            await connection.send(GET)
            assert connection.status == 200
            assert connection.headers == [(b"Content-Length", b"2")]
            assert [await connection.read() for _ in range(3)] == [b"ok", b"", b""]
            assert connection.reusable
            assert connection.exchanges == n
            connection.rest()


async def test_what_has_arrived_is_read_without_a_task_switch() -> None:
    """The per-token path: no future, no turn of the event loop."""
    connection, transport = in_memory()
    await exchange(connection, transport, [CHUNKED, b"2\r\nab\r\n", b"1\r\nc\r\n"])
    reading = connection.read()
    with pytest.raises(StopIteration) as stopped:
        reading.send(None)
    assert stopped.value.value == b"abc"
    await connection.aclose()


async def test_a_cancelled_read_loses_nothing() -> None:
    """Data that arrives later is returned by the next read."""
    connection, transport = in_memory()
    await exchange(connection, transport, [CHUNKED])
    for _ in range(3):
        reading = asyncio.create_task(connection.read())
        await asyncio.sleep(0)
        reading.cancel()
        transport.feed([b"2\r\nab\r\n"])
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await connection.read() == b"ab"
    await connection.aclose()


async def test_a_connection_that_is_gone_says_so() -> None:
    """Raised before the next request is sent, and to a task that waits for an answer."""
    async with connected(answering) as connection:
        await connection.send(GET)
        await connection.aclose()
        assert not connection.reusable
        assert await connection.read() == b"ok"
        with pytest.raises(httpx.ReadError, match="closed"):
            await connection.send(GET)

    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with connected(hangs_up) as connection:
        with pytest.raises(httpx.ReadError):
            await connection.send(GET)
        assert not connection.received


async def test_closing_is_quick_and_may_be_repeated() -> None:
    """aclose returns when the socket is closed, whatever the peer does, or if there was none."""
    connection = Connection(memoryview(bytearray(1)), lambda _: None)
    connection.abort()
    await connection.aclose()
    async with connected(answering) as connection:
        await asyncio.wait_for(asyncio.gather(*(connection.aclose() for _ in range(3))), 1)
        await connection.aclose()


@pytest.mark.parametrize("is_made", [False, True])
async def test_an_abandoned_connection_is_gone_at_once(is_made: bool) -> None:
    """Whether the event loop made it, or makes it later: told once, and not to be sent to."""
    told: list[Connection] = []
    connection = Connection(memoryview(bytearray(1 << 10)), told.append)
    async with await asyncio.start_server(answering, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        loop = asyncio.get_running_loop()
        if is_made:
            await loop.create_connection(lambda: connection, *address)
        connection.abandon()
        assert told == [connection]
        if not is_made:
            await loop.create_connection(lambda: connection, *address)
        await asyncio.wait_for(connection.aclose(), 1)
        with pytest.raises(httpx.ReadError, match="closed"):
            await connection.send(GET)
        await asyncio.sleep(0.01)
        assert told == [connection]
        assert not connection.reusable


async def test_a_cancelled_close_closes_all_the_same() -> None:
    """The waiting task may be cancelled; the socket is closed."""
    async with connected(answering) as connection:
        closing = asyncio.create_task(connection.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        await asyncio.wait_for(connection.aclose(), 1)
        assert not connection.reusable


async def test_an_answer_to_half_a_request_ends_the_connection() -> None:
    """A server that refuses without reading would take the rest of the body for a request."""

    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await asyncio.sleep(60)

    async with connected(hasty) as connection:
        head = b"POST / HTTP/1.1\r\nContent-Length: 50000000\r\n\r\n"
        await connection.send(head + b"x" * 50_000_000)
        assert connection.status == 413
        assert [await connection.read() for _ in range(2)] == [b"no", b""]
        assert not connection.reusable


async def test_unrequested_bytes_close_an_idle_connection() -> None:
    """Before the first request, and between two."""

    async def talkative(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await reader.read()

    async with connected(talkative) as connection:
        await asyncio.sleep(0.05)
        with pytest.raises(httpx.ReadError):
            await connection.send(GET)

    connection, transport = in_memory()
    await exchange(connection, transport, [OK])
    assert connection.reusable
    connection.rest()
    assert connection.reusable
    transport.feed([b"\r\n"])
    assert not connection.reusable


@pytest.mark.parametrize("lost", [True, False])
async def test_an_idle_connection_that_ends_is_not_used_again(lost: bool) -> None:
    """The same for a peer that closes and one that resets."""
    connection, transport = in_memory()
    await exchange(connection, transport, [OK])
    connection.rest()
    if lost:
        connection.connection_lost(ConnectionResetError())
    else:
        connection.eof_received()
    assert not connection.reusable
    await connection.aclose()


async def test_closed_connections_are_collected() -> None:
    """Nothing keeps one alive after its end."""
    async with connected(answering) as connection:
        await connection.send(GET)
        reference = weakref.ref(connection)
    del connection
    await asyncio.sleep(0)
    gc.collect()
    assert reference() is None


async def test_an_error_is_not_kept_with_its_frames() -> None:
    """They hold the connection, and of the job what was running."""
    connection, transport = in_memory()
    await exchange(connection, transport, [CHUNKED])
    transport.end()
    for _ in range(2):
        with pytest.raises(httpx.ReadError):
            await connection.read()
    assert connection._error is not None
    assert connection._error.__traceback__ is None
    await connection.aclose()


# Backpressure


async def test_the_socket_is_not_read_without_a_reader() -> None:
    """At MAX_UNREAD_BYTES the socket is left alone; reading, or ending, lets it flow again."""
    connection, transport = in_memory()
    size = MAX_UNREAD_BYTES + 1000
    await exchange(connection, transport, [CHUNKED + b"%x\r\n" % size])
    sent = 0
    while not transport.paused:
        transport.feed([b"x" * 1000])
        sent += 1000
        assert sent <= MAX_UNREAD_BYTES + 1000
    assert len(await connection.read()) == sent
    assert not transport.paused
    transport.feed([b"x" * (size - sent), b"\r\n"])
    assert len(await connection.read()) == size - sent
    await connection.aclose()


async def test_an_unread_whole_answer_does_not_block_the_next() -> None:
    """Resting throws the unread rest away and reads again."""
    connection, transport = in_memory()
    size = MAX_UNREAD_BYTES + 1
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    await exchange(connection, transport, [head, b"x" * size])
    assert transport.paused
    assert connection.reusable
    connection.rest()
    assert not transport.paused
    await exchange(connection, transport, [OK])
    assert await connection.read() == b"ok"
    await connection.aclose()
