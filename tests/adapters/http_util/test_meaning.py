"""The meaning of errors of engines and gateways, by their structure and by their words.

The tables hold wordings as engines, gateways and clouds send them. Each family also has sentences
that look alike and mean something else.
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import ErrorCode, WorkerError
from adapters.http_util import error_from_payload, error_from_response
from adapters.http_util.error_body import ErrorBody
from adapters.http_util.meaning import code_for

OVERFLOW, QUOTA, FILTER, AUTH, MISSING, BUSY, AWAY, INVALID, RESET = (
    ErrorCode.CONTEXT_OVERFLOW,
    ErrorCode.QUOTA_EXHAUSTED,
    ErrorCode.CONTENT_FILTER,
    ErrorCode.UPSTREAM_AUTH,
    ErrorCode.UPSTREAM_NOT_FOUND,
    ErrorCode.ADMISSION_REJECT,
    ErrorCode.POOL_UNAVAILABLE,
    ErrorCode.INVALID_PARAMS,
    ErrorCode.WORKER_RESET,
)


def _refused(status: int, error: Any) -> WorkerError:
    return error_from_response(status, {}, json.dumps(error).encode())


TOO_LONG = [
    # Engines
    "Too many tokens in prompt",
    "The conversation is larger than what this deployment accepts",
    "This model's maximum context length is 4097 tokens. However, you requested 5000 tokens",
    "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
    "You passed 5000 input tokens and requested 20 output tokens. However, the model's context "
    "length is only 4096 tokens, resulting in a maximum input length of 4076 tokens.",
    "the request exceeds the available context size. try increasing the context size",
    "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
    "Requested tokens (600) exceed context window of 512",
    "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
    "Requested token count exceeds the model's maximum context length of 4096 tokens.",
    "Input length (5000 tokens) exceeds the maximum allowed length (4095 tokens). Use a shorter "
    "input or enable --allow-auto-truncate.",
    "The request's 9000 input tokens exceed the KV cache pool of 8192 tokens",
    "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded "
    "with context length of only 4096 tokens, which is not enough.",
    "The number of tokens to keep from the initial prompt is greater than the context length.",
    "Context size has been exceeded.",
    "Reached context length of 4096 tokens with this model, context overflow policy is stopAtLimit",
    "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 20 "
    "`max_new_tokens`",
    "Input validation error: `inputs` must have less than 4095 tokens. Given: 5000",
    "Job requires 300 pages (only 256 available) and cannot be enqueued. Total cache allocated is "
    "64 * 256 = 16384 tokens",
    "Prompt length 5000 is greater than max_seq_len 4096",
    "prompt too long; exceeded max context length by 500 tokens",
    "input length exceeds maximum context length",
    "Prompt length (5000) exceeds maximum input length (4096).",
    "The sum of prompt length (5000) and query length (0) should not exceed max_num_tokens (4096)",
    # Clouds
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    "prompt is too long: 213462 tokens > 199999 maximum",
    "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
    "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum "
    "context length",
    "Input is too long for requested model.",
    "Please reduce the length of the messages or completion.",
    "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000.",
    "The prompt is too long: 5000, model maximum context length: 4096",
    "Range of input length should be [1, 6000]",
    "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
    "prompt token count of 128003 exceeds the limit of 128000",
    "Invalid request: Your request exceeded model token limit: 8192",
    "invalid params, context window exceeds limit",
    "Prompt exceeds max length",
    "Your input exceeds the context window of this model. Please adjust your input and try again.",
    "Input tokens exceed the configured limit of 272000 tokens.",
    "Current length is 5000 while limit is 4096. Please reduce the length of the prompt.",
    # Gateways
    "This endpoint's maximum context length is 131072 tokens. However, you requested about 150000",
    "litellm.ContextWindowExceededError: litellm.BadRequestError: OpenAIException - too much",
    "the conversation does not fit into the context of any configured model",
]

# Written after the patterns, from other engines' sources and from imagination: nothing was tuned
# on them.
TOO_LONG_UNSEEN = [
    "Sequence length of 9000 exceeds max_position_embeddings of 8192",
    "Your prompt has 70000 tokens, which is more than the model's context window of 65536 tokens",
    "Total tokens (prompt + completion) 10000 exceed the context length 8192",
    "prompt (9000 tokens) does not fit into n_ctx (8192)",
    "ValueError: Prompt is too large for the context window",
    "The conversation is too long, please start a new one",
    "Number of input tokens 9000 is larger than the maximum 8192",
    "context length exceeded",
    "messages too long: context limit of 32k tokens exceeded",
    "The requested tokens exceed the model's context window",
]

# A second round: a third of these was missed at first.
TOO_LONG_LATER = [
    "Cannot truncate prompt with n_keep (5000) >= n_ctx (4096)",
    "Unable to submit request because the input token count is 32791 but the model only "
    "supports up to 32768.",
    "Input Tokens Exceeded: Number of input tokens exceeds maximum length. Please update the "
    "input to try again.",
    "Too many input tokens. Max input tokens: 8192, request input token count: 9000",
    "The estimated number of input and maximum output tokens (9000) exceeded this model "
    "context window limit (8192).",
    "Input is too long: 5000 tokens",
    "Input tokens: 9000 exceeds the max 8192",
    "This request would exceed the model's context window",
    "Token indices sequence length is longer than the specified maximum sequence length for "
    "this model (9000 > 8192)",
    "the number of input tokens 9000 cannot exceed the total tokens limit 8192 for this model",
    "the input length exceeds the context length",
    "Prompt tokens 9000 exceed max_context 8192",
    "Prompt sequence length is greater than 8192",
    "No deployments available with a context window large enough for 9000 tokens",
    "inputs tokens + max_new_tokens must be <= 8192",
    "your prompt is 9000 tokens long, but this model can only handle 8192",
    "The prompt size exceeds the context window size and cannot be processed",
    "The maximum sequence length is 8192 but the request has 9000 tokens",
    "Maximum tokens exceeded: the request needs 9000, the model has 8192",
    "KV cache is too small for this request: 9000 tokens needed, 8192 available",
    "Request requires 9000 tokens of KV cache but only 8192 are available",
    "input too large for the context: 9000 > 8192",
    "Please shorten your prompt. The model's limit is 8192 tokens",
    "Message is too long for this model's context",
    "prompt has 9000 tokens; limit is 8192",
    "Requested tokens 9000 > context size 8192",
    "ContextLengthError: 9000 > 8192",
    "Context overflow",
    "The context is full",
    "The conversation history is too long",
]

# A third round: most of these were missed at first.
TOO_LONG_LAST = [
    "Trying to submit 130000 tokens, model max length 128000",
    "input is too large to process. increase the physical batch size",
    "messages_length_exceed: messages too long",
    "\u8f93\u5165\u957f\u5ea6\u8d85\u8fc7\u6a21\u578b\u6700\u5927\u957f\u5ea6\u9650\u5236",
    "Token \u6570\u91cf\u8d85\u8fc7\u4e0a\u4e0b\u6587\u957f\u5ea6",
    "\u63d0\u793a\u8bcd\u8fc7\u957f",
    "input_tokens + max_new_tokens exceeds max_total_tokens",
    "Context window full: 33000/32768",
    "Your request has 9000 tokens but the model only supports 8192",
    "tokens (9000) over model limit 8192",
    "maximum allowed input length is 8192, got 9000",
]

NOT_TOO_LONG = [
    "max_tokens must be at least 1",
    "max_tokens (9000) exceeds the limit of 4096 output tokens",
    "max_completion_tokens is too large: this model supports at most 4096 completion tokens",
    "The requested number of logprobs exceeds the maximum of 20",
    "n must be less than 8",
    "tool call arguments exceed 4096 characters",
    "Message content part 3 is not supported",
    "messages must not be empty",
    "model is required",
    "The request body exceeds 4 MB",
    "File is larger than 25 MB",
    "Invalid token in JSON at position 5: more than one value",
    "prompt must be a string or a list of strings",
    "you requested more than 1 choice",
    "connection limit reached for model x",
    "Only one of prompt and messages is allowed",
    "Input should be a valid string",
    "messages: at least one message is required",
    "seed must be greater than -1",
    "number of images (9) exceeds the limit of 5",
    "Concurrent request limit exceeded",
    "context canceled",
    "best_of must be greater than n",
    "the answer is longer than usual",
    "context: exceedingly odd",
    "context deadline exceeded",
    'Post "http://x": context deadline exceeded (Client.Timeout exceeded while awaiting headers)',
    "max_tokens is too large: 5000. This model supports at most 4096 completion tokens",
    "Input should be greater than or equal to 0",
    "Input should be less than or equal to 2",
    "String should have at most 64 characters",
    "temperature must be less than 2",
    "Invalid 'stop': array too long. Expected an array with maximum length 4",
    "Invalid 'tools': too many tools, the limit is 128",
    "image is too large: 20 MB exceeds the maximum size of 5 MB",
    "top_logprobs must be at most 20",
    "the uploaded file exceeds 10 MB",
    "Audio input too long: 30 s maximum",
    "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens",
    "tool description too long",
    "image exceeds 5 MB maximum: 6000000 bytes > 5242880 bytes",
]


@pytest.mark.parametrize("words", TOO_LONG + TOO_LONG_UNSEEN + TOO_LONG_LATER + TOO_LONG_LAST)
def test_a_prompt_that_does_not_fit_is_recognized_by_the_words(words: str) -> None:
    """CONTEXT_OVERFLOW with any status for the client's fault, in a stream, and with 500."""
    for status in (400, 413, 422, 500):
        assert _refused(status, {"error": {"message": words}}).code is OVERFLOW
    assert error_from_payload({"error": words}).code is OVERFLOW


@pytest.mark.parametrize("words", NOT_TOO_LONG)
def test_words_about_other_limits_are_not_about_the_context(words: str) -> None:
    """A limit on something else, or a timeout with the word context in it."""
    assert _refused(400, {"error": {"message": words}}).code is INVALID


@pytest.mark.parametrize(
    "words",
    [
        "Rate limit reached for gpt-4 on tokens per min (TPM): Limit 10000, Used 9000, Requested "
        "5000. Please try again in 24s.",
        "Number of request tokens has exceeded your per-minute rate limit",
        "Too many tokens, please wait before trying again.",
    ],
)
def test_tokens_per_minute_are_a_rate_not_a_length(words: str) -> None:
    """A retry helps, a shorter prompt does not."""
    assert _refused(429, {"error": {"message": words}}).code is BUSY


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
    error = error_from_payload(payload) if status is None else _refused(status, payload)
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
    found = error_from_payload(error) if status is None else _refused(status, error)
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
    assert _refused(429, error).code is code


def test_a_delay_in_headers_that_a_body_repeats_counts() -> None:
    """OpenRouter puts the headers of the provider into the metadata."""
    metadata = {"headers": {"Retry-After": "3"}, "provider_name": "x"}
    error = _refused(429, {"error": {"code": 429, "message": "x", "metadata": metadata}})
    assert (error.code, error.retry_after_ms) == (BUSY, 3000)


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
