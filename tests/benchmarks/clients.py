"""What is compared. Each client streams one answer and gives its text."""

import asyncio
from abc import ABC, abstractmethod
from typing import Any

import attrs
import msgspec


class Client(ABC):
    """One way to read a stream. `base` is the URL up to, not including, /v1."""

    name: str

    async def start(self, base: str) -> None:
        """Get ready to send requests to `base`."""
        self.base = base

    @abstractmethod
    async def stream(self) -> str:
        """One answer's text."""

    @abstractmethod
    async def aclose(self) -> None:
        """Release everything."""


@attrs.define
class _Choice:
    text: str | None = None
    finish_reason: str | None = None


@attrs.define
class _Chunk:
    choices: list[_Choice]


_decode = msgspec.json.Decoder(_Chunk).decode


class _FloorProtocol(asyncio.Protocol):
    def __init__(self) -> None:
        self.done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._rest = b""
        self._texts: list[str] = []

    def data_received(self, data: bytes) -> None:
        events = (self._rest + data).split(b"\n\n")
        self._rest = events.pop()
        for event in events:
            start = event.find(b"data: ") + 6
            if event.startswith(b"[DONE]", start):
                self.done.set_result("".join(self._texts))
                return
            text = _decode(event[start:]).choices[0].text
            if text:
                self._texts.append(text)


class Floor(Client):
    """asyncio.Protocol, a split and a typed JSON decoder: the unavoidable. Checks nothing."""

    name = "floor"

    async def stream(self) -> str:
        host, _, path = self.base.removeprefix("http://").partition("/")
        address, _, port = host.partition(":")
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(_FloorProtocol, address, int(port))
        transport.write(f"POST /{path}/v1/completions HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        try:
            return await protocol.done
        finally:
            transport.close()

    async def aclose(self) -> None:
        """Nothing is kept."""


class Product(Client):
    """registry.get("openai-http"), with every guarantee on."""

    name = "worker-adapters"

    async def start(self, base: str) -> None:
        import registry
        from adapter_api import TaskRequest, Token

        self._task, self._token = TaskRequest, Token
        self._adapter = registry.get("openai-http", base_url=base)

    async def stream(self) -> str:
        task = self._task(model="bench", prompt="x", max_tokens=1, deadline_s=600.0)
        token = self._token
        async with self._adapter.submit(task) as stream:
            texts = [event.text async for event in stream if type(event) is token]
        return "".join(texts)

    async def aclose(self) -> None:
        await self._adapter.aclose()


class OpenAISDK(Client):
    """The openai package's AsyncOpenAI."""

    name = "openai"

    async def start(self, base: str) -> None:
        import openai

        self._client: Any = openai.AsyncOpenAI(base_url=base + "/v1", api_key="x", max_retries=0)

    async def stream(self) -> str:
        chunks = await self._client.completions.create(
            model="bench", prompt="x", max_tokens=1, stream=True
        )
        return "".join([chunk.choices[0].text async for chunk in chunks if chunk.choices])

    async def aclose(self) -> None:
        await self._client.close()


CLIENTS: tuple[type[Client], ...] = (Floor, Product, OpenAISDK)
