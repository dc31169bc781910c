"""Jobs and probes have connections of their own: neither delays or endangers the other."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapter_api import HealthState, TaskRequest
from adapters.http_util import ClientOptions, make_transport
from adapters.openai_http import OpenAIHttpAdapter, OpenAIHttpConfig
from adapters.openai_http.connected import PROBE_CONNECTIONS, connect
from tests.adapters.openai_http.conftest import Serving
from tests.fake_openai import ANYTHING, FakeOpenAI, hangs, well
from tests.script_server import Request, Wire

PROMPT = TaskRequest(prompt="hi")
SOON_S = 2.0
"""Far below the 5 s after which a probe gives up, and gives its connection back."""


async def _until(condition: Any) -> None:
    async with asyncio.timeout(SOON_S):
        while not condition():
            await asyncio.sleep(0.005)


async def _hanging_gets(request: Request, wire: Wire) -> None:
    await (hangs if request.method == "GET" else well)(request, wire)


@pytest.mark.parametrize("probe", ["health", "props", "engine_version"])
async def test_probes_that_hang_do_not_delay_a_submit(serving: Serving, probe: str) -> None:
    """As many as there are connections for jobs, and as many as there are for probes."""
    count = PROBE_CONNECTIONS
    async with serving(_hanging_gets, max_connections=count) as (server, adapter):
        probes = [asyncio.create_task(getattr(adapter, probe)()) for _ in range(count)]
        await _until(lambda: len(server.requests) == count)
        async with asyncio.timeout(SOON_S):
            assert await adapter.submit(PROMPT).text() == "Hello world"
        for task in probes:
            task.cancel()
        await asyncio.gather(*probes, return_exceptions=True)


async def test_jobs_that_take_every_connection_do_not_endanger_health(serving: Serving) -> None:
    """The server is well, however busy we are."""
    routes = {"/v1/completions": hangs}
    async with serving(routes, max_connections=1) as (server, adapter):
        job = asyncio.create_task(adapter.submit(PROMPT).text())
        await _until(lambda: server.posts)
        async with asyncio.timeout(SOON_S):
            status = await adapter.health()
            assert (await adapter.props()).models == ("m",)
        assert status.state is HealthState.HEALTHY
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


async def test_many_probes_share_few_connections(serving: Serving) -> None:
    """All of them are answered, one behind the other."""
    async with serving(max_connections=1) as (server, adapter):
        states = await asyncio.gather(*(adapter.health() for _ in range(5 * PROBE_CONNECTIONS)))
        assert {status.state for status in states} == {HealthState.HEALTHY}
        assert len(server.connections) <= PROBE_CONNECTIONS


async def test_closing_closes_the_connections_of_both() -> None:
    """Nothing is left open."""
    async with FakeOpenAI({ANYTHING: well}) as server:
        adapter = OpenAIHttpAdapter(server.base_url)
        await adapter.submit(PROMPT).text()
        await adapter.health()
        assert len(server.connections) == 2
        await adapter.aclose()
        await adapter.aclose()
        assert await server.all_closed()


@pytest.mark.parametrize("given", ["client", "transport", "record"])
async def test_what_is_given_is_used_for_both(given: str, tmp_path: Path) -> None:
    """A client or transport has a bound of its own, and a recording shall hold every exchange."""
    transport = make_transport(ClientOptions())
    async with FakeOpenAI() as server, httpx.AsyncClient(transport=transport) as client:
        options = {"client": client, "transport": transport, "record": str(tmp_path / "r")}
        config = OpenAIHttpConfig(server.base_url, **{given: options[given]})
        async with OpenAIHttpAdapter(config) as adapter:
            await adapter.health()
            await adapter.submit(PROMPT).text()
            assert len(server.connections) == 1
        assert client.is_closed is False


async def test_a_given_client_is_not_closed() -> None:
    """It stays the caller's."""
    async with httpx.AsyncClient() as client:
        config = OpenAIHttpConfig("http://h", client=client)
        connected = connect(config, config.endpoints())
        assert connected.own == ()
        await connected.aclose()
        assert not client.is_closed
