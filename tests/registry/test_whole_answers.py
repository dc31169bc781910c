"""Calls, reasoning and log-probabilities come through every layer as the server sent them."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import registry
from adapter_api import Answer, JobNotice, TaskRequest, TokenEvent, Tool, hookimpl
from adapter_api.faults import Request, ScriptServer, Wire
from adapter_api.frames import to_frame
from registry import AdapterHost, Registry

TASK = TaskRequest(
    messages=[{"role": "user", "content": "hi"}],
    tools=[Tool("get_weather")],
    include_reasoning=True,
    logprobs=1,
)


def _chunk(delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, **more}
    return b"data: " + json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode() + b"\n\n"


def _call(**function: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "id": "call_a", "function": function}]}


SCORED = {"content": [{"token": "Hm", "logprob": -0.5, "top_logprobs": []}]}
BODY = b"".join(
    [
        _chunk({"role": "assistant", "reasoning_content": "Need it."}),
        _chunk({"content": "Hm"}, logprobs=SCORED),
        _chunk(_call(name="get_weather", arguments='{"city": ')),
        _chunk(_call(arguments='"Oslo"}')),
        _chunk({}, "tool_calls"),
        b"data: [DONE]\n\n",
    ]
)


async def _serve(request: Request, wire: Wire) -> None:
    if request.method == "POST":
        await wire.answer(200, BODY, kind="text/event-stream")
    else:
        await wire.answer(200, b'{"object": "list", "data": []}')


def _check(answer: Answer) -> None:
    assert (answer.text, answer.reasoning, answer.finish_reason) == ("Hm", "Need it.", "tool_calls")
    assert [(call.id, call.name, call.json()) for call in answer.tool_calls] == [
        ("call_a", "get_weather", {"city": "Oslo"})
    ]
    assert [(scored.token, scored.logprob) for scored in answer.logprobs] == [("Hm", -0.5)]
    assert answer.message().to_wire()["reasoning_content"] == "Need it."


class Through:
    """Hands every event on."""

    @hookimpl(wrapper=True)
    def submit(self, task: TaskRequest) -> Any:
        return self._events((yield))

    async def _events(self, events: AsyncIterator[TokenEvent]) -> AsyncIterator[TokenEvent]:
        async for event in events:
            yield event


async def test_through_middleware() -> None:
    """Events that a wrapper hands on stay what they are."""
    async with ScriptServer(_serve) as server:
        made = Registry(middleware=[Through()]).get("openai-http", base_url=server.base_url)
        try:
            _check(await made.submit(TASK).answer())
        finally:
            await made.aclose()


async def test_through_a_recording(tmp_path: Path) -> None:
    """The replay gives what was recorded."""
    path = str(tmp_path / "answer.jsonl")
    async with ScriptServer(_serve) as server:
        adapter = registry.get("openai-http", base_url=server.base_url, record=path)
        _check(await adapter.submit(TASK).answer())
        await adapter.aclose()
    played = registry.get("replay", path=path)
    _check(await played.submit(TASK).answer())
    await played.aclose()


async def test_through_the_blocking_front() -> None:
    """The blocking stream assembles the same answer."""

    def read(url: str) -> Answer:
        with registry.sync.get("openai-http", base_url=url) as adapter:
            return adapter.submit(TASK).answer()

    async with ScriptServer(_serve) as server:
        _check(await asyncio.to_thread(read, server.base_url))


async def test_through_a_host_and_frames() -> None:
    """A pool hands events on, and frames hold all of them."""
    async with ScriptServer(_serve) as server, AdapterHost() as host:
        host.bind("p", "r", registry.get("openai-http", base_url=server.base_url))
        await host.check("p")
        events = [event async for event in host.submit("p", TASK)]
    _check(Answer.of(events))
    _check(Answer.of([json.loads(json.dumps(to_frame(event))) for event in events]))


async def test_observers_learn_the_details_of_the_counts() -> None:
    """Cached and reasoning tokens, and the calls that may not be run."""
    notices: list[JobNotice] = []

    class Observer:
        @hookimpl
        def job_ended(self, job: JobNotice) -> None:
            notices.append(job)

    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    cut = _chunk(_call(name="get_weather", arguments='{"city": '))
    last = b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"

    async def script(request: Request, wire: Wire) -> None:
        body = cut + _chunk({}, "length") + last + b"data: [DONE]\n\n"
        await wire.answer(200, body, kind="text/event-stream")

    async with ScriptServer(script) as server:
        made = Registry(observers=[Observer()]).get("openai-http", base_url=server.base_url)
        answer = await made.submit(TASK).answer()
        await made.aclose()
    assert [call.reason for call in answer.invalid_tool_calls] == ["cut"]
    (notice,) = notices
    assert (notice.tool_calls, notice.invalid_tool_calls) == (0, 1)
    assert (notice.cached_tokens, notice.reasoning_tokens) == (4, 3)
