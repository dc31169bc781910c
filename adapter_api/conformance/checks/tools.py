"""Tool calls and reasoning. An adapter that knows only text stays valid, and the report says so."""

import json
from typing import Any

from adapter_api.answer import Answer
from adapter_api.conformance.check import Check, check
from adapter_api.conformance.checks.stream import WHOLE
from adapter_api.conformance.jobs import run
from adapter_api.conformance.subject import Subject, Trace
from adapter_api.conformance.verdict import Absent, Violation
from adapter_api.errors import ErrorCode
from adapter_api.events import End, Error, Reasoning, Token, ToolCallDelta
from adapter_api.frames import from_frame, to_frame
from adapter_api.messages import Tool

QUESTION = {"role": "user", "content": "What is the weather in Oslo?"}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool("get_weather", "Return the weather of a city", CITY)
CHOICE = {"type": "function", "function": {"name": WEATHER.name}}
LAB_ARGUMENTS = {"city": "Oslo"}
"""The arguments of the lab engine's call."""

TOOL_TOKENS = 128
"""Enough for a call, on a model that reasons first."""


def forced_call_fields() -> dict[str, Any]:
    """Return the fields of a task that demands a call."""
    fields: dict[str, Any] = {"tools": (WEATHER,), "max_tokens": TOOL_TOKENS}
    return {"messages": [QUESTION], "tool_choice": CHOICE, **fields}


@check("ADAPT-3000", needs=(*WHOLE, "messages"), capability="tools")
async def tools(subject: Subject) -> str:
    """Tool calls are whole and offered, their pieces add up, and a result can be sent back."""
    fields = forced_call_fields()
    job = subject.job(**fields)
    async with subject.adapter() as adapter:
        if subject.lacks("messages", adapter):
            raise Absent("it takes no messages, and a result is one")
        trace = await subject.trace(adapter, job)
        end = end_with_calls(trace)
        _judge_calls(trace, end)
        if subject.steady and subject.network is not None:
            _judge_lab_call(end)
        if not end.tool_calls:
            return f"{len(end.invalid_tool_calls)} calls that cannot be run"
        answer = Answer.of(trace.events)
        results = [call.result("21 degrees") for call in answer.tool_calls]
        del fields["tool_choice"]
        said = [QUESTION, answer.message(), *results]
        second = subject.job(**{**fields, "messages": said})
        outcome = await run(adapter, second)
    if outcome.error is not None:
        raise Violation(f"a conversation with a call and its result failed: {outcome}")
    return f"calls: {len(end.tool_calls)}"


def _judge_lab_call(end: End) -> None:
    """Compare the call with the one that the lab's engine makes.

    Raises:
        Violation: If they differ.
    """
    found = [json.loads(call.arguments) for call in end.tool_calls]
    if found != [LAB_ARGUMENTS]:
        raise Violation(f"the engine called with {LAB_ARGUMENTS}, and the calls have {found}")


def end_with_calls(trace: Trace) -> End:
    """Return the end of an answer with calls.

    Raises:
        Absent: If there are none.
        Violation: If the job failed with anything but a refusal of tools.
    """
    errors = [event.error for event in trace.events if isinstance(event, Error)]
    error = errors[0] if errors else trace.error
    if getattr(error, "code", None) == ErrorCode.INVALID_PARAMS:
        raise Absent("it refuses tasks with tools; declare ABSENT = {'tools': why}")
    if error is not None:
        raise Violation(f"a job with tools failed: {error}")
    ends = [event for event in trace.events if isinstance(event, End)]
    if not ends:
        raise Violation("a job with tools ended without End")
    if not ends[0].tool_calls and not ends[0].invalid_tool_calls:
        raise Absent(
            "no call came although the task demands one; if tools are ignored, refuse them, or "
            "declare ABSENT = {'tools': why}"
        )
    return ends[0]


def _judge_calls(trace: Trace, end: End) -> None:
    """Compare an answer's pieces with its calls.

    Raises:
        Violation: At the first mistake.
    """
    pieces: dict[int, str] = {}
    for event in trace.tokens:
        if isinstance(event, ToolCallDelta):
            if event.call not in pieces and (not event.id or not event.name):
                raise Violation("the first piece of a call has no id or no name")
            pieces[event.call] = pieces.get(event.call, "") + event.arguments
    whole = {call.id: call.arguments for call in end.tool_calls}
    if len(whole) < len(end.tool_calls):
        raise Violation("two calls have one id")
    for call in end.tool_calls:
        if call.name != WEATHER.name:
            raise Violation(f"a call is of {call.name!r}, which was not offered")
        try:
            json.loads(call.arguments)
        except ValueError:
            raise Violation(
                f"a call's arguments are not JSON: {call.arguments[:40]!r}; it belongs in "
                "invalid_tool_calls"
            ) from None
    if pieces and not set(whole.values()) <= set(pieces.values()):
        raise Violation("the pieces of a call do not add up to its arguments")
    said: list[Token | End] = [*trace.tokens, end]
    for sent in said:
        if from_frame(json.loads(json.dumps(to_frame(sent)))) != sent:
            raise Violation(f"{type(sent).__name__} is changed by its frame")


@check("ADAPT-3000", needs=WHOLE)
async def reasoning(subject: Subject) -> str:
    """Reasoning is delivered only if the task asks for it, and never as text."""
    async with subject.adapter() as adapter:
        silent = await subject.trace(adapter, subject.job())
        traced = await subject.trace(adapter, subject.job(include_reasoning=True))
    if any(isinstance(token, Reasoning) for token in silent.tokens):
        raise Violation(
            "reasoning came although the task did not request it: see include_reasoning"
        )
    found = [token for token in traced.tokens if isinstance(token, Reasoning)]
    if any(token.text for token in found):
        raise Violation("a Reasoning has text: it belongs in `reasoning`")
    if not found:
        raise Absent("no reasoning came")
    return f"{len(found)} pieces"


TOOLS: tuple[Check, ...] = (tools, reasoning)
