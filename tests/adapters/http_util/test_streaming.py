"""One helper streams any protocol; two sample adapters of other protocols are built on it."""

import asyncio
import importlib.util
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapter_api import (
    Answer,
    Error,
    Message,
    StreamClock,
    TaskRequest,
    TokenStream,
    Tool,
    WorkerError,
)
from adapter_api.faults import Request, ScriptServer, Wire
from adapters.http_util import LineDecoder, SSEDecoder, make_client, open_stream

SAMPLES = Path(__file__).parents[2] / "distributions"
WEATHER = Tool("get_weather", "Tell the weather", {"type": "object"})
KEY = "correct-horse-battery-staple"


def load(name: str) -> Any:
    """Import a sample distribution's module."""
    spec = importlib.util.spec_from_file_location(name, SAMPLES / name / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sse(*events: Any) -> bytes:
    """Server-sent events, named by their type."""
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events
    )


def lines(*values: Any) -> bytes:
    """Newline-delimited JSON."""
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def block(at: int, kind: str, **fields: Any) -> dict[str, Any]:
    """A content_block_* event."""
    return {"type": f"content_block_{kind}", "index": at, **fields}


BEGIN = {"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}}
TEXT = [
    block(0, "start", content_block={"type": "text", "text": ""}),
    {"type": "ping"},
    block(0, "delta", delta={"type": "text_delta", "text": "Hel"}),
    block(0, "delta", delta={"type": "text_delta", "text": "lo"}),
    block(0, "stop"),
]
CALL = [
    block(1, "start", content_block={"type": "tool_use", "id": "t1", "name": "get_weather"}),
    block(1, "delta", delta={"type": "input_json_delta", "partial_json": '{"city":'}),
    block(1, "delta", delta={"type": "input_json_delta", "partial_json": '"Paris"}'}),
    block(1, "stop"),
]


def stop(reason: str) -> list[dict[str, Any]]:
    """The end of a message."""
    delta = {"stop_reason": reason}
    return [
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    ]


def said(text: str = "", **more: Any) -> dict[str, Any]:
    """A line of /api/chat."""
    message = {"role": "assistant", "content": text, **more.pop("message", {})}
    return {"message": message, "done": False, **more}


USED = {"done": True, "eval_count": 7, "prompt_eval_count": 9}
FUNCTION = {"tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}]}

WHOLE = {
    "messages text": ("acme_messages", sse(BEGIN, *TEXT, *stop("end_turn"))),
    "messages call": ("acme_messages", sse(BEGIN, *TEXT, *CALL, *stop("tool_use"))),
    "generate text": (
        "acme_generate",
        lines(said("Hel"), said("lo"), said(done_reason="stop", **USED)),
    ),
    "generate call": (
        "acme_generate",
        lines(said("Hel"), said("lo"), said(message=FUNCTION), said(done_reason="stop", **USED)),
    ),
}  # fmt: skip

OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
BROKEN = {
    "messages cut": ("acme_messages", sse(BEGIN, *TEXT), "STREAM_TRUNCATED"),
    "messages without stop": (
        "acme_messages", sse(BEGIN, *TEXT, stop("end_turn")[0]), "STREAM_TRUNCATED"),
    "messages error": ("acme_messages", sse(BEGIN, *TEXT[:3], OVERLOADED), "ADMISSION_REJECT"),
    "messages unknown reason": ("acme_messages", sse(BEGIN, *TEXT, *stop("x")), "STREAM_TRUNCATED"),
    "messages refusal": ("acme_messages", sse(BEGIN, *TEXT, *stop("refusal")), "CONTENT_FILTER"),
    "messages bare error": (
        "acme_messages", sse(BEGIN, *TEXT) + b'{"error": "broken"}\n\n', "WORKER_RESET"),
    "generate cut": ("acme_generate", lines(said("Hel")), "STREAM_TRUNCATED"),
    "generate error": ("acme_generate", lines(said("Hel"), {"error": "broken"}), "WORKER_RESET"),
    "generate unknown reason": (
        "acme_generate", lines(said("Hel"), said(done_reason="x", **USED)), "STREAM_TRUNCATED"),
    "generate page": ("acme_generate", b"<html>gone</html>", "WORKER_RESET"),
}  # fmt: skip


def answering(body: bytes, status: int = 200) -> Callable[[Request, Wire], Any]:
    """A script that answers with `body`, in small pieces."""

    async def script(request: Request, wire: Wire) -> None:
        head = f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(body)}\r\n\r\n"
        await wire.raw(head.encode())
        for start in range(0, len(body), 50):
            await wire.raw(body[start : start + 50])

    return script


async def ask(name: str, server: ScriptServer, task: TaskRequest, **options: Any) -> Answer:
    """Run a job on a sample adapter."""
    module = load(name)
    adapter_type = getattr(module, name.title().partition("_")[2] + "Adapter")
    config_type = getattr(module, name.title().partition("_")[2] + "Config")
    adapter = adapter_type(config_type(server.base_url, **options))
    try:
        return await adapter.submit(task).answer()
    finally:
        await adapter.aclose()


@pytest.mark.parametrize("case", WHOLE)
async def test_sample_adapters_understand_whole_answers(case: str) -> None:
    """Text, calls, counts; the request names model, messages and tools; the connection is kept."""
    name, body = WHOLE[case]
    task = TaskRequest(
        model="m",
        messages=(Message("system", "Be short."), Message("user", "Hello")),
        max_tokens=50,
        tools=(WEATHER,),
    )
    async with ScriptServer(answering(body)) as server:
        answer = await ask(name, server, task, api_key=KEY)
        sent = json.loads(server.requests[0].body)
    assert answer.text == "Hello"
    assert (answer.metrics.tokens_generated, answer.metrics.prompt_tokens) == (7, 9)
    expected = [{"city": "Paris"}] if "call" in case else []
    assert [call.json() for call in answer.tool_calls] == expected
    assert sent["model"] == "m"
    assert KEY in "".join(server.requests[0].headers.values())
    assert "get_weather" in json.dumps(sent["tools"])


@pytest.mark.parametrize("case", BROKEN)
async def test_sample_adapters_take_no_half_answer_for_whole(case: str) -> None:
    """Cuts, errors in the stream, unknown reasons and lines that do not belong are errors."""
    name, body, code = BROKEN[case]
    async with ScriptServer(answering(body)) as server:
        with pytest.raises(WorkerError) as caught:
            await ask(name, server, TaskRequest(prompt="Hello"))
    assert caught.value.code == code


async def test_a_history_with_calls_is_sent_as_the_protocol_wants() -> None:
    """A call and its result go back in each protocol's own form."""
    answer_message = Message("assistant", None, tool_calls=({"id": "t1", "function": {
        "name": "get_weather", "arguments": '{"city": "Paris"}'}},))  # fmt: skip
    history = (Message("user", "?"), answer_message, Message("tool", "sun", tool_call_id="t1"))
    for name, body in (WHOLE["messages text"], WHOLE["generate text"]):
        async with ScriptServer(answering(body)) as server:
            await ask(name, server, TaskRequest(messages=history))
            sent = json.loads(server.requests[0].body)["messages"]
        assert "Paris" in json.dumps(sent[1])
        assert "sun" in json.dumps(sent[2])


def streaming(base_url: str, clock: StreamClock, task: TaskRequest, **options: Any) -> TokenStream:
    """A job that does nothing but read."""

    async def events() -> AsyncIterator[Any]:
        async with (
            make_client() as client,
            open_stream(
                client, base_url, {"a": 1}, clock=clock, task=task, secrets=[KEY],
                headers={"Authorization": f"Bearer {KEY}"}, **{"decoder": SSEDecoder(), **options},
            ) as answer,
        ):  # fmt: skip
            async for _ in answer:
                answer.progress()
        yield Error(WorkerError("STREAM_TRUNCATED", "read to the end"))

    return TokenStream(events(), task, clock=clock)


async def outcome(base_url: str, **options: Any) -> WorkerError:
    """The outcome of such a job."""
    task = TaskRequest(prompt="x")
    with pytest.raises(WorkerError) as caught:
        await streaming(base_url, StreamClock(None), task, **options).text()
    return caught.value


async def test_refusals_are_mapped_and_redacted() -> None:
    """Status, words and codes count; the key that the server repeats does not come through."""
    body = json.dumps({"error": {"message": f"no such model, {KEY}", "type": "not_found"}}).encode()
    async with ScriptServer(answering(body, 404)) as server:
        error = await outcome(server.base_url)
    assert error.code == "UPSTREAM_NOT_FOUND"
    assert error.status == 404
    assert "no such model, [redacted]" in error.message


async def test_a_refusal_without_end_is_read_to_its_bounds_only() -> None:
    """Neither a flood nor silence behind a status holds the job up."""

    async def flood(request: Request, wire: Wire) -> None:
        await wire.raw(b"HTTP/1.1 500 No\r\nContent-Length: 1000000000\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                await wire.raw(b"x" * 65536)

    async with ScriptServer(flood) as server:
        error = await asyncio.wait_for(outcome(server.base_url), 10)
        assert error.status == 500
        assert server.connections[0].sent_bytes < 20_000_000


@pytest.mark.parametrize("after", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"])
async def test_silence_ends_a_job_after_the_first_limit(after: bytes) -> None:
    """Before the head as POOL_UNAVAILABLE, behind it as DECODE_TIMEOUT."""

    async def silent(request: Request, wire: Wire) -> None:
        await wire.raw(after)
        await wire.until_closed()

    async with ScriptServer(silent) as server:
        error = await outcome(server.base_url, first_s=0.05)
        assert error.code == ("DECODE_TIMEOUT" if after else "POOL_UNAVAILABLE")
        assert await server.all_closed()


async def test_the_rest_of_its_house_rules() -> None:
    """The allow-list, payloads that are not JSON, bounds of the decoder."""
    denied = await outcome("http://127.0.0.1:9", egress_allow=())
    assert denied.code == "EGRESS_DENIED"
    async with make_client() as client:
        with pytest.raises(WorkerError, match="cannot be sent as JSON"):
            async with open_stream(
                client, "http://127.0.0.1:9", {"a": object()}, decoder=LineDecoder(),
                clock=StreamClock(None), task=TaskRequest(prompt="x"),
            ):  # fmt: skip
                pass
    async with ScriptServer(answering(b"x" * 300)) as server:
        error = await outcome(server.base_url, decoder=LineDecoder(max_line_bytes=100))
    assert (error.code, "longer than 100 bytes" in error.message) == ("UPSTREAM_PROTOCOL", True)


async def test_any_client_records_and_replays(tmp_path: Path) -> None:
    """A recording of any protocol answers without the server."""
    file, body = tmp_path / "any.jsonl", b'{"done": true}\n'
    async with ScriptServer(answering(body)) as server, make_client(record=file) as client:
        assert (await client.post(server.base_url, json={"key": 1})).content == body
    async with make_client(replay=file) as client:
        response: httpx.Response = await client.post("http://elsewhere", json={"key": 1})
        assert response.content == body
