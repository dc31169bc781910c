"""The contents of a recording, for every outcome of the jobs."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from adapter_api import TaskRequest, Token, WorkerError
from adapter_api.faults import FaultServer, Request, Wire
from adapters.http_util import (
    RecordingTransport,
    ReplayTransport,
    RetryPolicy,
    StreamTransport,
    read_recording,
)
from adapters.openai_http import OpenAIHttpAdapter
from adapters.openai_http.replay import ReplayAdapter
from tests.adapters.openai_http.conftest import Serving
from tests.adapters.openai_http.replaying import LIMITS, frames_of
from tests.openai_chunks import piece


async def _raw_answer(
    transport: httpx.AsyncBaseTransport, url: str
) -> tuple[list[bytes], list[bytes]]:
    """The odd headers and the pieces of the body that came through this transport."""
    async with (
        httpx.AsyncClient(transport=transport) as client,
        client.stream("POST", url, json={}) as response,
    ):
        odd = [value for name, value in response.headers.raw if name.lower() == b"x-odd"]
        return odd, [data async for data in response.aiter_raw()]


async def test_chunks_are_played_where_they_were_split(serving: Serving, tmp_path: Path) -> None:
    """In a character, in a line end: the pieces are as they came, and so are odd headers."""
    path = tmp_path / "r.jsonl"
    event = f"data: {json.dumps(piece('🙂', 'stop'), ensure_ascii=False)}\r\n\r\n".encode()
    pieces = [event[n : n + 3] for n in range(0, len(event), 3)]

    async def script(request: Request, wire: Wire) -> None:
        await wire.stream_head({"X-Odd": "caf\xe9", "x-Odd": "twice"})
        for data in pieces:
            await wire.chunk(data)
            await asyncio.sleep(0.01)  # so that each comes on its own
        await wire.end()

    async with serving(script) as (fake, _):
        inner = StreamTransport(ssl_context=lambda: pytest.fail("no TLS here"))
        url = f"{fake.base_url}/v1/completions"
        seen = await _raw_answer(RecordingTransport(inner, path), url)
        assert await _raw_answer(ReplayTransport(path), url) == seen
    odd, got = seen
    assert odd == [b"caf\xe9", b"twice"]
    assert [chunk.data for chunk in read_recording(path)[0].chunks] == got
    assert b"".join(got) == event
    assert len(got) > 3


async def test_jobs_that_are_cancelled_anywhere_leave_a_whole_recording(
    server: FaultServer, tmp_path: Path
) -> None:
    """Whenever a reader goes, its exchange gets an end, and the other jobs' are complete."""
    path = tmp_path / "r.jsonl"
    async with OpenAIHttpAdapter(server.url("slow-tokens"), record=str(path)) as adapter:
        jobs = [
            asyncio.create_task(frames_of(adapter, TaskRequest(prompt=f"job {n}", model="m")))
            for n in range(12)
        ]
        for job in jobs[::2]:
            await asyncio.sleep(0.03)
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
    exchanges = {json.loads(e.body)["prompt"]: e for e in read_recording(path)}
    assert all(exchanges[f"job {n}"].end == "complete" for n in range(1, 12, 2))
    assert {e.end for e in exchanges.values()} == {"complete", "left"}


async def test_a_cancelled_job_is_recorded_up_to_there(server: FaultServer, tmp_path: Path) -> None:
    """The end says that the client left; played again, the silence is the limit's affair."""
    path = tmp_path / "r.jsonl"
    task = TaskRequest(prompt="hi", model="m")
    async with OpenAIHttpAdapter(server.url("tokens-for-ever"), record=str(path)) as adapter:
        stream = adapter.submit(task)
        async for event in stream:
            if isinstance(event, Token) and event.index == 3:
                break
        await stream.aclose()
    [exchange] = read_recording(path)
    assert exchange.end == "left"
    assert len(exchange.chunks) >= 1
    frames = await frames_of(ReplayAdapter(path=str(path), **LIMITS), task)
    assert [frame["type"] for frame in frames[:2]] == ["started", "token"]
    assert frames[-1]["code"] == "DECODE_TIMEOUT"


async def test_a_dead_server_is_recorded(tmp_path: Path) -> None:
    """A connection that is refused is an exchange without an answer."""
    path = tmp_path / "r.jsonl"
    task = TaskRequest(prompt="hi", model="m")
    quick = {"retry": RetryPolicy(attempts=1)}
    async with OpenAIHttpAdapter("http://127.0.0.1:1", record=str(path), **quick) as adapter:
        with pytest.raises(WorkerError) as seen:
            await adapter.submit(task)
    with pytest.raises(WorkerError) as again:
        await ReplayAdapter(path=str(path), attempts=1).submit(task)
    assert again.value.code == seen.value.code == "POOL_UNAVAILABLE"


async def test_an_existing_recording_is_not_overwritten(
    server: FaultServer, tmp_path: Path
) -> None:
    """The job fails, the file stays, and nothing was sent."""
    path = tmp_path / "r.jsonl"
    path.write_text("mine")
    async with OpenAIHttpAdapter(server.url("ordinary"), record=str(path)) as adapter:
        with pytest.raises(WorkerError):
            await adapter.submit(TaskRequest(prompt="hi", model="m"))
    assert path.read_text() == "mine"
    assert server.requests == []


def test_a_client_of_the_caller_cannot_be_recorded() -> None:
    """Its transport is its own; the message says what to give instead."""
    with pytest.raises(ValueError, match="give a transport"):
        OpenAIHttpAdapter("http://x", client=httpx.AsyncClient(), record="r.jsonl")


async def test_any_transport_can_be_recorded(server: FaultServer, tmp_path: Path) -> None:
    """Recording is a transport around a transport, for any httpx client."""
    path = tmp_path / "r.jsonl"
    inner = StreamTransport(ssl_context=lambda: pytest.fail("no TLS here"))
    url = f"{server.url('ordinary')}/v1/completions"
    async with httpx.AsyncClient(transport=RecordingTransport(inner, path)) as client:
        seen = (await client.post(url, json={"prompt": "x"})).content
    assert inner.open_connections == 0
    async with httpx.AsyncClient(transport=ReplayTransport(path)) as client:
        for _ in range(2):
            assert (await client.post(url, json={"prompt": "x"})).content == seen


async def test_an_error_that_is_not_of_httpx_breaks_the_connection(tmp_path: Path) -> None:
    """A transport of the caller fails its own way; what is played is an error that clients know.
    A recording that was changed by hand may have any text in a header."""
    path = tmp_path / "r.jsonl"

    def fail(request: httpx.Request) -> httpx.Response:
        raise RuntimeError("not of httpx")

    async with httpx.AsyncClient(
        transport=RecordingTransport(httpx.MockTransport(fail), path)
    ) as client:
        with pytest.raises(RuntimeError):
            await client.get("http://x/a")
        with pytest.raises(RuntimeError):
            await client.get("http://x/b")
    response = {"type": "response", "id": 2, "at_ms": 0, "status": 200, "headers": [["a", "🙂"]]}
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], json.dumps(response), lines[4]]))
    async with httpx.AsyncClient(transport=ReplayTransport(path)) as client:
        with pytest.raises(httpx.ReadError, match="not of httpx"):
            await client.get("http://x/a")
        async with client.stream("GET", "http://x/b") as played:
            assert played.headers["a"] == "🙂"
            with pytest.raises(httpx.ReadError, match="not of httpx"):
                await played.aread()
