"""Every answer that is not a stream becomes one error of the taxonomy (HTU-ERR-4002)."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_api import ErrorCode, WorkerError
from adapters.http_util import (
    REDACTED,
    ErrorBody,
    error_from_exception,
    error_from_payload,
    error_from_response,
    may_repeat,
    read_error_body,
)
from adapters.http_util.meaning import code_for
from adapters.http_util.secrets import MAX_SHOWN_CHARS
from tests.openai_chunks import recorded
from tests.strategies import json_values

BODIES: list[tuple[Any, ErrorBody]] = [
    ({"error": {"message": "no", "type": "invalid_request_error", "param": "n", "code": None}},
     ErrorBody("no", frozenset({"invalid_request_error"}), "n")),
    ({"error": {"message": "no", "type": "X", "code": "Y", "innererror": {"code": "Z"}}},
     ErrorBody("no", frozenset({"x", "y", "z"}))),
    ({"error": {"message": "no", "code": 404}}, ErrorBody("no", status=404)),
    ({"error": {"message": "no", "code": "429"}}, ErrorBody("no", status=429)),
    ({"error": {"message": "no", "status": 503}}, ErrorBody("no", status=503)),
    ({"error": {"message": "no", "code": 200}}, ErrorBody("no")),
    ({"error": {"message": "no", "code": True}}, ErrorBody("no")),
    ({"error": {"message": "no", "param": 7}}, ErrorBody("no")),
    ({"error": {"message": None}}, ErrorBody('{"error":{"message":null}}')),
    ({"error": {"message": ["a"]}}, ErrorBody("a")),
    ({"error": {"error": {"message": "deep"}}}, ErrorBody("deep")),
    ({"error": {"detail": "inside"}}, ErrorBody("inside")),
    ({"error": "Unauthorized"}, ErrorBody("Unauthorized")),
    ({"error": "no", "code": 400}, ErrorBody("no", status=400)),
    ({"error": "no", "type": "x"}, ErrorBody("no", frozenset({"x"}))),
    ({"error": ""}, ErrorBody("")),
    ({"error": None, "message": "m"}, ErrorBody("m")),
    ({"object": "error", "message": "no", "code": 400}, ErrorBody("no", status=400)),
    ({"message": "no", "type": "x", "param": "p"}, ErrorBody("no", frozenset({"x"}), "p")),
    ({"detail": "no"}, ErrorBody("no")),
    ({"detail": {"message": "no", "code": 422}}, ErrorBody("no", status=422)),
    ({"detail": None}, ErrorBody("")),
    ({"detail": []}, ErrorBody("")),
    ({"detail": [{"loc": ["body", "n", 0], "msg": "bad", "type": "t"}]},
     ErrorBody("n.0: bad", param="n")),
    ({"detail": [{"loc": ["body", "n"], "type": "t"}, {"loc": ["query", "m"], "msg": "bad"}]},
     ErrorBody("n: t; query.m: bad")),
    ({"detail": ["a", {"loc": None, "msg": "b"}, {"loc": "n", "msg": "c"}]},
     ErrorBody("a; b; c")),
    ({"errors": [{"message": "no", "code": 400}, "more"]}, ErrorBody("no; more", status=400)),
    ({"errors": ["no"], "message": None}, ErrorBody("no")),
    ({"errors": {"n": "no"}}, ErrorBody("n: no")),
    ({"errors": "no"}, ErrorBody("no")),
    ({"errors": []}, ErrorBody("")),
    ({"message": "no", "errors": ["more"]}, ErrorBody("no")),
    ({"anything": 1}, ErrorBody('{"anything":1}')),
    ({}, ErrorBody("")),
    ([], ErrorBody("")),
    (["a", 1], ErrorBody("a; 1")),
    # Gateways: a status, JSON or a Python dict inside of the text.
    ({"error": {"message": "400: Model 'x' not found"}},
     ErrorBody("400: Model 'x' not found", status=400)),
    ({"error": {"message": "Error code: 429 - {'error': {'type': 'slow_down'}}"}},
     ErrorBody("Error code: 429 - {'error': {'type': 'slow_down'}}", frozenset({"slow_down"}),
               status=429)),
    ({"error": {"message": "404 Not Found", "code": 500}},
     ErrorBody("404 Not Found", status=404)),
    ({"error": {"message": "500 tokens are too many"}}, ErrorBody("500 tokens are too many")),
    ({"error": {"message": 'OpenAIException - {"error": {"message": "no", "code": "bad"}}'}},
     ErrorBody("OpenAIException - no", frozenset({"open_ai_exception", "bad"}))),
    ({"error": {"message": "Provider returned error", "code": 400,
                "metadata": {"raw": '{"error": {"message": "too long"}}', "provider_name": "x"}}},
     ErrorBody("Provider returned error: too long", status=400)),
    # Clouds and frameworks.
    ([{"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT", "details": [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]}}],
     ErrorBody("no", frozenset({"invalid_argument", "api_key_invalid"}), status=400)),
    ({"error": {"message": "no", "details": [{"retryDelay": "1.2s"}]}},
     ErrorBody("no", retry_after_ms=1200)),
    ({"type": "error", "error": {"type": "overloaded_error", "message": "no"}},
     ErrorBody("no", frozenset({"overloaded_error"}))),
    ({"error": "no", "error_type": "validation"}, ErrorBody("no", frozenset({"validation"}))),
    ({"error": "invalid_model", "message": "no"}, ErrorBody("no", frozenset({"invalid_model"}))),
    ({"error": "invalid_request", "error_description": "no"},
     ErrorBody("no", frozenset({"invalid_request"}))),
    ({"__type": "com.amazon#ThrottlingException", "message": "no"},
     ErrorBody("no", frozenset({"throttling_exception"}))),
    ({"base_resp": {"status_code": 429, "status_msg": "no"}}, ErrorBody("no", status=429)),
    ({"fault": {"faultstring": "no"}}, ErrorBody("no")),
    ({"error_code": 336007, "error_msg": "no"}, ErrorBody("no")),
    ({"statusCode": 400, "message": ["a", "b"], "error": "Bad Request"},
     ErrorBody("a; b", frozenset({"bad_request"}), status=400)),
    ("just text", ErrorBody("just text")),
    (None, ErrorBody("")),
    (7, ErrorBody("7")),
]  # fmt: skip


@pytest.mark.parametrize(("payload", "expected"), BODIES, ids=range(len(BODIES)))
def test_every_shape_of_an_error_body_is_read(payload: Any, expected: ErrorBody) -> None:
    """Error objects, strings, FastAPI's details, and shapes that no server documents."""
    assert read_error_body(json.dumps(payload).encode()) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", ""),
        (b"  \r\n", ""),
        (b"Internal Server Error", "Internal Server Error"),
        (b"two\n  lines\tand\x1b[31m colour\x00", "two lines and [31m colour"),
        (b"<html><head><style>p {}</style><title>502</title></head><p>Bad\n Gateway</html>",
         "502 Bad Gateway"),
        (b"<!DOCTYPE html><script>var a = '<b>';</script><h1>No</h1>", "No"),
        (b"\xff\xfe broken", "\ufffd\ufffd broken"),
        (b'{"error": {"message": "cut o', '{"error": {"message": "cut o'),
        (b'error: {"message": "no"}', "error: no"),
        (b'{"error": NaN}', '{"error": NaN}'),
        (b'"\\ud800"', '"\\ud800"'),
        (b"9" * 5000, "9" * (MAX_SHOWN_CHARS - 3) + "..."),
        (b"x" * 501, "x" * (MAX_SHOWN_CHARS - 3) + "..."),
        (b"x" * 500, "x" * MAX_SHOWN_CHARS),
    ],
    ids=lambda v: str(v)[:40],
)  # fmt: skip
def test_what_is_no_json_is_read_as_text(body: bytes, message: str) -> None:
    """One printable line of bounded length, without markup."""
    assert read_error_body(body) == ErrorBody(message)


@pytest.mark.parametrize("depth", [100, 900, 100_000])
@pytest.mark.parametrize("pair", [('{"error":', "}"), ("[", "]"), ('{"detail":', "}")])
def test_deep_nesting_does_no_harm(depth: int, pair: tuple[str, str]) -> None:
    """A clear message, no RecursionError."""
    body = pair[0] * depth + "1" + pair[1] * depth
    assert isinstance(error_from_response(400, {}, body.encode()), WorkerError)


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=200)
def test_whatever_comes_is_a_bounded_message(body: bytes) -> None:
    """read_error_body never raises, and what it gives can be shown on one line."""
    read = read_error_body(body)
    assert len(read.message) <= MAX_SHOWN_CHARS
    assert not read.message or read.message.isprintable()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "detail", "code", "type", "param", "status", "loc",
                             "msg", "innererror", "errors"]),
            inner,
        ),
    ),
    st.integers(300, 599) | st.none(),
)  # fmt: skip
@settings(max_examples=60)
def test_wrong_types_in_every_field_do_no_harm(payload: Any, status: int | None) -> None:
    """The names are right, the values are anything: still one error of the taxonomy."""
    error = error_from_payload(payload)
    assert isinstance(error, WorkerError)
    if status is not None:
        body = json.dumps(payload).encode()
        assert error_from_response(status, {}, body).status == status


# Statuses

INVALID, AUTH, MISSING = (
    ErrorCode.INVALID_PARAMS,
    ErrorCode.UPSTREAM_AUTH,
    ErrorCode.UPSTREAM_NOT_FOUND,
)
BUSY, AWAY, RESET = (
    ErrorCode.ADMISSION_REJECT,
    ErrorCode.POOL_UNAVAILABLE,
    ErrorCode.WORKER_RESET,
)
NAMED = {
    **dict.fromkeys((401, 403, 407, 511), AUTH),
    **dict.fromkeys((404, 410), MISSING),
    402: ErrorCode.QUOTA_EXHAUSTED,
    **dict.fromkeys((408, 409, 420, 423, 425, 429, 449, 498, 529), BUSY),
    **dict.fromkeys((424, 499, 500, 520), RESET),
    **dict.fromkeys((501, 505, 506, 508, 510), INVALID),
}


@pytest.mark.parametrize(
    ("statuses", "usual"),
    [
        (range(201, 400), ErrorCode.UPSTREAM_PROTOCOL),
        (range(400, 500), INVALID),
        (range(500, 1000), AWAY),
    ],
)
def test_every_status_has_its_code(statuses: range, usual: ErrorCode) -> None:
    """HTU-ERR-4002: the table, and whether the same task may succeed later."""
    for status in statuses:
        expected = NAMED.get(status, usual)
        error = error_from_response(status, {}, b'{"error": {"message": "said"}}')
        assert (error.code, error.status) == (expected, status)
        assert error.retriable is (expected in (BUSY, AWAY, RESET))
        if status >= 400 or status < 300:
            assert error.message == f"the server answered {status}: said"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_names_where_it_points(status: int) -> None:
    """Redirects are not followed, since they could take the key elsewhere."""
    location = "https://user:pw12345678@elsewhere/v1/x?key=secret-in-a-query"
    message = error_from_response(status, {"location": location}, b"<html>moved</html>").message
    assert message.startswith(f"the server answered {status}, a redirect to https://")
    assert "elsewhere/v1/x. Redirects are not followed: set base_url" in message
    assert "pw12345678" not in message
    assert "secret-in-a-query" not in message
    nowhere = error_from_response(status, {}, b"").message
    assert nowhere == f"the server answered {status}, a redirect that does not say where to"


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (429, {"message": "pay", "code": "insufficient_quota"}, ErrorCode.QUOTA_EXHAUSTED),
        (429, {"message": "pay", "type": "insufficient_quota"}, ErrorCode.QUOTA_EXHAUSTED),
        (429, {"message": "pay", "code": "billing_hard_limit_reached"}, ErrorCode.QUOTA_EXHAUSTED),
        (400, {"message": "no", "code": "content_filter"}, ErrorCode.CONTENT_FILTER),
        (400, {"message": "no", "code": "content_policy_violation"}, ErrorCode.CONTENT_FILTER),
        (400, {"message": "no", "innererror": {"code": "ResponsibleAIPolicyViolation"}},
         ErrorCode.CONTENT_FILTER),
        (400, {"message": "no", "code": "context_length_exceeded"}, ErrorCode.CONTEXT_OVERFLOW),
        (400, {"message": "no", "type": "exceed_context_size_error"}, ErrorCode.CONTEXT_OVERFLOW),
        (500, {"message": "This model's maximum context length is 4096 tokens"},
         ErrorCode.CONTEXT_OVERFLOW),
        (500, {"message": "Requested tokens (9) exceed context window of 8"},
         ErrorCode.CONTEXT_OVERFLOW),
        (400, {"message": "the context size is exceeded"}, ErrorCode.CONTEXT_OVERFLOW),
        (400, {"message": "prompt is too long: 9 > 8"}, ErrorCode.CONTEXT_OVERFLOW),
        (400, {"message": "the answer is longer than usual"}, ErrorCode.INVALID_PARAMS),
        (400, {"message": "the prompt is longer than the model allows"},
         ErrorCode.CONTEXT_OVERFLOW),
        (400, {"message": "context: exceedingly odd"}, ErrorCode.INVALID_PARAMS),
        (None, {"message": "x", "type": "rate_limit_error"}, BUSY),
        (None, {"message": "x", "code": "overloaded"}, BUSY),
        (None, {"message": "x", "type": "BadRequestError"}, INVALID),
        (None, {"message": "x", "type": "server_error"}, RESET),
        (None, {"message": "x", "code": 400}, INVALID),
        (None, {"message": "x", "code": 503}, AWAY),
        (None, {"message": "x", "code": 500}, RESET),
        (None, {"message": "x"}, RESET),
    ],
    ids=lambda v: str(v)[:40],
)  # fmt: skip
def test_what_the_body_adds_to_the_status(
    status: int | None, error: dict[str, Any], code: ErrorCode
) -> None:
    """QUOTA, CONTEXT and FILTER by their codes or words; in a stream the body is all there is."""
    if status is None:
        assert error_from_payload(error).code is code
    else:
        assert error_from_response(status, {}, json.dumps({"error": error}).encode()).code is code


def test_code_for_takes_the_status_of_the_body_in_a_stream() -> None:
    """HTU-ERR-4002: a stream's error object has no status but its own."""
    read = ErrorBody("x", status=404)
    assert code_for(read.status, read) is ErrorCode.UPSTREAM_NOT_FOUND


@pytest.mark.parametrize(
    ("payload", "message", "status"),
    [
        ({"message": "gone", "code": 500}, "the server reported an error: gone", 500),
        ("Internal error: x", "the server reported an error: Internal error: x", None),
        ("", "the server reported an error: it gave no reason", None),
        ({}, "the server reported an error: it gave no reason", None),
    ],
)
def test_errors_in_a_stream(payload: Any, message: str, status: int | None) -> None:
    """An object, a string, nothing: each is one error that says what was said."""
    error = error_from_payload(payload)
    assert (error.message, error.status) == (message, status)


RECORDED = [
    ("llama-server/d_bad_key.txt", AUTH, "Invalid API Key"),
    ("llama-server/d_malformed.txt", INVALID, "parse error at line 1"),
    ("vllm/d_bad_key.txt", AUTH, "Unauthorized"),
    ("vllm/d_malformed.txt", INVALID, "1 validation error: {'type': 'json_invalid'"),
    ("vllm/d_unknown_model.txt", MISSING, "The model `nope` does not exist."),
    ("transformers-serve/d_malformed.txt", INVALID, "9: JSON decode error"),
    ("transformers-serve/d_unknown_model.txt", INVALID, "requested 'nope'."),
    ("transformers-serve/b_cmpl_unknown_field.txt", INVALID, "{'x_unknown_field'}"),
]


@pytest.mark.parametrize(("name", "code", "said"), RECORDED, ids=[name for name, _, _ in RECORDED])
def test_recorded_refusals(name: str, code: ErrorCode, said: str) -> None:
    """Answers of real servers are mapped and keep their messages."""
    status, headers, body = recorded(name)
    error = error_from_response(status, headers, body)
    assert error.code is code
    assert said in error.message
    assert error.request_id == headers.get("x-request-id")


@pytest.mark.parametrize("body", [b"", b"null", b'{"detail": null}', b"{}", b'""'])
def test_a_refusal_without_words_says_its_status_alone(body: bytes) -> None:
    """A missing message is not shown as None."""
    assert error_from_response(400, {}, body).message == "the server answered 400"
    assert error_from_payload(json.loads(body or b"null")).message.endswith(": it gave no reason")


def test_an_error_carries_what_helps_to_act_on_it() -> None:
    """WA-INT-3003, AH-1005: the wait, the server's id of the request, and the hint."""
    headers = httpx.Headers({"Retry-After": "2", "X-Request-Id": "req-1"})
    error = error_from_response(503, headers, b"", hint="Wait a little")
    assert (error.retry_after_ms, error.request_id) == (2000, "req-1")
    assert error.message == "the server answered 503. Wait a little"
    azure = error_from_response(400, {"apim-request-id": "id\x1b[0m sk-abcdefghij"}, b"no")
    assert azure.request_id == f"id [0m {REDACTED}"


# Redaction

SECRETS = ["hunter2-is-my-key", "sk-abcdefghijklmnop"]


@pytest.mark.parametrize("secret", SECRETS)
@given(before=st.text(max_size=600), after=st.text(max_size=600), data=st.data())
@settings(max_examples=60)
def test_no_error_shows_a_key(secret: str, before: str, after: str, data: st.DataObject) -> None:
    """HTU-1004, OC-ADAPT-OAI 6020: nor half of one, wherever the message is cut."""
    said = f"{before} {secret} {after}"
    shape = data.draw(
        st.sampled_from([{"error": {"message": said}}, {"error": said}, {"detail": said}, said,
                         {"detail": [{"loc": ["n"], "msg": said}]}, {"other": [said]}])
    )  # fmt: skip
    as_json = data.draw(st.booleans())
    body = json.dumps(shape).encode() if as_json else said.encode("utf-8", "replace")
    errors = [
        error_from_response(400, {"x-request-id": secret}, body, secrets=SECRETS),
        error_from_payload(shape, secrets=SECRETS),
        error_from_exception(httpx.ReadError(said), secrets=SECRETS),
    ]
    for error in errors:
        assert secret not in repr(error.fields())
        assert secret[:6] not in repr(error.fields()).replace(before, "").replace(after, "")


def test_a_key_at_the_place_of_the_cut_is_not_cut_but_hidden() -> None:
    """HTU-1004: half a key would not be recognized any more."""
    for size in range(MAX_SHOWN_CHARS - 40, MAX_SHOWN_CHARS + 5):
        body = b"x" * size + b" hunter2-is-my-key yes"
        assert "hunter" not in error_from_response(400, {}, body, secrets=SECRETS).message


# Exceptions

REQUEST = httpx.Request("POST", "http://h")
EXCEPTIONS: list[tuple[Exception, bool, ErrorCode, bool]] = [
    (httpx.PoolTimeout("x"), False, ErrorCode.LOCAL_SATURATED, True),
    (httpx.ConnectTimeout("x"), False, AWAY, True),
    (httpx.ConnectError("x"), False, AWAY, True),
    (httpx.ProxyError("x"), False, AWAY, True),
    (httpx.UnsupportedProtocol("x"), False, AWAY, True),
    (httpx.ReadTimeout("x"), False, AWAY, True),
    (httpx.WriteTimeout("x"), False, AWAY, True),
    (httpx.ReadTimeout("x"), True, ErrorCode.DECODE_TIMEOUT, True),
    (httpx.LocalProtocolError("x"), False, INVALID, False),
    (httpx.RemoteProtocolError("x"), False, ErrorCode.UPSTREAM_PROTOCOL, False),
    (httpx.RemoteProtocolError("x"), True, ErrorCode.UPSTREAM_PROTOCOL, False),
    (httpx.RemoteProtocolError("Server disconnected without sending a response."), False, RESET,
     True),
    (httpx.RemoteProtocolError("peer closed connection without sending complete message body"),
     True, ErrorCode.STREAM_TRUNCATED, True),
    (httpx.ReadError("x"), False, RESET, True),
    (httpx.ReadError("x"), True, ErrorCode.STREAM_TRUNCATED, True),
    (httpx.WriteError("x"), False, RESET, True),
    (httpx.CloseError("x"), True, ErrorCode.STREAM_TRUNCATED, True),
    (httpx.DecodingError("x"), True, ErrorCode.UPSTREAM_PROTOCOL, False),
    (httpx.TooManyRedirects("x", request=REQUEST), False, ErrorCode.UPSTREAM_PROTOCOL, False),
]  # fmt: skip


@pytest.mark.parametrize(("exc", "answering", "code", "retriable"), EXCEPTIONS, ids=repr)
def test_every_exception_of_httpx_has_its_error(
    exc: Exception, answering: bool, code: ErrorCode, retriable: bool
) -> None:
    """HTU-ERR-4002: whether an answer had begun is the difference of reset and truncated."""
    error = error_from_exception(exc, answering=answering)
    assert (error.code, error.retriable) == (code, retriable)
    assert error.message


@pytest.mark.parametrize("exc", [exc for exc, answering, *_ in EXCEPTIONS if not answering])
def test_only_what_was_never_sent_may_be_repeated(exc: Exception) -> None:
    """ADAPT-3005: a server that has not answered in time may still be working."""
    never_sent = (httpx.ConnectTimeout, httpx.ConnectError, httpx.ProxyError)
    expected = isinstance(exc, (*never_sent, httpx.UnsupportedProtocol))
    assert may_repeat(error_from_exception(exc)) is expected


def test_an_exception_without_words_is_named() -> None:
    """`httpx.ReadError("")` is frequent in practice."""
    assert error_from_exception(httpx.ReadError("")).message.endswith("ReadError")
