"""A loopback server that costs its clients nothing: ready chunks, from another process.

The path says what to send: /<tokens>/<tokens a write>/<microseconds between writes>/v1/...
With a pause, each token's text is the time of its write (CLOCK_MONOTONIC is one for all processes).
"""

import asyncio
import multiprocessing
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import cycle, islice
from multiprocessing.queues import Queue
from time import monotonic_ns

import attrs

TEXTS = tuple(f" token{digit}" for digit in range(10))
"""In turn: some clients take one text that comes again and again for a model that hangs."""

STAMP_CHARS = 18
"""A stamped token is " t" and sixteen digits of nanoseconds; fixed, so that all answers compare."""

GRACE_S = 1.0
"""A paced answer begins after it, so that connecting disturbs no token."""

_CHUNK = (
    b'data: {"id":"cmpl-1","object":"text_completion","created":1795397022,"model":"bench",'
    b'"choices":[{"index":0,"text":"%s","logprobs":null,"finish_reason":null}]}\n\n'
)
_LAST = (
    b'data: {"id":"cmpl-1","object":"text_completion","created":1795397022,"model":"bench",'
    b'"choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}]}\n\n'
)
_CHAT_CHUNK = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795397022,'
    b'"model":"bench","choices":[{"index":0,"delta":{"content":"%s"},"logprobs":null,'
    b'"finish_reason":null}]}\n\n'
)
_CHAT_LAST = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795397022,'
    b'"model":"bench","choices":[{"index":0,"delta":{},"logprobs":null,'
    b'"finish_reason":"stop"}]}\n\n'
)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


_WHOLE = (
    b'{"id":"cmpl-1","object":"text_completion","created":1795397022,"model":"bench","choices":'
    b'[{"index":0,"text":"%s","logprobs":null,"finish_reason":"stop"}]}'
) % TEXTS[0].encode()
_WHOLE = (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s") % (
    len(_WHOLE),
    _WHOLE,
)
"""The answer of one token to a request that asks for no stream."""


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _stamped(chunk: bytes) -> bytes:
    """A format that takes the time; its length is that of every stamped chunk."""
    whole = chunk % b" t%016d"
    return b"%x\r\n%s\r\n" % (len(whole % 0), whole)


@attrs.frozen
class _Wire:
    """The ready chunks of one endpoint."""

    tokens: tuple[bytes, ...]
    stamped: bytes
    tail: bytes


def _wire(chunk: bytes, last: bytes) -> _Wire:
    tail = _framed(last) + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    tokens = tuple(_framed(chunk % text.encode()) for text in TEXTS)
    return _Wire(tokens, _stamped(chunk), tail)


@lru_cache
def _tokens(wire: _Wire, count: int) -> bytes:
    return b"".join(islice(cycle(wire.tokens), count))


_COMPLETIONS, _CHAT = _wire(_CHUNK, _LAST), _wire(_CHAT_CHUNK, _CHAT_LAST)
_sent_bytes = 0


class _Peer(asyncio.Protocol):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._tokens = 0
        self._paused = False
        self._timer: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        head = self._received[:end]
        found = _LENGTH.search(head)
        end += int(found[1]) if found else 0
        if len(self._received) >= end:
            body = self._received[len(head) : end]
            self._received = self._received[end:]
            if body and b'"stream"' not in body:
                self._send(_WHOLE)
            else:
                self._answer(head)

    def _answer(self, head: bytes) -> None:
        path = head.split(b" ", 2)[1]
        if path == b"/sent":
            said = b"%d" % _sent_bytes
            self._send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said))
            return
        numbers = (int(part) for part in path.split(b"/")[1:4])
        self._tokens, self._batch, self._pause_us = numbers
        self._wire = _CHAT if b"/chat/" in path else _COMPLETIONS
        if not self._pause_us and self._tokens <= self._batch:
            self._send(_HEAD + _tokens(self._wire, self._tokens) + self._wire.tail)
        elif not self._pause_us:
            self._send(_HEAD)
            self._burst()
        else:
            self._send(_HEAD)
            self._due = self._loop.time() + GRACE_S + random.random() * self._pause_us / 1e6
            self._timer = self._loop.call_at(self._due, self._beat)

    def _burst(self) -> None:
        self._timer = None
        if self._paused or self._transport.is_closing():
            return
        count = min(self._batch, self._tokens)
        self._tokens -= count
        self._send(_tokens(self._wire, count) + (b"" if self._tokens else self._wire.tail))
        if self._tokens:
            self._timer = self._loop.call_soon(self._burst)

    def _beat(self) -> None:
        self._tokens -= 1
        tail = b"" if self._tokens else self._wire.tail
        self._send(self._wire.stamped % monotonic_ns() + tail)
        if self._tokens:
            self._due += self._pause_us / 1e6
            self._timer = self._loop.call_at(self._due, self._beat)

    def _send(self, data: bytes) -> None:
        global _sent_bytes
        _sent_bytes += len(data)
        self._transport.write(data)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if not self._pause_us and self._tokens and self._timer is None:
            self._burst()


async def _main(ports: "Queue[int]") -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Peer, "127.0.0.1", 0, backlog=4096)
    ports.put(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _run(ports: "Queue[int]") -> None:
    asyncio.run(_main(ports))


@contextmanager
def loopback_server() -> Iterator[str]:
    """Runs the server in another process; gives its URL."""
    context = multiprocessing.get_context("spawn")
    ports: Queue[int] = context.Queue()
    process = context.Process(target=_run, args=(ports,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ports.get(timeout=30)}"
    finally:
        process.terminate()
        process.join()
