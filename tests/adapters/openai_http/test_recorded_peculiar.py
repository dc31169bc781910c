"""Recorded answers of servers that go their own way: llama-cpp-python, and a LiteLLM proxy."""

from pathlib import Path

import pytest

from adapter_api import End, Started, TaskRequest, Token
from adapter_api.faults import Request, Script, Wire
from tests.adapters.openai_http.conftest import Serving
from tests.openai_chunks import recorded

ANSWERS = [
    # (recording, engine, version, text, usage)
    ("llama-cpp-python/b_cmpl_stream.txt", "llama-cpp-python", "unknown", "~\x17 world44as", None),
    ("llama-cpp-python/c_chat_stream.txt", "llama-cpp-python", "unknown", None, None),
    ("litellm/b_cmpl_stream_usage.txt", "litellm", "1.106.2", "~\x17\ufffd world\ufffd44as", 8),
    ("litellm/c_chat_stream_usage.txt", "litellm", "1.106.2", None, 8),
]


def replaying(name: str) -> Script:
    """Sends a recorded answer, one event at a time."""

    async def script(request: Request, wire: Wire) -> None:
        _, headers, body = recorded(name)
        kept = {k: v for k, v in headers.items() if k not in ("transfer-encoding", "content-type")}
        await wire.stream_head(kept)
        for event in body.split(b"\n\n"):
            if event:
                await wire.chunk(event + b"\n\n")
        await wire.end()

    return script


@pytest.mark.parametrize(("name", "engine", "version", "text", "tokens"), ANSWERS)
async def test_their_answers_are_whole_and_recognized(
    serving: Serving, name: str, engine: str, version: str, text: str | None, tokens: int | None
) -> None:
    """OC-ADAPT-OAI 6010: engine and version from headers or ids; usage where there is one."""
    prompt = TaskRequest(prompt="hello world")
    chat = TaskRequest(messages=[{"role": "user", "content": "hello world"}])
    async with serving(replaying(name)) as (_, adapter):
        task = chat if Path(name).name.startswith("c_") else prompt
        events = [event async for event in adapter.submit(task)]
    assert isinstance(events[0], Started)
    assert (events[0].engine, events[0].engine_version) == (engine, version)
    assert isinstance(events[-1], End)
    assert (events[-1].finish_reason, events[-1].proof) == ("length", "finish_reason")
    said = "".join(event.text for event in events if isinstance(event, Token))
    assert said == text if text else said.startswith("5")
    metrics = events[-1].metrics
    assert metrics.usage_source == ("engine" if tokens else "counted")
    assert metrics.tokens_generated == (tokens or len(events) - 2)
