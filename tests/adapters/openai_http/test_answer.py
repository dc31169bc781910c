"""One answer: chunks become tokens, and it is whole or an error, however its bytes are split."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_api import (
    ContentFiltered,
    ErrorCode,
    Reasoning,
    StreamingError,
    Token,
    WorkerError,
)
from adapters.openai_http.answer import AnswerReader
from adapters.openai_http.outcome import Phase, Wanted
from tests.adapters.openai_http.reading import body_of, pieces_of, read, whole
from tests.openai_chunks import STREAMS, delta, piece, recorded, usage
from tests.strategies import json_values

DONE = "[DONE]"


def _body(*payloads: Any, kind: str = "message") -> bytes:
    events = [p.decode() if isinstance(p, bytes) else json.dumps(p) for p in payloads]
    if kind != "message":
        return body_of({"event": kind, "data": event} for event in events)
    return body_of(events)


def _read(*payloads: Any, **options: Any) -> list[Any]:
    """Return the Tokens and the End of an answer with these events."""
    return read([_body(*payloads)], **options)


def _texts(*payloads: Any) -> list[str]:
    """Return the texts of an answer with these events, which a finish_reason ends."""
    return [token.text for token in _read(*payloads, piece("", "stop"))[:-1]]


def _fails(*payloads: Any, kind: str = "message", **options: Any) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        read([_body(*payloads, kind=kind)], secrets=("sk-hidden-key",), **options)
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


def test_pieces_become_tokens_and_empty_ones_do_not() -> None:
    """Indexes count tokens, not chunks; both endpoints read alike."""
    for make in (piece, lambda text: delta({"content": text})):
        tokens = _read(make("a"), make(""), make("b"), make("c"), b"[DONE]")[:-1]
        assert tokens == [Token("a", 0), Token("b", 1), Token("c", 2)]


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
    reader.feed(_body(*payloads))
    assert reader.phase is phase


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
    finish = _body(piece("", "stop")) + b"data: [DONE]\n\n"
    bodies = [
        _body(piece("a")) + line + b"\n\n" + finish,
        _body(piece("a"), piece("", "stop")) + line,
    ]
    for body in (*bodies, _body(piece("a"), piece("", "stop")) + line + end):
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
        read([_body(piece("a")) + line + b"data: [DONE]\n\n"])
    assert caught.value.code is ErrorCode.CONTEXT_OVERFLOW
    assert not caught.value.retriable


@pytest.mark.parametrize("after", [": ping", "id: 5", "retry: 100", "event: x", ""])
def test_lines_that_sse_has_are_nothing(after: str) -> None:
    """Comments and other fields say nothing of the answer."""
    body = _body(piece("a")) + after.encode() + b"\n\n" + _body(piece("", "stop"))
    assert read([body])[0] == Token("a", 0)


def test_tokens_before_an_error_are_delivered() -> None:
    """The same if both came in one read."""
    reader = AnswerReader()
    assert reader.feed(_body(piece("a"), piece("b"), {"error": "x"})) == [
        Token("a", 0),
        Token("b", 1),
    ]
    with pytest.raises(WorkerError):
        reader.finish()


def test_an_error_that_no_blank_line_ends_counts() -> None:
    """The connection ended right behind it."""
    body = _body(piece("a"), piece("", "stop")) + b'data: {"error": "boom"}'
    with pytest.raises(WorkerError, match="boom"):
        read([body])
    assert read([_body(piece("a"), piece("", "stop")) + b'data: {"usa'])[0] == Token("a", 0)


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
def test_what_says_nothing_is_tolerated(payload: Any) -> None:
    """Null, empty and missing fields are neither tokens nor errors."""
    *tokens, end = _read(piece("a"), payload, piece("b", "stop"))
    assert [t.text for t in tokens] == ["a", "b"]
    assert end.proof == "finish_reason"
    assert end.metrics.usage_source == "counted"


def test_pings_are_nothing() -> None:
    """`event: ping` is not even looked into."""
    body = _body(b"{not json", kind="ping") + _body(piece("a", "stop"), b"[DONE]")
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


def test_a_message_after_deltas_is_no_delta() -> None:
    """The whole text again is not appended (hermes-browser-extension#11)."""
    again = {"choices": [{"index": 0, "message": {"content": "ab"}, "finish_reason": "stop"}]}
    assert _texts(delta({"content": "a"}), delta({"content": "b"}), again) == ["a", "b"]
    both = delta({"content": "b"}, "stop")
    both["choices"][0]["message"] = {"content": "ab"}
    assert _texts(delta({"content": "a"}), both, usage(1, 2)) == ["a", "b"]


def test_messages_in_place_of_deltas_are_pieces() -> None:
    """Where no delta ever comes."""
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
    assert reader.feed(_body(empty, delta(part))) == []
    assert reader.pieces == 1
    asking = AnswerReader(Wanted(reasoning=True))
    found = asking.feed(_body(delta(part)))
    if "hm" in json.dumps(part):
        assert found == [Reasoning("", 0, reasoning="hm")]


def test_an_answer_of_reasoning_alone_is_not_silently_empty() -> None:
    """vLLM with a reasoning parser and a model that does not think: all is reasoning."""
    reader = AnswerReader()
    reader.feed(_body(delta({"reasoning": "Hello"}), delta({}, "stop"), b"[DONE]"))
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
    body = _body(piece("a"), *payloads, b"[DONE]")
    expected = _outcome([body])
    assert _outcome(pieces_of(body, size)) == expected
    if isinstance(expected[-1], str):
        assert len(expected[-1]) < 2000


@settings(max_examples=60)
@given(st.binary(max_size=60), st.integers(1, 9))
def test_any_bytes_are_an_answer_or_a_worker_error(data: bytes, size: int) -> None:
    """After a token, before the end."""
    _outcome(pieces_of(_body(piece("a")) + data, size))


@settings(max_examples=100)
@given(st.lists(chunk_fields | json_values, max_size=4))
def test_the_fast_way_reads_as_the_thorough_one(payloads: list[Any]) -> None:
    """Ordinary chunks take a short cut: tokens, errors and what is learned are the same."""
    pieces = [_body(payload) for payload in [piece("a"), *payloads]]
    thorough = _outcome(pieces, error_text="text that no chunk begins with")
    assert _outcome(pieces) == thorough


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
    reader.feed(_body(piece("a", "stop"), {"choices": [], **chunk}))
    assert reader.facts.own_numbers() == numbers


def test_own_numbers_are_bounded() -> None:
    """Of many or deeply nested values, only a bounded number is passed on."""
    deep: Any = 1
    for _ in range(200):
        deep = {"a": deep}
    reader = AnswerReader()
    wide = {f"n{number}": [number] * 9 for number in range(5000)}
    reader.feed(_body(piece("a", "stop"), {"choices": [], "timings": wide, "cost": deep}))
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
