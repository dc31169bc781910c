"""Refusals and errors as users of clients, engines and gateways reported them.

Each is one example of a kind, with its source in the summary; the wordings that only differ are in
tests/adapters/http_util/test_meaning.py.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

from adapter_api.faults.scenario import Scenario, collect, fails, scenario, whole
from adapter_api.faults.scenarios.refusals import ATTEMPTS
from adapter_api.faults.wire import PIECES, Wire, to_json

# Refusals: name, source, status, body, code

_GOOGLE_KEY = [
    {
        "error": {
            "code": 400,
            "message": "API key not valid. Please pass a valid API key.",
            "status": "INVALID_ARGUMENT",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "API_KEY_INVALID",
                }
            ],
        }
    }
]
_MOONSHOT = {
    "error": {
        "message": "You exceeded your current token quota, please check your account balance",
        "type": "exceeded_current_quota_error",
    }
}
_FLAGGED = {
    "error": {
        "code": 403,
        "message": "openai/x requires moderation and your input was flagged for violence",
        "metadata": {"reasons": ["violence"], "flagged_input": "x"},
    }
}
_OPENROUTER = {
    "error": {
        "message": "Provider returned error",
        "code": 400,
        "metadata": {
            "raw": '{"error": {"message": "prompt is too long: 9 tokens > 8 maximum"}}',
            "provider_name": "x",
        },
    }
}
_REFUSALS: tuple[tuple[str, str, int, Any, str], ...] = (
    ("google-key", "an array about the key (continue#9251)", 400, _GOOGLE_KEY, "UPSTREAM_AUTH"),
    ("moonshot-quota", "`exceeded_current_quota_error` (kimi-code#1857)", 429, _MOONSHOT,
     "QUOTA_EXHAUSTED"),
    ("no-balance", "402 (continue#9853)", 402, {"error": {"message": "Insufficient Balance"}},
     "QUOTA_EXHAUSTED"),
    ("daily-limit", "a rate limit of a day, without a delay", 429,
     {"error": {"message": "Rate limit reached: 200 requests per day",
                "code": "rate_limit_exceeded"}}, "QUOTA_EXHAUSTED"),
    ("monthly-limit", "a rate limit of a month, named by its code only", 429,
     {"error": {"message": "Slow down", "type": "rate_limit_error", "code": "monthly_limit"}},
     "QUOTA_EXHAUSTED"),
    ("anthropic-credit", "400 for an account without credit", 400,
     {"type": "error", "error": {"type": "invalid_request_error",
                                 "message": "Your credit balance is too low"}}, "QUOTA_EXHAUSTED"),
    ("firewall", "403 and `error code: 1010` (opencode#41320)", 403, b"error code: 1010",
     "UPSTREAM_AUTH"),
    ("moderation", "403 for a flagged input (OpenRouter)", 403, _FLAGGED, "CONTENT_FILTER"),
    ("not-implemented", "501 (Xinference)", 501, {"detail": "not implemented"}, "INVALID_PARAMS"),
    ("gateway-overflow", "an overflow inside of `metadata.raw` (OpenRouter)", 400, _OPENROUTER,
     "CONTEXT_OVERFLOW"),
    ("lm-studio-overflow", "an overflow in words", 400,
     {"error": "Trying to keep the first 9 tokens when context the overflows. However, the model "
               "is loaded with context length of only 8 tokens, which is not enough"},
     "CONTEXT_OVERFLOW"),
    ("kv-overflow", "an overflow of the KV cache in words", 500,
     {"error": {"message": "The request's 9000 input tokens exceed the KV cache pool of 8192"}},
     "CONTEXT_OVERFLOW"),
    ("image-500", "500 for an image that the model cannot read (llama.cpp)", 500,
     {"error": {"message": "image input is not supported"}}, "INVALID_PARAMS"),
    ("parse-500", "500 for an input that it cannot parse (llama.cpp)", 500,
     {"error": {"message": "Failed to parse input at pos 7", "type": "server_error"}},
     "INVALID_PARAMS"),
    ("wrapped-400", "500 around the 400 of another server", 500,
     {"error": {"message": "Error code: 400 - {'error': {'message': 'no'}}"}}, "INVALID_PARAMS"),
    ("no-model-400", "400 for a model that it does not know (LiteLLM)", 400,
     {"error": {"message": "/chat/completions: Invalid model name passed in model=m"}},
     "UPSTREAM_NOT_FOUND"),
    ("url-in-500", "500 with the request's URL in its text (routers)", 500,
     {"error": {"message": "POST http://w/v1/chat/completions failed"}}, "WORKER_RESET"),
)  # fmt: skip


async def _refuses(status: int, body: Any, wire: Wire) -> None:
    await wire.answer(status, body if isinstance(body, bytes) else to_json(body))


def _refusals() -> Iterable[Scenario]:
    for name, what, status, body, code in _REFUSALS:
        yield Scenario(
            f"field-{name}", f"refuses: {what}", partial(_refuses, status, body), fails(code)
        )


# Temporary refusals

_FLEX = {"error": {"message": "Flex tier capacity exceeded", "type": "capacity_exceeded"}}
_RETRY_INFO = [
    {
        "error": {
            "code": 429,
            "status": "RESOURCE_EXHAUSTED",
            "message": "You exceeded your current quota, please check your plan.",
            "details": [
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.3s"}
            ],
        }
    }
]
_WORDS = {"error": {"message": "Rate limit reached. Please try again in 300ms."}}
_DELAYS: tuple[tuple[str, str, int, Any, tuple[str, ...]], ...] = (
    ("retry-info", "`RetryInfo` in the body (atomic-agent#106)", 429, _RETRY_INFO, ()),
    ("in-words", "`try again in 300ms` in its words", 429, _WORDS, ()),
    ("daily", "in a header, with a limit of a day", 429,
     {"error": {"message": "Rate limit reached: 200 requests per day"}}, ("retry-after-ms: 300",)),
    ("x-ms", "`x-ms-retry-after-ms: 300`", 503, {}, ("x-ms-retry-after-ms: 300",)),
    ("reset", "the reset of a limit that is used up", 429, {},
     ("x-ratelimit-remaining-requests: 0", "x-ratelimit-reset-requests: 300ms")),
)  # fmt: skip


async def _first_refuses(status: int, body: Any, headers: tuple[str, ...], wire: Wire) -> None:
    if wire.request.number == 1:
        await wire.answer(status, to_json(body), *headers)
    else:
        await wire.answer(200, wire.stream())


def _delays() -> Iterable[Scenario]:
    for name, what, status, body, headers in _DELAYS:
        yield Scenario(
            f"field-wait-{name}",
            f"answers {status} to the first request and requests a delay of 300 ms: {what}",
            partial(_first_refuses, status, body, headers),
            whole(requests=2, after_s=0.3, within_s=0.6),
            task={"deadline_s": 5},
        )


@scenario(
    "answers 498: no flex capacity (laravel/ai#925)",
    fails("ADMISSION_REJECT", requests=ATTEMPTS, within_s=0.3),
)
async def field_flex_capacity(wire: Wire) -> None:
    await wire.answer(498, to_json(_FLEX))


@scenario("answers 406 unless the client accepts JSON, too (orchard#257)", whole())
async def field_accept(wire: Wire) -> None:
    accepted = wire.request.headers.get("accept", "")
    if "text/event-stream" in accepted and "application/json" in accepted:
        await wire.answer(200, wire.stream())
    else:
        await wire.answer(406, b"")


# Errors inside a 200: name, source, event, code

_ERRORS: tuple[tuple[str, str, Any, str], ...] = (
    ("tgi-validation", "`error_type: validation` (huggingface_hub#2514)",
     {"error": "Input validation error", "error_type": "validation"}, "INVALID_PARAMS"),
    ("tgi-overloaded", "`error_type: overloaded`",
     {"error": "Model is overloaded", "error_type": "overloaded"}, "ADMISSION_REJECT"),
    ("status-in-text", "a status inside its text (llama-stack)",
     {"error": {"message": "400: Bad request: Model 'x' not found"}}, "UPSTREAM_NOT_FOUND"),
    ("anthropic-key", "Anthropic's `authentication_error`",
     {"type": "error", "error": {"type": "authentication_error", "message": "no"}},
     "UPSTREAM_AUTH"),
    ("anthropic-model", "Anthropic's `not_found_error`",
     {"type": "error", "error": {"type": "not_found_error", "message": "model: x"}},
     "UPSTREAM_NOT_FOUND"),
    ("anthropic-billing", "Anthropic's `billing_error`",
     {"type": "error", "error": {"type": "billing_error", "message": "no"}}, "QUOTA_EXHAUSTED"),
    ("anthropic-overloaded", "Anthropic's `overloaded_error`",
     {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
     "ADMISSION_REJECT"),
    ("unknown", "an error in unknown words",
     {"error": {"message": "flux compensator"}}, "WORKER_RESET"),
)  # fmt: skip


async def _sends(event: Any, pieces: int, wire: Wire) -> None:
    await wire.begin(*PIECES[:pieces])
    await wire.event(event)
    await wire.done()


def _errors() -> Iterable[Scenario]:
    for name, what, event, code in _ERRORS:
        for pieces, when in ((0, "first"), (2, "after some tokens")):
            yield Scenario(
                f"field-error-{name}-{'after-text' if pieces else 'first'}",
                f"sends {what} {when}, then `[DONE]`",
                partial(_sends, event, pieces),
                fails(code, text="".join(PIECES[:pieces])),
            )


SCENARIOS = [*_refusals(), *_delays(), *_errors(), *collect(vars())]
