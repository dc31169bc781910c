"""Parts of an answer that stand where no chunk of OpenAI's has them, or inside an envelope."""

from typing import Any

import pytest

from adapter_api import ErrorCode, StreamingError, WorkerError
from tests.adapters.openai_http.reading import whole
from tests.adapters.openai_http.test_calls import entry
from tests.openai_chunks import delta, piece

DONE = "[DONE]"
STOP = delta({}, "stop")


def _choice(**parts: Any) -> dict[str, Any]:
    return delta({}) | {"choices": [{"index": 0, "delta": {}, "finish_reason": None, **parts}]}


def _failure(*events: Any) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        whole(events)
    return caught.value


@pytest.mark.parametrize(
    "chunk",
    [
        {"data": delta({"content": "Hello"})},
        {"code": 0, "msg": "ok", "result": delta({"content": "Hello"})},
        {"type": "chunk", "response": piece("Hello"), "id": "1"},
        _choice(content="Hello"),
        _choice(content="Hello", delta={"content": "", "role": "assistant"}),
        _choice(refusal="Hello"),
    ],
    ids=str,
)
def test_a_chunk_in_an_envelope_and_text_beside_the_delta_are_read(chunk: dict[str, Any]) -> None:
    """Nothing of the answer is lost."""
    assert whole([chunk, STOP, DONE]).text == "Hello"


@pytest.mark.parametrize(
    "chunk",
    [
        {"content": "Hello"},
        {"delta": {"content": "Hello"}},
        delta({}) | {"message": {"role": "assistant", "content": "Hello"}},
        delta({}) | {"output": {"choices": [{"message": {"content": "Hello"}}], "text": "Hello"}},
        _choice(generated_text="Hello"),
        _choice(messages=[{"content": "Hello"}]),
        delta({"response": "Hello"}),
        delta({"parts": [{"text": "Hello"}]}),
    ],
    ids=str,
)
def test_text_that_is_not_read_fails_an_answer_that_would_seem_empty(chunk: dict[str, Any]) -> None:
    """It is not taken for a whole answer without any text."""
    failure = _failure(chunk, STOP, DONE)
    assert failure.code is ErrorCode.UPSTREAM_PROTOCOL
    assert "its text is under" in str(failure)


@pytest.mark.parametrize(
    "notice",
    [
        {"message": "queued", "status": "waiting"},
        delta({"role": "assistant", "content": "", "channel": "final"}),
        delta({}) | {"data": {"queue": 3}},
    ],
    ids=str,
)
def test_notices_and_repeated_texts_are_not_misplaced(notice: dict[str, Any]) -> None:
    """They may stand before a whole answer, and the whole text again behind it."""
    again = delta({}, "stop") | {"message": {"content": "Hello"}}
    assert whole([notice, delta({"content": "Hello"}), again, DONE]).text == "Hello"


def test_an_answer_without_text_may_have_other_fields() -> None:
    """A model may stop at once."""
    assert whole([delta({"content": "", "channel": "final"}), STOP, DONE]).text == ""


@pytest.mark.parametrize("where", ["delta", "message"])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({"finish_reason": "error"}, ErrorCode.WORKER_RESET),
        ({"finish_reason": "SAFETY"}, ErrorCode.CONTENT_FILTER),
        ({"native_finish_reason": "network_error"}, ErrorCode.WORKER_RESET),
        ({"incomplete_details": {"reason": "content_filter"}}, ErrorCode.CONTENT_FILTER),
        ({"blocked": True}, ErrorCode.CONTENT_FILTER),
        ({"interrupted": True}, ErrorCode.WORKER_RESET),
    ],
    ids=str,
)
def test_words_of_the_end_count_in_a_delta_and_a_message(
    where: str, words: dict[str, Any], code: ErrorCode
) -> None:
    """A failure or a filter there fails the answer, whatever the choice says."""
    end = {"choices": [{"index": 0, "finish_reason": "stop", where: words}]}
    assert _failure(delta({"content": "Hel"}), end, DONE).code is code


def test_a_finish_reason_in_a_delta_proves_an_answer() -> None:
    """Some gateways have it nowhere else."""
    answer = whole([delta({"content": "Hello"}), delta({"finish_reason": "stop"})])
    assert (answer.text, answer.finish_reason, answer.proof) == ("Hello", "stop", "finish_reason")


@pytest.mark.parametrize(
    "words",
    [
        {"native_finish_reason": "MAX_TOKENS"},
        {"incomplete_details": {"reason": "MAX_TOKENS"}},
        {"finish_details": {"type": "MAX_TOKENS"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("reason", ["stop", "tool_calls"])
def test_a_length_in_the_engines_own_words_counts_more_than_the_gateways_word(
    words: dict[str, Any], reason: str
) -> None:
    """A cut answer does not seem complete, and its last call is not run."""
    call = delta({"tool_calls": [entry('{"a": 1}', "f", index=0, id="a")]})
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": reason, **words}]}
    answer = whole([call, end, DONE])
    assert answer.finish_reason == "MAX_TOKENS"
    assert answer.tool_calls == ()
    assert [call.reason for call in answer.invalid_tool_calls] == ["cut"]


@pytest.mark.parametrize("status", ["incomplete", "cancelled", "timeout"])
def test_a_status_beside_a_stop_fails_the_answer(status: str) -> None:
    """With chunks before the end it only says that the answer is not complete yet."""
    begun = delta({"content": "Hello"}, status=status)
    assert whole([begun, STOP, DONE]).text == "Hello"
    assert whole([begun, delta({}, "length", status=status), DONE]).finish_reason == "length"
    failure = _failure(begun, delta({}, "stop", status=status), DONE)
    assert failure.code is ErrorCode.WORKER_RESET


@pytest.mark.parametrize(
    "call",
    [
        {"index": 0, "id": "a", "function": {"name": "f"}, "arguments": '{"a": 1}'},
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}, "input": '{"a": 1}'},
        {"index": 0, "id": "a", "name": "f", "function": {"arguments": '{"a": 1}'}},
    ],
    ids=str,
)
def test_parts_of_a_call_beside_its_function_are_read(call: dict[str, Any]) -> None:
    """The tool does not run without its arguments."""
    answer = whole([delta({"tool_calls": [call]}), delta({}, "tool_calls"), DONE])
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [("f", '{"a": 1}')]


@pytest.mark.parametrize("arguments", [None, "", " \n"])
def test_done_alone_does_not_prove_a_call_without_arguments(arguments: str | None) -> None:
    """They may have been about to come; after a finish_reason there are none."""
    call = delta({"tool_calls": [entry(arguments, "f", index=0, id="a")]})
    with pytest.raises(StreamingError) as caught:
        whole([call, DONE])
    assert caught.value.code is ErrorCode.STREAM_TRUNCATED
    (found,) = whole([call, delta({}, "tool_calls"), DONE]).tool_calls
    assert found.arguments.strip() == "{}"


@pytest.mark.parametrize("done", ["DONE", "[ DONE ]", "'[DONE]'", '"DONE"'])
def test_done_has_several_spellings(done: str) -> None:
    """A whole answer before it stays whole."""
    assert whole([delta({"content": "Hello"}), STOP, done]).text == "Hello"


def test_reasoning_is_read_from_a_list_of_thinking_and_from_one_detail() -> None:
    """Both shapes are those of other APIs, passed on by gateways."""
    blocks = delta({"thinking": [{"type": "thinking", "thinking": "hm"}]})
    detail = delta({"reasoning_details": {"type": "reasoning.text", "text": "hm"}})
    for chunk in (blocks, detail):
        answer = whole([chunk, delta({"content": "4"}), STOP, DONE])
        assert (answer.reasoning, answer.text) == ("hm", "4")
