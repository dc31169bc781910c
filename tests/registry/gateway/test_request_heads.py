"""Heads and bodies of requests that are not what they should be."""

import json

import httpx
import pytest

from tests.registry.gateway.conftest import CHAT, Start
from tests.registry.gateway.raw import RawClient

PATH = "/v1/chat/completions"


# Heads and bodies that are not what they should be


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"\x16\x03\x01\x02\x00 TLS\r\n\r\n", 400, "invalid_http"),
        (b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400, "invalid_http"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431, "head_too_large"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 1_000_000, 431, "head_too_large"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 400, "invalid_http"),
    ],
)
async def test_a_wrong_head_is_refused(start: Start, sent: bytes, status: int, code: str) -> None:
    """A request that is not HTTP, or too large, gets an error object, and the connection ends."""
    served = await start()
    async with RawClient(served.port) as client:
        client.writer.write(sent)
        got, headers = await client.head()
        body = json.loads(await client.reader.readexactly(int(headers["content-length"])))
        assert (got, body["error"]["code"]) == (status, code)
        assert headers["connection"] == "close"


async def test_requests_behind_one_another_are_answered_in_order(start: Start) -> None:
    """Pipelined requests get their answers in order; a broken one breaks nothing before it."""
    served = await start()
    async with RawClient(served.port) as client:
        client.post(PATH, CHAT, X_Request_Id="one")
        client.post(PATH, b"{", X_Request_Id="two")
        client.post(PATH, CHAT, X_Request_Id="three")
        seen = []
        for _ in range(3):
            status, headers = await client.head()
            await client.reader.readexactly(int(headers["content-length"]))
            seen.append((status, headers["x-request-id"]))
    assert seen == [(200, "one"), (400, "two"), (200, "three")]


async def test_a_body_that_stops_is_refused(start: Start) -> None:
    """A client that sends half a body gets a 408 after the limit, and the connection ends."""
    served = await start(stall_s=0.1)
    async with RawClient(served.port) as client:
        client.writer.write(b"POST " + PATH.encode() + b" HTTP/1.1\r\nContent-Length: 9\r\n\r\n{")
        status, headers = await client.head()
        assert (status, headers["connection"]) == (408, "close")


async def test_a_compressed_body_is_refused(start: Start, http: httpx.AsyncClient) -> None:
    """The message says what is wrong, not that the body is broken JSON."""
    served = await start()
    answer = await http.post(served.url + PATH, json=CHAT, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "encoded_body")
    assert answer.headers["accept-encoding"] == "identity"
    headers = {"Content-Encoding": "Identity"}  # codings are case-insensitive
    assert (await http.post(served.url + PATH, json=CHAT, headers=headers)).status_code == 200


async def test_connections_are_limited(start: Start) -> None:
    """A request on a connection too many is a 503 with the time to wait; the others continue."""
    served = await start(server={"max_connections": 1})
    async with RawClient(served.port) as first:
        for _ in range(2):
            first.post(PATH, CHAT)
            status, headers = await first.head()
            assert status == 200
            await first.reader.readexactly(int(headers["content-length"]))
            async with RawClient(served.port) as second:
                second.post(PATH, CHAT)
                status, headers = await second.head()
                body = json.loads(await second.reader.readexactly(int(headers["content-length"])))
    assert (status, body["error"]["code"]) == (503, "overloaded")
    assert headers["retry-after"] == "1"
