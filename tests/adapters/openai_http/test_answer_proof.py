"""One answer: what proves it whole, and how long to wait for more."""

import json
from typing import Any

import pytest

from adapter_api import (
    ContentFiltered,
    ErrorCode,
    StreamingError,
    WorkerError,
)
from adapters.openai_http.answer import AnswerReader
from adapters.openai_http.outcome import Phase
from tests.adapters.openai_http.reading import read, sse_of, whole
from tests.openai_chunks import delta, piece, usage

DONE = "[DONE]"


def _fails(*payloads: Any, kind: str = "message", **options: Any) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        read([sse_of(*payloads, kind=kind)], secrets=("sk-hidden-key",), **options)
    return caught.value


# Proof


@pytest.mark.parametrize(
    ("payloads", "proof"),
    [
        ([piece("a"), piece("", "stop")], "finish_reason"),
        ([piece("a", "length")], "finish_reason"),
        ([piece("a", "stop"), DONE], "finish_reason"),
        ([piece("a"), DONE], "done"),
        ([{"choices": [{"text": ""}]}, DONE], "done"),
        ([{"choices": []}, piece("a"), " [DONE] "], "done"),
        ([piece("a", "stop"), piece("b", "stop"), DONE], "finish_reason"),
        ([piece("a"), piece("", "stop"), piece("", "stop")], "finish_reason"),
        ([piece("a"), piece("", ""), piece("", "null"), DONE], "done"),
    ],
)
def test_what_proves_an_answer(payloads: list[Any], proof: str) -> None:
    """A finish_reason, or [DONE] after a choice."""
    events = [p if isinstance(p, str) else json.dumps(p) for p in payloads]
    assert whole(events).proof == proof


TEXT_AFTER = [piece("a"), piece("", "stop"), piece("b")]


@pytest.mark.parametrize(
    "events",
    [
        [],
        [DONE],
        [{"choices": []}, DONE],
        [piece("a")],
        [usage(1, 1)],
        TEXT_AFTER,
        [*TEXT_AFTER, DONE],
        [*TEXT_AFTER, usage(1, 2), DONE],
        [piece("a", "stop"), piece("b", "stop")],
        [piece("", "stop"), piece("a")],
        [delta({"content": "a"}, "stop"), delta({"reasoning_content": "b"}), DONE],
        [piece("a"), piece("", "planned_maintenance"), DONE],
        [piece("a"), piece("", "other")],
    ],
    ids=str,
)
def test_what_proves_nothing_is_truncation(events: list[Any]) -> None:
    """Everything else that ends an answer, among it more text after a finish_reason."""
    with pytest.raises(StreamingError) as caught:
        whole(events)
    assert caught.value.code is ErrorCode.STREAM_TRUNCATED
    assert caught.value.retriable


def test_done_alone_proves_nothing_where_a_server_always_finishes() -> None:
    """llama-cpp-python interrupts the first job when a second comes, and sends [DONE]."""
    with pytest.raises(StreamingError, match="without a finish_reason"):
        whole([piece("a"), DONE], always_finishes=True)


@pytest.mark.parametrize(
    "reason", ["abort", "error", "insufficient_system_resource", "Timeout", "USER_CANCEL"]
)
def test_a_finish_that_is_a_failure(reason: str) -> None:
    """vLLM told to stop sends `abort`, usage and [DONE]: a retriable error."""
    error = _fails(piece("a"), piece("", reason), usage(2, 1), b"[DONE]")
    assert error.code is ErrorCode.WORKER_RESET
    assert error.retriable


@pytest.mark.parametrize("reason", ["content_filter", "SAFETY", "content_filter: violence"])
def test_a_filtered_answer_is_an_error(reason: str) -> None:
    """The rest was withheld."""
    assert isinstance(_fails(piece("a"), piece("", reason), b"[DONE]"), ContentFiltered)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"native_finish_reason": "network_error"}, ErrorCode.WORKER_RESET),
        ({"native_finish_reason": "MALFORMED_FUNCTION_CALL"}, ErrorCode.WORKER_RESET),
        ({"stop_details": {"type": "refusal"}}, ErrorCode.CONTENT_FILTER),
        ({"native_finish_reason": "STOP"}, None),
        ({"native_finish_reason": "some_new_word"}, None),
        ({"stop_reason": "error"}, None),  # vLLM: the stop text that was found
    ],
)
def test_the_provider_s_own_word_counts_if_it_is_a_failure(more: Any, code: Any) -> None:
    """A gateway translates it to `stop` (pi#8511)."""
    chunk = delta({}, "stop")
    chunk["choices"][0] |= more
    if code is None:
        assert whole([delta({"content": "a"}), chunk, DONE]).text == "a"
    else:
        assert _fails(chunk, b"[DONE]").code is code


def test_a_failure_stays_one_whatever_follows() -> None:
    """A second finish_reason does not heal the first."""
    assert (
        _fails(piece("a"), piece("", "error"), piece("", "stop"), b"[DONE]").code == "WORKER_RESET"
    )


# How long to wait


@pytest.mark.parametrize(
    ("payloads", "phase"),
    [
        ([piece("a")], Phase.OPEN),
        ([piece("a"), piece("", "stop")], Phase.FINISHED),
        ([piece("a"), piece("b", "stop")], Phase.FINISHED),
        ([piece("", "stop")], Phase.OPEN),
        ([piece("a", "stop")], Phase.OPEN),
        ([piece("a", "stop"), piece("b", "stop")], Phase.OPEN),
        ([delta({"reasoning_content": "a"}, "stop")], Phase.OPEN),
        ([delta({"reasoning_content": "a"}), delta({}, "stop")], Phase.OPEN),
        ([piece("a"), piece("", "stop"), piece("b")], Phase.OPEN),
        ([piece("a"), piece("", "stop"), usage(1, 1)], Phase.FINISHED),
        ([piece("a"), piece("", "stop"), b"[DONE]"], Phase.CLOSED),
        ([piece("a"), {"error": "x"}], Phase.CLOSED),
    ],
    ids=str,
)
def test_only_a_finish_reason_after_text_shortens_the_wait(payloads: Any, phase: Phase) -> None:
    """One before any text, or with each piece, may be followed by all the rest (gcli2api#403)."""
    reader = AnswerReader()
    reader.feed(sse_of(*payloads))
    assert reader.phase is phase
