"""Answers, messages and tool calls: assembled, parsed and sent back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import (
    Answer,
    End,
    Error,
    InternalError,
    InvalidRequest,
    InvalidToolCall,
    JsonError,
    Message,
    Metrics,
    Reasoning,
    Refusal,
    ScoredToken,
    StreamingError,
    TaskRequest,
    Token,
    TokenEvent,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    WorkerReset,
)
from adapter_api.frames import from_frame, to_frame
from tests.scripted import STARTED, Script, collect
from tests.strategies import json_values

CALL = ToolCall("call_a", "get_weather", '{"city": "Paris"}')
CUT = InvalidToolCall("call_b", "get_time", '{"ci', reason="cut")
EVENTS: list[TokenEvent] = [
    STARTED,
    Reasoning("", 0, reasoning="Need the "),
    Reasoning("", 1, reasoning="weather."),
    ScoredToken("Check", 2, logprobs=(TokenLogprob("Ch", -0.1), TokenLogprob("eck", -1.0))),
    Token("ing.", 3),
    ToolCallDelta("", 4, call=0, id="call_a", name="get_weather", arguments='{"city": '),
    ToolCallDelta("", 5, call=1, id="call_b", name="get_time", arguments='{"ci'),
    ToolCallDelta("", 6, call=0, arguments='"Paris"}'),
    End(
        Metrics(9, cached_tokens=4, reasoning_tokens=5),
        "length",
        "finish_reason",
        tool_calls=(CALL,),
        invalid_tool_calls=(CUT,),
        message_extra={"reasoning_content": "Need the weather.", "refusal": None},
    ),
]


def _answer(text: str = "", **changes: Any) -> Answer:
    end = {"metrics": Metrics(3), "finish_reason": "stop", "proof": "finish_reason", **changes}
    return Answer.of([STARTED, Token(text, 0), End(**end)])


async def test_an_answer_has_all_that_came() -> None:
    """From a stream, its events, and its frames: the same text, reasoning, calls and logprobs."""
    answer = await Script(*EVENTS).stream().answer()
    assert (answer.text, answer.reasoning) == ("Checking.", "Need the weather.")
    assert (answer.tool_calls, answer.invalid_tool_calls) == ((CALL,), (CUT,))
    assert [item.token for item in answer.logprobs] == ["Ch", "eck"]
    assert await Script(*EVENTS).stream().text() == "Checking."
    assert Answer.of(EVENTS) == answer
    frames = [frame async for frame in Script(*EVENTS).stream().frames()]
    assert Answer.of(json.loads(json.dumps(frames))) == answer


def test_every_event_survives_its_frame() -> None:
    """Frames are read back as the same events; unknown keys and other types are refused."""
    frames = [json.loads(json.dumps(to_frame(event))) for event in EVENTS]
    assert [from_frame(frame) for frame in frames] == EVENTS
    assert [frame["type"] for frame in frames] == ["started", *["token"] * 7, "end"]
    assert frames[7] == {
        "type": "token",
        "text": "",
        "index": 6,
        "tool_call": {"call": 0, "arguments": '"Paris"}'},
    }
    for key, value in (("call", "0"), ("id", 5), ("more", 1)):
        wrong = {**frames[7], "tool_call": {**frames[7]["tool_call"], key: value}}
        with pytest.raises(ValueError, match=r"@ \$"):
            from_frame(wrong)


def test_an_answer_without_a_proof_raises() -> None:
    """The job's own error, or STREAM_TRUNCATED for events without an end."""
    with pytest.raises(WorkerReset):
        Answer.of([STARTED, Token("a", 0), Error(WorkerReset("WORKER_RESET", "gone"))])
    with pytest.raises(StreamingError, match="STREAM_TRUNCATED: the events have no End"):
        Answer.of([STARTED, Token("a", 0)])


def test_reasoning_that_was_kept_is_part_of_the_answer() -> None:
    """Without Reasoning events the reasoning comes from the message's own keys."""
    assert _answer("4", message_extra={"reasoning": "two and two"}).reasoning == "two and two"


@given(json_values)
def test_json_parses_what_is_json(value: Any) -> None:
    """A whole answer is parsed; what the model said is never changed."""
    assert _answer(json.dumps(value)).json() == value


@pytest.mark.parametrize(
    ("answer", "reason", "says"),
    [
        (_answer("I cannot help.", refused=True), "refused", "the model refused"),
        (_answer('{"a": 1', finish_reason="length"), "cut", "cut at 3 tokens"),
        (_answer("12", finish_reason="max_tokens"), "cut", "raise max_tokens"),
        (_answer('```json\n{"a": 1}\n```'), "not_json", "the answer is not JSON"),
        (_answer("[NaN]"), "not_json", "NaN is not a JSON value"),
        (_answer("[" * 100_000), "not_json", "the answer is not JSON"),
        (_answer(""), "not_json", "the answer has no text"),
        (_answer("", tool_calls=(CALL,)), "not_json", "the answer has only tool calls"),
    ],
)
def test_json_errors_give_the_reason(answer: Answer, reason: str, says: str) -> None:
    """Refused, cut and not JSON have different reasons; ValueError catches them all."""
    with pytest.raises(ValueError, match=says) as caught:
        answer.json()
    assert isinstance(caught.value, JsonError)
    assert caught.value.reason == reason


def test_the_next_turn_has_whole_calls_and_what_the_server_wants_back() -> None:
    """Invalid calls never enter a history; reasoning goes back under the server's own name."""
    answer = Answer.of(EVENTS)
    wire = answer.message().to_wire()
    assert wire["tool_calls"] == [
        {
            "id": "call_a",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
        }
    ]
    assert (wire["content"], wire["reasoning_content"]) == ("Checking.", "Need the weather.")
    assert "reasoning_content" not in answer.message(reasoning=False).to_wire()
    result = answer.tool_calls[0].result("18 degrees")
    assert result.to_wire() == {"role": "tool", "content": "18 degrees", "tool_call_id": "call_a"}
    task = TaskRequest(messages=[{"role": "user", "content": "?"}, wire, result])
    assert task.messages == (Message("user", "?"), answer.message(), result)


def test_reasoning_without_calls_stays_out_of_the_history() -> None:
    """Unless opaque details need it; a refusal keeps its own key, and text its own."""
    extra = {"reasoning_content": "hm"}
    assert _answer("4", message_extra=extra).message().to_wire() == {
        "role": "assistant",
        "content": "4",
    }
    details = {**extra, "reasoning_details": [{"data": "x"}]}
    assert _answer("4", message_extra=details).message().to_wire()["reasoning_content"] == "hm"
    wire = _answer("No.", refused=True, message_extra={"refusal": "No."}).message().to_wire()
    assert wire == {"role": "assistant", "content": None, "refusal": "No."}
    assert _answer("", tool_calls=(CALL,)).message().to_wire()["content"] is None
    parts = [{"type": "thinking"}, {"type": "text", "text": "4"}]
    assert _answer("4", message_extra={"content": parts}).message().content == tuple(parts)


def test_messages_take_the_wire_form() -> None:
    """The result of the openai package's `message.to_dict()` is accepted; nulls are ignored."""
    wire = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "tool_calls": [
            {"id": "a", "index": 0, "type": "function", "function": {"name": "f", "arguments": ""}},
            {"id": "b", "type": "custom", "custom": {"name": "g", "input": "free text"}},
            {
                "id": "c",
                "function": {"name": "h", "arguments": {"x": 1}},
                "extra_content": 1,
            },
            {"id": "d", "name": "i", "arguments": "{}"},
        ],
    }
    [message] = TaskRequest(messages=[wire]).messages or ()
    assert message.extra == {"annotations": []}
    assert message.tool_calls == (
        ToolCall("a", "f"),
        ToolCall("b", "g", "free text", {"type": "custom"}),
        ToolCall("c", "h", '{"x": 1}', {"extra_content": 1}),
        ToolCall("d", "i"),
    )
    assert TaskRequest(messages=[message.to_wire()]).messages == (message,)


def test_what_clients_add_to_an_answer_is_not_sent_back() -> None:
    """Nulls under any name, and the keys that openai's `parse` and `stream` fill for the caller."""
    function = {"name": "f", "arguments": "{}", "parsed_arguments": {"x": 1}}
    wire = {
        "role": "assistant",
        "content": "{}",
        "parsed": {"x": 1},
        "provider_specific_fields": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": function, "extra_content": None}
        ],
    }
    [message] = TaskRequest(messages=[wire]).messages or ()
    assert message == Message("assistant", "{}", tool_calls=[ToolCall("a", "f")])


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": "assistant", "tool_calls": [{"id": "a"}]}, "messages[0].tool_calls[0].name"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]},
            "messages[0].tool_calls[0].id",
        ),
        ({"role": "assistant", "tool_calls": [CUT]}, "messages[0].tool_calls[0]"),
        ({"role": "assistant", "tool_calls": "x"}, "messages[0].tool_calls"),
        ({"role": "tool", "content": "x"}, "messages[0].tool_call_id"),
        ({"role": "user"}, "messages[0].content"),
        ({"role": "user", "content": "x", "bogus": 1}, "messages[0]"),
    ],
)
def test_a_wrong_message_names_its_field(message: dict[str, Any], field: str) -> None:
    """The path leads to the field, in the text and as an attribute."""
    with pytest.raises(InvalidRequest) as caught:
        TaskRequest(messages=[message])
    assert caught.value.field == field
    assert caught.value.message.startswith(f"{field} must be ")


def test_tools_take_the_wire_form() -> None:
    """An empty schema means no arguments; a mapping is kept unchanged."""
    assert Tool("f").to_wire() == {
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
    }
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    assert Tool("f", "adds", schema, strict=True).to_wire()["function"] == {
        "name": "f",
        "description": "adds",
        "parameters": schema,
        "strict": True,
    }
    mapping = {"type": "web_search"}
    assert TaskRequest(prompt="x", tools=[Tool("f"), mapping]).tools == (Tool("f"), mapping)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", "f"),
        ("tools", ["f"]),
        ("tool_choice", "any"),
        ("parallel_tool_calls", 1),
        ("response_format", "json"),
        ("reasoning_effort", ""),
        ("logprobs", True),
        ("logprobs", -1),
        ("include_reasoning", None),
    ],
)
def test_the_fields_of_whole_answers_are_checked(field: str, value: Any) -> None:
    """Each is refused by its own name."""
    with pytest.raises(InvalidRequest) as caught:
        TaskRequest(prompt="x", **{field: value})
    assert (caught.value.field or "").startswith(field)


_FIRST = ToolCallDelta("", 0, call=0, id="a", name="f", arguments="{}")


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([ToolCallDelta("", 0, call=0, arguments="{}")], "no id or no name"),
        ([ToolCallDelta("", 0, call=0, id="a", name="")], "no id or no name"),
        ([ToolCallDelta("", 0, call=1, id="a", name="f")], "call 1, expected 0"),
        ([_FIRST, ToolCallDelta("", 1, call=0, id="a")], "a second id or name for call 0"),
        ([_FIRST, ToolCallDelta("", 1, call=1, id="a", name="g")], "the id of an earlier call"),
        ([_FIRST, ToolCallDelta("x", 1, call=0)], "ToolCallDelta with a text"),
        ([Reasoning("x", 0, reasoning="y")], "Reasoning with a text"),
        ([_FIRST], "no entry for call 'a', which was begun"),
        ([Refusal("no", 0)], "refused False, after a Refusal"),
        ([Refusal(1, 0)], "text that is not a string"),  # type: ignore[arg-type]
        ([End(Metrics(0), "stop", "done", (CUT,))], "tool_calls that are not whole"),
        (
            [End(Metrics(0), "stop", "done", (ToolCall("a", "f", "{"),))],
            "the call f among tool_calls, whose arguments are not JSON",
        ),
        ([End(Metrics(0), "stop", "done", (CALL, CALL))], "two calls of one id"),
        ([End(Metrics(0), "stop", "done", (), (CALL,))], "invalid_tool_calls that are not"),  # type: ignore[arg-type]
    ],
)
async def test_the_rules_of_calls_hold_for_every_adapter(steps: list[Any], says: str) -> None:
    """A violation ends the job as INTERNAL: no call is run that is not proven whole."""
    seen = await collect(Script(STARTED, *steps, End(Metrics(1), "stop", "done")).stream())
    assert isinstance(seen[-1], InternalError)
    assert says in seen[-1].message


async def test_a_refusal_is_text_of_a_kind_of_its_own() -> None:
    """Its words are text for old loops; frames and the answer say what they are."""
    extra = {"refusal": "I cannot."}
    end = End(Metrics(3), "stop", "finish_reason", refused=True, message_extra=extra)
    events = [STARTED, Token("Well. ", 0), Refusal("I ", 1), Refusal("cannot.", 2, -0.5), end]
    assert await collect(Script(*events).stream()) == events
    frames = [to_frame(event) for event in events]
    assert frames[2] == {"type": "token", "text": "I ", "index": 1, "refusal": True}
    assert [from_frame(json.loads(json.dumps(frame))) for frame in frames] == events
    with pytest.raises(ValueError, match="refusal must be true or absent"):
        from_frame({**frames[2], "refusal": False})
    answer = Answer.of(events)
    assert (answer.text, answer.refusal) == ("Well. I cannot.", "I cannot.")
    assert answer.message().to_wire()["content"] == "Well. "
    assert _answer("No.", refused=True).refusal == "No."
    assert _answer("Yes.").refusal == ""


async def test_calls_may_be_interleaved() -> None:
    """Pieces go to the call that they name; custom calls have plain text."""
    custom = ToolCall("b", "g", "free text", {"type": "custom"})
    events = [
        STARTED,
        _FIRST,
        ToolCallDelta("", 1, call=1, id="b", name="g", arguments="free "),
        ToolCallDelta("", 2, call=0, arguments=""),
        ToolCallDelta("", 3, call=1, arguments="text"),
        End(Metrics(1), "stop", "done", (ToolCall("a", "f"), custom)),
    ]
    assert await collect(Script(*events).stream()) == events


@given(
    st.lists(st.text(max_size=4), max_size=5),
    st.dictionaries(st.text(max_size=4), json_values, max_size=2),
)
def test_any_call_comes_back_from_its_frame(pieces: list[str], extra: dict[str, Any]) -> None:
    """Arguments are kept to the letter, whatever the model wrote."""
    arguments = "".join(pieces)
    call = InvalidToolCall("a", "f", arguments, extra, reason="not_json")
    end = End(Metrics(1), "stop", "done", invalid_tool_calls=(call,))
    assert from_frame(json.loads(json.dumps(to_frame(end)))) == end
