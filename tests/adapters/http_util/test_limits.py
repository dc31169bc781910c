"""Limits that are over soon, and those of a day or longer, which a repeated request meets again."""

import json
from typing import Any

import pytest

from adapter_api import ErrorCode, WorkerError
from adapters.http_util import error_from_payload, error_from_response

QUOTA, BUSY = ErrorCode.QUOTA_EXHAUSTED, ErrorCode.ADMISSION_REJECT

LONG = [
    "Rate limit reached for gpt-x on requests per day (RPD): Limit 200, Used 200, Requested 1.",
    "Rate limit exceeded: 200 requests/day",
    "Daily rate limit exceeded",
    "You have reached the daily request limit for this model",
    "Too many requests: the limit is 1000 requests in 24 hours",
    "Rate limit exceeded: free-models-per-day",
    "Too many requests today",
    "Request limit of this month is reached",
    "Tokens per month: limit reached",
    "Weekly rate limit reached",
    "You've used all your requests for this week",
    "limit of 10 requests per 2 weeks reached",
    "annual limit reached",
    "Requests per day limit exceeded - too many requests sent.",
    "Rate limit exceeded: 10 per 24 hour",
    "Your account x request reached max TPD: 1500000",
    "\u8be5 API \u5df2\u8fbe\u4eca\u65e5\u8c03\u7528\u6b21\u6570\u9650\u989d",
    "Limit of 50 messages every day reached. Resets at midnight UTC",
    "rate limit: 14400 requests in 1 day",
    "Rate limit reached on tokens per day (TPD): Limit 500000, Used 500000",
    "You have reached your daily rate limit, please upgrade your plan",
    "\u4eca\u65e5\u8bf7\u6c42\u6b21\u6570\u8d85\u9650",
    "\u672c\u6708\u8c03\u7528\u9650\u9891",
]
SOON = [
    "Rate limit reached for requests",
    "Rate limit reached: 3 requests per minute",
    "Rate limit reached: 60 / min, and 1000 / day",
    "Rate limit reached for gpt-x on tokens per min (TPM): Limit 10000, Used 9000",
    "Too many requests, please slow down",
    "Rate limit exceeded, 5 requests per second allowed",
    "Limit of 100 requests per hour reached",
    "Rate limit exceeded. Upgrade to a monthly plan for higher limits",
    "Rate limit exceeded, subscribe today for more",
    "The engine is overloaded, as it is every day at noon",
]
CODES = ["daily_limit_exceeded", "requests_per_day", "rpd_limit", "monthly_rate_limit"]


def _shapes(words: str, **more: Any) -> list[WorkerError]:
    """Return the errors of refusals with a rate limit's code, and of errors inside an answer."""
    body = {"error": {"message": words, "code": "rate_limit_exceeded", **more}}
    refusals = (error_from_response(status, {}, json.dumps(body).encode()) for status in (429, 403))
    return [*refusals, error_from_payload(body)]


@pytest.mark.parametrize("words", LONG)
def test_a_limit_of_a_day_without_a_delay_is_a_quota(words: str) -> None:
    """Repeating the request in a second would only meet it again."""
    for error in _shapes(words):
        assert (error.code, error.retriable) == (QUOTA, False)


@pytest.mark.parametrize("words", SOON)
def test_a_limit_of_a_minute_is_over_soon(words: str) -> None:
    """Also if a longer one is named beside it."""
    for error in _shapes(words):
        assert (error.code, error.retriable) == (BUSY, True)


@pytest.mark.parametrize("code", CODES)
def test_a_code_may_name_the_day(code: str) -> None:
    """Whatever the words are."""
    body = {"error": {"message": "Slow down", "type": "rate_limit_error", "code": code}}
    assert error_from_response(429, {}, json.dumps(body).encode()).code is QUOTA
    assert error_from_payload(body).code is QUOTA


@pytest.mark.parametrize("words", [words for words in LONG if "midnight" not in words])
def test_a_requested_delay_is_honoured(words: str) -> None:
    """A limit of the last 24 hours may be over in a minute, if the server says so."""
    body = json.dumps({"error": {"message": words, "code": "rate_limit_exceeded"}}).encode()
    error = error_from_response(429, {"retry-after": "7"}, body)
    assert (error.code, error.retry_after_ms) == (BUSY, 7000)
    told = _shapes(f"{words}. Please try again in 7s")
    assert {(error.code, error.retry_after_ms) for error in told} == {(BUSY, 7000)}


def test_a_delay_does_not_pay_a_bill() -> None:
    """Some gateways send Retry-After with each 429."""
    body = {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota"}}
    error = error_from_response(429, {"retry-after": "7"}, json.dumps(body).encode())
    assert (error.code, error.retry_after_ms) == (QUOTA, 7000)
