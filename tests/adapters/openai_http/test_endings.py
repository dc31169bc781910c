"""Finish reasons: success is listed, failures are recognized, the rest proves nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.openai_http.endings import MAX_REASON_CHARS, Ending, Finish, classify

WHOLE = ["stop", "STOP", "eos", "eos_token", "end_turn", "endTurn", "tool_calls", "tool-calls",
         "function_call", "COMPLETE", "stop_sequence", "FINISH_REASON_STOP", "FinishReason.STOP",
         "stop: ###", "stopReason.end_turn", "ReasonStop", "eot_id", "<|im_end|>",
         "message_stop"]  # fmt: skip
LENGTH = ["length", "max_tokens", "MAX_TOKENS", "maxTokens", "max tokens", "model_length",
          "FINISH_REASON_MAX_TOKENS", "length: 256", "token_limit_reached"]  # fmt: skip
FAILED = ["stalled", "bad_gateway", "budget_exceeded", "draining", "model_unloaded", "panic: x",
          "fatal", "broken_pipe", "SIGTERM", "ratelimit", "premature_end",
          "abort", "error", "ERROR", "cancelled", "USER_CANCEL", "insufficient_system_resource",
          "network_error", "timeout", "time_limit", "timed out", "engine_crashed", "overloaded",
          "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "stop: connection lost",
          "preempted", "rate_limit", "error: stop", "incomplete", "preemption", "interruption",
          "networkError", "networkerror", "shutting_down", "worker_died", "terminating",
          "throttled", "done: partial", "RESOURCE_EXHAUSTED", "truncated",
          "unfinished"]  # fmt: skip
FILTERED = ["content_filter", "contentFiltered", "content-filter", "SAFETY", "IMAGE_SAFETY",
            "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "content_filter: hate",
            "ERROR_TOXIC", "sensitive", "guardrail_intervened", "refusal",
            "policy_violation", "unsafe", "self_harm", "hate_speech", "NSFW",
            "jailbreak_detected", "risk_control", "BLOCK", "contentfilter", "censor",
            "policiesViolated", "refused", "copyright", "DANGEROUS_CONTENT", "pii",
            "prompt_injection", "responsible_ai", "withheld", "redacted", "restricted",
            "abusive"]  # fmt: skip
UNKNOWN = ["other", "LANGUAGE", "unknown", "x", "stopx", "limit", "pause_turn", "s t o p",
           "nonstop"]  # fmt: skip
NOTHING = ["", "null", "None", "FINISH_REASON_UNSPECIFIED", "  "]


@pytest.mark.parametrize(
    ("reason", "ending"),
    [
        *((reason, Ending.WHOLE) for reason in WHOLE),
        *((reason, Ending.LENGTH) for reason in LENGTH),
        *((reason, Ending.FAILED) for reason in FAILED),
        *((reason, Ending.FILTERED) for reason in FILTERED),
        *((reason, Ending.UNKNOWN) for reason in UNKNOWN),
        *((reason, Ending.NONE) for reason in NOTHING),
    ],
)
def test_each_word_has_one_meaning(reason: str, ending: Ending) -> None:
    """Case, separators, prefixes and details make no difference."""
    assert classify(reason) is ending


@given(st.text(max_size=30))
def test_an_unknown_word_never_means_success(reason: str) -> None:
    """Only a listed word does, alone or before a colon."""
    if classify(reason) in (Ending.WHOLE, Ending.LENGTH):
        known = {word.lower() for word in (*WHOLE, *LENGTH)}
        words = reason.partition(":")[0].strip(" ._-\n\t\r\x0b\x0c").lower()
        assert words in known or classify(words) in (Ending.WHOLE, Ending.LENGTH)


def test_an_endless_reason_is_read_to_a_bound() -> None:
    """Characters beyond the bound are ignored."""
    assert classify("stop:" + " " * MAX_REASON_CHARS + "error") is Ending.WHOLE


def test_the_length_stays_whatever_a_gateway_adds() -> None:
    """An answer cut by its length is not told as one that ended by itself."""
    finish = Finish()
    for reason in ("length", "stop"):
        finish.read({"finish_reason": reason})
        finish.end_event(3, answered=True)
    assert (finish.ending, finish.reason) == (Ending.LENGTH, "length")
    finish.read({"finish_reason": "stop"})
    finish.end_event(4, answered=True)
    assert finish.reason == "stop"
