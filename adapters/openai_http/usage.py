"""Token counts and log-probabilities, under all the names that servers have for them."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from adapter_api import TokenLogprob
from adapters.http_util import safe_text
from adapters.openai_http.names import plain

MAX_LOGPROB = 1e300
"""JSON has integers that no float holds."""

MAX_ALTERNATIVES = 128
"""Alternatives kept for one token: OpenAI allows 20, llama.cpp any number."""

OWN_NUMBERS = ("service_tier", "timings", "cost")
"""What servers send beside `usage`: OpenAI's tier, llama.cpp's timings, the costs of gateways."""

_IN_METRICS = frozenset({"prompt_tokens", "completion_tokens", "total_tokens", "counted"})

MAX_NUMBERS = 256
"""Values of the engine's own numbers that are passed on: a usual answer has fewer than 40."""

MAX_NUMBERS_DEPTH = 6
"""Levels of nesting of these numbers; details of details have three."""

MAX_NAME_CHARS = 128
"""A name or a word among these numbers."""


class Usage(NamedTuple):
    """The engine's own counts; None where it does not give one."""

    prompt_tokens: int | None
    completion_tokens: int
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


def read_usage(usage: Any) -> Usage | None:
    """Return the counts of a `usage` object; None if it is empty (all zero, null, absent).

    Source: OpenAI's `prompt_tokens_details`, SGLang's `reasoning_tokens`, DeepSeek's
    `prompt_cache_hit_tokens`, Moonshot's `cached_tokens`; gateways also use the names of
    Anthropic and of OpenAI's Responses, `input_tokens` and `output_tokens`.
    """
    if not isinstance(usage, dict):
        return None
    usage = plain(usage)
    if usage.get("counted") is True:  # our gateway's mark: no engine counted these
        return None
    prompt = _first(usage.get("prompt_tokens"), usage.get("input_tokens"))
    completion = _first(usage.get("completion_tokens"), usage.get("output_tokens"))
    if completion is None or not (completion or prompt):
        return None
    return Usage(
        prompt,
        completion,
        _first(
            _detail(usage, "prompt_tokens_details", "cached_tokens"),
            usage.get("cached_tokens"),
            usage.get("prompt_cache_hit_tokens"),
        ),
        _first(
            _detail(usage, "completion_tokens_details", "reasoning_tokens"),
            usage.get("reasoning_tokens"),
        ),
    )


def _first(*values: Any) -> int | None:
    counts = [count for count in map(_count, values) if count is not None]
    return counts[0] if counts else None


def _detail(usage: Mapping[str, Any], group: str, name: str) -> Any:
    details = usage.get(group)
    return details.get(name) if isinstance(details, Mapping) else None


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():  # of servers whose numbers are all floats
        value = int(value)
    return value if type(value) is int and 0 <= value < 2**63 else None


def own_numbers(
    usage: Any, beside: Mapping[str, Any], secrets: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the engine's own numbers as it sent them; empty if Metrics holds all of them.

    Args:
        usage: The usage on the wire.
        beside: The fields of OWN_NUMBERS that came.
        secrets: Credentials to keep out of names and words.
    """
    if not (usage or beside):
        return {}
    usage = usage if isinstance(usage, Mapping) else {}
    further = {key: value for key, value in usage.items() if key not in _IN_METRICS}
    if not (_says_something(further) or _says_something(beside)):
        return {}
    tidy = _Tidy(tuple(secrets))
    numbers = {"usage": tidy(usage), **{key: tidy(value) for key, value in beside.items()}}
    return {key: value for key, value in numbers.items() if value not in (None, {}, [])}


def _says_something(value: Any, depth: int = 0) -> bool:
    """Return whether any number or word in `value` is neither zero nor empty."""
    if depth > MAX_NUMBERS_DEPTH:
        return False
    inner = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, Mapping | list):
        return any(_says_something(one, depth + 1) for one in inner)
    return bool(value)


class _Tidy:
    """Copies what a server sent, bounded in size and depth, without credentials."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._secrets = secrets
        self._left = MAX_NUMBERS

    def __call__(self, value: Any, depth: int = 0) -> Any:
        self._left -= 1
        if self._left < 0 or depth > MAX_NUMBERS_DEPTH:
            return None
        if isinstance(value, Mapping):
            items = [*value.items()][: self._left]
            return {self._text(key): self(one, depth + 1) for key, one in items}
        if isinstance(value, list):
            return [self(one, depth + 1) for one in value[: self._left]]
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value if value is None or isinstance(value, int | float) else None

    def _text(self, text: str) -> str:
        return safe_text(text, self._secrets, MAX_NAME_CHARS)


# Log-probabilities


def single_logprob(logprobs: Any) -> float | None:
    """Return the log-probability of a piece that is one token; None for several, or nonsense."""
    if not isinstance(logprobs, dict):
        return None
    values = logprobs.get("token_logprobs")
    if values is None and isinstance(logprobs.get("content"), list):
        values = [item.get("logprob") for item in logprobs["content"] if isinstance(item, dict)]
    return _number(values[0]) if isinstance(values, list) and len(values) == 1 else None


def token_logprobs(logprobs: Any) -> Iterator[TokenLogprob]:
    """Yield the log-probabilities of a choice, in the form of either endpoint. Nonsense is skipped.

    Source: OpenAI API reference; llama.cpp sends the chat form from both endpoints.
    """
    if not isinstance(logprobs, dict):
        return
    if isinstance(logprobs.get("content"), list):
        for item in logprobs["content"]:
            scored = _scored(item)
            if scored is not None:
                yield TokenLogprob(*scored, _alternatives(item.get("top_logprobs")))
        return
    columns = [logprobs.get(name) for name in ("tokens", "token_logprobs")]
    tokens, values = (column if isinstance(column, list) else [] for column in columns)
    tops = logprobs.get("top_logprobs")
    for at, (token, value) in enumerate(zip(tokens, values, strict=False)):
        scored = _scored({"token": token, "logprob": value})
        if scored is not None:
            top = tops[at] if isinstance(tops, list) and at < len(tops) else None
            yield TokenLogprob(*scored, _alternatives(top))


def _alternatives(top: Any) -> dict[str, float]:
    if isinstance(top, dict):
        top = [{"token": token, "logprob": value} for token, value in top.items()]
    items = top[:MAX_ALTERNATIVES] if isinstance(top, list) else []
    return dict(scored for scored in map(_scored, items) if scored is not None)


def _scored(item: Any) -> tuple[str, float] | None:
    if not isinstance(item, dict) or not isinstance(item.get("token"), str):
        return None
    value = _number(item.get("logprob"))
    return None if value is None else (item["token"].encode("utf-8", "replace").decode(), value)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -MAX_LOGPROB <= value <= 0 else None
