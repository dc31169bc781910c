"""Objects that report a failure, alone and beside an answer, and objects that do not."""

from typing import Any

import pytest

from adapters.http_util.failed import is_error

ANYWHERE: list[dict[str, Any]] = [
    {"error": "x"},
    {"error": True},
    {"errors": ["x"]},
    {"Error": {"Code": "X", "Message": "x"}},
    {"error_type": "BadRequestError", "error_message": "x"},
    {"errorCode": "X1", "errorMessage": "x"},
    {"error_code": 336100, "error_msg": "x"},
    {"err_msg": "x"},
    {"provider_error": "x"},
    {"modelStreamErrorException": {"message": "x", "originalStatusCode": 500}},
    {"exception": "x"},
    {"type": "error", "message": "x"},
    {"type": "response.failed"},
    {"event": "error", "data": "x"},
    {"state": "failed"},
    {"status": "failed"},
    {"status": 500, "title": "x"},
    {"statusCode": 429},
    {"http_code": 500, "body": "x"},
    {"success": False},
    {"ok": False, "reason": "x"},
    {"failed": True},
    {"is_error": True, "result": "x"},
    {"code": 500, "msg": "x"},
    {"detail": "x"},
    {"base_resp": {"status_code": 1027, "status_msg": "x"}},
    {"promptFeedback": {"blockReason": "SAFETY"}},
    {"x_groq": {"error": "x"}},
    {"object": "error"},
    {"status": "500", "title": "x"},
    {"result": "failed"},
    {"outcome": "ERROR", "words": "x"},
    {"failed_reason": "x"},
    {"aborted": True},
    {"wasInterrupted": True},
    {"timed_out": True},
    {"is_cancelled": True},
    {"failureMessage": "x"},
]

ALONE: list[dict[str, Any]] = [
    {"header": {"code": 10013, "message": "x"}},
    {"Response": {"Error": {"Code": "X", "Message": "x"}}},
    {"type": "response.incomplete"},
    {"status": "cancelled"},
    {"message": "Internal Server Error"},
    {"msg": "Internal Server Error"},
]

NOTHING: list[dict[str, Any]] = [
    {},
    {"error": None, "errors": [], "error_code": 0, "error_msg": "", "errorMessage": "success"},
    {"is_error": False, "failed": False, "ok": True, "success": True},
    {"errors": 3, "num_errors": 1},
    {"aborted": False, "cancelled": "no", "interrupted": None},
    {"code": 0, "message": "Success"},
    {"code": 200, "msg": "ok"},
    {"status": "ok"},
    {"status": "no error"},
    {"status": "200"},
    {"result": "there was an error"},
    {"failed_requests": 3},
    {"status": "NO_ERROR"},
    {"status": "processing", "message": "in the queue"},
    {"status": 200},
    {"type": "keepalive", "message": "still working"},
    {"base_resp": {"status_code": 0, "status_msg": ""}},
    {"x_groq": {"id": "req", "usage": {"completion_tokens": 3}}},
    {"promptFeedback": {"safetyRatings": []}},
    {"timings": {"predicted_n": 3}, "default": 1, "terror": "x"},
]

ANSWER = {"id": "a", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}}]}


@pytest.mark.parametrize("found", ANYWHERE, ids=str)
def test_a_failure_is_one_wherever_it_stands(found: dict[str, Any]) -> None:
    assert is_error(found)
    assert is_error({"id": "a", "choices": [], **found})
    assert is_error({"id": "a", "choices": None, **found})
    assert is_error({**ANSWER, **found})


@pytest.mark.parametrize("found", ALONE, ids=str)
def test_weaker_signs_count_without_an_answer(found: dict[str, Any]) -> None:
    assert is_error(found)
    assert not is_error({**ANSWER, **found})


@pytest.mark.parametrize("words", ["Processing", "heartbeat", "OK", " "])
def test_a_message_alone_may_be_a_notice(words: str) -> None:
    assert not is_error({"message": words})
    assert not is_error({"msg": words})


@pytest.mark.parametrize("found", NOTHING, ids=str)
def test_meaningless_values_are_not_failures(found: dict[str, Any]) -> None:
    assert not is_error({"id": "a", "choices": [], **found})
    assert not is_error({**ANSWER, **found})
