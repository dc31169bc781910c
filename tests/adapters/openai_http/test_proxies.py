"""Proxies that open no tunnel to a server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from adapter_api import AuthenticationFailed, EngineUnavailable, TaskRequest, WorkerError
from adapters.openai_http import OpenAIHttpAdapter
from tests.adapters.openai_http.conftest import FAST_RETRY

TASK = TaskRequest(prompt="hi")


@asynccontextmanager
async def _proxy(answer: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve `answer` to every request; yield the proxy's URL and the requests' heads."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://user:unusual-password@127.0.0.1:{port}", heads


async def _failure(answer: bytes) -> tuple[WorkerError, list[bytes]]:
    async with _proxy(answer) as (url, heads):
        adapter = OpenAIHttpAdapter(
            "https://engine.invalid", api_key="unusual-key", proxy=url, retry=FAST_RETRY
        )
        with pytest.raises(WorkerError) as caught:
            await adapter.submit(TASK).text()
        await adapter.aclose()
    return caught.value, heads


async def test_a_proxy_that_wants_credentials_is_final() -> None:
    """The error says which option they belong to, and shows none. The key stays here."""
    error, heads = await _failure(
        b"HTTP/1.1 407 Denied for user:unusual-password\r\nContent-Length: 0\r\n\r\n"
    )
    assert isinstance(error, AuthenticationFailed)
    assert not error.retriable
    assert "write them into proxy" in error.message
    assert len(heads) == 1
    assert b"unusual-key" not in heads[0]
    assert "unusual" not in error.message


async def test_a_proxy_that_forbids_the_server_is_final() -> None:
    """Another attempt would be refused, too."""
    error, heads = await _failure(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    assert isinstance(error, EngineUnavailable)
    assert not error.retriable
    assert len(heads) == 1


async def test_a_proxy_whose_connection_fails_is_tried_again() -> None:
    """502 and 504 come and go."""
    error, heads = await _failure(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
    assert error.retriable
    assert "the proxy answered 502" in error.message
    assert len(heads) > 1
