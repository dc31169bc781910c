"""The adapter over real sockets: calls, reasoning and constraints."""

from typing import Any

import pytest

from adapter_api import (
    Answer,
    End,
    ErrorCode,
    Reasoning,
    Started,
    TaskRequest,
    Token,
    Tool,
    ToolCallDelta,
)
from tests.adapters.openai_http.conftest import Serving
from tests.adapters.openai_http.jobs import MESSAGES, events_of, failure_of, records_of
from tests.fake_openai import (
    refuses,
    streams,
)
from tests.openai_chunks import delta, usage

# Calls and reasoning

TOOL = Tool("f", "A function")


async def test_an_answer_with_calls_and_reasoning_arrives_whole(serving: Serving) -> None:
    """Every kind of event, in order, over a socket; times count from the first generated piece."""
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}}
    rest = {"index": 0, "function": {"arguments": ": 1}"}}
    chunks = [
        delta({"role": "assistant", "content": None}),
        delta({"reasoning_content": "Hm."}),
        delta({"content": "Look."}),
        delta({"tool_calls": [call]}),
        delta({"tool_calls": [rest]}),
        delta({}, "tool_calls"),
        usage(5, 9),
        "[DONE]",
    ]
    task = TaskRequest(
        messages=[{"role": "user", "content": "x"}], tools=[TOOL], include_reasoning=True
    )
    async with serving(streams(*chunks, pause_s=0.01)) as (server, adapter):
        events = await events_of(adapter, task)
        (body,) = server.bodies
    assert [type(event) for event in events] == [
        Started, Reasoning, Token, ToolCallDelta, ToolCallDelta, End,
    ]  # fmt: skip
    assert body["tools"] == [TOOL.to_wire()]
    answer = Answer.of(events)
    assert [(c.id, c.name, c.json()) for c in answer.tool_calls] == [("a", "f", {"x": 1})]
    assert answer.message().to_wire()["reasoning_content"] == "Hm."
    assert answer.metrics.decode_time_ms > 30  # four pauses after the reasoning


async def test_reasoning_that_is_not_delivered_is_progress_all_the_same(serving: Serving) -> None:
    """A model may think for longer than the stall limit."""
    chunks = [*[delta({"reasoning": "hm"})] * 6, delta({"content": "a"}), delta({}, "stop")]
    handler = streams(*chunks, "[DONE]", pause_s=0.08)
    async with serving(handler, stall_timeout_s=0.3, first_token_timeout_s=0.3) as (_, adapter):
        events = await events_of(adapter, MESSAGES)
    assert [type(event) for event in events] == [Started, Token, End]
    assert events[-1].metrics.decode_time_ms > 400


@pytest.mark.parametrize(
    ("choice", "chunks", "words"),
    [
        ("required", [delta({"content": "no"}), delta({}, "stop")], "did not call a tool"),
        (
            {"type": "function", "function": {"name": "f"}},
            [delta({"content": "no"}), delta({}, "stop")],
            "did not call a tool",
        ),
        ("auto", [delta({"content": "no"}), delta({}, "stop")], None),
        ("auto", [delta({"reasoning": "no"}), delta({}, "stop")], "reasoning without any text"),
        ("auto", [delta({"content": "no"}), delta({}, "tool_calls")], "but sent no call"),
    ],
)
async def test_what_no_error_can_say_is_a_warning(
    serving: Serving,
    caplog: pytest.LogCaptureFixture,
    choice: Any,
    chunks: list[Any],
    words: str | None,
) -> None:
    """A call that was required or announced, and did not come; an answer of reasoning alone."""
    task = TaskRequest(
        messages=[{"role": "user", "content": "x"}], tools=[TOOL], tool_choice=choice
    )
    async with serving(streams(*chunks, "[DONE]")) as (_, adapter):
        answer = await adapter.submit(task).answer()
    humans = [record["human"] for record in records_of(caplog)]
    assert len(humans) == (words is not None)
    assert words is None or words in humans[0]
    assert answer.text or answer.reasoning == "no"


async def test_a_refused_constraint_is_the_error(serving: Serving) -> None:
    """response_format, tools and keys of `extra` are never left out: one request, one refusal."""
    tasks = [
        TaskRequest(prompt="x", response_format={"type": "json_object"}),
        TaskRequest(prompt="x", tools=[TOOL]),
        TaskRequest(prompt="x", stop=["a"]),
        TaskRequest(prompt="x", extra={"grammar": "g"}),
        TaskRequest(prompt="x", extra={"structured_outputs": {"regex": "a"}}),
    ]
    fields = ("response_format", "tools", "stop", "grammar", "structured_outputs")
    for task in tasks:
        async with serving(refuses(*fields)) as (server, adapter):
            assert (await failure_of(adapter, task)).code is ErrorCode.INVALID_PARAMS
            assert len(server.requests) == 1


async def test_tools_need_the_chat_endpoint(serving: Serving) -> None:
    """A prompt with tools goes there; api='completions' cannot send it."""
    task = TaskRequest(prompt="x", tools=[TOOL])
    async with serving() as (server, adapter):
        await adapter.submit(task).answer()
        assert server.paths == ["/v1/chat/completions"]
    async with serving(api="completions") as (server, adapter):
        assert "cannot send tools" in (await failure_of(adapter, task)).message
        assert server.requests == []
