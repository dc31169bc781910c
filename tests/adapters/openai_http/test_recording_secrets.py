"""No recording holds a credential (HTU-1004)."""

import json
import re
from pathlib import Path

import httpx
import pytest

from adapter_api import TaskRequest
from adapter_api.faults import Request, Wire
from adapters.http_util import RecordingTransport, ReplayTransport, RetryPolicy, read_recording
from adapters.http_util.recording.replaying import MAX_REMEMBERED
from adapters.openai_http.replay import ReplayAdapter
from tests.adapters.openai_http.conftest import Serving
from tests.adapters.openai_http.replaying import KEY, frames_of, without_key
from tests.openai_chunks import piece


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
        seen = await frames_of(adapter, task)
    text = path.read_text()
    assert KEY not in text
    [exchange] = read_recording(path)
    assert KEY.encode() not in b"".join(chunk.data for chunk in exchange.chunks)
    assert json.loads(exchange.body)["prompt"] == f"what is {'x' * len(KEY)}?"
    replay = ReplayAdapter(path=str(path), attempts=1)
    assert without_key(await frames_of(replay, task)) == without_key(seen)


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
            await frames_of(adapter, TaskRequest(prompt="hi"))
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
        seen = await frames_of(adapter, TaskRequest(prompt="hi"))
    assert "sk-abcdef" not in path.read_text()
    assert "upstream" in path.read_text()
    assert "upstream" in seen[-1]["message"]
    async with serving(answering, record=str(other)) as (_, adapter):
        text = await adapter.submit(TaskRequest(prompt="hi")).text()
    assert text == "use sk-learn-models"
    assert await ReplayAdapter(path=str(other)).submit(TaskRequest(prompt="hi")).text() == text


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
