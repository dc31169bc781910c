"""The toy server on the wire."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from time import monotonic
from typing import Any

import httpx
import pytest

from tests.toy.server import MAX_BODY_BYTES, ToyServer


@pytest.fixture
async def server() -> AsyncIterator[ToyServer]:
    """A toy server that loses no time."""
    async with ToyServer(delay_s=0.0) as server:
        yield server


@pytest.fixture
async def client(server: ToyServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    async with httpx.AsyncClient(base_url=server.base_url, trust_env=False) as client:
        yield client


def _events(body: str) -> list[Any]:
    """The events of a stream, its end proven."""
    *events, done, rest = body.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


async def _wire(server: ToyServer, data: bytes) -> bytes:
    """Return what the server sends until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", _port(server))
    writer.write(data)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    return answer


def _port(server: ToyServer) -> int:
    return int(server.base_url.rpartition(":")[2])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/health", {"status": "ok"}),
        ("/version", {"version": "toy-1.0"}),
        (
            "/v1/models",
            {
                "object": "list",
                "data": [{"id": "toy", "object": "model", "created": 0, "owned_by": "toy"}],
            },
        ),
    ],
)
async def test_what_can_be_got(client: httpx.AsyncClient, path: str, expected: Any) -> None:
    """Health, version and models are reported."""
    answer = await client.get(path)
    assert (answer.status_code, answer.json()) == (200, expected)


async def test_a_completion_at_once(client: httpx.AsyncClient) -> None:
    """Without `stream` the answer is one JSON object with usage and fingerprint."""
    request = {"prompt": "two words", "max_tokens": 4, "seed": 1}
    answer = (await client.post("/v1/completions", json=request)).json()
    assert answer["object"] == "text_completion"
    assert answer["system_fingerprint"] == "toy-1.0"
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}


async def test_a_completion_as_a_stream(client: httpx.AsyncClient) -> None:
    """A stream is chunked, carries one word an event, and ends with usage and [DONE]."""
    request = {"prompt": "a", "max_tokens": 4, "stream": True}
    answer = await client.post(
        "/v1/completions", json={**request, "stream_options": {"include_usage": True}}
    )
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.headers["content-type"] == "text/event-stream"
    *words, finish, usage = _events(answer.text)
    assert len(words) == 4
    assert all(event["usage"] is None for event in [*words, finish])
    assert finish["choices"][0]["finish_reason"] == "length"
    assert usage["usage"]["completion_tokens"] == 4


async def test_a_chat_as_a_stream(client: httpx.AsyncClient) -> None:
    """The chat endpoint sends deltas, the role with the first."""
    request = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2, "stream": True}
    answer = await client.post("/v1/chat/completions", json=request)
    deltas = [event["choices"][0]["delta"] for event in _events(answer.text)]
    assert [sorted(delta) for delta in deltas] == [["content", "role"], ["content"], []]


async def test_seeded_streams_are_byte_identical(client: httpx.AsyncClient) -> None:
    """The same request has the same bytes as its answer (WA-INT-3006)."""
    request = {"prompt": "a", "max_tokens": 50, "seed": 3, "stream": True}
    first, second = [await client.post("/v1/completions", json=request) for _ in range(2)]
    assert first.content == second.content


async def test_a_key_is_asked_for() -> None:
    """With a key, /v1 refuses who has another or none; health needs none."""
    async with ToyServer(api_key="secret") as server, httpx.AsyncClient(trust_env=False) as client:
        url = f"{server.base_url}/v1/models"
        assert (await client.get(f"{server.base_url}/health")).status_code == 200
        assert (await client.get(url, headers={"Authorization": "Bearer secret"})).is_success
        for headers in ({}, {"Authorization": "Bearer other"}):
            refused = await client.get(url, headers=headers)
            assert refused.status_code == 401
            assert refused.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/v1/completions", 405), ("POST", "/health", 405)],
)
async def test_wrong_places(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    """An unknown path and a wrong method are refused with an error object."""
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert path in answer.json()["error"]["message"]


async def test_a_connection_serves_many_requests(server: ToyServer) -> None:
    """Streams, plain answers and refusals follow one another on one connection, pipelined too."""
    body = json.dumps({"prompt": "a", "max_tokens": 2, "stream": True}).encode()
    post = b"POST /v1/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    bad = b"POST /v1/completions HTTP/1.1\r\nContent-Length: 1\r\n\r\n{"
    last = b"GET /health?x=1 HTTP/1.1\r\nConnection: close\r\n\r\n"
    answer = await _wire(server, post + bad + post + last)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert answer.count(b"HTTP/1.1 400 Bad Request\r\n") == 1
    assert answer.count(b"\r\n0\r\n\r\n") == 2
    assert answer.count(b"Connection: close") == 1
    assert answer.endswith(b'{"status": "ok"}')


async def test_httpx_keeps_its_connection(client: httpx.AsyncClient) -> None:
    """A pooling client needs one connection for requests of every kind."""
    request = {"prompt": "a", "stream": True}
    answers = [
        await client.post("/v1/completions", json=request),
        await client.post("/v1/completions", json={**request, "stream": False}),
        await client.get("/nothing"),
        await client.post("/v1/completions", json=request),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 200]
    streams = [answer.extensions["network_stream"] for answer in answers]
    assert len({stream.get_extra_info("client_addr") for stream in streams}) == 1


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"a b c\r\n\r\n", 400),
        (b"GET /health HTTP/1.0\r\n\r\n", 505),
        (b"POST /v1/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), 413),
    ],
)
async def test_what_cannot_be_read_ends_the_connection(
    server: ToyServer, request_bytes: bytes, status: int
) -> None:
    """A request whose end cannot be found is refused, and the connection closed."""
    answer = await _wire(server, request_bytes)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close" in answer


@pytest.mark.parametrize("data", [b"", b"GET /hea", b"x" * 100_000])
async def test_who_says_nothing_useful_gets_no_answer(server: ToyServer, data: bytes) -> None:
    """A client that leaves in the middle of a head, or never ends it, affects no other client."""
    reader, writer = await asyncio.open_connection("127.0.0.1", _port(server))
    writer.write(data)
    writer.write_eof()
    with suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()


@pytest.mark.parametrize("abruptly", [True, False])
async def test_closing_the_connection_stops_the_generation(abruptly: bool) -> None:
    """The server generates nothing for a client that is gone (WA-INT-3002)."""
    async with ToyServer(delay_s=0.01) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", _port(server))
        body = json.dumps({"prompt": "a", "max_tokens": 400, "stream": True}).encode()
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        await reader.readuntil(b"data: ")
        assert server.running == 1
        if abruptly:
            writer.transport.abort()
        else:
            writer.close()
        async with asyncio.timeout(2):  # it would take 4 seconds to the end
            while server.running:
                await asyncio.sleep(0.005)


async def test_closing_the_server_breaks_off_its_streams() -> None:
    """A client sees that a stream was cut off when the server goes; closing twice is harmless."""
    async with ToyServer(delay_s=0.01) as server, httpx.AsyncClient(trust_env=False) as client:
        request = client.stream(
            "POST",
            f"{server.base_url}/v1/completions",
            json={"prompt": "a", "max_tokens": 400, "stream": True},
        )
        with pytest.raises(httpx.TransportError):
            async with request as answer:
                async for _ in answer.aiter_bytes():
                    await server.aclose()
    assert server.running == 0


async def test_a_closed_server_serves_nobody() -> None:
    """A connection that was accepted before the end, and whose turn comes after it, is closed."""
    server = ToyServer()
    await server.aclose()
    # What happens when it is closed between the accepting and the first step of the serving.
    async with await asyncio.start_server(server._serve, "127.0.0.1", 0) as late:
        port = late.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_a_delay_before_each_word() -> None:
    """The delay is for every word, with and without `stream`."""
    async with ToyServer(delay_s=0.02) as server, httpx.AsyncClient(trust_env=False) as client:
        for stream in (True, False):
            began = monotonic()
            request = {"prompt": "a", "max_tokens": 5, "stream": stream}
            await client.post(f"{server.base_url}/v1/completions", json=request)
            assert monotonic() - began >= 0.1
