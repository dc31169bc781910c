"""Other clients for such streams. Each is used as its documentation says."""

import importlib.util
from typing import Any

from tests.benchmarks.clients import Client, Floor, OnText, Product, decode

_BODY = {"model": "bench", "prompt": "x", "max_tokens": 1, "stream": True}
_MESSAGES = [{"role": "user", "content": "x"}]


class Httpx(Client):
    """httpx with its own transport and httpx-sse."""

    name = "httpx + httpx-sse"
    requires = ("httpx", "httpx_sse")

    async def start(self, base: str) -> None:
        import httpx
        from httpx_sse import aconnect_sse

        self._url, self._connect = base + "/v1/completions", aconnect_sse
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = httpx.AsyncClient(timeout=None, limits=limits)

    async def stream(self, on_text: OnText) -> None:
        async with self._connect(self._client, "POST", self._url, json=_BODY) as source:
            async for event in source.aiter_sse():
                if event.data != "[DONE]" and (text := decode(event.data).choices[0].text):
                    on_text(text)

    async def aclose(self) -> None:
        await self._client.aclose()


class Aiohttp(Client):
    """Bare aiohttp and a typed decoder over its lines."""

    name = "aiohttp"
    requires = ("aiohttp",)

    async def start(self, base: str) -> None:
        import aiohttp

        self._url = base + "/v1/completions"
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)

    async def stream(self, on_text: OnText) -> None:
        async with self._session.post(self._url, json=_BODY) as response:
            rest = b""
            async for piece in response.content.iter_any():
                events = (rest + piece).split(b"\n\n")
                rest = events.pop()
                for event in events:
                    if not event.startswith(b"data: [DONE]"):
                        text = decode(event[6:]).choices[0].text
                        if text:
                            on_text(text)

    async def aclose(self) -> None:
        await self._session.close()


class HttpxAiohttp(Client):
    """httpx over the httpx-aiohttp transport and a typed decoder over its pieces."""

    name = "httpx-aiohttp"
    requires = ("httpx", "httpx_aiohttp")

    async def start(self, base: str) -> None:
        import httpx
        from httpx_aiohttp import AiohttpTransport

        self._url = base + "/v1/completions"
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = httpx.AsyncClient(transport=AiohttpTransport(limits=limits), timeout=None)

    async def stream(self, on_text: OnText) -> None:
        async with self._client.stream("POST", self._url, json=_BODY) as response:
            rest = b""
            async for piece in response.aiter_raw():
                events = (rest + piece).split(b"\n\n")
                rest = events.pop()
                for event in events:
                    if not event.startswith(b"data: [DONE]"):
                        text = decode(event[6:]).choices[0].text
                        if text:
                            on_text(text)

    async def aclose(self) -> None:
        await self._client.aclose()


class OpenAISDK(Client):
    """The openai package's AsyncOpenAI, completions."""

    name = "openai"
    requires = ("openai",)

    async def start(self, base: str) -> None:
        import openai

        self._client: Any = openai.AsyncOpenAI(base_url=base + "/v1", api_key="x", max_retries=0)

    async def stream(self, on_text: OnText) -> None:
        chunks = await self._client.completions.create(
            model="bench", prompt="x", max_tokens=1, stream=True
        )
        async for chunk in chunks:
            if chunk.choices and chunk.choices[0].text:
                on_text(chunk.choices[0].text)

    async def answer(self) -> str:
        whole = await self._client.completions.create(model="bench", prompt="x", max_tokens=1)
        return str(whole.choices[0].text)

    async def aclose(self) -> None:
        await self._client.close()


class AnyLLM(Client):
    """any-llm's acompletion (chat is what it has)."""

    name = "any-llm"
    requires = ("any_llm",)

    async def start(self, base: str) -> None:
        from any_llm import AnyLLM as Provider

        self._client: Any = Provider.create("openai", api_key="x", api_base=base + "/v1")

    async def stream(self, on_text: OnText) -> None:
        chunks = await self._client.acompletion(model="bench", messages=_MESSAGES, stream=True)
        async for chunk in chunks:
            if chunk.choices and chunk.choices[0].delta.content:
                on_text(chunk.choices[0].delta.content)


class LiteLLM(Client):
    """litellm's acompletion (chat, as it is mostly used)."""

    name = "litellm"
    requires = ("litellm",)

    async def start(self, base: str) -> None:
        import litellm

        self._complete: Any = litellm.acompletion
        self._base = base + "/v1"

    async def stream(self, on_text: OnText) -> None:
        chunks = await self._complete(
            model="openai/bench",
            messages=_MESSAGES,
            stream=True,
            api_base=self._base,
            api_key="x",
            num_retries=0,
        )
        async for chunk in chunks:
            if chunk.choices and chunk.choices[0].delta.content:
                on_text(chunk.choices[0].delta.content)


CLIENTS: tuple[type[Client], ...] = (
    Floor,
    Product,
    Aiohttp,
    HttpxAiohttp,
    Httpx,
    OpenAISDK,
    AnyLLM,
    LiteLLM,
)


def missing(client: type[Client]) -> list[str]:
    """Modules that `client` needs and that are not installed."""
    return [name for name in client.requires if importlib.util.find_spec(name) is None]
