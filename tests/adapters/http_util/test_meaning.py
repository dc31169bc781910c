"""The meaning of errors of engines and gateways, by their structure and by their words.

The tables hold wordings as engines, gateways and clouds send them. Each family also has sentences
that look alike and mean something else.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import ErrorCode
from adapters.http_util import error_from_payload, error_from_response
from adapters.http_util.error_body import ErrorBody
from adapters.http_util.meaning import code_for
from adapters.http_util.wordings import AUTH, AWAY, BUSY, FILTER, INVALID, MISSING, QUOTA, RESET
from tests.adapters.http_util.refused import refused

CASES: list[tuple[int | None, Any, ErrorCode]] = [
    # Quota
    (429, {"error": {"message": "You exceeded your current quota, please check your plan",
                     "type": "insufficient_quota"}}, QUOTA),
    (429, {"error": {"message": "Your account is suspended, please recharge",
                     "type": "exceeded_current_quota_error"}}, QUOTA),
    (400, {"type": "error", "error": {"type": "invalid_request_error", "message":
           "Your credit balance is too low to access the Anthropic API."}}, QUOTA),
    (400, {"code": "Arrearage", "message": "Access denied, your account is not in good standing"},
     QUOTA),
    (402, {"error": {"message": "Insufficient Balance", "type": "unknown_error"}}, QUOTA),
    (402, "", QUOTA),
    (403, {"error": {"message": "You have run out of credits. Add more credits to continue"}},
     QUOTA),
    (400, {"error": {"message": "ExceededBudget: User has exceeded their budget", "type":
           "budget_exceeded", "code": "400"}}, QUOTA),
    (None, {"type": "error", "error": {"type": "billing_error", "message": "x"}}, QUOTA),
    # A limit per minute, called a quota, says when it is over.
    (429, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message":
           "You exceeded your current quota, please check your plan and billing details.",
           "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo",
                        "retryDelay": "1.2s"}]}}, BUSY),
    # Capacity
    (498, {"error": {"message": "Flex tier capacity exceeded", "type": "capacity_exceeded"}}, BUSY),
    (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, BUSY),
    (503, {"error": {"message": "The queue is full"}}, BUSY),
    (503, {"error": "Model is overloaded", "error_type": "overloaded"}, BUSY),
    (503, {"error": {"message": "Service Unavailable"}}, AWAY),
    (400, {"__type": "com.amazonaws#ThrottlingException", "message": "Rate exceeded"}, BUSY),
    (None, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, BUSY),
    (None, {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}, BUSY),
    (None, {"error": "Model is overloaded", "error_type": "overloaded"}, BUSY),
    # Filters
    (403, {"error": {"code": 403, "message": "Your chosen model requires moderation and your input "
           "was flagged for \"violence\"", "metadata": {"flagged_input": "x"}}}, FILTER),
    (400, {"code": "data_inspection_failed", "message": "Output data may contain inappropriate"},
     FILTER),
    (400, {"error": {"message": "The response was filtered due to the prompt triggering Azure "
           "OpenAI's content management policy."}}, FILTER),
    (400, {"error": {"message": "Your request was rejected as a result of our safety system."}},
     FILTER),
    (None, {"error": {"message": "blocked by the input guardrails"}}, FILTER),
    # Keys
    (400, [{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.",
                      "status": "INVALID_ARGUMENT", "details": [{"@type":
                      "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]}}],
     AUTH),
    (400, {"error": {"message": "Authentication Error, Invalid proxy server token passed",
                     "type": "auth_error", "code": "400"}}, AUTH),
    (500, {"error": {"message": "Authentication Error, No api key passed in."}}, AUTH),
    (None, {"type": "error", "error": {"type": "authentication_error", "message": "x"}}, AUTH),
    (None, {"type": "error", "error": {"type": "permission_error", "message": "x"}}, AUTH),
    (407, "Proxy Authentication Required", AUTH),
    # Models
    (None, {"type": "error", "error": {"type": "not_found_error", "message": "model: x"}}, MISSING),
    (None, {"error": {"message": "400: Bad request: Model 'x' not found"}}, MISSING),
    (400, {"error": {"message": "/chat/completions: Invalid model name passed in model=x"}},
     MISSING),
    (400, {"error": {"message": "x is not a valid model ID", "code": 400}}, MISSING),
    (500, {"error": {"message": "could not find model x"}}, MISSING),
    (404, {"error": "model 'x' not found, try pulling it first"}, MISSING),
    (410, {"error": {"message": "The model `x` has been decommissioned"}}, MISSING),
    (400, {"error": {"message": "The model `x` has been decommissioned and is no longer supported",
                     "code": "model_decommissioned"}}, MISSING),
    (404, {"detail": "Not Found"}, MISSING),
    # The job's fault
    (None, {"error": "`stop` is too long", "error_type": "validation"}, INVALID),
    (None, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. "
            "Given: 6 `inputs` tokens and 4091 `max_new_tokens`", "error_type": "validation"},
     INVALID),
    (None, {"error": {"message": "Error code: 400 - {'error': {'message': 'no', 'type': 'x'}}"}},
     INVALID),
    (500, {"error": {"message": "image input is not supported - hint: you may need mmproj"}},
     INVALID),
    (500, {"error": {"message": "Failed to parse input at pos 7", "type": "server_error"}},
     INVALID),
    (500, {"error": {"message": "litellm.BadRequestError: no"}}, INVALID),
    (500, {"error": {"message": "Error code: 422 - no", "code": "500"}}, INVALID),
    (501, {"error": {"message": "not implemented"}}, INVALID),
    (501, "", INVALID),
    (413, {"error": {"message": "Request Entity Too Large"}}, INVALID),
    # The engine's fault
    (500, {"error": {"message": "Internal Server Error"}}, RESET),
    (500, {"error": {"message": "CUDA error: invalid argument"}}, RESET),
    (500, {"error": {"message": "CUDA out of memory. Tried to allocate 2 GiB"}}, RESET),
    (424, {"error": "Request failed during generation: Server error", "error_type": "generation"},
     RESET),
    (520, "", RESET),
    (None, {"error": "flux compensator"}, RESET),
    (None, {"type": "error", "error": {"type": "api_error", "message": "x"}}, RESET),
    (None, {"error": {"message": "no healthy upstream"}}, AWAY),
    (None, {"error": {"message": "x", "code": 503}}, AWAY),
    (400, {"error": {"message": "no", "code": "insufficient_user_quota"}}, QUOTA),
    (429, {"error": {"message": "Rate limit reached: 200 requests per day",
                     "code": "rate_limit_exceeded"}}, QUOTA),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "payload", "code"), CASES, ids=[str(case[:2])[:70] for case in CASES]
)
def test_what_real_servers_say(status: int | None, payload: Any, code: ErrorCode) -> None:
    """One reader for refusals and for errors inside an answer."""
    error = error_from_payload(payload) if status is None else refused(status, payload)
    assert error.code is code


WORDS_ALONE: list[tuple[int | None, str, ErrorCode]] = [
    (429, "You have exceeded your monthly included credits for Inference Providers", QUOTA),
    (429, "You've reached your usage limit. Please upgrade your plan or add credits", QUOTA),
    (403, "Your account has insufficient balance. Please recharge", QUOTA),
    (429, "Quota exceeded for this project", QUOTA),
    (403, "This account has been disabled due to unpaid invoices", AUTH),
    (429, "Rate limit reached for requests", BUSY),
    (429, "Too many concurrent requests", BUSY),
    (400, "The prompt violates our content policies", FILTER),
    (400, "Your request was blocked by our content filter", FILTER),
    (400, "The response was blocked due to SAFETY", FILTER),
    (400, "Input contains sensitive content", FILTER),
    (400, "This request has been flagged by our moderation system", FILTER),
    (400, "系统检测到输入或生成内容可能包含不安全或敏感内容", FILTER),
    (429, "余额不足", QUOTA),
    (403, "Your team doesn't have any credits yet.", QUOTA),
    (429, "you have used up your daily free allocation of 10,000 neurons", QUOTA),
    (400, "Model gpt-9 not found", MISSING),
    (400, "The model 'x' does not exist or you do not have access to it", MISSING),
    (400, "Unknown model: x", MISSING),
    (400, "model x is not available in your region", MISSING),
    (500, 'model "x" not found, try pulling it first', MISSING),
    (400, "No endpoints found for x/y", MISSING),
    (400, "Model not exist", MISSING),
    (500, "Unsupported parameter: 'foo'", INVALID),
    (500, "1 validation error for ChatCompletionRequest", INVALID),
    (500, "Only 'text' content type is supported", INVALID),
    (500, "This model does not support image inputs", INVALID),
    (500, "KeyError: 'choices'", RESET),
    (500, "EngineCore encountered an issue", RESET),
    (500, "unexpected EOF", RESET),
    (500, "dial tcp 10.0.0.1: connect: connection refused", RESET),
    (503, "no healthy upstream", AWAY),
    (503, "All workers are busy", BUSY),
    (503, "Server overloaded, please retry", BUSY),
    (503, "Too many requests in queue", BUSY),
    (None, "Server disconnected without sending a response", RESET),
    (None, "The server is overloaded", BUSY),
    (None, "Unauthorized: bad api key", AUTH),
    (None, "invalid x-api-key", AUTH),
    (None, "upstream timed out", AWAY),
    (None, "402 Payment Required", QUOTA),
    (None, "Error code: 401 - {'detail': 'x'}", AUTH),
    (None, "HTTP 503", AWAY),
    (None, "status code 422: bad body", INVALID),
    (403, "You have run out of free quota, please upgrade", QUOTA),
    (429, "Monthly usage limit reached", QUOTA),
    (429, "You've reached your weekly usage limit", QUOTA),
    (429, "free-models-per-day. Add 10 credits to unlock 1000 free requests", QUOTA),
    (429, "Your credit limit has been reached", QUOTA),
    (429, "project has exceeded its budget", QUOTA),
    (429, "Wallet balance too low", QUOTA),
    (403, "\u7528\u6237\u989d\u5ea6\u4e0d\u8db3", QUOTA),
    (None, "Open api daily request limit reached", QUOTA),
    (429, "Limit 200 requests per day, used 200. Please try again in 7m12s", BUSY),
    (400, "Content Exists Risk", FILTER),
    (400, "Prompt was blocked by Azure's jailbreak detection", FILTER),
    (400, "Prompt contains disallowed content", FILTER),
    (400, "Prompt rejected: PII detected", FILTER),
    (400, "NSFW content is not allowed", FILTER),
    (400, "API_KEY_INVALID", AUTH),
    (400, "Requested model x not in list of served models", MISSING),
]


@pytest.mark.parametrize(("status", "words", "code"), WORDS_ALONE)
def test_words_of_each_family(status: int | None, words: str, code: ErrorCode) -> None:
    """A message without any code: the words and the status decide."""
    error = {"error": {"message": words}}
    found = error_from_payload(error) if status is None else refused(status, error)
    assert found.code is code


def _google_quota(quota_id: str, *details: Any) -> Any:
    failure = {"@type": "type.googleapis.com/google.rpc.QuotaFailure",
               "violations": [{"quotaId": quota_id}]}  # fmt: skip
    return {"error": {"code": 429, "message": "You exceeded your current quota",
                      "status": "RESOURCE_EXHAUSTED", "details": [failure, *details]}}  # fmt: skip


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (_google_quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), QUOTA),
        (_google_quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier", RETRY_INFO), QUOTA),
        ([_google_quota("GenerateTokensPerDayPerProject", RETRY_INFO)], QUOTA),
        (_google_quota("GenerateRequestsPerMinutePerProjectPerModel", RETRY_INFO), BUSY),
        (_google_quota("GenerateContentInputTokensPerModelPerMinute"), BUSY),
    ],
)
def test_a_quota_per_day_is_exhausted_and_one_per_minute_is_not(
    error: Any, code: ErrorCode
) -> None:
    """Google calls both RESOURCE_EXHAUSTED; the delay beside a quota per day does not help."""
    assert refused(429, error).code is code


def test_a_delay_in_headers_that_a_body_repeats_counts() -> None:
    """OpenRouter puts the headers of the provider into the metadata."""
    metadata = {"headers": {"Retry-After": "3"}, "provider_name": "x"}
    error = refused(429, {"error": {"code": 429, "message": "x", "metadata": metadata}})
    assert (error.code, error.retry_after_ms) == (BUSY, 3000)


@pytest.mark.parametrize(
    "words",
    [
        "Your authentication token has expired",
        "The security token included in the request is expired",
        "Bearer token was revoked",
        "Session token has been disabled",
        "access_token is invalid",
    ],
)
def test_an_expired_token_is_about_credentials(words: str) -> None:
    """Also in an answer with status 200: the same request does not help."""
    assert code_for(None, ErrorBody(words)) is AUTH


FIREWALLS = [b"error code: 1010", b"<html><h1>403 Forbidden</h1></html>", b"Blocked by our WAF"]


@pytest.mark.parametrize("body", FIREWALLS)
def test_a_firewall_is_not_a_filter_of_content(body: bytes) -> None:
    """403 without more is UPSTREAM_AUTH: the server does not let us in."""
    assert error_from_response(403, {}, body).code is AUTH


@pytest.mark.parametrize(
    ("status", "retriable"),
    [(402, False), (424, True), (498, True), (499, True), (501, False), (505, False), (507, True),
     (520, True), (522, True), (526, True), (529, True), (530, True), (599, True), (410, False),
     (423, True), (451, False)],
)  # fmt: skip
def test_statuses_beyond_the_usual_ones(status: int, retriable: bool) -> None:
    """A missing feature is final; a temporary inability is not."""
    assert error_from_response(status, {}, b"").retriable is retriable


@given(st.text(max_size=300), st.sampled_from([None, 400, 401, 403, 404, 429, 500, 503]))
def test_any_words_have_a_meaning(words: str, status: int | None) -> None:
    """Never an exception, always one of the codes for what a server says."""
    assert code_for(status, ErrorBody(words)) in ErrorCode
