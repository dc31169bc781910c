"""Answers that are written straight to the connection: their heads, their ends, and HTTP/1.0."""

import asyncio
import json

import pytest

import registry
from registry import AdapterHost
from tests.registry.gateway.conftest import CHAT, TEXT, Start
from tests.registry.gateway.raw import RawClient, events, text_of

PATH = "/v1/chat/completions"
STREAM = {**CHAT, "stream": True}
ORIGIN = "https://app.example"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_head_leaves_with_the_first_piece(start: Start, *, stream: bool) -> None:
    """The head and what follows it are one write, so that no client waits between them."""
    served = await start(registry.get("mock", {"delay_s": 0.01}))
    async with RawClient(served.port) as client:
        client.post(PATH, {**CHAT, "stream": stream})
        first = await client.reader.read(1 << 16)
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'"content":"Once' in first


@pytest.mark.parametrize("stream", [True, False])
async def test_an_old_client_gets_a_body_without_chunks(start: Start, *, stream: bool) -> None:
    """HTTP/1.0 has no chunks: the end of the connection is the end of the body."""
    served = await start()
    body = json.dumps({**CHAT, "stream": stream}).encode()
    async with RawClient(served.port) as client:
        head = f"POST {PATH} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        client.writer.write(head + body)
        status, headers = await client.head()
        answer = await client.reader.read()
    assert status == 200
    assert headers["connection"] == "close"
    assert "transfer-encoding" not in headers
    if stream:
        found = events(answer)
        assert text_of(found) == TEXT
        assert found[-1] == "[DONE]"
    else:
        assert json.loads(answer)["choices"][0]["message"]["content"] == TEXT


async def test_middleware_between_server_and_endpoint_sees_the_answer(start: Start) -> None:
    """Where middleware has replaced `send`, as CORS does, the answer goes through it."""
    served = await start(cors_origins=(ORIGIN,))
    async with RawClient(served.port) as client:
        for stream in (True, False):
            client.post(PATH, {**CHAT, "stream": stream}, Origin=ORIGIN)
            status, headers = await client.head()
            assert (status, headers["access-control-allow-origin"]) == (200, ORIGIN)
            if stream:
                assert text_of(events(await client.body())) == TEXT
            else:
                body = await client.reader.readexactly(int(headers["content-length"]))
                assert json.loads(body)["object"] == "chat.completion"


async def test_a_connection_serves_one_answer_after_the_other(start: Start) -> None:
    """Streams, whole answers and refusals follow one another on one connection."""
    served = await start()
    async with RawClient(served.port) as client:
        for fields in (STREAM, CHAT, {**CHAT, "n": 2}, STREAM, CHAT):
            client.post(PATH, fields)
            status, headers = await client.head()
            if "content-length" in headers:
                await client.reader.readexactly(int(headers["content-length"]))
            else:
                assert events(await client.body())[-1] == "[DONE]"
            assert status == (400 if "n" in fields else 200)


async def test_a_client_that_leaves_its_pipeline_cancels_the_job(start: Start) -> None:
    """The end of a connection ends the job that runs on it, and later requests never begin."""
    served = await start(registry.get("mock", {"stall_after": 2, "stall_timeout_s": None}))
    async with RawClient(served.port) as client:
        client.post(PATH, STREAM)
        client.post(PATH, STREAM)
        await client.head()
        await client.chunk()
    await asyncio.wait_for(served.gateway.table.finish(), 5)
    await asyncio.sleep(0)
    assert [job.code for job in served.gateway.recent] == ["CANCELLED"]


async def test_a_line_break_in_a_header_does_not_reach_the_client(start: Start) -> None:
    """What would become another header is a 500; nothing of it is written."""
    async with AdapterHost() as host:
        host.bind("default", "r0\r\nX-Evil: 1", registry.get("mock", {}))
        await host.check("default")
        served = await start(host=host)
        async with RawClient(served.port) as client:
            client.post(PATH, STREAM)
            status, headers = await client.head()
    assert status == 500
    assert "x-evil" not in headers


async def test_a_client_that_sends_on_gets_its_refusal(start: Start) -> None:
    """The rest of a body that is too large is read and dropped: a reset would lose the answer."""
    served = await start(max_body_bytes=1000)
    async with RawClient(served.port) as client:
        client.post(PATH, b"x" * 5_000_000)
        await client.writer.drain()
        status, headers = await client.head()
        assert (status, headers["connection"]) == (413, "close")
        assert json.loads(await client.reader.read())["error"]["code"] == "request_too_large"


async def test_a_client_that_does_not_read_the_last_piece_is_ended(start: Start) -> None:
    """What the sockets do not take is not kept: the limit on unread answers holds for their end."""
    size = 16 << 20  # more than the kernel's buffers of both sides
    served = await start(registry.get("mock", {"tokens": ["x" * size]}), stall_s=0.1)
    async with RawClient(served.port) as client:
        client.writer.transport.pause_reading()
        client.post(PATH, CHAT)
        while not served.gateway.recent:
            await asyncio.sleep(0.01)
        client.writer.transport.resume_reading()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.reader.readexactly(size)


@pytest.mark.parametrize(
    "encoding",
    [
        "chunked\r\n\r\nzz\r\n",
        "gzip\r\n\r\nxx",
        "chunked\r\nExpect: 100-continue\r\n\r\nzz\r\n",
    ],
)
async def test_a_body_that_is_not_http_is_refused(
    start: Start, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken body is a 400 like a broken head, not a reset; nothing is written after it."""
    served = await start()
    async with RawClient(served.port) as client:
        client.writer.write(f"POST {PATH} HTTP/1.1\r\nTransfer-Encoding: {encoding}".encode())
        status, headers = await client.head()
        assert (status, headers["connection"]) == (400, "close")
        assert json.loads(await client.reader.read())["error"]["code"] == "invalid_http"
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_wish_for_another_protocol_is_ignored(start: Start) -> None:
    """Java's client asks for h2c with its first request, whose body must not get lost."""
    served = await start()
    wish = {"Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAEAAEAA"}
    async with RawClient(served.port) as client:
        for name in ("Upgrade", "upgrade"):
            client.post(PATH, STREAM, **wish, **{name: "h2c"})  # both at once, in a pipeline
        for _ in range(2):
            assert (await client.head())[0] == 200
            assert text_of(events(await client.body())) == TEXT
