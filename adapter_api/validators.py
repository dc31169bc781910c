"""attrs validators shared by the contract, the adapters and the host.

Every message names the field, what it may be, and the value or its type:
`max_tokens must be an integer of at least 1, got 0`.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from adapter_api.keys import without_keys

MAX_SHOWN_CHARS = 60
"""A longer value is cut: a message is one line on a terminal."""

MAX_SEARCHED_CHARS = 4096
"""The maximum length of a value that is searched for keys; less of it is shown."""

Check: TypeAlias = Callable[[Any], bool]
Validator: TypeAlias = Callable[[Any, "attrs.Attribute[Any]", Any], None]
MakeError: TypeAlias = Callable[[str, str], Exception]


def must_be(
    allowed: str,
    check: Check,
    *,
    optional: bool = False,
    show_value: bool = True,
    error: MakeError = lambda field, message: ValueError(message),
) -> Validator:
    """Return a validator that raises `error` unless `check` holds.

    Args:
        allowed: A description of the valid values, for the message.
        check: Returns whether a value is valid.
        optional: None is valid too.
        show_value: Whether the message shows the value. If not, or if the value may be a secret,
            the message names its type only.
        error: Makes the exception from the field's name and the message.
    """
    described = f"{allowed} (or None)" if optional else allowed

    def validate(_: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if (optional and value is None) or check(value):
            return
        message = refusal(attribute.name, described, value, show_value=show_value)
        raise error(attribute.name, message)

    return validate


def refusal(field: str, allowed: str, value: object, *, show_value: bool = True) -> str:
    """Return the message for a field with a wrong value."""
    return f"{field} must be {allowed}, got {shown(value) if show_value else _type_of(value)}"


def shown(value: object) -> str:
    """Return `repr(value)` without anything that looks like a key, cut to fit on a line."""
    try:
        text = without_keys(repr(value)[:MAX_SEARCHED_CHARS])
    except Exception:  # an int of 5,000 digits has no repr, and foreign objects may raise
        text = f"a value of type {_type_of(value)}"
    return text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 3] + "..."


def _type_of(value: object) -> str:
    return type(value).__name__


# Checks


def is_integer(value: object) -> bool:
    """Return whether `value` is an int, and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Return whether `value` is a finite int or float, and not a bool."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond every float
        return False


def is_text(value: object) -> bool:
    """Return whether `value` is a string that is not blank."""
    return isinstance(value, str) and value.strip() != ""


# Validators


def integer(minimum: int | None = None, **options: Any) -> Validator:
    """Return a validator for integers of at least `minimum`; `options` as for must_be."""
    if minimum is None:
        return must_be("an integer", is_integer, **options)
    return must_be(
        f"an integer of at least {minimum}",
        lambda value: is_integer(value) and value >= minimum,
        **options,
    )


def number(
    minimum: float | None = None,
    *,
    above: float | None = None,
    maximum: float = math.inf,
    unit: str = "",
    **options: Any,
) -> Validator:
    """Return a validator for finite numbers within bounds.

    Args:
        minimum: The smallest valid number.
        above: Instead of a minimum: every valid number is greater.
        maximum: The largest valid number.
        unit: The unit of the number, such as "seconds".
        **options: As for must_be.
    """
    kind = "a finite number" if maximum == math.inf else "a number"
    what = f"{kind} of {unit}" if unit else kind
    if above is not None:
        allowed = f"{what} above {above:g}"
    elif minimum is None:
        allowed = what
    elif maximum < math.inf:
        allowed = f"{what} from {minimum:g} to {maximum:g}"
    else:
        allowed = f"{what} of at least {minimum:g}"

    def check(value: Any) -> bool:
        if not is_number(value) or value > maximum:
            return False
        return (minimum is None or value >= minimum) and (above is None or value > above)

    return must_be(allowed, check, **options)


seconds = number(above=0, unit="seconds")
"""A duration above 0."""

seconds_or_none = number(above=0, unit="seconds", optional=True)
"""A duration above 0, or None for no limit."""

text = must_be("a string", lambda value: isinstance(value, str), show_value=False)
"""Any string."""

text_or_none = must_be(
    "a string", lambda value: isinstance(value, str), optional=True, show_value=False
)
"""Any string, or None."""

boolean = must_be("True or False", lambda value: isinstance(value, bool), show_value=False)
"""True or False."""


def one_of(*words: str, **options: Any) -> Validator:
    """Return a validator for a closed set of words; `options` as for must_be."""
    allowed = f"one of {', '.join(words)}"
    return must_be(allowed, lambda value: isinstance(value, str) and value in words, **options)
