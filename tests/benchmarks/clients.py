"""The two ends of the scale: the floor, and the product with every guarantee on.

Each client reads one answer at a time and hands its texts on as they come.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable

import msgspec

OnText = Callable[[str], object]


class Client(ABC):
    """One way to read a stream. `base` is the URL up to, not including, /v1."""

    name: str
    requires: tuple[str, ...] = ()
    """Modules it cannot do without."""

    async def start(self, base: str) -> None:
        """Get ready to send requests to `base`."""
        self.base = base

    @abstractmethod
    async def stream(self, on_text: OnText) -> None:
        """Read one answer to its end."""

    async def answer(self) -> str:
        """Return one whole answer, in the cheapest way the client has."""
        texts: list[str] = []
        await self.stream(texts.append)
        return "".join(texts)

    async def rows(self, count: int, at_once: int) -> list[str]:
        """Return many answers: a task for each behind a semaphore, as scripts do it."""
        gate = asyncio.Semaphore(at_once)

        async def row() -> str:
            async with gate:
                return await self.answer()

        return await asyncio.gather(*(row() for _ in range(count)))

    async def aclose(self) -> None:  # noqa: B027 (some have nothing to release)
        """Release everything."""


class Choice(msgspec.Struct):
    """Of a chunk, what is needed for its text."""

    text: str | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct):
    """A chunk of an answer."""

    choices: list[Choice]


decode = msgspec.json.Decoder(Chunk).decode


class _FloorProtocol(asyncio.Protocol):
    """Splits what comes at blank lines and decodes it. Of HTTP it knows how this server ends."""

    def __init__(self) -> None:
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, request: bytes, on_text: OnText) -> "asyncio.Future[None]":
        self._on_text = on_text
        self._rest = b""
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._done

    def data_received(self, data: bytes) -> None:
        events = (self._rest + data).split(b"\n\n")
        self._rest = rest = events.pop()
        for event in events:
            start = event.find(b"data: ") + 6
            if event.startswith(b"[DONE]", start):
                continue
            text = decode(event[start:]).choices[0].text
            if text:
                self._on_text(text)
        if rest == b"\r\n0\r\n\r\n":
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(ConnectionError())


class Floor(Client):
    """asyncio.Protocol, a split and a typed JSON decoder: the unavoidable. Checks nothing."""

    name = "floor"
    protocol: type[_FloorProtocol] = _FloorProtocol

    async def start(self, base: str) -> None:
        host, _, path = base.removeprefix("http://").partition("/")
        address, _, port = host.partition(":")
        self._address, self._port = address, int(port)
        self._request = f"POST /{path}/v1/completions HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        self._idle: list[_FloorProtocol] = []
        self._open: list[_FloorProtocol] = []

    async def stream(self, on_text: OnText) -> None:
        connection = self._idle.pop() if self._idle else await self._connect()
        await connection.send(self._request, on_text)
        self._idle.append(connection)

    async def _connect(self) -> _FloorProtocol:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(self.protocol, self._address, self._port)
        self._open.append(connection)
        return connection

    async def aclose(self) -> None:
        for connection in self._open:
            connection._transport.abort()


class Product(Client):
    """registry.get("openai-http"), with every guarantee on."""

    name = "worker-adapters"

    async def start(self, base: str) -> None:
        import registry
        from adapter_api import TaskRequest, Token

        self._base, self._task, self._token = base, TaskRequest, Token
        self._adapter = registry.get("openai-http", base_url=base)

    async def stream(self, on_text: OnText) -> None:
        async with self._adapter.submit(self.task()) as stream:
            await self._read(stream, on_text)

    async def rows(self, count: int, at_once: int) -> list[str]:
        """A bulk run with its journal, over a pool of one replica."""
        import registry
        from registry.batch import Limits, run
        from registry.host import AdapterHost

        tasks = [self._task(model="bench", prompt="x", max_tokens=1) for _ in range(count)]
        texts: list[str] = []

        def keep(_: str, result: bytes) -> None:
            texts.append(msgspec.json.decode(result)["response"]["body"]["choices"][0]["text"])

        async with AdapterHost() as host:
            host.bind("default", "r0", registry.get("openai-http", base_url=self._base))
            await host.check("default")
            limits = Limits(max_in_flight=at_once)
            await run(tasks, host, on_result=keep, limits=limits)
        return texts

    def task(self) -> object:
        return self._task(model="bench", prompt="x", max_tokens=1, deadline_s=600.0)

    async def _read(self, stream: AsyncIterator[object], on_text: OnText) -> None:
        token = self._token
        async for event in stream:
            if type(event) is token:
                on_text(event.text)

    async def aclose(self) -> None:
        await self._adapter.aclose()
