"""Every answer that is not a stream becomes one error of the taxonomy (HTU-ERR-4002)."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_api import ErrorCode
from adapters.http_util import (
    REDACTED,
    ErrorBody,
    error_from_exception,
    error_from_payload,
    error_from_response,
    may_repeat,
)
from adapters.http_util.meaning import code_for
from adapters.http_util.secrets import MAX_SHOWN_CHARS
from tests.openai_chunks import recorded

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
    assert nowhere == f"the server answered {status}, a redirect without a target"


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
