"""What was recorded is played, and comes to the same."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

import registry
from adapter_api import TaskRequest, Token, WorkerError
from adapter_api.conformance.faults import CHAPTERS, FaultServer, Scenario
from adapters.http_util import (
    RecordingTransport,
    ReplayTransport,
    RetryPolicy,
    StreamTransport,
    read_recording,
)
from adapters.openai_http import OpenAIHttpAdapter
from adapters.openai_http.replay import ReplayAdapter

KEY = "correct-horse-battery-staple"
LIMITS = {"first_token_timeout_s": 0.3, "stall_timeout_s": 0.3}
QUICK = {"retry": RetryPolicy(base_s=0.0, seed=1)}

# A few of each chapter, and all that end too early.
CHOSEN = [
    fault
    for title, chapter in CHAPTERS.items()
    for place, fault in enumerate(chapter)
    if title == "Answers that end too early" or place % 7 == 0
    if fault.jobs == 1
    and not fault.early
    and fault.expect.requests == 1
    and not fault.name.startswith("endless")
    and fault.expect.within_s < 2
]


@pytest.fixture
async def server() -> AsyncIterator[FaultServer]:
    """The fault server."""
    async with FaultServer() as server:
        yield server


async def _frames(adapter: Any, task: TaskRequest) -> list[dict[str, Any]]:
    """The job's frames, without what time decides."""
    frames = [frame async for frame in adapter.submit(task).frames()]
    for frame in frames:
        for name in ("job_id", "metrics"):
            frame.pop(name, None)
    return frames


def _task(fault: Scenario) -> TaskRequest:
    fields = {"prompt": "hi", "model": "m", **fault.task}
    if "messages" in fields:
        del fields["prompt"]
    return TaskRequest(**fields)


@pytest.mark.parametrize("fault", CHOSEN, ids=lambda fault: str(fault.name))
async def test_a_fault_comes_to_the_same_when_it_is_replayed(
    fault: Scenario, server: FaultServer, tmp_path: Path
) -> None:
    """A failure seen once can be seen again: the same frames, twice (ORCH-3045)."""
    path = tmp_path / "r.jsonl"
    options = {**LIMITS, "dialect": fault.server or "auto"}
    recording = OpenAIHttpAdapter(
        server.url(fault.name), api_key=KEY, record=str(path), **QUICK, **options
    )
    seen = await _frames(recording, _task(fault))
    await recording.aclose()
    assert KEY not in path.read_text()
    replay = ReplayAdapter(path=str(path), attempts=1, **options)
    first, second = await _frames(replay, _task(fault)), await _frames(replay, _task(fault))
    assert first == second
    assert _without_key(first) == _without_key(seen)
    await replay.aclose()


def _without_key(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Servers repeat the key, which is x in a recording and redacted in an error."""
    texts = ("x" * len(KEY), "[redacted]")
    for frame in frames:
        for text in texts:
            frame["message"] = frame.get("message", "").replace(text, "KEY")
    return frames


async def test_several_jobs_at_once_are_told_apart(server: FaultServer, tmp_path: Path) -> None:
    """Answers that arrive interleaved are played to those who ask for them."""
    path = tmp_path / "r.jsonl"
    tasks = [TaskRequest(prompt=f"job {n}", model="m") for n in range(8)]
    async with OpenAIHttpAdapter(server.url("ordinary"), record=str(path)) as adapter:
        seen = await asyncio.gather(*(_frames(adapter, task) for task in tasks))
    assert len(read_recording(path)) == 8
    replay = ReplayAdapter(path=str(path))
    assert await asyncio.gather(*(_frames(replay, task) for task in tasks)) == seen


async def test_the_clock_can_be_played_too(server: FaultServer, tmp_path: Path) -> None:
    """speed=1 takes as long as it took, 0 no time at all."""
    path = tmp_path / "r.jsonl"
    task = TaskRequest(prompt="hi", model="m")
    async with OpenAIHttpAdapter(server.url("slow-tokens"), record=str(path)) as adapter:
        seen = await _frames(adapter, task)
    took = {}
    for speed in (0.0, 1.0):
        began = monotonic()
        assert await _frames(ReplayAdapter(path=str(path), speed=speed), task) == seen
        took[speed] = monotonic() - began
    assert took[0.0] < 0.4 < took[1.0]


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
    frames = await _frames(ReplayAdapter(path=str(path), **LIMITS), task)
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


async def test_what_was_not_recorded_is_said_so(server: FaultServer, tmp_path: Path) -> None:
    """Another job finds no answer, and is told why; health and props answer all the same."""
    path = tmp_path / "r.jsonl"
    async with OpenAIHttpAdapter(server.url("ordinary"), record=str(path)) as adapter:
        await adapter.submit(TaskRequest(prompt="hi", model="m")).text()
    async with registry.get("replay", path=str(path)) as replay:
        said = [{"role": "user", "content": "hi"}]
        with pytest.raises(WorkerError, match="the recording has no answer") as caught:
            await replay.submit(TaskRequest(messages=said, model="m"))
        assert caught.value.code == "UPSTREAM_NOT_FOUND"
        health = await replay.health()
        assert health.ready
        assert "1 exchanges" in health.message
        assert (await replay.props()).models == ()


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
