"""Delays that a server requests: in headers, in the fields of a body, in words."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

MAX_DELAY_MS = 32_000_000_000
"""A year. Longer and negative values are not delays."""

MAX_FIELD_CHARS = 40
"""The longest name of a field that is read as a delay."""

MAX_POLICIES_CHARS = 1024
"""The maximum part of a RateLimit header that is read."""

_MAX_MOMENT_MS = 1e14  # the year 5138

_MS_HEADERS = ("retry-after-ms", "x-ms-retry-after-ms")

# Patterns are compiled when the first error comes: most processes see none.
_UNITS_MS = {"ms": 1, "mi": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_NUMBER = r"\d{1,12}(?:\.\d{1,9})?"
_UNIT = r"milliseconds?|millis|msecs?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d"
_PART = rf"(?i)({_NUMBER})\s{{0,3}}({_UNIT})(?![a-z])"
_PARTS = rf"(?:{_NUMBER}\s{{0,3}}(?:{_UNIT})(?![a-z])[\s,]{{0,3}}(?:and\s)?){{1,4}}"
_DURATION = rf"(?i)\s*{_PARTS}\s*"
_WORDS = (
    r"(?i)(?<![a-z])(?:re-?try(?:[ _-]?delay)?(?: (?:your|the|this) request)?"
    r"|try(?: your request| it)?(?: again)?|wait|available(?: again)?|resets?|refresh(?:es)?"
    r"|cool(?:ing)?[ -]?down|back(?:ing)?[ -]?off)"
    r"(?:[\s_-](?:again|after|in|for|about|at least|approximately|another)){0,3}"
    rf"[\"']?[\s:=]{{1,3}}[\"'~]{{0,2}}({_PARTS})"
)
_HEADER_IN_WORDS = (
    r"(?i)\bretry[-_ ]?after[\"']?\s{0,2}[:=]\s{0,2}[\"']?"
    r"(\d{1,6}(?:\.\d{1,3})?)(?![\w.:-]|\s?[a-z])"
)
"""A header or a field that a text repeats: its number is in seconds."""

_CHINESE = r"(\d{1,6})\s{0,3}(\u6beb\u79d2|\u79d2|\u5206\u949f|\u5c0f\u65f6)\u4e4b?\u540e"
"""Milliseconds, seconds, minutes or hours, and "later"."""
_CHINESE_MS = {"\u6beb\u79d2": 1, "\u79d2": 1000, "\u5206\u949f": 60_000, "\u5c0f\u65f6": 3_600_000}

_FIELD = (
    r"(?:(?:retry|try_again|available|resets?)_(?:after|in|delay|wait)"
    r"|(?:wait|cool_?down|back_?off)(?:_(?:for|time|period))?|estimated_(?:wait_)?time)"
    r"(?P<unit>_(?:s|secs?|seconds|ms|millis|milliseconds))?"
)
"""The name of a field with a delay, in snake case."""

_MOMENT = r"(?:resets?|retry|available|try_again)_at"
"""The name of a field with the time at which the delay is over."""

_POLICY = r";\s{0,3}r=(\d{1,9})\b[^,]{0,80}?;\s{0,3}t=(\d{1,9})\b"
_OLD_POLICY = r"\bremaining=(\d{1,9})\b.{0,80}?\breset=(\d{1,9})\b"
"""Items of a RateLimit header: what remains, and after how many seconds it is reset."""

_RESET = r"(?:x-)?rate-?limit-reset(?:-[a-z]+)*|anthropic-ratelimit-(?P<of>.+)-reset"
_RETRY_AFTER = r"(?:[a-z]+-)*retry-after(?:-(?:s|secs|seconds|(?P<ms>ms|milliseconds)))?"
"""Names of the header, as of gateways with a prefix of their own."""

_ISO = r"PT(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?"
_CLOCK = r"(\d{1,4}):(\d\d):(\d\d(?:\.\d{1,9})?)"
"""Durations in ISO 8601, and as hours, minutes and seconds."""


def retry_after_ms(headers: Mapping[str, str], now: datetime | None = None) -> int | None:
    """Return the delay that headers request, in milliseconds, or None.

    `retry-after-ms` and `x-ms-retry-after-ms` are the most exact. Then comes Retry-After in seconds
    or as a date, and then the reset of a rate limit that the same answer reports as used up.

    Args:
        headers: The answer's headers, names in lower case.
        now: The reference for dates; by default the current time.

    Source: RFC 9110, 10.2.3; draft-ietf-httpapi-ratelimit-headers and its earlier versions; the
    others as OpenAI, Azure, Groq, Anthropic and OpenRouter send them.
    """
    now = now or datetime.now(UTC)
    for name in _MS_HEADERS:
        exact = _number(headers.get(name))
        if exact is not None:
            return int(exact)
    value = headers.get("retry-after") or _retry_after_of_gateways(headers)
    if not value:
        return _reset_ms(headers, now)
    if _number(value, _MAX_MOMENT_MS) is not None:
        return _instant_ms(value, now)
    until = _until_date(value, now)
    return duration_ms(value) if until is None else until


def _retry_after_of_gateways(headers: Mapping[str, str]) -> str:
    """Return the value of Retry-After under another name, with its unit if it has one."""
    for name, value in headers.items():
        if "retry-after" in name and (match := re.fullmatch(_RETRY_AFTER, name)):
            return f"{value} ms" if match["ms"] else value
    return ""


def _reset_ms(headers: Mapping[str, str], now: datetime) -> int | None:
    """Return when the last of the used-up limits is reset.

    A limit that is not used up did not cause the refusal, so its reset does not matter.
    """
    waits = []
    for name, value in headers.items():
        match = re.fullmatch(_RESET, name)
        if match is None:
            continue
        if match["of"]:
            remaining = headers.get(f"anthropic-ratelimit-{match['of']}-remaining")
        else:
            remaining = headers.get(re.sub("reset(?:-after)?", "remaining", name, count=1))
        if _number(remaining) == 0:
            waits.append(_instant_ms(value, now))
    policies = headers.get("ratelimit", "")[:MAX_POLICIES_CHARS]
    for pattern in (_POLICY, _OLD_POLICY):
        waits += [int(s) * 1000 for left, s in re.findall(pattern, policies) if int(left) == 0]
    return max((wait for wait in waits if wait is not None), default=None)


def _instant_ms(value: str, now: datetime) -> int | None:
    """Read a reset: a duration, seconds from now, or a point in time in one of three notations."""
    number = _number(value, _MAX_MOMENT_MS)
    if number is None:
        return _until_date(value, now) if "-" in value or "," in value else duration_ms(value)
    if number > 1e11:  # milliseconds since 1970
        return _bounded(max(0.0, number - now.timestamp() * 1000))
    if number > 1e9:  # seconds since 1970
        return _bounded(max(0.0, (number - now.timestamp()) * 1000))
    return _bounded(number * 1000)


def _until_date(value: str, now: datetime) -> int | None:
    try:
        if re.match(r"\d{4}-\d\d-\d\dT", value):
            date = datetime.fromisoformat(value)
        else:
            date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0, int((date - now).total_seconds() * 1000))


def _number(value: str | None, maximum: float = MAX_DELAY_MS) -> float | None:
    try:
        number = float(value) if value else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < maximum else None


def _bounded(delay_ms: float) -> int | None:
    return int(delay_ms) if 0 <= delay_ms < MAX_DELAY_MS else None


def duration_ms(text: str) -> int | None:
    """Return a duration such as "1.2s", "6m0s", "120ms" or "2 minutes" in milliseconds."""
    text = text[:64].strip()
    if match := re.fullmatch(_ISO, text) or re.fullmatch(_CLOCK, text):
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return _bounded(((hours * 60 + minutes) * 60 + seconds) * 1000) if text != "PT" else None
    return _sum_ms(text) if re.fullmatch(_DURATION, text) else None


def _sum_ms(text: str) -> int | None:
    parts = ((float(count), unit.lower()) for count, unit in re.findall(_PART, text))
    return _bounded(sum(count * _unit_ms(unit) for count, unit in parts))


def _unit_ms(unit: str) -> int:
    if unit.startswith(("ms", "milli")):
        return 1
    return _UNITS_MS[unit[0]]


def delay_in_words_ms(text: str) -> int | None:
    """Return the delay in a sentence such as "Please try again in 1.2s", in milliseconds."""
    if match := re.search(_WORDS, text):
        return _sum_ms(match[1])
    if match := re.search(_HEADER_IN_WORDS, text):
        return _bounded(float(match[1]) * 1000)
    match = re.search(_CHINESE, text)
    return None if match is None else _bounded(int(match[1]) * _CHINESE_MS[match[2]])


def is_delay(name: str) -> bool:
    """Return whether a field of this name holds a delay: `retry_after`, `cooldownSeconds`."""
    plain = _snake(name[: MAX_FIELD_CHARS + 1])
    return len(name) <= MAX_FIELD_CHARS and any(re.fullmatch(p, plain) for p in (_FIELD, _MOMENT))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|-", "_", name).lower()


def field_ms(name: str, value: Any) -> int | None:
    """Return the delay that a field of an error body holds, in milliseconds.

    Args:
        name: The field's name, which may name the unit of a bare number; else it is in seconds.
        value: A number, a text, or Google's Duration object (seconds and nanos).
    """
    if isinstance(value, Mapping):
        seconds, nanos = value.get("seconds", 0), value.get("nanos", 0)
        whole, part = _number(str(seconds)), _number(str(nanos))
        return None if whole is None or part is None else _bounded(whole * 1000 + part / 1e6)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if re.fullmatch(_MOMENT, _snake(name)):
        at = _number(str(value), _MAX_MOMENT_MS)
        return None if at is not None and at < 1e9 else _instant_ms(str(value), datetime.now(UTC))
    number = _number(str(value))
    if number is None:
        return duration_ms(value) if isinstance(value, str) else None
    in_ms = re.search(r"(?:ms|millis|milliseconds)$", _snake(name))
    return _bounded(number if in_ms else number * 1000)
