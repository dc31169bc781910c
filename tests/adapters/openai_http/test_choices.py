"""The places of an answer's parts: deltas, messages, the choice, or several of them."""

import json
from typing import Any

import pytest

from adapter_api import Answer, ErrorCode, WorkerError
from adapters.openai_http.outcome import Wanted
from tests.adapters.openai_http.reading import EVERYTHING, body_of, pieces_of, read, whole

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
DONE = "[DONE]"


def choice(**keys: Any) -> dict[str, Any]:
    """Return a chunk with one choice."""
    return {"choices": [{"index": 0, **keys}]}


def text(piece: str) -> dict[str, Any]:
    """Return a chunk with a piece of text."""
    return choice(delta={"content": piece})


def message(reason: str = "stop", **keys: Any) -> dict[str, Any]:
    """Return a chunk with a whole message and a finish_reason."""
    return choice(message={"role": "assistant", **keys}, finish_reason=reason)


@pytest.mark.parametrize("size", [None, 1])
@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([text("ab"), message(content="ab")], ("ab", "", 0)),
        ([text("ab"), message("tool_calls", content="ab", tool_calls=[CALL])], ("ab", "", 1)),
        ([choice(delta={"reasoning": "hm"}), message(content="ab")], ("ab", "hm", 0)),
        ([choice(delta={"tool_calls": [CALL]}), message(content="ab", tool_calls=[CALL])],
         ("ab", "", 1)),
        ([text("ab"), message(content="ab", reasoning="hm")], ("ab", "hm", 0)),
        ([message("", content="a"), message(content="b")], ("ab", "", 0)),
        ([choice(delta={}, tool_calls=[CALL], finish_reason="tool_calls")], ("", "", 1)),
        ([choice(text="ab", reasoning="hm", finish_reason="stop")], ("ab", "hm", 0)),
    ],
)  # fmt: skip
def test_nothing_is_lost_and_nothing_comes_twice(
    events: list[Any], expected: tuple[str, str, int], size: int | None
) -> None:
    """A message that repeats deltas is not read again; what only the message has, is."""
    answer = whole([*events, DONE], size=size)
    assert (answer.text, answer.reasoning, len(answer.tool_calls)) == expected
    assert answer.invalid_tool_calls == ()


@pytest.mark.parametrize("place", ["entry", "function"])
def test_an_error_inside_a_call_is_the_answer_s(place: str) -> None:
    """The call is not run."""
    failed = {"message": "the parser died"}
    entry = CALL | ({"error": failed} if place == "entry" else {"function": {"error": failed}})
    with pytest.raises(WorkerError, match="the parser died") as caught:
        whole([choice(delta={"tool_calls": [CALL]}), choice(delta={"tool_calls": [entry]}), DONE])
    assert caught.value.code is ErrorCode.WORKER_RESET


@pytest.mark.parametrize(
    "failed",
    [
        choice(delta={"content": ""}, error_message="boom"),
        choice(delta={"content": ""}, errorMessage="boom"),
        choice(delta={"content": ""}, Error={"message": "boom"}),
        choice(delta={}, status="failed", reason="boom"),
        choice(delta={"errors": ["boom"]}),
        choice(message={"content": "", "exception": "boom"}),
    ],
)
def test_a_failure_in_a_choice_is_one_under_any_name(failed: Any) -> None:
    """As in the event around it."""
    with pytest.raises(WorkerError, match="boom"):
        whole([text("ab"), failed, choice(delta={}, finish_reason="stop"), DONE])
    harmless = choice(delta={"errors": [], "status": "ok"}, errors=None, status="in_progress")
    assert whole([text("ab"), harmless, choice(delta={}, finish_reason="stop")]).text == "ab"


@pytest.mark.parametrize("done", [DONE, "[done]", '"[DONE]"', "data: [DONE]", "data:[DONE]"])
def test_the_end_may_be_quoted_or_have_its_prefix_twice(done: str) -> None:
    """As gateways send it that encode or prefix an event again."""
    assert whole([text("ab"), done]).proof == "done"


def test_a_prefix_may_stand_twice() -> None:
    chunks = [text("a"), text("b"), choice(delta={}, finish_reason="stop")]
    assert whole([f"data: {json.dumps(chunk)}" for chunk in chunks]).text == "ab"


@pytest.mark.parametrize("size", [None, 1])
def test_an_array_of_chunks_is_read(size: int | None) -> None:
    """An error among them fails the answer."""
    chunks = [text("a"), text("b"), choice(delta={}, finish_reason="stop")]
    body = json.dumps(chunks).encode()
    assert Answer.of(read(pieces_of(body, size), EVERYTHING)).text == "ab"
    with pytest.raises(WorkerError, match="boom"):
        read([json.dumps([*chunks, {"error": "boom"}]).encode()])
    with pytest.raises(WorkerError, match="cut off"):
        read([body[:-1]])


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_events_without_blank_lines_are_read_one_by_one(end: str) -> None:
    """A server that forgets them sends one event, which the standard joins."""
    chunks = [text("a"), text("b"), choice(delta={}, finish_reason="stop"), DONE]
    body = body_of(chunks).replace(b"\n\n", end.encode())
    assert Answer.of(read([body], EVERYTHING)).text == "ab"
    with pytest.raises(WorkerError, match="no answer"):  # the last event may be cut
        read([body_of(chunks[:-1]).replace(b"\n\n", end.encode())])


def test_an_error_in_a_heartbeat_is_an_error() -> None:
    """Otherwise its data may be anything."""
    end = choice(delta={}, finish_reason="stop")
    beat = {"event": "heartbeat", "data": "alive"}
    assert whole([text("ab"), beat, end]).text == "ab"
    with pytest.raises(WorkerError, match="boom"):
        whole([text("ab"), beat | {"data": '{"error": "boom"}'}, end])


def test_a_joined_event_is_bounded() -> None:
    """Reading it must not block the event loop."""
    chunk = json.dumps(text("a"))
    with pytest.raises(WorkerError, match="not JSON"):
        whole([text("a"), "\ndata: ".join([chunk] * 5000), DONE])


@pytest.mark.parametrize("size", [None, 1, 7])
def test_lines_of_json_are_chunks(size: int | None) -> None:
    """An error among them, or text behind them, fails the answer."""
    end = choice(delta={}, finish_reason="stop")
    lines = [json.dumps(chunk) for chunk in (text("a"), text("b"), end)]

    def outcome(*more: str) -> str:
        body = "\n".join([*lines, *more]).encode()
        try:
            return Answer.of(read(pieces_of(body, size), EVERYTHING)).text
        except WorkerError as error:
            return error.code

    assert outcome() == "ab"
    assert outcome("", "data: [DONE]", "") == "ab"
    assert outcome('{"error": "boom"}') == "WORKER_RESET"
    assert outcome("", 'data: {"error": "boom"}') == "WORKER_RESET"
    assert outcome("Internal Server Error") == "STREAM_TRUNCATED"
    assert outcome("Internal Server Error", "") == "UPSTREAM_PROTOCOL"
    assert outcome(lines[0][:-4]) == "STREAM_TRUNCATED"
    assert outcome(json.dumps(text("data: x\n\ndata:")), json.dumps(end), DONE) == (
        "abdata: x\n\ndata:"
    )


def test_counts_may_have_the_names_of_other_apis() -> None:
    """Anthropic and OpenAI's Responses; some servers send all numbers as floats."""
    for usage in (
        {"input_tokens": 3, "output_tokens": 2},
        {"input_tokens": 3.0, "output_tokens": 2.0},
    ):
        end = choice(delta={}, finish_reason="stop") | {"usage": usage}
        metrics = whole([text("a"), end]).metrics
        assert (metrics.prompt_tokens, metrics.tokens_generated) == (3, 2)


@pytest.mark.parametrize("part", ["delta", "message"])
def test_scores_come_with_the_text_of_a_whole_answer_that_also_thinks(part: str) -> None:
    """Scores of a piece that is only reasoning are not the text's."""
    said = {"reasoning": "hm", "content": "ab"}
    scores = {"content": [{"token": "ab", "logprob": -0.5, "top_logprobs": []}]}
    wanted = Wanted(reasoning=True, logprobs=True)
    last = choice(**{part: said}, logprobs=scores, finish_reason="stop")
    answer = whole([last, DONE], wanted)
    assert [score.token for score in answer.logprobs] == ["ab"]
    thinks = choice(delta={"reasoning": "hm"}, logprobs=scores)
    assert whole([thinks, text("ab"), last | {"choices": []}, DONE], wanted).logprobs == ()
