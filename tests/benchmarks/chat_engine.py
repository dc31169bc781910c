"""A scripted engine for the benchmark of gateways: a chat's tokens, paced or at once."""

import asyncio
import contextlib
import json
import re
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.queues import Queue

MODEL = "bench"

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNK = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795397022,'
    b'"model":"bench","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,'
    b'"finish_reason":null}]}\n\n'
)
_OTHER = _CHUNK.replace(b" token", b" token,")
_LAST = _CHUNK.replace(b'{"content":" token"}', b"{}").replace(
    b'"finish_reason":null', b'"finish_reason":"stop"'
)

MARK = b'" token'
"""Each token contains it once."""


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_TOKENS = (_framed(_CHUNK), _framed(_OTHER))
"""They take turns: LiteLLM ends a stream that repeats one chunk a hundred times."""

_TAIL = _framed(_LAST + b"data: [DONE]\n\n") + b"0\r\n\r\n"


class _Engine(asyncio.Protocol):
    """Sends max_tokens tokens, `seed` microseconds apart; 0: all at once, 20 a write."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""
        self._free = asyncio.Event()
        self._free.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def pause_writing(self) -> None:
        self._free.clear()

    def resume_writing(self) -> None:
        self._free.set()

    def connection_lost(self, exc: Exception | None) -> None:
        for task in self._tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        size = int(length[1]) if length else 0
        if not separator or len(rest) < size:
            return
        self._received = rest[size:]
        if head.startswith(b"GET"):
            self._facts(head)
            return
        fields = json.loads(rest[:size])
        task = asyncio.create_task(self._stream(fields["max_tokens"], fields.get("seed") or 0))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _facts(self, head: bytes) -> None:
        listed = {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
        body = json.dumps(listed if b"/models" in head else {"model_id": MODEL}).encode()
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body)
        )

    async def _stream(self, tokens: int, pause_us: int) -> None:
        write = self._transport.write
        if tokens == 1:
            write(_HEAD + _TOKENS[0] + _TAIL)
            return
        write(_HEAD)
        loop = asyncio.get_running_loop()
        due = loop.time()
        burst = b"".join(_TOKENS) * 10
        for number in range(tokens if pause_us else tokens // 20):
            if pause_us:
                due += pause_us / 1e6
                await asyncio.sleep(max(0.0, due - loop.time()))
            else:
                await self._free.wait()
                await asyncio.sleep(0)
            write(_TOKENS[number % 2] if pause_us else burst)
        write(_TAIL)


async def _serve(ports: "Queue[int]") -> None:
    server = await asyncio.get_running_loop().create_server(_Engine, "127.0.0.1", 0, backlog=4096)
    ports.put(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _run_engine(ports: "Queue[int]") -> None:
    asyncio.run(_serve(ports))


@contextlib.contextmanager
def chat_engine() -> Iterator[int]:
    """Run the engine in another process; yield its port."""
    context = get_context("spawn")
    ports: Queue[int] = context.Queue()
    process = context.Process(target=_run_engine, args=(ports,), daemon=True)
    process.start()
    try:
        yield ports.get(timeout=30)
    finally:
        process.terminate()
        process.join()
