"""Delays that servers ask for in fields and in words; more headers are in test_retry.py."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import ErrorCode
from adapters.http_util import error_from_payload, error_from_response
from adapters.http_util.delays import (
    delay_in_words_ms,
    duration_ms,
    field_ms,
    is_delay,
    retry_after_ms,
)


@pytest.mark.parametrize(
    ("words", "delay_ms"),
    [
        ("Please try again in 1.2s.", 1200),
        ("Please retry in 43.21s", 43_210),
        ("Rate limit reached ... Please try again in 1m26.4s. Visit https://x", 86_400),
        ("Please try again in 6ms.", 6),
        ("Retry after: 5 seconds", 5000),
        ("rate limited; retry_after=2s", 2000),
        ("\u8bf7\u5728 5 \u79d2\u540e\u91cd\u8bd5", 5000),
        ("\u8bf71\u5206\u949f\u4e4b\u540e\u518d\u8bd5", 60_000),
        ("Try again in 20 seconds", 20_000),
        ("Please retry after 5 seconds.", 5000),
        ("Please wait 30 seconds before the next request", 30_000),
        ("Please wait for about 2 minutes", 120_000),
        ("quota resets in 1h2m", 3_720_000),
        ("Please try again in 1 minute and 30 seconds", 90_000),
        ("retry in 3 days", 259_200_000),
        ("try again later", None),
        ("please retry your request", None),
        ("the answer took 12s", None),
        ("retry 3 times", None),
        ("Cooling down for 5s", 5000),
        ("Please back off for 5 seconds", 5000),
        ("Please retry your request in 5s", 5000),
        ("Try again in ~5s", 5000),
        ("Quota will refresh in 5 seconds", 5000),
        ('"retryDelay": "5s"', 5000),
        ("429 Too Many Requests; Retry-After: 5", 5000),
        ("Retry-After: 2026-11-27", None),
        ("retry_after=5 errors", None),
        ("model refreshed in the background after 5 requests", None),
        ("try again in 5 steps", None),
        ("", None),
    ],
)
def test_a_delay_in_words(words: str, delay_ms: int | None) -> None:
    """Only a time behind words for waiting counts."""
    assert delay_in_words_ms(words) == delay_ms


@pytest.mark.parametrize(
    ("name", "value", "delay_ms"),
    [
        ("retryDelay", "1.2s", 1200),
        ("retryDelay", {"seconds": 1, "nanos": 200_000_000}, 1200),
        ("retryDelay", {"seconds": "2"}, 2000),
        ("retry_after", 3, 3000),
        ("retry-after", 3, 3000),
        ("retry_after", "3", 3000),
        ("retry_after_seconds", 0.5, 500),
        ("retry_after_ms", 250, 250),
        ("retry_after", True, None),
        ("retry_after", None, None),
        ("retry_after", [1], None),
        ("retry_after", "soon", None),
        ("retry_after", -1, None),
        ("retry_after", 1e300, None),
        ("retryDelay", {"seconds": "x"}, None),
        ("retryAfterMs", 250, 250),
        ("waitSeconds", 2, 2000),
        ("cooldown_ms", 250, 250),
        ("backoff_milliseconds", 250, 250),
        ("estimated_time", 20.5, 20_500),
        ("resetIn", "1m", 60_000),
    ],
)
def test_a_delay_in_a_field(name: str, value: Any, delay_ms: int | None) -> None:
    """Numbers, texts and Google's Duration, in the unit that the name says."""
    assert is_delay(name)
    assert field_ms(name, value) == delay_ms


@pytest.mark.parametrize("name", ["resets_at", "reset_at", "retryAt"])
def test_a_moment_is_read_as_one(name: str) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=3600)
    assert is_delay(name)
    for value in (soon.isoformat(), soon.timestamp(), int(soon.timestamp() * 1000)):
        assert 3_500_000 < (field_ms(name, value) or 0) <= 3_600_000
    assert field_ms(name, 5) is None


@pytest.mark.parametrize(
    ("headers", "delay_ms"),
    [
        ({"retry-after": "PT5S"}, 5000),
        ({"retry-after": "PT1M30.5S"}, 90_500),
        ({"retry-after": "PT"}, None),
        ({"retry-after": "00:01:05"}, 65_000),
        ({"x-ratelimit-retry-after": "5"}, 5000),
        ({"x-rate-limit-retry-after-seconds": "5"}, 5000),
        ({"x-rate-limit-retry-after-ms": "50"}, 50),
        ({"x-rate-limit-remaining": "0", "x-rate-limit-reset": "5"}, 5000),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset-after": "5"}, 5000),
        ({"x-ratelimit-remaining": "1", "x-ratelimit-reset-after": "5"}, None),
        ({"x-no-retry-after-all": "5"}, None),
    ],
)
def test_headers_of_gateways_hold_delays(headers: dict[str, str], delay_ms: int | None) -> None:
    """Under names of their own, and in other notations."""
    assert retry_after_ms(headers) == delay_ms


@pytest.mark.parametrize("name", ["data", "rate_limit", "retry_info", "metadata", "details"])
def test_a_delay_may_stand_one_level_down(name: str) -> None:
    error = error_from_payload({"error": {"message": "Rate limit", name: {"retry_after": 5}}})
    assert error.retry_after_ms == 5000


@pytest.mark.parametrize("name", ["retry-after", "x-retry-after"])
def test_a_header_holds_a_delay_or_a_moment(name: str) -> None:
    now = datetime.now(UTC)
    later = str((now + timedelta(seconds=60)).timestamp())
    told = [retry_after_ms({name: value}, now) for value in ("x", "3", later)]
    assert told[:2] == [None, 3000]
    assert 59_900 < (told[2] or 0) < 60_100


@pytest.mark.parametrize("name", ["retry", "retries", "reset", "reset_date", "available", "time",
                                  "after", "wait_list", "retry_after_date", "ms"])  # fmt: skip
def test_other_fields_hold_no_delay(name: str) -> None:
    """A number of tries, or a moment."""
    assert not is_delay(name)


@given(st.text(max_size=80) | st.from_regex(r"(try again|wait) (in )?[0-9. a-z]{0,40}"))
def test_any_text_is_safe(text: str) -> None:
    """A delay of at least nothing, or none."""
    for delay_ms in (delay_in_words_ms(text), duration_ms(text)):
        assert delay_ms is None or delay_ms >= 0


GOOGLE = (
    b'[{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded your '
    b'current quota.", "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", '
    b'"retryDelay": "1.2s"}]}}]'
)


def test_a_delay_in_the_body_counts_if_no_header_has_one() -> None:
    """Google's RetryInfo, and the words of others; a header is more exact."""
    error = error_from_response(429, {}, GOOGLE)
    assert (error.code, error.retry_after_ms) == (ErrorCode.ADMISSION_REJECT, 1200)
    assert error_from_response(429, {"retry-after": "2"}, GOOGLE).retry_after_ms == 2000
    said = b'{"error": {"message": "Rate limit reached. Please try again in 300ms."}}'
    assert error_from_response(429, {}, said).retry_after_ms == 300
    assert error_from_payload({"error": "busy, retry in 2s", "code": 503}).retry_after_ms == 2000


def test_a_final_error_requests_no_delay() -> None:
    """A rate limit's reset comes with every answer, and says nothing of a wrong request."""
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9s"}
    assert error_from_response(400, headers, b"").retry_after_ms is None
    assert error_from_response(429, headers, b"").retry_after_ms == 9000
