"""A connection in memory, and readers of its answers."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence

import attrs
import httpx

from adapters.http_util import Connection
from adapters.http_util.transport.connection import READ_BUFFER_BYTES

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


class Memory(asyncio.Transport):
    """A transport without a socket, for feeding a connection byte by byte."""

    def __init__(self, protocol: Connection) -> None:
        super().__init__()
        self.protocol = protocol
        self.paused = False
        self.aborted = False
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Goes nowhere."""

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0

    def is_closing(self) -> bool:
        """As asyncio's."""
        return self.aborted

    def abort(self) -> None:
        """As asyncio's: the protocol hears of it in the next turn."""
        if not self.aborted:
            self.aborted = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def pause_reading(self) -> None:
        """Noted."""
        self.paused = True

    def resume_reading(self) -> None:
        """Noted."""
        self.paused = False

    def feed(self, pieces: Iterable[bytes]) -> None:
        """Deliver `pieces` while the connection reads."""
        for piece in pieces:
            for start in range(0, len(piece), READ_BUFFER_BYTES):
                part = piece[start : start + READ_BUFFER_BYTES]
                if part and not self.aborted:
                    self.protocol.get_buffer(-1)[: len(part)] = part
                    self.protocol.buffer_updated(len(part))

    def end(self) -> None:
        """Let the peer close."""
        if not self.aborted:
            self.protocol.eof_received()
            self.abort()


def in_memory() -> tuple[Connection, Memory]:
    """A connection that is fed by hand."""
    connection = Connection(memoryview(bytearray(READ_BUFFER_BYTES)), lambda _: None)
    return connection, Memory(connection)


async def exchange(connection: Connection, transport: Memory, pieces: Iterable[bytes]) -> None:
    """Send a request; the head of the answer is among `pieces`."""
    sending = asyncio.create_task(connection.send(GET))
    await asyncio.sleep(0)
    transport.feed(pieces)
    await sending


@attrs.frozen
class Answer:
    """The parsed answer."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


async def whole(pieces: Sequence[bytes]) -> Answer | None:
    """The answer in `pieces`, after which the server closes; None if it is refused."""
    connection, transport = in_memory()
    sending = asyncio.create_task(connection.send(GET))
    await asyncio.sleep(0)
    transport.feed(pieces)
    transport.end()
    try:
        await sending
        body = [piece async for piece in body_of(connection)]
    except (httpx.ReadError, httpx.RemoteProtocolError):
        return None
    finally:
        await connection.aclose()
    return Answer(connection.status, b"".join(body), tuple(connection.headers))


async def body_of(connection: Connection) -> AsyncIterator[bytes]:
    """Yield the body of the connection's answer as it is read."""
    while piece := await connection.read():
        yield piece
