"""One answer: chunks become tokens, and it is whole or an error, however its bytes are split."""

import json
from typing import Any

import pytest

from adapter_api import (
    ErrorCode,
    Reasoning,
    Token,
    WorkerError,
)
from adapters.openai_http.answer import AnswerReader
from adapters.openai_http.outcome import Wanted
from tests.adapters.openai_http.reading import read, sse_of, whole
from tests.openai_chunks import delta, piece, usage

DONE = "[DONE]"


def _read(*payloads: Any, **options: Any) -> list[Any]:
    """Return the Tokens and the End of an answer with these events."""
    return read([sse_of(*payloads)], **options)


def _texts(*payloads: Any) -> list[str]:
    """Return the texts of an answer with these events, which a finish_reason ends."""
    return [token.text for token in _read(*payloads, piece("", "stop"))[:-1]]


def _fails(*payloads: Any, kind: str = "message", **options: Any) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        read([sse_of(*payloads, kind=kind)], secrets=("sk-hidden-key",), **options)
    return caught.value


def test_pieces_become_tokens_and_empty_ones_do_not() -> None:
    """Indexes count tokens, not chunks; both endpoints read alike."""
    for make in (piece, lambda text: delta({"content": text})):
        tokens = _read(make("a"), make(""), make("b"), make("c"), b"[DONE]")[:-1]
        assert tokens == [Token("a", 0), Token("b", 1), Token("c", 2)]


# Text


def test_text_that_json_can_hold_but_utf8_cannot() -> None:
    """Half a surrogate pair becomes a replacement character; NaN and odd numbers do no harm."""
    assert (
        _texts(piece("a"), b'{"choices":[{"text":"\\ude00x","index":0}], "t": NaN}')[1] == "\ufffdx"
    )
    assert (
        _texts(piece("a"), b'{"choices":[{"text":"\\ud83d\\ude42","index":0}]}')[1] == "\U0001f642"
    )


def test_a_character_cut_in_two_is_joined() -> None:
    """The first half waits for the next piece of its channel; alone it is a replacement."""
    halves = [
        b'{"choices":[{"text":"x\\ud83d","index":0}]}',
        b'{"choices":[{"text":"\\ude42y","index":0}]}',
    ]
    assert "".join(_texts(piece("a"), *halves, piece("z"))) == "ax\U0001f642yz"
    assert "".join(_texts(piece("a"), halves[0])) == "ax\ufffd"


def test_a_message_after_deltas_is_not_a_delta() -> None:
    """The whole text again is not appended (hermes-browser-extension#11)."""
    again = {"choices": [{"index": 0, "message": {"content": "ab"}, "finish_reason": "stop"}]}
    assert _texts(delta({"content": "a"}), delta({"content": "b"}), again) == ["a", "b"]
    both = delta({"content": "b"}, "stop")
    both["choices"][0]["message"] = {"content": "ab"}
    assert _texts(delta({"content": "a"}), both, usage(1, 2)) == ["a", "b"]


def test_messages_in_place_of_deltas_are_pieces() -> None:
    """A whole message counts if no delta ever comes."""
    chunks = [{"choices": [{"index": 0, "message": {"content": text}}]} for text in "ab"]
    assert _texts(*chunks) == ["a", "b"]


def test_content_may_be_a_list_of_parts() -> None:
    """Mistral: text and thinking (litellm#16272); a part that would get lost is an error."""
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": "4"},
    ]
    answer = whole([delta({"content": parts}), delta({}, "stop"), DONE])
    assert (answer.text, answer.reasoning) == ("4", "Hm.")
    assert _fails(delta({"content": [{"type": "image_url"}]})).code is ErrorCode.UPSTREAM_PROTOCOL


def test_a_large_event_is_read_without_what_it_does_not_need() -> None:
    """An image of megabytes beside the text (open-webui#20634) is skipped, an odd one refused."""
    images = [{"type": "image_url", "image_url": {"url": "data:" + "A" * (1 << 21)}}]
    for content in ("x", ""):
        chunk = delta({"content": content, "images": images})
        assert "".join(_texts(piece("a"), chunk)) == "a" + content
    odd = delta({"content": [{"type": "text", "text": "A" * (1 << 21)}]})
    assert _fails(odd).code is ErrorCode.UPSTREAM_PROTOCOL


def test_the_last_of_duplicate_keys_counts() -> None:
    """As every JSON parser has it; fast and slow reading agree."""
    chunk = b'{"choices":[{"index":0,"text":"a","text":"b"}]}'
    assert _texts(piece("x"), chunk, chunk[:-1] + b',"usage":{}}') == ["x", "b", "b"]


@pytest.mark.parametrize(
    ("logprobs", "expected"),
    [
        ({"token_logprobs": [-0.5]}, -0.5),
        ({"content": [{"logprob": -0.25}]}, -0.25),
        ({"token_logprobs": [-0.5, -0.5]}, None),
        ({"token_logprobs": [1.5]}, None),
        ({"token_logprobs": [0]}, 0.0),
        ({"token_logprobs": [-(10**400)]}, None),
        ({"token_logprobs": [None]}, None),
        ({"token_logprobs": "x"}, None),
        ({"content": [1]}, None),
        ({"content": [{"logprob": -1, "bytes": None}, {"logprob": -1}]}, None),
        ([], None),
    ],
)
def test_logprob_of_a_piece_that_is_one_token(logprobs: Any, expected: float | None) -> None:
    """Several tokens in one piece, or nonsense, have none."""
    chunk = piece("b")
    chunk["choices"][0]["logprobs"] = logprobs
    assert _read(piece("a"), chunk, b"[DONE]")[1].logprob == expected


# Reasoning


@pytest.mark.parametrize(
    "part",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"thinking": "hm"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm", "index": 0}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "AA"}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "hm"}]},
        {"content": [{"type": "thinking", "thinking": "hm"}]},
        {"reasoning": {"odd": 1}},
        {"reasoning_text": "hm"},
        {"thoughts": [{"text": "hm"}]},
        {"reasoning": {"content": "hm"}},
        {"reasoning_content": ["h", {"type": "text", "text": "m"}, 5], "reasoning": "hm"},
        {"unheard_of": "of others"},
    ],
)
def test_reasoning_under_any_name_is_progress(part: dict[str, Any]) -> None:
    """It shows that the engine works, and is delivered only to a job that wants it."""
    reader = AnswerReader()
    empty = delta({"role": "assistant", "annotations": [], "thoughts": None, "name": "x"})
    assert reader.feed(sse_of(empty, delta(part))) == []
    assert reader.pieces == 1
    asking = AnswerReader(Wanted(reasoning=True))
    found = asking.feed(sse_of(delta(part)))
    if "hm" in json.dumps(part):
        assert found == [Reasoning("", 0, reasoning="hm")]


def test_an_answer_of_reasoning_alone_is_not_silently_empty() -> None:
    """vLLM with a reasoning parser and a model that does not think: all is reasoning."""
    reader = AnswerReader()
    reader.feed(sse_of(delta({"reasoning": "Hello"}), delta({}, "stop"), b"[DONE]"))
    verdict = reader.finish()
    assert verdict.said_nothing
    assert verdict.message_extra == {"reasoning": "Hello"}


def test_plain_answers_keep_no_reasoning_in_their_end() -> None:
    """A job that asked for text has the End it always had."""
    events = [delta({"reasoning": "hm"}), delta({"content": "a"}), delta({}, "stop"), DONE]
    assert whole(events, Wanted()).message_extra == {}


def test_encrypted_reasoning_goes_back_whole() -> None:
    """Pieces of one detail are merged by type and index, in order."""
    pieces = [
        delta({"reasoning_details": [{"type": "reasoning.text", "text": "a", "index": 0}]}),
        delta({"reasoning_details": [{"type": "reasoning.text", "text": "b", "index": 0}]}),
        delta({"reasoning_details": [{"type": "reasoning.text", "signature": "s", "index": 0}]}),
        delta({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x", "index": 1}]}),
    ]
    answer = whole([*pieces, delta({"content": "ok"}, "stop"), DONE])
    assert answer.message_extra["reasoning_details"] == [
        {"type": "reasoning.text", "text": "ab", "index": 0, "signature": "s"},
        {"type": "reasoning.encrypted", "data": "x", "index": 1},
    ]
    assert answer.reasoning == "ab"


@pytest.mark.parametrize("size", [None, 1])
@pytest.mark.parametrize(
    ("text", "reasoning", "rest"),
    [
        ("<think>Hm.</think>\n\n4", "Hm.", "\n\n4"),
        ("  <think>Hm.</think>4", "Hm.", "4"),
        ("<think>never ends", "never ends", ""),
        ("<thin", "", "<thin"),
        ("4 <think>x</think>", "", "4 <think>x</think>"),
        ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
        ("<think>a</thin</think>b", "a</thin", "b"),
    ],
)
def test_tags_at_the_beginning_are_split_if_asked_for(
    text: str, reasoning: str, rest: str, size: int | None
) -> None:
    """Only there: elsewhere they are the model's text, and by default everywhere."""
    events = [*(piece(char) for char in text), piece("", "stop"), DONE]
    tagged = whole(events, size=size, reasoning_tags=("<think>", "</think>"))
    assert (tagged.text, tagged.reasoning) == (rest, reasoning)
    assert whole(events, size=size).text == text


# The engine's own numbers


DETAILS = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached": 4}}


@pytest.mark.parametrize(
    ("chunk", "numbers"),
    [
        ({"usage": DETAILS}, {"usage": DETAILS}),
        ({"timings": {"predicted_ms": 1.5}}, {"timings": {"predicted_ms": 1.5}}),
        (
            {"usage": {**DETAILS, "cost": 0.25}, "service_tier": "flex"},
            {"usage": {**DETAILS, "cost": 0.25}, "service_tier": "flex"},
        ),
        ({"x_groq": {"usage": DETAILS}}, {"usage": DETAILS}),
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}}, {}),
        ({"usage": {**DETAILS, "prompt_tokens_details": {"cached": 0}}, "timings": None}, {}),
        ({"timings": {"a sk-hidden-key": 1}}, {"timings": {"a [redacted]": 1}}),
    ],
)  # fmt: skip
def test_the_engines_own_numbers(chunk: Any, numbers: Any) -> None:
    """Passed on as sent where Metrics does not hold them, without credentials."""
    reader = AnswerReader(secrets=("sk-hidden-key",))
    reader.feed(sse_of(piece("a", "stop"), {"choices": [], **chunk}))
    assert reader.facts.own_numbers() == numbers


def test_own_numbers_are_bounded() -> None:
    """Of many or deeply nested values, only a bounded number is passed on."""
    deep: Any = 1
    for _ in range(200):
        deep = {"a": deep}
    reader = AnswerReader()
    wide = {f"n{number}": [number] * 9 for number in range(5000)}
    reader.feed(sse_of(piece("a", "stop"), {"choices": [], "timings": wide, "cost": deep}))
    assert len(json.dumps(reader.facts.own_numbers())) < 20_000


@pytest.mark.parametrize("arguments", ["", "{", "{}"])
def test_a_call_after_the_finish_reason_voids_it(arguments: str) -> None:
    """A part of a call that is held back is a part of the answer, too."""
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": arguments}}
    error = _fails(piece("a", "stop"), delta({"tool_calls": [call]}), b"[DONE]")
    assert error.code is ErrorCode.STREAM_TRUNCATED


@pytest.mark.parametrize("name", ["error", "exception", "failure", "stream-error"])
def test_an_event_that_is_named_an_error_is_one(name: str) -> None:
    """Whatever its data looks like."""
    assert _fails({"text": "boom"}, kind=name).code is ErrorCode.WORKER_RESET
