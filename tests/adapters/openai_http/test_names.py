"""Parts of an answer under names in another spelling, and under names that are not read."""

from typing import Any

import pytest

from adapter_api import ErrorCode, TaskRequest, WorkerError
from adapter_api.faults import Request, Wire
from adapters.openai_http.names import plain
from tests.adapters.openai_http.conftest import Serving
from tests.adapters.openai_http.reading import EVERYTHING, body_of, read, whole

DONE = "[DONE]"
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
FLAT = {"toolCallId": "c", "name": "f", "arguments": {"a": 1}}


def choice(**keys: Any) -> dict[str, Any]:
    """Return a chunk with one choice."""
    return {"choices": [{"index": 0, **keys}]}


FIRST = choice(delta={"content": "a"})
"""After it plain chunks are read by the fast lane."""

END = choice(delta={}, finish_reason="stop")


@pytest.mark.parametrize("size", [None, 1])
@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([choice(delta={"toolCalls": [CALL]}, finishReason="tool_calls")], ("a", "", 1)),
        ([choice(delta={"content": "b", "toolCalls": [CALL]}), END], ("ab", "", 1)),
        ([choice(delta={"ToolCalls": [FLAT]}), END], ("a", "", 1)),
        ([choice(delta={"tool_call": CALL}), END], ("a", "", 1)),
        ([choice(delta={"toolCall": FLAT}), END], ("a", "", 1)),
        ([choice(delta={"functionCall": {"name": "f", "arguments": "{}"}}), END], ("a", "", 1)),
        ([choice(delta={"content": "b", "functionCall": CALL["function"]}), END], ("ab", "", 1)),
        ([choice(delta={"content": "b", "reasoningContent": "hm"}), END], ("ab", "hm", 0)),
        ([choice(delta={"content": "b"}, toolCalls=[CALL]), END], ("ab", "", 1)),
        ([choice(delta={"content": "b"}, tool_calls=[CALL]), END], ("ab", "", 1)),
        ([choice(delta={"thinkingBlocks": [{"thinking": "hm"}]}), END], ("a", "hm", 0)),
        ([choice(delta={"content": "b"}, finishReason="stop")], ("ab", "", 0)),
        ([choice(Delta={"Content": "b"}, FinishReason="stop")], ("ab", "", 0)),
        ([choice(delta={"TOOL_CALLS": [CALL]}, FINISH_REASON="stop")], ("a", "", 1)),
        ([choice(delta={"tool-calls": [CALL]}, finishreason="stop")], ("a", "", 1)),
        ([choice(delta={"content": "", "Content": "b"}), END], ("ab", "", 0)),
        ([choice(delta={"content": ["b", None, {"type": "text", "text": "c"}]}), END],
         ("abc", "", 0)),
        ([choice(delta={"content": {"type": "text", "text": "b"}}), END], ("ab", "", 0)),
        ([choice(delta={"content": [{"text": "b"}, {"type": "thinking", "thinking": ["h", "m"]}]}),
          END], ("ab", "hm", 0)),
        ([choice(delta={"text": "b"}), END], ("ab", "", 0)),
    ],
)  # fmt: skip
def test_nothing_is_lost_by_its_name(
    events: list[Any], expected: tuple[str, str, int], size: int | None
) -> None:
    """Neither a call, nor the proof, nor reasoning, nor text."""
    answer = whole([FIRST, *events], size=size)
    assert (answer.text, answer.reasoning, len(answer.tool_calls)) == expected
    assert answer.proof == "finish_reason"
    assert all(call.id and call.name == "f" for call in answer.tool_calls)


@pytest.mark.parametrize("name", ["arguments", "args", "parameters", "input"])
def test_arguments_are_read_under_any_name(name: str) -> None:
    """A call without them would run with none."""
    for function in ({"name": "f", name: {"a": 1}}, {"name": "f", name: '{"a": 1}'}):
        for call in ({"id": "c", "function": function}, {"id": "c", **function}):
            answer = whole([choice(delta={"tool_calls": [call]}), END])
            assert [call.json() for call in answer.tool_calls] == [{"a": 1}]
            assert answer.tool_calls[0].extra == {}


def test_what_goes_back_to_the_server_keeps_its_name() -> None:
    """A signature is read by the server that sent it."""
    call = {**CALL, "thoughtSignature": "AA"}
    answer = whole([choice(delta={"toolCalls": [call]}), END])
    assert answer.tool_calls[0].extra["thoughtSignature"] == "AA"


def test_a_refusal_may_be_a_part_or_stand_beside_the_content() -> None:
    """It is delivered once."""
    for part in (
        {"content": [{"type": "refusal", "refusal": "no"}]},
        {"content": "no", "refusal": "no"},
        {"content": None, "refusal": "no"},
    ):
        answer = whole([choice(delta=part), END])
        assert (answer.text, answer.refused) == ("no", True)


@pytest.mark.parametrize(
    "chunk",
    [
        choice(delta={"content": "b"}, finishReason="SAFETY"),
        choice(delta={"content": "b"}, content_filter_results={"hate": {"filtered": True}}),
        choice(
            delta={"content": "b"},
            content_filter_results={"custom_blocklists": {"details": [{"filtered": True}]}},
        ),
        choice(delta={"content": "b"}, contentFilterResults={"hate": {"filtered": True}}),
        choice(delta={}, safety_ratings=[{"category": "hate", "blocked": True}]),
        {
            **choice(delta={}),
            "prompt_filter_results": [{"content_filter_results": {"x": {"filtered": True}}}],
        },
        {"choices": [], "finish_reason": "content_filter"},
        choice(delta={}, filtered=True),
        choice(delta={"reasoning_content": "hm"}, content_filter_results={"x": {"filtered": True}}),
        choice(delta={"reasoning_content": "hm"}, finishReason="SAFETY"),
        choice(delta={}, provider_specific_fields={"content_filter_results": {"filtered": True}}),
    ],
)
@pytest.mark.parametrize("annotated", [False, True])
def test_a_filter_beside_stop_is_a_filter(chunk: Any, annotated: bool) -> None:
    """Whatever the finish_reason says, and however many pieces passed the filter before."""
    results = {"hate": {"filtered": False, "severity": "safe"}}
    passed = choice(delta={"content": "b"}, content_filter_results=results)
    thought = choice(delta={"reasoning_content": "hm"})
    events = [FIRST, *([passed] * 3 if annotated else [thought] * 2), chunk, END, DONE]
    with pytest.raises(WorkerError) as caught:
        read([body_of([event]) for event in events], EVERYTHING)  # each in the lane of the last one
    assert caught.value.code is ErrorCode.CONTENT_FILTER


def test_a_server_with_names_of_its_own_has_no_fast_lane() -> None:
    """No lane knows all of them."""
    ratings = [{"category": "hate", "blocked": False}]
    for first in (
        choice(delta={"Content": "a"}),
        choice(delta={"content": "a"}, safety_ratings=ratings),
        {"Choices": [{"delta": {"content": "a"}}]},
    ):
        blocked = choice(delta={"content": "b"}, safety_ratings=[{"blocked": True}])
        with pytest.raises(WorkerError) as caught:
            read([body_of([event]) for event in (first, FIRST, blocked, END)], EVERYTHING)
        assert caught.value.code is ErrorCode.CONTENT_FILTER


def test_results_of_a_filter_that_withheld_nothing_are_none() -> None:
    """Azure sends them with every piece, and an error where the filter itself failed."""
    for results in (
        {"hate": {"filtered": False, "severity": "low"}},
        {"jailbreak": {"detected": True, "filtered": False}},
        {"error": {"code": "content_filter_error", "message": "not filtered"}},
        {},
    ):
        chunk = choice(delta={"content": "b"}, content_filter_results=results)
        assert whole([FIRST, chunk, chunk, END]).text == "abb"


def test_a_large_event_loses_nothing_either() -> None:
    """It is decoded into few types."""
    long = "a" * (1 << 20)
    camel = choice(delta={"content": long, "toolCalls": [CALL]}, finishReason="tool_calls")
    answer = whole([camel])
    assert (len(answer.text), len(answer.tool_calls)) == (len(long), 1)
    filtered = choice(delta={"content": long}, content_filter_results={"hate": {"filtered": True}})
    with pytest.raises(WorkerError) as caught:
        whole([filtered, END])
    assert caught.value.code is ErrorCode.CONTENT_FILTER
    assert whole([choice(delta={"content": long + '"filtered": true'}), END]).text.endswith("true")


@pytest.mark.parametrize("name", ["images", "image", "videos", "files", "audio"])
@pytest.mark.parametrize("data", ["AA", "A" * (1 << 20)])
def test_an_answer_of_images_only_is_refused(name: str, data: str) -> None:
    """An empty text would pass for what the model said."""
    if name not in ("images", "audio") and len(data) > 2:
        return  # of a large event few names are read
    with pytest.raises(WorkerError, match=name) as caught:
        whole([choice(delta={"content": "", name: [{"url": data}]}), END, DONE])
    assert caught.value.code is ErrorCode.UPSTREAM_PROTOCOL


@pytest.mark.parametrize(
    ("part", "noted"),
    [
        ({"content": "b", "images": [{"url": "x"}]}, "more than was delivered: images"),
        ({"content": "", "output_words": "b"}, "more than was delivered: output_words"),
        ({"content": "b", "output_words": "b"}, ""),
        (
            {"content": "b", "called_tools": [{"name": "f"}]},
            "more than was delivered: called_tools",
        ),
        ({"content": "b", "reasoning": "hm"}, ""),
    ],
)
async def test_what_was_not_delivered_is_noted(
    part: dict[str, Any], noted: str, serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """Names that are not known count only in an answer that is empty without them."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        for event in (choice(delta=part), END):
            await wire.event(event)
        await wire.end()

    async with serving(script) as (_, adapter):
        task = TaskRequest(model="m", messages=[{"role": "user", "content": "hi"}])
        await adapter.submit(task).answer()
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == bool(noted)
    assert noted in "".join(said)


def test_plain_names_stay_the_same_object() -> None:
    """The usual case costs nothing."""
    part = {"content": "a", "tool_calls": None}
    assert plain(part) is part
