"""What each option of openai-http may be. Every refusal names the option, and shows no secret."""

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import attrs

from adapters.http_util import RetryPolicy
from adapters.openai_http.dialects import DIALECTS

KeySource = Callable[[], str | Awaitable[str]]

OWNED_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "api-key",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
        "x-correlation-id",
    }
)

_PROXY = re.compile(r"(https?|socks5h?)://[^/]", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2

_Attribute: TypeAlias = "attrs.Attribute[Any]"


def _refuse(attribute: _Attribute, allowed: str, value: object) -> None:
    """Only the type is named: the value may be a secret that went into the wrong place."""
    raise ValueError(f"{attribute.name} must be {allowed}, got {type(value).__name__}")


# Types


def text(_: object, attribute: _Attribute, value: object) -> None:
    """A string."""
    if not isinstance(value, str):
        _refuse(attribute, "a string", value)


def text_or_none(_: object, attribute: _Attribute, value: object) -> None:
    """A string or None."""
    if not isinstance(value, str | None):
        _refuse(attribute, "a string or None", value)


def flag(_: object, attribute: _Attribute, value: object) -> None:
    """True or False."""
    if not isinstance(value, bool):
        _refuse(attribute, "True or False", value)


def key(_: object, attribute: _Attribute, value: object) -> None:
    """A string, a function that gives one, or None."""
    if not isinstance(value, str | None) and not callable(value):
        _refuse(attribute, "a string, a function that gives one, or None", value)


def function_or_none(_: object, attribute: _Attribute, value: object) -> None:
    """A function or None."""
    if value is not None and not callable(value):
        _refuse(attribute, "a function that gives a token, or None", value)


def instance_or_none(kind: type) -> Callable[[object, _Attribute, object], None]:
    """An object of class `kind`, or None."""

    def check(_: object, attribute: _Attribute, value: object) -> None:
        if value is not None and not isinstance(value, kind):
            _refuse(attribute, f"an httpx.{kind.__name__} or None", value)

    return check


def policy(_: object, attribute: _Attribute, value: object) -> None:
    """A RetryPolicy."""
    if not isinstance(value, RetryPolicy):
        _refuse(attribute, "a RetryPolicy, such as RetryPolicy(attempts=1), or a mapping", value)


def patterns(_: object, attribute: _Attribute, value: Any) -> None:
    """A tuple of strings, or None."""
    strings = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    if value is not None and not strings:
        _refuse(attribute, 'a tuple of host patterns, such as ("*.example.com",), or None', value)


def files(_: object, attribute: _Attribute, value: Any) -> None:
    """A file's name, a pair of them, or None."""
    names = value if isinstance(value, tuple) and len(value) == 2 else (value,)
    if value is not None and not all(isinstance(name, str) for name in names):
        _refuse(attribute, "a file name, a pair of them, or None", value)


# Values


def seconds(_: object, attribute: _Attribute, value: Any) -> None:
    """A number of seconds above 0."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and value > 0):
        raise ValueError(f"{attribute.name} must be a number of seconds above 0, got {value!r}")


def seconds_or_none(_: object, attribute: _Attribute, value: Any) -> None:
    """A number of seconds above 0, or None for no limit."""
    if value is not None:
        try:
            seconds(_, attribute, value)
        except ValueError as exc:
            raise ValueError(f"{exc} (None: no limit)") from None


def at_least_one(_: object, attribute: _Attribute, value: Any) -> None:
    """An integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{attribute.name} must be an integer of at least 1, got {value!r}")


def dialect(_: object, __: object, value: object) -> None:
    """auto, or the name of a dialect."""
    if value not in ("auto", *DIALECTS):
        raise ValueError(f"dialect must be auto, {', '.join(sorted(DIALECTS))}, got {value!r}")


def api(_: object, __: object, value: object) -> None:
    """auto, completions or chat."""
    if value not in ("auto", "completions", "chat"):
        raise ValueError(f"api must be auto, completions or chat, got {value!r}")


def proxy(_: object, attribute: _Attribute, value: Any) -> None:
    """A proxy's URL, or None."""
    text_or_none(_, attribute, value)
    # Refused here, as what makes connections would repeat it, with the password in it.
    if value is not None and not _PROXY.match(value):
        raise ValueError("proxy must be a URL that begins with http://, https:// or socks5://")


def headers(_: object, attribute: _Attribute, value: Any) -> None:
    """Headers that are not the adapter's own."""
    if not isinstance(value, Mapping):
        _refuse(attribute, "a mapping of names to values", value)
    for name, content in value.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"headers: {name!r} is no name a header may have")
        if not (isinstance(content, str) and content.isascii() and content.isprintable()):
            raise ValueError(f"headers: {name} must be a string of printable ASCII characters")
    owned = sorted(name for name in value if name.lower() in OWNED_HEADERS)
    if owned:
        raise ValueError(
            f"headers must not set {', '.join(owned)}: credentials go into api_key, a correlation "
            "id into TaskRequest.correlation_id, the rest is the adapter's own"
        )


# Converters. Each is annotated with what its field holds, not with what it makes that of: the
# registry goes by it, and gives each problem its path.


def to_patterns(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """A list as a tuple; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


def to_files(value: str | tuple[str, str] | None) -> str | tuple[str, str] | None:
    """A list as a tuple; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


def to_policy(value: RetryPolicy) -> RetryPolicy:
    """A mapping as a RetryPolicy; anything else as it is.

    Raises:
        ValueError: If RetryPolicy has no such field, or not such a value of it.
    """
    if not isinstance(value, Mapping):
        return value
    known = [field.name for field in attrs.fields(RetryPolicy)]
    unknown = [str(name) for name in value if name not in known]
    if unknown:
        raise ValueError(f"retry has no {', '.join(unknown)}; it has {', '.join(known)}")
    try:
        return RetryPolicy(**value)
    except ValueError as exc:
        raise ValueError(f"retry: {exc}") from exc
