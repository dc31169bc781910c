"""One answer: the same however its bytes are split, and whatever they are."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_api import WorkerError
from adapters.openai_http.answer import AnswerReader
from adapters.openai_http.outcome import Phase, Wanted
from tests.adapters.openai_http.reading import pieces_of, read, sse_of
from tests.openai_chunks import STREAMS, piece, recorded
from tests.strategies import json_values

# Any split, any bytes


@pytest.mark.parametrize("name", STREAMS)
def test_recorded_answers_read_as_recorded(name: str) -> None:
    """Answers of real servers are whole, with the generated text and usage."""
    _, _, body = recorded(name)
    *tokens, end = read([body], always_finishes=True)
    text = "".join(token.text for token in tokens)
    assert end.proof == "finish_reason"
    if "b_cmpl_stop" not in name:
        assert text.startswith(("~\x17", "5"))
    if end.metrics.usage_source == "engine":
        assert end.metrics.tokens_generated == 8
    assert ("_usage" not in name) or end.metrics.usage_source == "engine"


chunk_fields = st.fixed_dictionaries(
    {},
    optional={
        "id": json_values,
        "choices": json_values
        | st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "index": json_values | st.just(0),
                    "text": json_values | st.text(max_size=5),
                    "delta": json_values
                    | st.fixed_dictionaries({}, optional={"content": json_values}),
                    "finish_reason": json_values,
                    "logprobs": json_values,
                },
            ),
            max_size=2,
        ),
        "usage": json_values
        | st.fixed_dictionaries({"prompt_tokens": json_values, "completion_tokens": json_values}),
        "error": json_values,
        "model": json_values,
        "system_fingerprint": json_values,
    },
)


def _outcome(pieces: list[bytes], **options: Any) -> list[Any]:
    """Return all that a reader makes of a body: events, or the error with what came before it."""
    reader = AnswerReader(Wanted(reasoning=True, history=True), **options)
    tokens: list[Any] = []
    try:
        for part in pieces:
            tokens += reader.feed(part)
            if reader.phase is Phase.CLOSED:
                break
        tokens += reader.end()
        verdict = reader.finish()
    except WorkerError as error:
        return ["".join(t.text for t in tokens), error.code, error.message]
    tokens += verdict.tokens
    assert [token.index for token in tokens] == list(range(len(tokens)))
    return [tokens, verdict, reader.finish_reason, reader.facts.usage, reader.facts.model]


_events = st.lists(chunk_fields | json_values, max_size=5)


@settings(max_examples=100)
@given(_events, st.integers(1, 40))
def test_any_json_reads_the_same_however_it_is_split(payloads: list[Any], size: int) -> None:
    """No split changes the answer or the error, and no other exception is ever raised."""
    body = sse_of(piece("a"), *payloads, b"[DONE]")
    expected = _outcome([body])
    assert _outcome(pieces_of(body, size)) == expected
    if isinstance(expected[-1], str):
        assert len(expected[-1]) < 2000


@settings(max_examples=60)
@given(st.binary(max_size=60), st.integers(1, 9))
def test_any_bytes_are_an_answer_or_a_worker_error(data: bytes, size: int) -> None:
    """After a token, before the end."""
    _outcome(pieces_of(sse_of(piece("a")) + data, size))


@settings(max_examples=100)
@given(st.lists(chunk_fields | json_values, max_size=4))
def test_the_fast_way_reads_as_the_thorough_one(payloads: list[Any]) -> None:
    """Ordinary chunks take a short cut: tokens, errors and what is learned are the same."""
    pieces = [sse_of(payload) for payload in [piece("a"), *payloads]]
    thorough = _outcome(pieces, error_text="text that no chunk begins with")
    assert _outcome(pieces) == thorough
