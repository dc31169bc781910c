"""The wire format: a task becomes a body, chunks become tokens, and an answer is whole or not."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_api import (
    ContentFiltered,
    ErrorCode,
    InvalidRequest,
    StreamingError,
    TaskRequest,
    Token,
    WorkerError,
)
from adapters.http_util import ServerSentEvent, SSEDecoder
from adapters.openai_http.wire import OWNED_FIELDS, Answer, encode, request_fields
from tests.openai_chunks import STREAMS, delta, piece, recorded, usage
from tests.strategies import json_values


def _event(payload: Any, kind: str = "message") -> ServerSentEvent:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return ServerSentEvent(data, kind)


def _read(*payloads: Any, error_text: str | None = None) -> tuple[Answer, list[Token]]:
    answer = Answer(error_text=error_text)
    tokens = [answer.read(_event(payload)) for payload in payloads]
    return answer, [token for token in tokens if token is not None]


def _fails(*payloads: Any, kind: str = "message", error_text: str | None = None) -> WorkerError:
    answer = Answer(error_text=error_text, secrets=("sk-hidden-key",))
    with pytest.raises(WorkerError) as caught:
        for payload in payloads:
            answer.read(_event(payload, kind))
        answer.proof()
    return caught.value


# Requests


def test_a_prompt_becomes_a_completions_body() -> None:
    """OC-ADAPT-OAI 6001: every field that was set, nothing else, max_tokens always."""
    task = TaskRequest(
        prompt="hi", max_tokens=5, temperature=0.5, top_p=0.9, seed=1, stop=["a", "b"],
        extra={"min_p": 0.1},
    )  # fmt: skip
    assert request_fields(task, chat=False, model="m") == {
        "model": "m", "prompt": "hi", "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "seed": 1,
        "stop": ["a", "b"], "stream": True, "stream_options": {"include_usage": True},
        "min_p": 0.1,
    }  # fmt: skip
    assert set(request_fields(TaskRequest(prompt=""), chat=False, model=None)) == {
        "prompt", "max_tokens", "stream", "stream_options",
    }  # fmt: skip


def test_messages_become_a_chat_body() -> None:
    """Messages keep role, content parts and name; a prompt for a chat is one user message."""
    parts = [{"type": "text", "text": "x"}]
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": parts, "name": "n"}]
    task = TaskRequest(messages=messages)
    assert request_fields(task, chat=True, model="m")["messages"] == messages
    prompt = request_fields(TaskRequest(prompt="hi"), chat=True, model="m")
    assert prompt["messages"] == [{"role": "user", "content": "hi"}]
    assert "prompt" not in prompt


@pytest.mark.parametrize("field", OWNED_FIELDS)
def test_extra_must_not_have_what_the_adapter_owns(field: str) -> None:
    """The refusal names the key and where to set it instead."""
    with pytest.raises(InvalidRequest, match=f"extra must not have '{field}'") as caught:
        request_fields(TaskRequest(prompt="x", extra={field: 1}), chat=False, model="m")
    assert (OWNED_FIELDS[field] or "no room") in caught.value.message


def test_refused_fields_are_left_out_and_max_tokens_renamed() -> None:
    """For a chat, max_tokens goes by its newer name where the old one is refused."""
    task = TaskRequest(prompt="x", max_tokens=7, seed=1)
    fields = request_fields(
        task, chat=True, model="m", without=frozenset({"max_tokens", "seed", "stream_options"})
    )
    assert fields["max_completion_tokens"] == 7
    assert not {"max_tokens", "seed", "stream_options"} & set(fields)


@pytest.mark.parametrize("value", [object(), {1, 2}, "\ud800"])
def test_what_is_not_json_is_a_clear_error(value: object) -> None:
    """An extra that JSON cannot hold is INVALID_PARAMS (sets become lists and are fine)."""
    fields = {"x": value}
    if isinstance(value, set):
        assert json.loads(encode(fields)) == {"x": [1, 2]}
        return
    with pytest.raises(InvalidRequest, match="cannot be sent as JSON"):
        encode(fields)


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    "value", [NAN, INFINITY, -INFINITY, [1, NAN], {"a": {"b": (INFINITY,)}}, {1.0, NAN}]
)
def test_numbers_that_json_lacks_are_refused(value: object) -> None:
    """They would arrive as null; a null that is meant arrives."""
    with pytest.raises(InvalidRequest, match="'x' holds NaN or infinity, which JSON does not have"):
        encode({"prompt": "null", "x": value})
    assert encode({"x": None, "y": [None, 1.5]}) == b'{"x":null,"y":[null,1.5]}'


# Answers


def test_pieces_become_tokens_and_empty_ones_do_not() -> None:
    """Indexes count tokens, not chunks; both endpoints read alike."""
    for make in (piece, lambda text: delta({"content": text})):
        answer, tokens = _read(make("a"), make(""), make("b"), make("c"))
        assert tokens == [Token("a", 0), Token("b", 1), Token("c", 2)]
        assert answer.index == 3


@pytest.mark.parametrize(
    ("payloads", "proof"),
    [
        ([piece("a"), piece("", "stop")], "finish_reason"),
        ([piece("a", "length")], "finish_reason"),
        ([piece("a", "stop"), b"[DONE]"], "finish_reason"),
        ([piece("a"), b"[DONE]"], "done"),
        ([{"choices": [{"text": ""}]}, b"[DONE]"], "done"),
        ([{"choices": []}, piece("a"), b" [DONE] "], "done"),
    ],
)
def test_what_proves_an_answer(payloads: list[Any], proof: str) -> None:
    """A finish_reason, or [DONE] after a choice."""
    answer, _ = _read(*payloads)
    assert answer.proof() == proof


@pytest.mark.parametrize(
    "payloads", [[], [b"[DONE]"], [{"choices": []}, b"[DONE]"], [piece("a")], [usage(1, 1)]]
)
def test_what_proves_nothing_is_truncation(payloads: list[Any]) -> None:
    """Everything else that ends an answer is STREAM_TRUNCATED."""
    assert _fails(*payloads).code is ErrorCode.STREAM_TRUNCATED


def test_done_alone_proves_nothing_where_a_server_always_finishes() -> None:
    """llama-cpp-python interrupts the first job when a second comes, and says [DONE]."""
    answer, _ = _read(piece("a"), b"[DONE]")
    with pytest.raises(StreamingError, match="without a finish_reason"):
        answer.proof(always_finishes=True)


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_a_finish_that_is_a_failure(reason: str) -> None:
    """vLLM told to stop sends `abort`, usage and [DONE]: an error."""
    error = _fails(piece("a"), piece("", reason), usage(2, 1), b"[DONE]")
    assert error.code is ErrorCode.WORKER_RESET


def test_a_filtered_answer_is_an_error() -> None:
    """finish_reason content_filter: the rest was withheld."""
    assert isinstance(_fails(piece("a"), piece("", "content_filter")), ContentFiltered)


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
    ("boom", ErrorCode.WORKER_RESET),
    (["boom"], ErrorCode.WORKER_RESET),
    (5, ErrorCode.WORKER_RESET),
    (b"boom, not JSON", ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": "none"}, ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": ["text"]}, ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": [{"text": 5}]}, ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": [{"delta": "x"}]}, ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": [{"delta": {"content": ["x"]}}]}, ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": [{"text": "a", "finish_reason": 5}]}, ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": [{"text": "a", "index": 1}]}, ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": [{"text": "a", "index": -1}]}, ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": [{"text": "a", "index": "0"}]}, ErrorCode.UPSTREAM_PROTOCOL),
    ({"choices": [{"text": "a"}, {"text": "b"}]}, ErrorCode.UPSTREAM_PROTOCOL),
    (b"[" * 100_000, ErrorCode.UPSTREAM_PROTOCOL),
    (b'{"choices":[{"text":' + b"9" * 5000 + b"}]}", ErrorCode.UPSTREAM_PROTOCOL),
]


@pytest.mark.parametrize(("payload", "code"), ERRORS, ids=lambda v: str(v)[:50])
@pytest.mark.parametrize("first", [True, False])
def test_errors_and_nonsense_in_the_stream(payload: Any, code: ErrorCode, first: bool) -> None:
    """Every error shape is one mapped error, as the first event and later ([DONE] or not)."""
    before = [] if first else [piece("a")]
    assert _fails(*before, payload).code is code


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
def test_an_error_is_told_in_its_own_words(payload: dict[str, Any]) -> None:
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
    assert len(_read(chunk)[1]) == 1


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
        {"choices": [{"text": "", "message": None}], "type": "error", "errors": ["x"]},
        {"choices": [{"content_filter_offsets": {"check_offset": 1}}]},
        {"usage": {"prompt_tokens": "x", "completion_tokens": -5}},
    ],
)
def test_what_says_nothing_is_tolerated(payload: Any) -> None:
    """QUIRKS 9: null, empty and missing fields are neither tokens nor errors."""
    answer, tokens = _read(piece("a"), payload, piece("b", "stop"))
    assert [t.text for t in tokens] == ["a", "b"]
    assert answer.proof() == "finish_reason"
    assert answer.usage is None


def test_pings_are_nothing() -> None:
    """`event: ping` is not even looked into."""
    assert Answer().read(_event(b"{not json", "ping")) is None


@pytest.mark.parametrize("where", ["after", "with", "between"])
def test_usage_is_used_wherever_it_comes(where: str) -> None:
    """With, after or before the finish chunk; all-zero usage is not usage."""
    counts = {"prompt_tokens": 2, "completion_tokens": 8}
    zero = {"prompt_tokens": 0, "completion_tokens": 0}
    finish = piece("", "stop", usage=counts if where == "with" else zero)
    chunks = [piece("a"), finish]
    if where != "with":
        chunks.insert(2 if where == "after" else 1, usage(2, 8))
    answer, _ = _read(*chunks)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 8)


def test_text_that_json_can_hold_but_utf8_cannot() -> None:
    """Half a surrogate pair becomes a replacement character; NaN and odd numbers do no harm."""
    _, tokens = _read(piece("a"), b'{"choices":[{"text":"\\ud800x","index":0}], "t": NaN}')
    assert tokens[1].text == "\ufffdx"
    _, tokens = _read(piece("a"), b'{"choices":[{"text":"\\ud83d\\ude42","index":0}]}')
    assert tokens[1].text == "\U0001f642"


def test_the_last_of_duplicate_keys_counts() -> None:
    """As every JSON parser has it; fast and slow reading agree."""
    chunk = b'{"choices":[{"index":0,"text":"a","text":"b"}]}'
    _, tokens = _read(piece("x"), chunk, chunk[:-1] + b',"usage":{}}')
    assert [t.text for t in tokens] == ["x", "b", "b"]


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
        ({"content": ["x"]}, None),
        ({"content": [{"logprob": -1, "bytes": None}, {"logprob": -1}]}, None),
        ([], None),
    ],
)
def test_logprob_of_a_piece_that_is_one_token(logprobs: Any, expected: float | None) -> None:
    """Several tokens in one piece, or nonsense, have none."""
    chunk = piece("b")
    chunk["choices"][0]["logprobs"] = logprobs
    _, tokens = _read(piece("a"), chunk)
    assert tokens[1].logprob == expected


def test_reasoning_is_progress_and_refusals_are_text() -> None:
    """Reasoning is not the answer, but shows that the engine works."""
    answer, tokens = _read(delta({"role": "assistant"}), delta({"reasoning_content": "hm"}))
    assert answer.moved
    assert tokens == []
    _, tokens = _read(delta({"refusal": "no"}))
    assert tokens == [Token("no", 0)]


@pytest.mark.parametrize("name", STREAMS)
def test_recorded_answers_read_as_recorded(name: str) -> None:
    """What real servers sent is whole, with the text and usage that were generated."""
    _, _, body = recorded(name)
    answer = Answer()
    tokens = [answer.read(event) for event in SSEDecoder().feed(body)]
    text = "".join(token.text for token in tokens if token)
    assert answer.proof() == "finish_reason"
    if "b_cmpl_stop" not in name:
        assert text.startswith(("~\x17", "5"))
    if answer.usage is not None:
        assert answer.usage.completion_tokens == 8
    assert ("_usage" not in name) or answer.usage is not None


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


@settings(max_examples=200, deadline=None)
@given(st.lists(chunk_fields | json_values | st.binary(max_size=30), max_size=6))
def test_any_json_in_any_field_is_text_or_a_worker_error(payloads: list[Any]) -> None:
    """Nothing a server sends raises another exception type, and indexes stay 0, 1, 2."""
    answer = Answer()
    expected = 0
    try:
        for payload in [piece("a"), *payloads]:
            token = answer.read(_event(payload))
            if token is not None:
                assert token.text
                assert token.index == expected
                expected += 1
        answer.proof()
    except WorkerError as error:
        assert len(error.message) < 2000


@settings(max_examples=150, deadline=None)
@given(st.lists(chunk_fields | json_values, max_size=4))
def test_the_fast_way_reads_as_the_thorough_one(payloads: list[Any]) -> None:
    """Ordinary chunks take a short cut: tokens, errors and what is learned are the same."""

    def outcome(answer: Answer) -> list[Any]:
        found: list[Any] = []
        try:
            found += [answer.read(_event(payload)) for payload in [piece("a"), *payloads]]
            found.append(answer.proof())
        except WorkerError as error:
            found.append((type(error), error.code, error.message))
        return [*found, answer.index, answer.finish_reason, answer.usage]

    thorough = Answer(error_text="text that no chunk begins with")  # it is looked for in all
    assert outcome(Answer()) == outcome(thorough)
