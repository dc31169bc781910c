"""A replay gives the recorded outcome."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

import registry
from adapter_api import TaskRequest, WorkerError
from adapter_api.faults import CHAPTERS, FaultServer, Request, Scenario, Wire
from adapters.http_util import RetryPolicy, read_recording
from adapters.http_util.recording.exchange import Chunk, Writer
from adapters.openai_http import OpenAIHttpAdapter
from adapters.openai_http.replay import ReplayAdapter
from tests.adapters.openai_http.conftest import Serving
from tests.adapters.openai_http.replaying import KEY, LIMITS, frames_of, without_key
from tests.fake_openai import sse
from tests.openai_chunks import RECORDED, STREAMS, delta, piece, recorded
from tests.virtual_time import now_s

QUICK = {"retry": RetryPolicy(base_s=0.0, seed=1)}

REFUSALS = sorted(str(path.relative_to(RECORDED)) for path in RECORDED.glob("*/d_*.txt"))

# Some of each chapter, and all that end too early or repeat the key.
CHOSEN = [
    fault
    for title, chapter in CHAPTERS.items()
    for place, fault in enumerate(chapter)
    if title == "Answers that end too early" or place % 3 == 0 or fault.name.startswith("key-in-")
    if fault.jobs == 1
    and not fault.early
    and not fault.name.startswith("endless")
    and fault.expect.within_s < 2
]


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
    seen = await frames_of(recording, _task(fault))
    await recording.aclose()
    assert KEY not in path.read_text()
    runs = []
    for _ in range(2):
        async with registry.get("replay", path=str(path), **options) as replay:
            runs.append(await frames_of(replay, _task(fault)))
    assert runs[0] == runs[1]
    if fault.name.startswith("key-in-"):  # there, what stands for the key makes up the texts
        assert _outline(runs[0]) == _outline(seen)
    else:
        assert without_key(runs[0]) == without_key(seen)


def _outline(frames: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(frame["type"], frame.get("code")) for frame in frames]


@pytest.mark.parametrize("name", [*STREAMS, *REFUSALS])
async def test_the_answers_of_real_servers_come_again(
    name: str, serving: Serving, tmp_path: Path
) -> None:
    """Replay gives what vLLM, llama-server and others once sent, event by event (ORCH-3045)."""
    path = tmp_path / "r.jsonl"
    said = [{"role": "user", "content": "hi"}]
    task = TaskRequest(messages=said) if "/c_" in name else TaskRequest(prompt="hi")
    status, headers, body = recorded(name)
    kept = {k: v for k, v in headers.items() if k not in ("transfer-encoding", "content-length")}

    async def script(request: Request, wire: Wire) -> None:
        await wire.start(status, {**kept, "Transfer-Encoding": "chunked"})
        for event in body.split(b"\n\n"):
            await wire.chunk(event + b"\n\n")
        await wire.end()

    async with serving(script, record=str(path), strict=True) as (_, adapter):
        seen = await frames_of(adapter, task)
    for _ in range(2):  # each adapter learns the version from an answer's end
        async with registry.get("replay", path=str(path), strict=True) as replay:
            assert await frames_of(replay, task) == seen
    assert seen[-1]["type"] == ("end" if status == 200 else "error")


async def test_two_replays_are_the_same_bytes(server: FaultServer, tmp_path: Path) -> None:
    """The same task, twice: every frame, but for its times, byte by byte (ORCH-3045)."""
    path = tmp_path / "r.jsonl"
    task = TaskRequest(prompt="hi", model="m", seed=7)
    async with OpenAIHttpAdapter(server.url("ordinary"), record=str(path)) as adapter:
        await adapter.submit(task).text()
    runs = []
    for _ in range(2):
        frames = [f async for f in ReplayAdapter(path=str(path)).submit(task).frames()]
        for name in ("time_to_first_token_ms", "decode_time_ms"):
            frames[-1]["metrics"].pop(name)
        runs.append(json.dumps(frames))
    assert runs[0] == runs[1]


async def test_a_server_is_known_by_its_recorded_host(tmp_path: Path) -> None:
    """Azure and OpenAI are recognized by their host names, and Azure has paths of its own."""
    path = tmp_path / "r.jsonl"
    url = (
        "https://me.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2024-06-01"
    )
    said = [{"role": "user", "content": "hi"}]

    def answer(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == url
        return httpx.Response(200, content=sse(delta({"content": "hi"}), "[DONE]"))

    options = {"transport": httpx.MockTransport(answer), "record": str(path)}
    async with OpenAIHttpAdapter(url, api_key=KEY, **options) as adapter:
        seen = await frames_of(adapter, TaskRequest(messages=said))
    assert KEY not in path.read_text()
    assert seen[-1]["code"] == "STREAM_TRUNCATED"  # there is no finish_reason, which Azure gives
    replay = ReplayAdapter(path=str(path))
    assert await frames_of(replay, TaskRequest(messages=said)) == seen
    assert (await replay.props()).engine == "azure-openai"


async def test_a_recording_of_another_client_can_be_played(tmp_path: Path) -> None:
    """Without a host, or with one that is none, the paths are matched as they are."""
    path = tmp_path / "r.jsonl"
    writer = Writer(path)
    for host in ("a b", "x/y?z"):
        exchange = writer.request("POST", "/completions?a=1", {"host": host}, b"")
        writer.response(exchange, 0.0, 200, [])
        writer.end(exchange, 0.0, "complete")
    exchange = writer.request("POST", "/my/v1/completions", {}, b"")
    writer.response(exchange, 0.0, 200, [("content-type", "text/event-stream")])
    writer.chunks(exchange, [Chunk(0.0, sse(piece("hi", "stop")))])
    writer.end(exchange, 0.0, "complete")
    writer.close()
    assert await ReplayAdapter(path=str(path)).submit(TaskRequest(prompt="x")).text() == "hi"


async def test_waits_before_the_next_request_are_not_waited(
    serving: Serving, tmp_path: Path
) -> None:
    """A server asks to be left alone for long: with speed 0 the replay asks again at once, and
    still lists the recorded requests."""
    path = tmp_path / "r.jsonl"

    async def busy(request: Request, wire: Wire) -> None:
        await wire.reply({"error": {"message": "busy"}}, 429, {"Retry-After": "50"})

    task = TaskRequest(prompt="hi")
    options = {"retry": RetryPolicy(attempts=1), "record": str(path)}
    async with serving(busy, **options) as (_, adapter):
        [seen] = await frames_of(adapter, task)
    began = now_s()
    [again] = await frames_of(ReplayAdapter(path=str(path), attempts=3), task)
    assert now_s() - began < 5
    assert again == seen
    assert again["retry_after_ms"] == 50_000


async def test_health_is_played(serving: Serving, tmp_path: Path) -> None:
    """A server that was loading when it was recorded is so in the replay, and lists its models."""
    path = tmp_path / "r.jsonl"

    async def loading(request: Request, wire: Wire) -> None:
        await wire.reply({"error": {"message": "Loading model"}}, 503)

    async with serving({"/readiness": loading}, record=str(path)) as (_, adapter):
        seen, props = await adapter.health(), await adapter.props()
    async with registry.get("replay", path=str(path)) as replay:
        health = await replay.health()
        assert (health.state, health.message) == (seen.state, seen.message)
        assert not health.ready
        assert (await replay.props()).models == props.models != ()


async def test_concurrent_jobs_are_distinguished(server: FaultServer, tmp_path: Path) -> None:
    """Answers that arrive interleaved are played to those who ask for them."""
    path = tmp_path / "r.jsonl"
    tasks = [TaskRequest(prompt=f"job {n}", model="m") for n in range(8)]
    async with OpenAIHttpAdapter(server.url("ordinary"), record=str(path)) as adapter:
        seen = await asyncio.gather(*(frames_of(adapter, task) for task in tasks))
    assert len(read_recording(path)) == 8
    replay = ReplayAdapter(path=str(path))
    assert await asyncio.gather(*(frames_of(replay, task) for task in tasks)) == seen


async def test_the_clock_can_be_played_too(server: FaultServer, tmp_path: Path) -> None:
    """speed=1 takes as long as it took, 0 no time at all."""
    path = tmp_path / "r.jsonl"
    task = TaskRequest(prompt="hi", model="m")
    async with OpenAIHttpAdapter(server.url("slow-tokens"), record=str(path)) as adapter:
        seen = await frames_of(adapter, task)
    took = {}
    for speed in (0.0, 1.0):
        began = now_s()
        assert await frames_of(ReplayAdapter(path=str(path), speed=speed), task) == seen
        took[speed] = now_s() - began
    recorded_s = read_recording(path)[0].end_at_ms / 1000
    assert took[0.0] < recorded_s - 0.01 < took[1.0]


async def test_what_was_not_recorded_is_said_so(server: FaultServer, tmp_path: Path) -> None:
    """A job without an answer fails with the reason; health and props still work."""
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
