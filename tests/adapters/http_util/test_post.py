"""A job's request goes out the same, whichever client it is sent with."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from adapter_api.faults import Request, ScriptServer, Wire
from adapters.http_util import ClientOptions, Posted, make_client, post, read_up_to
from adapters.http_util.transport.client import AdapterClient

HEADERS = {"Accept": "text/event-stream", "x-custom": "1"}


async def echo(request: Request, wire: Wire) -> None:
    """Answers with what came, and with repeated headers."""
    body = request.body
    await wire.raw(
        b"HTTP/1.1 201 Odd\r\nX-Two: a\r\nX-Two: b\r\nX-Utf: \xc3\xa9\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )


@pytest.fixture(params=["direct", "hooked", "httpx"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    """Ours; ours with a hook, which takes the usual way; and httpx's own."""
    made: httpx.AsyncClient = make_client(ClientOptions())
    if request.param == "hooked":
        made.event_hooks = {"request": [_nothing], "response": []}
    elif request.param == "httpx":
        made = httpx.AsyncClient(trust_env=False, headers={"Accept-Encoding": "identity"})
    async with made:
        yield made


async def _nothing(request: httpx.Request) -> None:
    """A hook."""


async def _post(client: httpx.AsyncClient, url: str, **changes: Any) -> Posted:
    given = {"headers": HEADERS, "correlation_id": "c", "content": b"body", **changes}
    return await post(client, httpx.URL(url), connect_timeout_s=5.0, **given)


async def test_the_same_request_and_the_same_answer(client: httpx.AsyncClient) -> None:
    """Status, headers and body; method, path, query and headers of the request."""
    async with ScriptServer(echo) as server:
        posted = await _post(client, server.base_url + "/v1/x?y=%2F")
        assert posted.status == 201
        assert posted.headers.get("x-two") == "a, b"
        assert posted.headers.get("x-utf") == "é"
        assert posted.headers.get("content-length") == "4"
        assert posted.headers.get("absent") is None
        assert await read_up_to(posted.read, 100) == b"body"
        await posted.aclose()
        assert not posted.resent
        (request,) = server.requests
    assert (request.method, request.target) == ("POST", "/v1/x?y=%2F")
    assert request.headers["host"] == server.base_url.removeprefix("http://")
    for name, value in HEADERS.items():
        assert request.headers[name.lower()] == value
    assert request.headers["x-correlation-id"] == "c"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["content-length"] == "4"
    assert request.headers["user-agent"].startswith("python-httpx/")


async def test_a_header_given_replaces_the_clients(client: httpx.AsyncClient) -> None:
    """Whatever its case, and once only."""
    async with ScriptServer(echo) as server:
        headers = {"user-AGENT": "me", "accept-encoding": "br"}
        posted = await _post(client, server.base_url, headers=headers)
        await posted.aclose()
        (request,) = server.requests
    assert request.headers["user-agent"] == "me"
    assert request.headers["accept-encoding"] == "br"


async def test_a_request_is_not_taken_for_the_one_before(client: httpx.AsyncClient) -> None:
    """The same URL with another key, another URL with the same headers, another id."""
    async with ScriptServer(echo) as server:
        url = httpx.URL(server.base_url + "/a")
        for key, correlation_id in [("1", "x"), ("2", "x"), ("2", "y"), ("1", "y")]:
            headers = {"Authorization": f"Bearer {key}"}
            given = {"content": b"{}", "connect_timeout_s": 5.0}
            posted = await post(
                client, url, headers=headers, correlation_id=correlation_id, **given
            )
            await posted.aclose()
            headers["Authorization"] = "another's"  # the given headers do not change
        await (await _post(client, server.base_url + "/b")).aclose()
        seen = [
            (r.target, r.headers.get("authorization"), r.headers["x-correlation-id"])
            for r in server.requests
        ]
    assert seen == [
        ("/a", "Bearer 1", "x"),
        ("/a", "Bearer 2", "x"),
        ("/a", "Bearer 2", "y"),
        ("/a", "Bearer 1", "y"),
        ("/b", None, "c"),
    ]


@pytest.mark.parametrize("correlation_id", ["a\r\nX-Other: b", "a\0"])
async def test_an_id_is_one_line(correlation_id: str) -> None:
    """A line break would begin another header."""
    async with make_client(ClientOptions()) as client:
        with pytest.raises(httpx.LocalProtocolError):
            await _post(client, "http://127.0.0.1:9/", correlation_id=correlation_id)


async def test_failures_are_httpx_own(client: httpx.AsyncClient) -> None:
    """A port without a listener raises ConnectError."""
    with pytest.raises(httpx.ConnectError):
        await _post(client, "http://127.0.0.1:9/")


async def test_connections_are_kept() -> None:
    """Both ways use one pool."""
    async with ScriptServer(echo) as server, make_client(ClientOptions()) as client:
        for _ in range(3):
            posted = await _post(client, server.base_url)
            assert await read_up_to(posted.read, 100) == b"body"
            assert posted.ended()
            await posted.aclose()
        assert (await client.post(server.base_url, content=b"x")).content == b"x"
        assert client.stream_transport is not None
        assert client.stream_transport.open_connections == 1


async def test_another_transport_goes_the_usual_way() -> None:
    """httpx.MockTransport, behind make_client."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=request.content))
    client = make_client(ClientOptions(), transport)
    assert isinstance(client, AdapterClient)
    assert not client.posts_directly
    async with client:
        posted = await _post(client, "http://nowhere/")
        assert await read_up_to(posted.read, 100) == b"body"
        assert not posted.ended()
