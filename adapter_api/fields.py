"""The fields of a task: validators and converters whose errors are InvalidRequests."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from adapter_api import validators
from adapter_api.errors import ErrorCode, InvalidRequest

MAX_ID_CHARS = 256
"""Ids travel in HTTP headers and log lines, and common servers refuse longer ones."""

_T = TypeVar("_T")


def _error(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(ErrorCode.INVALID_PARAMS, message, field=field)


def invalid(field: str, allowed: str, value: object) -> InvalidRequest:
    """Return the INVALID_PARAMS error of one field.

    Args:
        field: The field, as a path such as `messages[2].content`.
        allowed: A description of the valid values.
        value: The given value; it is shown in full only if it is short.
    """
    return _error(field, validators.refusal(field, allowed, value))


def below(where: str, build: Callable[..., _T], *args: Any, **fields: Any) -> _T:
    """Call `build`, and prefix the field's name in its errors with `where`."""
    try:
        return build(*args, **fields)
    except InvalidRequest as error:
        raise _error(f"{where}.{error.field}", f"{where}.{error.message}") from error


def is_list(value: object) -> bool:
    """Return whether `value` is a sequence, but neither a string nor bytes."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def is_mapping(value: object) -> bool:
    """Return whether `value` is a mapping whose keys are strings."""
    if type(value) is dict and not value:
        return True
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def to_extra(value: Any) -> dict[str, Any]:
    """Copy the mapping of an `extra` field."""
    if not is_mapping(value):
        raise invalid("extra", "a mapping with string keys", value)
    return dict(value)


def _is_id(value: object) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_ID_CHARS
        and value.isascii()
        and value.isprintable()
        and value.strip() == value
    )


must_be = partial(validators.must_be, error=_error)
integer = partial(validators.integer, error=_error)
number = partial(validators.number, error=_error)

any_text = must_be("a string", lambda value: isinstance(value, str))
text = must_be("a non-empty string", lambda value: isinstance(value, str) and value != "")
text_or_none = must_be(
    "a non-empty string", lambda value: isinstance(value, str) and value != "", optional=True
)
boolean = must_be("a bool", lambda value: isinstance(value, bool))
boolean_or_none = must_be("a bool", lambda value: isinstance(value, bool), optional=True)
identifier = must_be(f"1 to {MAX_ID_CHARS} printable ASCII characters", _is_id)
identifier_or_none = must_be(
    f"1 to {MAX_ID_CHARS} printable ASCII characters", _is_id, optional=True
)
