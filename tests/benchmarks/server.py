"""A loopback server that costs its clients nothing: ready chunks, from another process."""

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.queues import Queue

TEXT = " token"

_CHUNK = (
    b'data: {"id":"cmpl-1","object":"text_completion","created":1795397022,"model":"bench",'
    b'"choices":[{"index":0,"text":" token","logprobs":null,"finish_reason":null}]}\n\n'
)
_LAST = (
    b'data: {"id":"cmpl-1","object":"text_completion","created":1795397022,"model":"bench",'
    b'"choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}]}\n\n'
)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_TAIL = _framed(_LAST) + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"
_TOKEN = _framed(_CHUNK)


async def _answer(head: bytes, writer: asyncio.StreamWriter) -> None:
    """The path says what to send: /<tokens>/<tokens a write>/<microseconds between writes>/..."""
    tokens, batch, pause_us = (int(part) for part in head.split(b"/")[1:4])
    writer.write(_HEAD)
    while tokens > 0:
        writer.write(_TOKEN * min(batch, tokens))
        tokens -= batch
        await writer.drain()
        if pause_us:
            await asyncio.sleep(pause_us / 1e6)
    writer.write(_TAIL)
    await writer.drain()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            await reader.readexactly(length)
            await _answer(head, writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _main(ports: "Queue[int]") -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0, backlog=4096)
    ports.put(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _run(ports: "Queue[int]") -> None:
    asyncio.run(_main(ports))


@contextmanager
def loopback_server() -> Iterator[int]:
    """Runs the server in another process; gives its port."""
    context = multiprocessing.get_context("spawn")
    ports: Queue[int] = context.Queue()
    process = context.Process(target=_run, args=(ports,), daemon=True)
    process.start()
    try:
        yield ports.get(timeout=30)
    finally:
        process.terminate()
        process.join()
