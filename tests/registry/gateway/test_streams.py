"""Streams through the gateway: what a client gets, when, and how it ends."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import registry
from adapter_api import ErrorCode
from registry.gateway.app import application
from tests.registry.gateway.conftest import CHAT, TEXT, Start
from tests.registry.gateway.raw import RawClient, events, text_of

STREAM = {**CHAT, "stream": True}


def mock(**options: Any) -> Any:
    """Return a scripted adapter."""
    return registry.get("mock", options)


async def test_a_chat_streams_in_openai_chunks(start: Start) -> None:
    """A chat comes as chunks of one id, a role first, a finish_reason last, then [DONE]."""
    served = await start()
    async with RawClient(served.port) as client:
        client.post("/v1/chat/completions", STREAM)
        status, headers = await client.head()
        found = events(await client.body())
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in headers
    assert headers["x-worker-replica"] == "r0"
    assert found[-1] == "[DONE]"
    chunks = found[:-1]
    assert {chunk["id"] for chunk in chunks} == {"chatcmpl-" + headers["x-request-id"]}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert text_of(chunks) == TEXT
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None] * (len(chunks) - 1) + [
        "stop"
    ]
    assert all("usage" not in chunk for chunk in chunks)


async def test_a_completion_streams_text(start: Start) -> None:
    """The older endpoint streams `text` and has no role."""
    served = await start()
    async with RawClient(served.port) as client:
        client.post("/v1/completions", {"model": "mock", "prompt": "Hello", "stream": True})
        await client.head()
        found = events(await client.body())
    assert "".join(chunk["choices"][0]["text"] for chunk in found[:-1]) == TEXT
    assert {chunk["object"] for chunk in found[:-1]} == {"text_completion"}


async def test_usage_comes_only_if_asked_for(start: Start) -> None:
    """With include_usage the last chunk has no choices and marks counts that no engine gave."""
    served = await start()
    async with RawClient(served.port) as client:
        client.post("/v1/chat/completions", {**STREAM, "stream_options": {"include_usage": True}})
        await client.head()
        *_, last, done = events(await client.body())
    assert done == "[DONE]"
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 9
    assert last["usage"]["counted"] is True


async def test_a_failure_before_the_first_token_has_a_status(start: Start) -> None:
    """The head is held back until there is a token, so that a failure can have its own status."""
    served = await start(mock(error_code="ADMISSION_REJECT", retry_after_ms=1500))
    async with RawClient(served.port) as client:
        client.post("/v1/chat/completions", STREAM, X_Request_Timeout="2")
        status, headers = await client.head()
        error = json.loads(await client.reader.readexactly(int(headers["content-length"])))
    assert status in (429, 503)
    assert error["error"].keys() >= {"message", "type", "param", "code"}


async def test_a_failure_in_mid_stream_is_an_event_without_done(start: Start) -> None:
    """A failure after tokens ends the body in order, with an error and nothing that looks whole."""
    served = await start(mock(error_code="WORKER_RESET", error_after=3))
    async with RawClient(served.port) as client:
        client.post("/v1/chat/completions", STREAM)
        status, _ = await client.head()
        found = events(await client.body())
    assert status == 200
    assert found[-1]["error"]["code"] == "worker_reset"
    assert "[DONE]" not in found
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in found[:-1])


async def test_a_failure_in_mid_stream_can_break_the_connection(start: Start) -> None:
    """With break_off the body has no proper end, which no HTTP client takes for whole."""
    served = await start(mock(error_code="WORKER_RESET", error_after=3), break_off=True)
    async with RawClient(served.port) as client:
        client.post("/v1/chat/completions", STREAM)
        await client.head()
        with pytest.raises((asyncio.IncompleteReadError, ValueError, ConnectionError)):
            await client.body()


async def test_tokens_are_written_at_once(start: Start) -> None:
    """Each token of a slow engine is a chunk of its own, sent when it comes."""
    served = await start(mock(delay_s=0.05))
    async with RawClient(served.port) as client:
        client.post("/v1/chat/completions", STREAM)
        await client.head()
        loop = asyncio.get_running_loop()
        times = []
        while await client.chunk():
            times.append(loop.time())
    gaps = [after - before for before, after in pairwise(times[:8])]
    assert len(gaps) == 7
    assert min(gaps) > 0.02  # never two tokens in one write


async def test_what_came_in_one_read_leaves_in_one_write(start: Start) -> None:
    """An engine that sends everything at once is relayed in few chunks, not one per token."""
    served = await start(mock(tokens=["x"] * 500))
    async with RawClient(served.port) as client:
        client.post("/v1/chat/completions", STREAM)
        await client.head()
        chunks = 0
        body = b""
        while chunk := await client.chunk():
            chunks += 1
            body += chunk
    assert text_of(events(body)) == "x" * 500
    assert chunks <= 510


async def test_the_client_that_leaves_cancels_its_job(start: Start) -> None:
    """A client that leaves in mid-stream ends its job, and the engine's work with it."""
    served = await start(mock(stall_after=2, stall_timeout_s=None))
    async with RawClient(served.port) as client:
        client.post("/v1/chat/completions", STREAM)
        await client.head()
        await client.chunk()
        assert len(served.gateway.table) == 1
    await asyncio.wait_for(served.gateway.table.finish(), 5)
    (job,) = served.gateway.recent
    assert job.code == ErrorCode.CANCELLED
    (replica,) = served.host.snapshot().pools[0].replicas
    assert replica.in_flight == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_the_client_that_leaves_early_cancels_its_job(start: Start, stream: bool) -> None:
    """A client that leaves before the first token ends its job, streamed or not."""
    served = await start(mock(delay_s=60))
    async with RawClient(served.port) as client:
        client.post("/v1/chat/completions", {**CHAT, "stream": stream})
        while not served.gateway.table:
            await asyncio.sleep(0)
    await asyncio.wait_for(served.gateway.table.finish(), 5)
    assert served.gateway.recent[0].code == ErrorCode.CANCELLED


async def test_the_client_that_leaves_after_a_large_body_is_seen(start: Start) -> None:
    """A body beyond the buffer pauses reading, which continues: the end must be seen."""
    served = await start(mock(delay_s=60))
    async with RawClient(served.port) as client:
        client.post("/v1/chat/completions", {**STREAM, "padding": "x" * 300_000})
        await client.writer.drain()
        while not served.gateway.table:
            await asyncio.sleep(0)
    await asyncio.wait_for(served.gateway.table.finish(), 5)
    assert served.gateway.recent[0].code == ErrorCode.CANCELLED


async def test_a_body_that_waits_for_leave_gets_it(start: Start) -> None:
    """`Expect: 100-continue` is answered before the body, as curl demands for large ones."""
    served = await start()
    body = json.dumps(CHAT).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nExpect: 100-continue\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    async with RawClient(served.port) as client:
        client.writer.write(head.encode())
        assert (await client.head())[0] == 100
        client.writer.write(body)
        assert (await client.head())[0] == 200


async def test_a_mounted_gateway_streams(start: Start) -> None:
    """Under another application's path, and under another ASGI server, it is the same gateway."""
    gateway = (await start()).gateway
    transport = httpx.ASGITransport(Starlette(routes=[Mount("/llm", application(gateway))]))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        answer = await client.post("/llm/v1/chat/completions", json=STREAM)
        refused = await client.get("/llm/v1/chat/completions")
    assert text_of(events(answer.content)) == TEXT
    assert len(answer.headers.get_list("x-request-id")) == 1
    assert refused.status_code == 405


async def test_a_comment_keeps_a_silent_stream_alive(start: Start) -> None:
    """While an engine thinks, comments come; from then on a failure is an event."""
    served = await start(
        mock(delay_s=0.5, error_code="WORKER_RESET", error_after=1), keep_alive_s=0.05
    )
    async with RawClient(served.port) as client:
        client.post("/v1/chat/completions", STREAM)
        status, _ = await client.head()
        body = await client.body()
    assert status == 200
    assert body.startswith(b": keep-alive\n\n")
    assert text_of(events(body)) == "Once"
    assert events(body)[-1]["error"]["code"] == "worker_reset"


async def test_a_reader_that_stalls_is_ended(start: Start) -> None:
    """A client that leaves its stream unread is cut off after the limit; its buffer is bounded."""
    served = await start(mock(tokens=["x" * 4096] * 20_000), stall_s=0.3)
    async with RawClient(served.port) as client:
        client.writer.transport.pause_reading()
        client.post("/v1/chat/completions", STREAM)
        await asyncio.sleep(0)
        while not served.gateway.recent:
            await asyncio.sleep(0.02)
    (job,) = served.gateway.recent
    assert job.code == ErrorCode.CANCELLED
    assert job.tokens < 20_000


async def test_a_whole_answer_is_one_object(start: Start, http: httpx.AsyncClient) -> None:
    """Without stream the answer is a chat.completion with its usage."""
    served = await start()
    answer = await http.post(f"{served.url}/v1/chat/completions", json=CHAT)
    fields = answer.json()
    assert answer.status_code == 200
    assert fields["object"] == "chat.completion"
    assert fields["choices"][0]["message"]["content"] == TEXT
    assert fields["choices"][0]["finish_reason"] == "stop"
    assert fields["usage"]["completion_tokens"] == 9
    assert answer.headers["x-worker-replica"] == "r0"


async def test_a_failed_answer_is_not_an_object(start: Start, http: httpx.AsyncClient) -> None:
    """Without stream a failure in mid-answer is a status, whatever text had come."""
    served = await start(mock(error_code="STREAM_TRUNCATED", error_after=3))
    answer = await http.post(f"{served.url}/v1/chat/completions", json=CHAT)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "stream_truncated"
    assert "Once" not in answer.text
