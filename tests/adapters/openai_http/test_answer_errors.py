"""One answer: errors and nonsense in its stream."""

import gc
from typing import Any
from weakref import ref

import pytest

from adapter_api import (
    ErrorCode,
    Token,
    WorkerError,
)
from adapters.openai_http.answer import AnswerReader
from tests.adapters.openai_http.reading import pieces_of, read, sse_of
from tests.openai_chunks import piece, usage


def _read(*payloads: Any, **options: Any) -> list[Any]:
    """Return the Tokens and the End of an answer with these events."""
    return read([sse_of(*payloads)], **options)


def _fails(*payloads: Any, kind: str = "message", **options: Any) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        read([sse_of(*payloads, kind=kind)], secrets=("sk-hidden-key",), **options)
    return caught.value


ERRORS: list[tuple[Any, ErrorCode]] = [
    ({"error": {"message": "boom", "type": "server_error", "code": None}}, ErrorCode.WORKER_RESET),
    ({"error": {"message": "boom", "code": 400}}, ErrorCode.INVALID_PARAMS),
    ({"error": {"message": "boom", "code": "503"}}, ErrorCode.POOL_UNAVAILABLE),
    ({"error": "boom"}, ErrorCode.WORKER_RESET),
    ({"error": {"message": "x", "code": "context_length_exceeded"}}, ErrorCode.CONTEXT_OVERFLOW),
    ({"error": {"message": "x", "type": "invalid_request_error"}}, ErrorCode.INVALID_PARAMS),
    ({"error": {"message": "x", "type": "overloaded_error"}}, ErrorCode.ADMISSION_REJECT),
    ({"error": {"message": "x", "code": "insufficient_quota"}}, ErrorCode.QUOTA_EXHAUSTED),
    ({"object": "error", "message": "boom", "code": 500}, ErrorCode.WORKER_RESET),
    ({"detail": "boom"}, ErrorCode.WORKER_RESET),
    (
        {"choices": [{"text": "a", "error": {"message": "x", "code": 400}}]},
        ErrorCode.INVALID_PARAMS,
    ),
    ({"choices": [{"text": "", "error": "boom"}]}, ErrorCode.WORKER_RESET),
    (
        {"choices": [{"delta": {"content": "a", "error": {"code": 503}}}]},
        ErrorCode.POOL_UNAVAILABLE,
    ),
    ({"choices": [{"message": {"content": "a", "error": "boom"}}]}, ErrorCode.WORKER_RESET),
    ({"choices": [{"text": "a", "delta": {"error": "boom"}}]}, ErrorCode.WORKER_RESET),
    ({"type": "error"}, ErrorCode.WORKER_RESET),
    ({"type": "error", "choices": []}, ErrorCode.WORKER_RESET),
    ({"type": "error", "error": {"type": "overloaded_error"}}, ErrorCode.ADMISSION_REJECT),
    ({"status": "error", "message": "boom"}, ErrorCode.WORKER_RESET),
    ({"errors": ["boom"]}, ErrorCode.WORKER_RESET),
    ({"errors": [{"message": "boom", "code": 429}], "choices": []}, ErrorCode.ADMISSION_REJECT),
    ({"errors": {"n": "boom"}}, ErrorCode.WORKER_RESET),
    ({"detail": "boom", "choices": []}, ErrorCode.WORKER_RESET),
    ({"message": "boom", "code": 400}, ErrorCode.INVALID_PARAMS),
    ({"message": "boom", "code": "internal_error", "choices": None}, ErrorCode.WORKER_RESET),
    ({"message": "boom"}, ErrorCode.WORKER_RESET),
    ({"err_msg": "boom"}, ErrorCode.WORKER_RESET),
    ({"status": "failed", "message": "boom"}, ErrorCode.WORKER_RESET),
    ({"type": "OverloadedException", "choices": []}, ErrorCode.ADMISSION_REJECT),
    (
        {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
        ErrorCode.QUOTA_EXHAUSTED,
    ),
    ({"choices": [], "promptFeedback": {"blockReason": "OTHER"}}, ErrorCode.CONTENT_FILTER),
    ("boom", ErrorCode.WORKER_RESET),
    (["boom"], ErrorCode.WORKER_RESET),
    (5, ErrorCode.WORKER_RESET),
    (b"boom, not JSON", ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": "none"}, ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": ["text"]}, ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": [{"text": 5}]}, ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": [{"delta": "x"}]}, ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": [{"delta": {"content": [1]}}]}, ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": [{"text": "a", "finish_reason": 5}]}, ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": [{"text": "a", "index": 1}]}, ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": [{"text": "a", "index": -1}]}, ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": [{"text": "a", "index": "0"}]}, ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": [{"delta": {"audio": {"data": "A"}}}]}, ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": [{"text": "a"}, {"text": "b"}]}, ErrorCode.UPSTREAM_PROTOCOL),
    (b"[" * 100_000, ErrorCode.UPSTREAM_PROTOCOL),
    (b'{"choices":[{"text":' + b"9" * 5000 + b"}]}", ErrorCode.UPSTREAM_PROTOCOL),
]


# Errors and nonsense


@pytest.mark.parametrize(("payload", "code"), ERRORS, ids=lambda v: str(v)[:50])
@pytest.mark.parametrize("first", [True, False])
def test_errors_and_nonsense_in_the_stream(payload: Any, code: ErrorCode, first: bool) -> None:
    """Every error shape is one mapped error, as the first event and later ([DONE] or not)."""
    before = [] if first else [piece("a")]
    assert _fails(*before, payload).code is code
    assert _fails(*before, payload, piece("", "stop"), b"[DONE]").code is code


@pytest.mark.parametrize(
    "line",
    [
        b'{"error": {"message": "out of slots", "code": 503}}',
        b'error: {"message": "out of slots"}',
        b"Internal Server Error: out of slots",
        b'{"error": "out of slots"}',
    ],
)
@pytest.mark.parametrize("end", [b"\n\n", b"\n", b""])
def test_a_line_that_is_not_sse_is_the_error(line: bytes, end: bytes) -> None:
    """Bare JSON, `error:` and text void the proof, wherever they stand (lemonade#2826)."""
    finish = sse_of(piece("", "stop")) + b"data: [DONE]\n\n"
    bodies = [
        sse_of(piece("a")) + line + b"\n\n" + finish,
        sse_of(piece("a"), piece("", "stop")) + line,
    ]
    for body in (*bodies, sse_of(piece("a"), piece("", "stop")) + line + end):
        for size in (None, 1):
            with pytest.raises(WorkerError, match="out of slots"):
                read(pieces_of(body, size))


def test_an_error_line_is_judged_by_what_it_says() -> None:
    """llama.cpp#16104: `error: {json}`, then [DONE]; the error is final."""
    line = (
        b'error: {"code":400,"message":"the request exceeds the available context size",'
        b'"type":"exceed_context_size_error"}\n\n'
    )
    with pytest.raises(WorkerError) as caught:
        read([sse_of(piece("a")) + line + b"data: [DONE]\n\n"])
    assert caught.value.code is ErrorCode.CONTEXT_OVERFLOW
    assert not caught.value.retriable


@pytest.mark.parametrize("after", [": ping", "id: 5", "retry: 100", "event: x", ""])
def test_lines_that_sse_has_are_nothing(after: str) -> None:
    """Comments and other fields say nothing of the answer."""
    body = sse_of(piece("a")) + after.encode() + b"\n\n" + sse_of(piece("", "stop"))
    assert read([body])[0] == Token("a", 0)


def test_tokens_before_an_error_are_delivered() -> None:
    """The same if both came in one read."""
    reader = AnswerReader()
    assert reader.feed(sse_of(piece("a"), piece("b"), {"error": "x"})) == [
        Token("a", 0),
        Token("b", 1),
    ]
    with pytest.raises(WorkerError):
        reader.finish()


def test_an_error_that_no_blank_line_ends_counts() -> None:
    """The connection ended right behind it."""
    body = sse_of(piece("a"), piece("", "stop")) + b'data: {"error": "boom"}'
    with pytest.raises(WorkerError, match="boom"):
        read([body])
    assert read([sse_of(piece("a"), piece("", "stop")) + b'data: {"usa'])[0] == Token("a", 0)


@pytest.mark.parametrize(
    "payload",
    [
        {"choices": [{"text": "a", "error": {"message": "key sk-hidden-key is bad"}}]},
        {"choices": [{"delta": {"error": "key sk-hidden-key is bad"}}]},
        {"errors": [{"message": "key sk-hidden-key is bad"}, {"message": "more"}]},
        {"errors": ["key sk-hidden-key is bad"], "message": ""},
        {"type": "error", "message": "key sk-hidden-key is bad"},
    ],
)
def test_an_error_has_the_server_s_words(payload: dict[str, Any]) -> None:
    """HTU-1004: wherever it stands, and without the key."""
    message = _fails(payload).message
    assert message.startswith("the server reported an error: key [redacted] is bad")


def test_an_error_event_may_be_plain_text() -> None:
    """`event: error` with text that is not JSON; a key in it does not show."""
    error = _fails(b"engine died, key sk-hidden-key", kind="error")
    assert error.code is ErrorCode.WORKER_RESET
    assert "engine died" in error.message
    assert "hidden" not in error.message


@pytest.mark.parametrize("data", [b"", b"null", b"{}", b'{"message":"x"}', b'"x"'])
def test_an_error_event_is_an_error_whatever_it_holds(data: bytes) -> None:
    """Its name says enough."""
    assert _fails(piece("a"), data, kind="error").code is ErrorCode.WORKER_RESET


def test_a_failure_that_comes_as_text() -> None:
    """LocalAI's `Internal error: ...` is one, where the dialect says so; elsewhere it is text."""
    chunk = piece("Internal error: out of memory", "stop")
    assert _fails(chunk, error_text="Internal error: ").code is ErrorCode.WORKER_RESET
    assert len(_read(chunk, b"[DONE]")) == 2


@pytest.mark.parametrize(
    "payload",
    [
        None,
        b"",
        {"choices": None},
        {"choices": []},
        {"choices": [{}]},
        {"choices": [{"delta": {"content": None, "role": "assistant"}}]},
        {"choices": [{"text": None, "index": None}]},
        {"choices": [], "usage": None},
        {"error": None, "choices": []},
        {"choices": [{"text": "", "error": None}]},
        {"choices": [{"delta": {"error": None}, "error": {}}]},
        {"choices": [], "errors": [], "detail": None},
        {"type": "ping"},
        {"type": "keepalive", "status": "ok"},
        {"status": "processing", "message": "in the queue"},
        {"code": 0, "message": "Success"},
        {"code": "200", "message": "ok", "choices": []},
        {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
        {"choices": [{"text": "", "message": None}], "type": "text", "errors": []},
        {"choices": [{"content_filter_offsets": {"check_offset": 1}}]},
        {"usage": {"prompt_tokens": "x", "completion_tokens": -5}},
    ],
)
def test_meaningless_payloads_are_tolerated(payload: Any) -> None:
    """Null, empty and missing fields are neither tokens nor errors."""
    *tokens, end = _read(piece("a"), payload, piece("b", "stop"))
    assert [t.text for t in tokens] == ["a", "b"]
    assert end.proof == "finish_reason"
    assert end.metrics.usage_source == "counted"


def test_pings_are_nothing() -> None:
    """`event: ping` is not even looked into."""
    body = sse_of(b"{not json", kind="ping") + sse_of(piece("a", "stop"), b"[DONE]")
    assert read([body])[0] == Token("a", 0)


@pytest.mark.parametrize("where", ["after", "with", "between", "choice"])
def test_usage_is_used_wherever_it_comes(where: str) -> None:
    """With, after or before the finish chunk, or inside its choice; all-zero usage is not usage."""
    counts = {"prompt_tokens": 2, "completion_tokens": 8}
    zero = {"prompt_tokens": 0, "completion_tokens": 0}
    finish = piece("", "stop", usage=counts if where == "with" else zero)
    chunks = [piece("a"), finish]
    if where == "choice":  # Moonshot (pi#2017)
        finish["choices"][0]["usage"] = counts
    elif where != "with":
        chunks.insert(2 if where == "after" else 1, usage(2, 8))
    metrics = _read(*chunks)[-1].metrics
    assert (metrics.prompt_tokens, metrics.tokens_generated) == (2, 8)
    assert metrics.usage_source == "engine"


def test_cumulative_usage_is_not_summed() -> None:
    """The last that says something counts."""
    chunks = [piece("a", usage=usage(2, n)["usage"]) for n in (1, 2, 3)]
    assert _read(*chunks, piece("", "stop"))[-1].metrics.tokens_generated == 3


@pytest.mark.parametrize(
    ("counts", "cached", "reasoning"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 3}}, 3, None),
        ({"completion_tokens_details": {"reasoning_tokens": 4}}, None, 4),
        ({"reasoning_tokens": 4}, None, 4),
        ({"prompt_cache_hit_tokens": 3}, 3, None),
        ({"cached_tokens": 3}, 3, None),
        ({"prompt_tokens_details": None, "completion_tokens_details": "x"}, None, None),
        ({"prompt_tokens_details": {"cached_tokens": -1}}, None, None),
    ],
)
def test_details_of_usage_under_every_name(counts: Any, cached: Any, reasoning: Any) -> None:
    """OpenAI, SGLang, DeepSeek and Moonshot have names of their own."""
    given = {"prompt_tokens": 5, "completion_tokens": 6, **counts}
    metrics = _read(piece("a", "stop", usage=given), b"[DONE]")[-1].metrics
    assert (metrics.cached_tokens, metrics.reasoning_tokens) == (cached, reasoning)


@pytest.mark.parametrize("body", [b'data: {"error": "boom"}\n\n', b"data: {\n\n", b"<p>" * 30_000])
def test_a_failed_answer_is_freed_at_once(body: bytes) -> None:
    """The traceback of its error holds the reader, so the reader does not hold that error."""
    reader = AnswerReader()
    reader.feed(body)
    gc.disable()
    try:
        for _ in range(2):
            with pytest.raises(WorkerError):
                reader.finish()
        gone = ref(reader)
        del reader
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("body", [b"", b" ", b": ping", b"data: {", b'{"id": ', b'{"id": 1}\n{'])
def test_an_answer_that_did_not_begin_is_freed_at_once(body: bytes) -> None:
    """However far its first piece went, no part of the reader refers to itself."""
    gc.disable()
    try:
        gc.collect()
        AnswerReader().feed(body)
        assert gc.collect() == 0
    finally:
        gc.enable()
