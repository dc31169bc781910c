"""Every shape of an error body is read as one message with its codes (HTU-ERR-4002)."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_api import WorkerError
from adapters.http_util import ErrorBody, error_from_payload, error_from_response, read_error_body
from adapters.http_util.secrets import MAX_SHOWN_CHARS
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
def test_bodies_that_are_not_json_are_read_as_text(body: bytes, message: str) -> None:
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


@pytest.mark.parametrize("body", [b"", b"null", b'{"detail": null}', b"{}", b'""'])
def test_a_refusal_without_words_shows_only_its_status(body: bytes) -> None:
    """A missing message is not shown as None."""
    assert error_from_response(400, {}, body).message == "the server answered 400"
    assert error_from_payload(json.loads(body or b"null")).message.endswith(": it gave no reason")
