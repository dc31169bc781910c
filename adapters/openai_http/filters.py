"""Signs beside an answer that a content filter withheld a part of it. No I/O.

Azure annotates each piece: `content_filter_results: {"hate": {"filtered": true}}` means that text
is missing, whatever the finish_reason. Google's ratings have `blocked`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

_RESULTS = (
    *("content_filter_results", "content_filter_result", "prompt_filter_results"),
    "safety_ratings",
)
_SIGNS = ("filtered", "blocked")
_OWN_SIGNS = ("content_filtered", *_SIGNS)
"""The same beside the text itself."""
_WITHIN = "provider_specific_fields"
"""The key under which LiteLLM puts unknown fields."""

MAX_DEPTH = 4
"""Levels of nesting that are read: a list of prompts, their results, a category, its details."""


def withheld(source: Mapping[str, Any]) -> str | None:
    """Return why a filter withheld something, such as "hate"; None if no filter did."""
    inner = source.get(_WITHIN)
    if isinstance(inner, dict) and _WITHIN not in inner and (category := withheld(inner)):
        return category
    for name in _OWN_SIGNS:
        if source.get(name) is True:
            return name
    for name in _RESULTS:
        if source.get(name) and (category := _category(name, source[name], MAX_DEPTH)):
            return category
    return None


def _category(name: str, results: Any, depth: int) -> str | None:
    inner: Iterable[tuple[str, Any]] = ()
    if isinstance(results, dict):
        if any(results.get(sign) is True for sign in _SIGNS):
            named = results.get("category")
            return named if isinstance(named, str) else name
        inner = results.items()
    elif isinstance(results, list):
        inner = ((name, item) for item in results)
    if not depth:
        return None
    return next(filter(None, (_category(key, item, depth - 1) for key, item in inner)), None)
