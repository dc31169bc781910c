"""A replay gives the recorded outcome."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import registry
from adapter_api import TaskRequest, Token, WorkerError
from adapter_api.faults import CHAPTERS, FaultServer, Request, Scenario, Wire
from adapters.http_util import (
    RecordingTransport,
    ReplayTransport,
    RetryPolicy,
    StreamTransport,
    read_recording,
)
from adapters.http_util.recording.exchange import Chunk, Writer
from adapters.http_util.recording.replaying import MAX_REMEMBERED
from adapters.openai_http import OpenAIHttpAdapter
from adapters.openai_http.replay import ReplayAdapter
from tests.adapters.openai_http.conftest import Serving
from tests.fake_openai import sse
from tests.openai_chunks import RECORDED, STREAMS, delta, piece, recorded
from tests.virtual_time import now_s

KEY = "correct-horse-battery-staple"
LIMITS = {"first_token_timeout_s": 0.3, "stall_timeout_s": 0.3}
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
    runs = []
    for _ in range(2):
        async with registry.get("replay", path=str(path), **options) as replay:
            runs.append(await _frames(replay, _task(fault)))
    assert runs[0] == runs[1]
    if fault.name.startswith("key-in-"):  # there, what stands for the key makes up the texts
        assert _outline(runs[0]) == _outline(seen)
    else:
        assert _without_key(runs[0]) == _without_key(seen)


def _outline(frames: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(frame["type"], frame.get("code")) for frame in frames]


def _without_key(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return frames in which a repeated key is KEY, x in a recording and redacted in an error.

    The advice behind a refusal is left out: a replay sends no key.
    """
    texts = ("x" * len(KEY), "[redacted]")
    for frame in frames:
        message = frame.get("message", "").partition("}}. ")[0]
        for text in texts:
            message = message.replace(text, "KEY")
        frame["message"] = message
    return frames


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
        seen = await _frames(adapter, task)
    for _ in range(2):  # each adapter learns the version from an answer's end
        async with registry.get("replay", path=str(path), strict=True) as replay:
            assert await _frames(replay, task) == seen
    assert seen[-1]["type"] == ("end" if status == 200 else "error")


@pytest.mark.parametrize("status", [200, 401, 500])
async def test_a_server_that_repeats_the_key_byte_by_byte(
    status: int, serving: Serving, tmp_path: Path
) -> None:
    """Nothing of the key is in the file: not of headers, bodies, or a request (HTU-1004)."""
    path = tmp_path / "r.jsonl"

    async def script(request: Request, wire: Wire) -> None:
        got = {"authorization": request.headers["authorization"]}
        await wire.start(status, {"Transfer-Encoding": "chunked", "X-Got": got["authorization"]})
        event = f"data: {json.dumps({**piece('hi', 'stop'), 'got': got})}\n\n".encode()
        for n in range(len(event)):
            await wire.chunk(event[n : n + 1])
        await wire.end()

    task = TaskRequest(prompt=f"what is {KEY}?")
    quick = {"retry": RetryPolicy(attempts=1)}
    async with serving(script, record=str(path), api_key=KEY, **quick) as (_, adapter):
        seen = await _frames(adapter, task)
    text = path.read_text()
    assert KEY not in text
    [exchange] = read_recording(path)
    assert KEY.encode() not in b"".join(chunk.data for chunk in exchange.chunks)
    assert json.loads(exchange.body)["prompt"] == f"what is {'x' * len(KEY)}?"
    replay = ReplayAdapter(path=str(path), attempts=1)
    assert _without_key(await _frames(replay, task)) == _without_key(seen)


async def test_headers_lose_their_credentials(tmp_path: Path) -> None:
    """Keys and cookies, of requests and answers, also where a URL must stay one (HTU-1004)."""
    path = tmp_path / "r.jsonl"
    given = {"Set-Cookie": "abcdefgh", "X-Got": "sk-abcdefgh", "Location": "/?key=the-key-it-is"}
    answer = httpx.Response(302, headers=given)
    recording = RecordingTransport(httpx.MockTransport(lambda _: answer), path)
    sent = {"Cookie": "abcdefgh", "api-key": "the-key-it-is", "X": "sk-abcdefgh"}
    url = "http://x/v1?api_key=abcdefgh"
    async with httpx.AsyncClient(transport=recording) as client:
        await client.get(url, headers=sent)
    assert not re.search("abcdefgh|the-key-it-is", path.read_text())
    async with httpx.AsyncClient(transport=ReplayTransport(path)) as client:
        played = await client.get(url, headers=sent)
    assert (played.status_code, played.headers["location"]) == (302, "/?key=xxxxxxxxxxxxx")


async def test_a_key_of_an_earlier_request_is_removed_too(serving: Serving, tmp_path: Path) -> None:
    """A token was renewed; an answer still repeats the one before it (HTU-1004)."""
    path = tmp_path / "r.jsonl"
    keys = iter(["the-first-token-of-all", "the-second-token"])

    async def script(request: Request, wire: Wire) -> None:
        await wire.reply({"error": {"message": "not the-first-token-of-all!"}}, 400)

    async with serving(script, record=str(path), api_key=lambda: next(keys)) as (_, adapter):
        for _ in range(2):
            await _frames(adapter, TaskRequest(prompt="hi"))
    assert len(read_recording(path)) == 2
    assert "the-first-token" not in path.read_text()


async def test_a_key_that_looks_like_one_is_removed_from_refusals(
    serving: Serving, tmp_path: Path
) -> None:
    """A gateway shows the key it uses itself; an ordinary answer is left as it is."""
    path, other = tmp_path / "r.jsonl", tmp_path / "s.jsonl"

    async def answering(request: Request, wire: Wire) -> None:
        await wire.reply(piece("use sk-learn-models", "stop"))

    async def refusing(request: Request, wire: Wire) -> None:
        await wire.reply({"error": {"message": "upstream sk-abcdef123456 failed"}}, 500)

    async with serving(refusing, record=str(path)) as (_, adapter):
        seen = await _frames(adapter, TaskRequest(prompt="hi"))
    assert "sk-abcdef" not in path.read_text()
    assert "upstream" in path.read_text()
    assert "upstream" in seen[-1]["message"]
    async with serving(answering, record=str(other)) as (_, adapter):
        text = await adapter.submit(TaskRequest(prompt="hi")).text()
    assert text == "use sk-learn-models"
    assert await ReplayAdapter(path=str(other)).submit(TaskRequest(prompt="hi")).text() == text


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
            asyncio.create_task(_frames(adapter, TaskRequest(prompt=f"job {n}", model="m")))
            for n in range(12)
        ]
        for job in jobs[::2]:
            await asyncio.sleep(0.03)
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
    exchanges = {json.loads(e.body)["prompt"]: e for e in read_recording(path)}
    assert all(exchanges[f"job {n}"].end == "complete" for n in range(1, 12, 2))
    assert {e.end for e in exchanges.values()} == {"complete", "left"}


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
        seen = await _frames(adapter, TaskRequest(messages=said))
    assert KEY not in path.read_text()
    assert seen[-1]["code"] == "STREAM_TRUNCATED"  # there is no finish_reason, which Azure gives
    replay = ReplayAdapter(path=str(path))
    assert await _frames(replay, TaskRequest(messages=said)) == seen
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
    still tells what was asked for."""
    path = tmp_path / "r.jsonl"

    async def busy(request: Request, wire: Wire) -> None:
        await wire.reply({"error": {"message": "busy"}}, 429, {"Retry-After": "50"})

    task = TaskRequest(prompt="hi")
    options = {"retry": RetryPolicy(attempts=1), "record": str(path)}
    async with serving(busy, **options) as (_, adapter):
        [seen] = await _frames(adapter, task)
    began = now_s()
    [again] = await _frames(ReplayAdapter(path=str(path), attempts=3), task)
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
        began = now_s()
        assert await _frames(ReplayAdapter(path=str(path), speed=speed), task) == seen
        took[speed] = now_s() - began
    recorded_s = read_recording(path)[0].end_at_ms / 1000
    assert took[0.0] < recorded_s - 0.01 < took[1.0]


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


async def test_only_so_many_credentials_are_remembered(tmp_path: Path) -> None:
    """Tokens that are renewed without end do not fill the memory (HTU-1003)."""
    path = tmp_path / "r.jsonl"
    recording = RecordingTransport(
        httpx.MockTransport(lambda request: httpx.Response(200, content=request.content)), path
    )
    async with httpx.AsyncClient(transport=recording) as client:
        for n in range(2 * MAX_REMEMBERED):
            await client.post("http://x/", headers={"api-key": f"key-{n:04}"})
        body = b"key-0000 " + f"key-{2 * MAX_REMEMBERED - 1:04}".encode()
        await client.post("http://x/", content=body)
    assert read_recording(path)[-1].body == b"key-0000 xxxxxxxx"
