"""The adapter with httpx's own clients and transports."""

import sys

import httpx
import pytest

from adapter_api import (
    ErrorCode,
    HealthState,
    NotFound,
    TaskRequest,
)
from adapters.openai_http import OpenAIHttpAdapter
from tests.adapters.openai_http.conftest import FAST_RETRY, Serving
from tests.adapters.openai_http.jobs import MESSAGES, OK, PROMPT, events_of, failure_of
from tests.fake_openai import (
    FakeOpenAI,
    answers,
    chat,
    completion,
    fails,
    in_turn,
    lists,
    sse,
    streams,
    well,
)
from tests.openai_chunks import piece

# httpx's own clients and transports


async def test_a_client_of_the_callers_is_used_and_stays_open() -> None:
    """Its headers go out, ours too; only the caller closes it."""
    async with FakeOpenAI() as server, httpx.AsyncClient(headers={"X-Mine": "1"}) as client:
        async with OpenAIHttpAdapter(server.base_url, client=client, api_key="k" * 8) as adapter:
            assert await adapter.submit(PROMPT).text() == OK
            assert (await adapter.props()).models == ("m",)
        assert not client.is_closed
        for request in server.requests:
            assert request.headers["x-mine"] == "1"
            assert request.headers["authorization"] == "Bearer kkkkkkkk"
            assert request.headers["accept-encoding"] == "identity"


async def test_a_clients_habits_do_not_weaken_a_job() -> None:
    """Neither its redirects nor its read timeout are the adapter's."""
    gone = answers(b"", 307, {"Location": "/elsewhere"})
    routes = {"/v1/completions": streams(*completion(), pause_s=0.1), "/v1/models": gone}
    async with (
        FakeOpenAI(routes) as server,
        httpx.AsyncClient(follow_redirects=True, timeout=0.05) as client,
        OpenAIHttpAdapter(server.base_url, client=client) as adapter,
    ):
        assert await adapter.submit(PROMPT).text() == OK
        await adapter.health()
        server.routes["/v1/completions"] = gone
        assert (await failure_of(adapter)).code is ErrorCode.UPSTREAM_PROTOCOL
        assert "/elsewhere" not in server.paths


async def test_a_closed_client_is_a_clear_error() -> None:
    """For jobs and for health."""
    client = httpx.AsyncClient()
    adapter = OpenAIHttpAdapter("http://127.0.0.1:9", client=client)
    await client.aclose()
    error = await failure_of(adapter)
    assert (error.code, error.retriable) == (ErrorCode.POOL_UNAVAILABLE, False)
    assert "client that was given is closed" in (await adapter.health()).message


async def test_httpx_transports_read_the_same_stream(serving: Serving) -> None:
    """AsyncHTTPTransport over sockets: jobs, retries, errors and a cut answer."""
    routes = {
        "/v1/completions": in_turn(
            well, fails(503), well, fails(404), streams(piece("a")), streams(piece("a"))
        )
    }
    async with serving(routes, transport=httpx.AsyncHTTPTransport()) as (_, adapter):
        assert await adapter.submit(PROMPT).text() == OK
        assert (await events_of(adapter))[-1].metrics.attempts == 2
        assert isinstance(await failure_of(adapter), NotFound)
        assert (await failure_of(adapter)).code is ErrorCode.STREAM_TRUNCATED
        stream = adapter.submit(PROMPT)
        await anext(stream)
        await stream.cancel()
        assert (await adapter.health()).ready


async def test_a_mock_transport_is_enough() -> None:
    """httpx.MockTransport serves jobs, health and errors, with no socket at all."""

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"data": [{"id": "m"}]})
        if b"broken" in request.content:
            raise httpx.ConnectError("no such host", request=request)
        return httpx.Response(200, content=sse(*chat()))

    transport = httpx.MockTransport(handler)
    async with OpenAIHttpAdapter("http://mock", transport=transport, retry=FAST_RETRY) as adapter:
        assert await adapter.submit(MESSAGES).text() == OK
        assert (await adapter.health()).ready
        error = await failure_of(adapter, TaskRequest(prompt="broken"))
        assert error.code is ErrorCode.POOL_UNAVAILABLE


async def test_http2_is_offered_by_httpx_transport(serving: Serving) -> None:
    """http2=True works against a server that has only HTTP/1.1 (HTU-1001)."""
    async with serving({"/v1/models": lists("m")}, http2=True) as (_, adapter):
        assert await adapter.submit(PROMPT).text() == OK
        assert (await adapter.props()).models == ("m",)


async def test_http2_without_its_package_is_a_clear_refusal(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job is INVALID_PARAMS and health an answer, both with what to install; nothing is sent."""
    monkeypatch.setitem(sys.modules, "h2", None)  # as if it were not installed
    async with serving(http2=True) as (server, adapter):
        for _ in range(2):
            error = await failure_of(adapter)
            assert error.code is ErrorCode.INVALID_PARAMS
            status = await adapter.health()
            assert status.state is HealthState.UNHEALTHY
            for message in (error.message, status.message):
                assert "pip install 'worker-adapters[http2]'" in message
        assert server.requests == []
