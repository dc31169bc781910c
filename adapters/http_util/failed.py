"""Recognizes objects that report a failure, whatever their shape. No I/O.

A name about an error, with a meaningful value, is an error in any place: alone, beside choices, or
one level down. The other signs are weaker: `message` alone may be a notice.
"""

import re
from collections.abc import Container, Mapping
from functools import lru_cache
from typing import Any

from adapters.http_util.error_body import snake

MAX_WORD_CHARS = 64
"""A name or a kind is a few words. Further characters are not read."""

_USUAL = frozenset(
    {"id", "object", "created", "model", "choices", "usage", "system_fingerprint", "provider"}
    | {"service_tier"}
)
"""Names that nearly every chunk has and that do not concern errors."""

_SKIPPED = _USUAL - {"object"}

_NAME = (
    r"(?:\w+_)?(?:err|errors?|exceptions?|faults?|failures?|traceback|err(?:msg|code|no))"
    r"(?:_(?:code|msg|message|type|text|info|details?|description|reason|string))?"
    r"|failed(?:_(?:message|reason))?"
)
_NUMBERED = r"(?:\w+_)?(?:error|errno|failed|(?:\w+_)?err\w{0,2}_?code)"
"""Names under which a number indicates an error; under others it may count errors."""

_BROKEN = r"^(?:is_|was_|has_been_)?(?:aborted|cancell?ed|interrupted|timed_out)$"
"""Names which mean, if their value is true, that the answer was broken off."""

_GOOD_CODES = ("", 0, "0", 200, "200")  # what gateways put beside `"message": "success"`
_GOOD_WORDS = frozenset(
    {"", "0", "ok", "success", "succeeded", "ping", "keepalive", "none", "null", "false"}
    | {"no_error"}
)

_STATUSES = ("status", "status_code", "http_status", "http_code")
_KINDS = ("type", "event", "state", "status", "kind", "object")
_RESULTS = ("result", "outcome")
_FAILED_RESULT = r"^(?:error|exception|fail|failed|failure)$"
"""A result is mostly free text, so only the word alone counts."""
_FAILED_KIND = r"(?:^|(?<!\bno)_)(?:error|errored|exception|failed|failure|fail)$"
_BROKEN_KIND = r"(?:^|_)(?:incomplete|aborted|cancell?ed|timeout|timed_out|rejected|expired)$"
"""Kinds of events without an answer. Beside an answer, its finish_reason is more reliable."""

_NOTICES = frozenset(
    {
        *("alive", "connected", "heartbeat", "keep_alive", "keepalive", "notice", "pending"),
        *("ping", "pong", "processing", "progress", "queued", "started", "waiting"),
    }
)
_GOOD_SIGNS = frozenset({"code", "status", "id", "event", "progress"})
"""A message beside one of these may be a notice, such as a place in a queue."""


def is_error(payload: dict[str, Any]) -> bool:
    """Return whether an event is an error object, in any known shape, or holds one."""
    if payload.keys() <= _USUAL:
        return _is_kind(payload.get("object"), _FAILED_KIND)
    plain = {_plain(key): value for key, value in payload.items() if key not in _SKIPPED}
    answers = bool(payload.get("choices"))
    if _reports_failure(plain) or (plain.get("detail") and isinstance(plain["detail"], str | list)):
        return True
    inner = ((key, value) for key, value in plain.items() if isinstance(value, dict))
    if any(_holds_failure(key, value, alone=not answers) for key, value in inner):
        return True
    return not answers and _is_bare(plain, payload)


def failure_in(part: Mapping[str, Any], known: Container[str]) -> dict[str, Any] | None:
    """Return the unknown fields of a part of an answer if they report a failure, None if not.

    Args:
        part: Such as a choice or a delta.
        known: Names of the part that mean something else.
    """
    unknown = {key: value for key, value in part.items() if key not in known}
    told = _reports_failure({_plain(key): value for key, value in unknown.items()})
    return unknown if told else None


def _reports_failure(plain: Mapping[str, Any]) -> bool:
    """Return whether names or values of an object report a failure."""
    said = plain.get("message") or plain.get("msg")
    return bool(
        any(_names_error(name) and _says(name, value) for name, value in plain.items())
        or any(_is_kind(plain.get(name), _FAILED_KIND) for name in _KINDS)
        or any(_is_kind(plain.get(name), _FAILED_RESULT) for name in _RESULTS)
        or any(_is_failure(plain.get(name)) for name in _STATUSES)
        or any(value is True and _has(_BROKEN, name) for name, value in plain.items())
        or plain.get("success") is False
        or plain.get("ok") is False
        or (said and plain.get("code") not in (None, *_GOOD_CODES))
    )


def _holds_failure(key: str, value: dict[str, Any], *, alone: bool) -> bool:
    """Return whether an object inside an event reports that the request failed or was blocked."""
    if key == "base_resp":  # MiniMax
        return value.get("status_code") not in (None, *_GOOD_CODES)
    if key == "prompt_feedback":  # Google
        return bool(value.get("blockReason"))
    if alone or key.startswith("x_"):  # a provider's own field beside an answer
        return _reports_failure({_plain(name): inner for name, inner in value.items()})
    return False


def _is_bare(plain: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
    """Return whether an event without an answer holds an error and nothing else."""
    if any(_is_kind(plain.get(name), _BROKEN_KIND) for name in _KINDS):
        return True
    if "choices" in payload:
        return False
    words = plain.get("message") or plain.get("msg")
    return (
        "detail" in plain
        or plain.get("error") not in (None, False)
        or bool(
            isinstance(words, str)
            and words.strip()
            and _GOOD_SIGNS.isdisjoint(payload)
            and plain.get("type") not in _NOTICES
            and not _is_good(words)
            and _plain(words) not in _NOTICES
        )
    )


def _plain(name: str) -> str:
    return _snake(name[:MAX_WORD_CHARS])  # bounds the cache


@lru_cache(maxsize=256)
def _snake(word: str) -> str:
    return snake(word) or word


@lru_cache(maxsize=256)
def _names_error(name: str) -> bool:
    return re.fullmatch(_NAME, name) is not None


def _says(name: str, value: Any) -> bool:
    """Return whether the value under an error's name is meaningful."""
    if isinstance(value, str):
        return not _is_good(value)
    if isinstance(value, int | float):
        return value not in (0, 200) and re.fullmatch(_NUMBERED, name) is not None
    return bool(value)


def _is_kind(value: Any, words: str) -> bool:
    return isinstance(value, str) and _has(words, _plain(value))


@lru_cache(maxsize=256)
def _has(words: str, text: str) -> bool:
    return re.search(words, text) is not None


def _is_failure(status: Any) -> bool:
    if isinstance(status, str) and status.isascii() and status.isdigit() and len(status) == 3:
        status = int(status)
    return type(status) is int and 400 <= status <= 599


def _is_good(words: str) -> bool:
    return _plain(words) in _GOOD_WORDS
