"""Recognizing limits on the length of the prompt by their words.

The tables hold wordings as engines, gateways and clouds send them, and others that look alike.
"""

import pytest

from adapters.http_util import error_from_payload
from adapters.http_util.wordings import BUSY, INVALID, OVERFLOW
from tests.adapters.http_util.refused import refused

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
        assert refused(status, {"error": {"message": words}}).code is OVERFLOW
    assert error_from_payload({"error": words}).code is OVERFLOW


@pytest.mark.parametrize("words", NOT_TOO_LONG)
def test_words_about_other_limits_are_not_about_the_context(words: str) -> None:
    """A limit on something else, or a timeout with the word context in it."""
    assert refused(400, {"error": {"message": words}}).code is INVALID


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
    assert refused(429, {"error": {"message": words}}).code is BUSY
