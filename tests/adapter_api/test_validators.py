"""The validators that every config class shares."""

import math
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api.validators import (
    MAX_SHOWN_CHARS,
    Validator,
    boolean,
    integer,
    must_be,
    number,
    one_of,
    seconds,
    seconds_or_none,
    shown,
    text,
    text_or_none,
)


def _accepts(validator: Validator, value: object) -> bool:
    holder = attrs.make_class("Holder", {"field": attrs.field(validator=validator)})
    try:
        holder(value)
    except ValueError as error:
        assert str(error).startswith("field must be ")
        return False
    return True


@pytest.mark.parametrize(
    ("validator", "good", "bad"),
    [
        (integer(), [0, -5, 10**400], [True, 1.0, "1", None]),
        (integer(1), [1, 2], [0, -1, True, None]),
        (integer(1, optional=True), [1, None], [0, False]),
        (number(), [0, -1.5], [math.nan, math.inf, -math.inf, True, "1", None, 10**400]),
        (number(0), [0, 0.5], [-0.1, None]),
        (number(0, maximum=1), [0, 1, 0.5], [-0.1, 1.1]),
        (seconds, [0.1, 5], [0, -1, math.inf, None, "5"]),
        (seconds_or_none, [0.1, None], [0]),
        (text, ["", "a"], [None, b"a", 5]),
        (text_or_none, ["", None], [b"a"]),
        (boolean, [True, False], [0, 1, "yes", None]),
        (one_of("a", "b"), ["a", "b"], ["c", "", None, ["a"]]),
        (one_of("a", optional=True), ["a", None], ["b"]),
    ],
)
def test_each_validator_takes_what_it_names(
    validator: Validator, good: list[object], bad: list[object]
) -> None:
    """Every other value is refused with a message that begins with the field's name."""
    assert [value for value in good if not _accepts(validator, value)] == []
    assert [value for value in bad if _accepts(validator, value)] == []


@given(st.floats(), st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_a_number_is_valid_within_its_bounds_only(value: float, low: float, high: float) -> None:
    """Both bounds count, and nothing that is not finite passes."""
    inside = math.isfinite(value) and low <= value <= high
    assert _accepts(number(low, maximum=high), value) is inside


@pytest.mark.parametrize(
    ("validator", "value", "message"),
    [
        (integer(1), 0, "field must be an integer of at least 1, got 0"),
        (number(0, maximum=1), 2, "field must be a number from 0 to 1, got 2"),
        (seconds_or_none, 0, "field must be a finite number of seconds above 0 (or None), got 0"),
        (one_of("a", "b"), "c", "field must be one of a, b, got 'c'"),
        (text, 5, "field must be a string, got int"),
    ],
)
def test_the_message_names_what_is_allowed(
    validator: Validator, value: object, message: str
) -> None:
    """One sentence with the field, what it may be, and the value."""
    holder = attrs.make_class("Holder", {"field": attrs.field(validator=validator)})
    with pytest.raises(ValueError) as caught:
        holder(value)
    assert str(caught.value) == message


def test_a_value_that_may_be_secret_is_not_shown() -> None:
    """Only its type is named."""
    hidden = must_be("an int", lambda value: isinstance(value, int), show_value=False)
    holder = attrs.make_class("Holder", {"field": attrs.field(validator=hidden)})
    with pytest.raises(ValueError, match="^field must be an int, got str$"):
        holder("sk-secret")


def test_the_caller_chooses_the_exception() -> None:
    """A request's fields raise an error of the taxonomy, an option's a ValueError."""
    check: Any = must_be("x", lambda value: False, error=KeyError)
    with pytest.raises(KeyError):
        attrs.make_class("Holder", {"field": attrs.field(validator=check)})(1)


class _Mute:
    def __repr__(self) -> str:
        raise RuntimeError


def test_what_is_shown_fits_on_a_line() -> None:
    """A long repr is cut; a value whose repr raises is named by its type."""
    assert shown("x" * 100) == "'" + "x" * (MAX_SHOWN_CHARS - 4) + "..."
    assert shown(_Mute()) == "a value of type _Mute"
