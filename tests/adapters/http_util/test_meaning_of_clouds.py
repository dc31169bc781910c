"""The meaning of errors as clouds and gateways word them: accounts, rates, keys, models, lengths.

Each row is one wording of a kind. The rows at the end look alike and mean something else.
"""

from typing import Any

import pytest

from adapter_api import ErrorCode
from adapters.http_util import error_from_payload
from adapters.http_util.wordings import (
    AUTH,
    AWAY,
    BUSY,
    FILTER,
    INVALID,
    MISSING,
    OVERFLOW,
    QUOTA,
    RESET,
)
from tests.adapters.http_util.refused import refused

CASES: list[tuple[int | None, Any, ErrorCode]] = [
    # Lengths
    (400, "Malformed input request: expected maxLength: 50000, actual: 60000", OVERFLOW),
    (400, {"code": "1261", "message": "Prompt \u8d85\u957f"}, OVERFLOW),
    (None, {"error_code": 336007, "error_msg": "the max length of current question is 20000"},
     OVERFLOW),
    (413, {"code": "tokens_limit_reached", "message": "Request body too large for gpt-4o model."},
     OVERFLOW),
    (413, "Request body too large for gpt-4o model. Max size: 8000 tokens.", OVERFLOW),
    (400, {"detail": "prompt_too_long"}, OVERFLOW),
    (400, "tokens in prompt exceed limit", OVERFLOW),
    (413, "prompt is too large: 200001 tokens", OVERFLOW),
    (400, "The request has 9000 tokens, but the slot only has 4096", OVERFLOW),
    (400, "Prompt length 9000 tokens; maximum 8192", OVERFLOW),
    (400, "prompt (9000) + completion (100) > 8192", OVERFLOW),
    # Rates rather than lengths
    (429, {"type": "too_many_tokens_error", "message": "Tokens per minute limit exceeded - too many"
           " tokens processed.", "code": "token_quota_exceeded"}, BUSY),
    (429, "ResourceExhausted: Worker local total request limit reached (33/32)", BUSY),
    (429, "Quota exceeded: 60 requests per minute", BUSY),
    (429, "Increase it by adding a payment method at https://example.com/account/billing", BUSY),
    (None, {"error_code": 18, "error_msg": "Open api qps request limit reached"}, BUSY),
    (None, {"base_resp": {"status_code": 1041, "status_msg": "conn limit"}}, BUSY),
    (None, {"code": 11202, "message": "AppIdQpsOverFlowError: licc limit"}, BUSY),
    # Accounts
    (402, "Prompt tokens limit exceeded: 30000 > 12000. To increase, add credits", QUOTA),
    (403, "Key limit exceeded (total limit). Manage it in the settings", QUOTA),
    (412, "Account x is suspended, possibly due to failure to pay past invoices.", QUOTA),
    (412, "Usage Limits Exhausted for AI Service x (API Key budget)", QUOTA),
    (429, "Too many tokens per day, please wait before trying again.", QUOTA),
    (429, "You are using a Trial key, which is limited to 1000 API calls / month.", QUOTA),
    (429, "Usage limit reached for 5 hour. Your limit will reset at 2026-01-01 12:00:00", QUOTA),
    (429, {"code": "QuotaExceeded", "message": "Your account 1 have exhausted its free trial quota"
           " for the model."}, QUOTA),
    (400, "You have reached your specified API usage limits. You will regain access on Monday.",
     QUOTA),
    (403, {"code": "AllocationQuota.FreeTierOnly", "message": "The free tier has been exhausted."},
     QUOTA),
    (403, {"code": "token_quota_reached", "message": "cannot be executed"}, QUOTA),
    (403, "\u9884\u6263\u8d39\u989d\u5ea6\u5931\u8d25", QUOTA),
    (403, "Your subscription has expired", QUOTA),
    (429, "You've hit your limit", QUOTA),
    (429, "You've hit your rate limit", BUSY),
    (429, "\u914d\u989d\u5df2\u7528\u5b8c", QUOTA),
    (429, "\u5f53\u65e5\u8c03\u7528\u6b21\u6570\u5df2\u8fbe\u4e0a\u9650", QUOTA),
    (503, "\u670d\u52a1\u7e41\u5fd9", BUSY),
    # Filters
    (400, {"message": "x", "details": [{"reason": "PUBLIC_ERROR_UNSAFE_GENERATION"}]}, FILTER),
    (400, "Refusal (cyber): the model declined", FILTER),
    (None, "blocked under the Usage Policy", FILTER),
    (500, "The response was blocked by Model Armor", FILTER),
    (400, "The prompt contains restricted words", FILTER),
    (400, "prompt injection detected", FILTER),
    (400, "\u5185\u5bb9\u5ba1\u6838\u4e0d\u901a\u8fc7", FILTER),
    (446, {"message": "The guardrail checks defined in the config failed.", "type": "hooks_failed"},
     FILTER),
    (400, "invalid request: blocked input: prompt is inappropriate", FILTER),
    (451, "content blocked", FILTER),
    (None, {"base_resp": {"status_code": 1027, "status_msg": "output new_sensitive"}}, FILTER),
    # Keys
    (None, {"base_resp": {"status_code": 1004, "status_msg": "login fail: carry the secret"}},
     AUTH),
    (None, {"error": {"code": "1002", "message": "Token\u975e\u6cd5"}}, AUTH),
    (None, {"error": {"message": "AppIdNoAuthError: licc limit"}}, AUTH),
    # Models
    (400, "The provided model identifier is invalid.", MISSING),
    (400, {"message": "Invalid model: x", "type": "invalid_model"}, MISSING),
    (400, "Invalid model 'x'. Permitted models can be found in the documentation", MISSING),
    (400, {"code": "unavailable_model", "message": "Unavailable model: x"}, MISSING),
    (400, "No models are currently loaded.", MISSING),
    (400, "\u6a21\u578b\u4e0d\u5b58\u5728,\u8bf7\u68c0\u67e5\u6a21\u578b", MISSING),
    # Others
    (None, "context deadline exceeded", AWAY),
    (None, {"base_resp": {"status_code": 2013, "status_msg": "invalid params, no messages"}},
     INVALID),
    # Alike
    (400, "Invalid model input: prompt must be a string", INVALID),
    (400, "`max_completion_tokens` must be less than or equal to `8192`, the maximum value is less"
     " than the `context_window` for this model", INVALID),
    (400, "logit_bias: token id out of range, exceeds model vocab size", INVALID),
    (400, "Grammar is too large: number of tokens in rules", INVALID),
    (400, "metadata key limit exceeded: at most 16 keys", INVALID),
    (400, "input is case-sensitive", INVALID),
    (403, "Your request was blocked.", AUTH),
    (429, {"code": "rate_limit_exceeded", "message": "Tokens per day (TPD): Try again in 14m24s."},
     BUSY),
    # Wordings of the second probe
    (503, "queue size exceeded", BUSY),
    (400, "Rate limit exceeded", BUSY),
    (403, "API rate limit exceeded for user ID 1", BUSY),
    (403, "You are being rate limited", BUSY),
    (500, "rate limited", BUSY),
    (None, "no workers available", AWAY),
    (400, "ExceededBudget", QUOTA),
    (429, "Budget has been exceeded! Current cost: 10, Max budget: 5", QUOTA),
    (429, "token allocation for the day used up", QUOTA),
    (400, "num_ctx exceeded", OVERFLOW),
    (400, "tokens in request more than max tokens allowed", OVERFLOW),
    (400, "The response was filtered", FILTER),
    (400, "prompt was rejected by safety classifier", FILTER),
    (400, "image blocked: nudity detected", FILTER),
    (500, "json: cannot unmarshal string into Go value", INVALID),
    (500, "Conversation roles must alternate user/assistant", INVALID),
    (500, "jinja2.exceptions.TemplateError: Conversation roles must alternate", INVALID),
    (500, "Value error, temperature must be non-negative", INVALID),
    # These look alike
    (500, "TypeError: unsupported operand type(s)", RESET),
    (500, "KV cache exhausted: allocation failed", RESET),
    (500, "memory budget exceeded", RESET),
    (400, "thinking budget exceeded", INVALID),
    (400, "rate_limit must be a number", INVALID),
]  # fmt: skip


@pytest.mark.parametrize(("status", "said", "code"), CASES, ids=[str(case)[:60] for case in CASES])
def test_what_clouds_say(status: int | None, said: Any, code: ErrorCode) -> None:
    error = error_from_payload(said) if status is None else refused(status, {"error": said})
    assert error.code is code
