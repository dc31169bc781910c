"""Validators and converters of openai-http's own kinds of options.

No message repeats a value that may be a secret in the wrong place: it names the type instead.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, cast

import attrs

from adapter_api.keys import without_keys
from adapter_api.validators import must_be, refusal, shown, text_or_none
from adapters.http_util import RetryPolicy
from adapters.openai_http.endpoints import parse_url

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


def _is_header_value(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()


def _is_file_names(value: object) -> bool:
    names = value if isinstance(value, tuple) and len(value) == 2 else (value,)
    return all(isinstance(name, str) for name in names)


key = must_be(
    "a string or a function that returns one (or None)",
    lambda value: value is None or isinstance(value, str) or callable(value),
    show_value=False,
)

token_provider = must_be(
    "a function that returns a token", callable, optional=True, show_value=False
)

tags = must_be(
    'a pair of texts, such as ("<think>", "</think>")',
    lambda value: (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(tag, str) and tag.strip() == tag != "" for tag in value)
    ),
    optional=True,
)

retry_policy = must_be(
    "a RetryPolicy, such as RetryPolicy(attempts=1), or a mapping",
    lambda value: isinstance(value, RetryPolicy),
    show_value=False,
)

host_patterns = must_be(
    'a tuple of host patterns, such as ("*.example.com",)',
    lambda value: isinstance(value, tuple) and all(isinstance(item, str) for item in value),
    optional=True,
    show_value=False,
)

file_names = must_be(
    "a file name or a pair of them", _is_file_names, optional=True, show_value=False
)

header_value = must_be(
    "a non-empty string of printable ASCII characters",
    lambda value: _is_header_value(value) and value.strip() != "",
)


def instance_or_none(kind: type) -> Any:
    """Return a validator for objects of httpx's class `kind`."""
    return must_be(
        f"an httpx.{kind.__name__}",
        lambda value: isinstance(value, kind),
        optional=True,
        show_value=False,
    )


def proxy(_: object, attribute: _Attribute, value: Any) -> None:
    """Accept a proxy's URL or None."""
    text_or_none(_, attribute, value)
    if value is None:
        return
    # Refused here, since httpx's own error would repeat the URL with the password in it.
    if not _PROXY.match(value):
        raise ValueError("proxy must be a URL that begins with http://, https:// or socks5://")
    url = parse_url(value)
    if url is None or not url.host:
        raise ValueError("proxy is not a valid URL; write it like http://USER:PASSWORD@HOST:PORT")


def headers(_: object, attribute: _Attribute, value: Any) -> None:
    """Accept headers that the adapter does not set itself."""
    if not isinstance(value, Mapping):
        raise ValueError(
            refusal("headers", "a mapping of names to values", value, show_value=False)
        )
    for name, content in value.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"headers: {shown(name)} is not a valid header name")
        if not _is_header_value(content):
            raise ValueError(
                f"headers: {without_keys(name)} must be a string of printable ASCII characters"
            )
    owned = sorted(name for name in value if name.lower() in OWNED_HEADERS)
    if owned:
        raise ValueError(
            f"headers must not set {', '.join(owned)}: put credentials in api_key or basic_auth, "
            "Accept in accept, a correlation id in TaskRequest.correlation_id; the adapter "
            "sets the others itself"
        )


def basic_auth(_: object, __: object, value: Any) -> None:
    """Accept "user:password" or None. Source: RFC 7617, section 2."""
    if value is None:
        return
    if not isinstance(value, str) or ":" not in value or not value.isprintable():
        raise ValueError('basic_auth must be "user:password", without control characters')


def api_path(_: object, __: object, value: Any) -> None:
    """Accept a path below the server's root, or None."""
    if value is None:
        return
    plain = isinstance(value, str) and re.fullmatch(r"(/[\w.~%!$&'()*+,;=:@-]+)*/?", value, re.A)
    if not plain or has_dot_segment(value):
        raise ValueError(
            'api_path must be a path such as "/inference" or "/", without a query and without '
            f"'.' or '..', got {shown(value)}"
        )


def has_dot_segment(path: str) -> bool:
    """Return whether a segment of `path` climbs: '.', '..', or an encoded form of one."""
    segments = re.sub(r"%2e", ".", path, flags=re.IGNORECASE).split("/")
    return any(segment in (".", "..") for segment in segments)


# Converters. The parameter of each is annotated with what its field holds: the registry structures
# options by that annotation, and reports a path for each problem.


def to_patterns(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return a list as a tuple, anything else unchanged."""
    return tuple(value) if isinstance(value, list) else value


def to_tags(value: tuple[str, str] | None) -> tuple[str, str] | None:
    """Return a list as a tuple, anything else unchanged."""
    return _to_pair(value) if isinstance(value, list) else value


def to_files(value: str | tuple[str, str] | None) -> str | tuple[str, str] | None:
    """Return a list as a tuple, anything else unchanged."""
    return _to_pair(value) if isinstance(value, list) else value


def _to_pair(value: list[str]) -> tuple[str, str]:
    return cast("tuple[str, str]", tuple(value))  # the validator refuses another number of items


def to_policy(value: RetryPolicy) -> RetryPolicy:
    """Return a mapping as a RetryPolicy, anything else unchanged.

    Raises:
        ValueError: If RetryPolicy has no such field, or refuses the value of one.
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
