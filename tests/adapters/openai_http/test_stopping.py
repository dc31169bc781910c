"""A server that keeps generating after its client has left gets a stop request."""

import asyncio

import pytest

from adapter_api import TaskRequest, TokenStream
from adapter_api.faults import Request, Wire
from adapters.openai_http import OpenAIHttpAdapter
from tests.adapters.openai_http.conftest import Serving
from tests.fake_openai import FakeOpenAI, well
from tests.openai_chunks import piece

STOP = "/v1/internal/stop-generation"
OPTIONS = {"dialect": "text-generation-webui", "api_key": "k" * 9}


async def _drips(request: Request, wire: Wire) -> None:
    await wire.stream_head()
    while not wire.gone:
        await wire.event(piece("a"))
        await asyncio.sleep(0.01)


def _stops(server: FakeOpenAI) -> list[Request]:
    return [request for request in server.requests if request.path == STOP]


async def _begin(adapter: OpenAIHttpAdapter) -> "asyncio.Task[str]":
    """Start a job and wait for its first token."""
    stream = adapter.submit(TaskRequest(prompt="x"))
    await anext(stream)
    await anext(stream)
    return asyncio.create_task(_drain(stream))


async def _drain(stream: TokenStream) -> str:
    async for _ in stream:
        pass
    return ""


async def _end(job: "asyncio.Task[str]") -> None:
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job


async def test_a_cancelled_job_stops_its_generation(serving: Serving) -> None:
    """text-generation-webui generates on without a client; the request carries the key."""
    async with serving({"/v1/completions": _drips}, **OPTIONS) as (server, adapter):
        await _end(await _begin(adapter))
        await adapter.aclose()
        [stop] = _stops(server)
    assert (stop.method, stop.headers["authorization"]) == ("POST", f"Bearer {'k' * 9}")


async def test_nothing_is_stopped_while_another_job_runs(serving: Serving) -> None:
    """The endpoint stops everything that the server generates."""
    async with serving({"/v1/completions": _drips}, **OPTIONS) as (server, adapter):
        first, second = await _begin(adapter), await _begin(adapter)
        await _end(first)
        await asyncio.sleep(0.05)
        assert _stops(server) == []
        await _end(second)
        await adapter.aclose()
        assert len(_stops(server)) == 1


@pytest.mark.parametrize("dialect", ["auto", "vllm"])
async def test_other_servers_are_not_asked(serving: Serving, dialect: str) -> None:
    """They stop when the connection closes."""
    async with serving({"/v1/completions": _drips}, dialect=dialect) as (server, adapter):
        await _end(await _begin(adapter))
        await adapter.aclose()
        assert _stops(server) == []


async def test_a_job_that_ends_well_stops_nothing(serving: Serving) -> None:
    """Only an abandoned generation has to be stopped."""
    async with serving({"/v1/completions": well}, **OPTIONS) as (server, adapter):
        assert await adapter.submit(TaskRequest(prompt="x")).text()
        await adapter.aclose()
        assert _stops(server) == []
