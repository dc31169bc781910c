"""Strict structuring: a value has the declared type or is a problem with a path."""

import collections.abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Protocol, TypeVar

import attrs
import pytest

from adapter_api.validators import shown
from registry.config.declared import hide, init_fields, type_text
from registry.config.structure import Problems, structure

T = TypeVar("T")
Id = NewType("Id", str)


class Level(IntEnum):
    """A number that is an enum."""

    LOW = 1


class Word(StrEnum):
    """A text that is an enum."""

    YES = "yes"


class Quiet(Protocol):
    """A protocol that isinstance cannot check."""

    def run(self) -> None: ...


class Text(str):
    """A kind of text of its own."""


class Base:
    """A class of which only instances will do."""


class Derived(Base):
    """An instance of it."""


@attrs.frozen
class Inner:
    """A nested class."""

    size: int


@dataclass
class Data:
    """A dataclass, which cattrs structures by itself."""

    size: int


def one(kind: Any, value: object) -> Any:
    """`value` structured as the only field of a class."""
    return structure(attrs.make_class("One", {"x": attrs.field(type=kind)}), {"x": value}).x


def problem(kind: Any, value: object) -> str:
    """The problem with `value`, with its path."""
    with pytest.raises(Problems) as caught:
        one(kind, value)
    return "; ".join(f"{item.path}: {item.text}" for item in caught.value.items)


DERIVED = Derived()
SENTINEL = object()


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (str, "a", "a"),
        (str, Word.YES, Word.YES),
        (int, 1, 1),
        (float, 1.5, 1.5),
        (float, 1, 1.0),
        (bool, True, True),
        (bytes, b"a", b"a"),
        (Text, Text("a"), "a"),
        (Any, SENTINEL, SENTINEL),
        (object, SENTINEL, SENTINEL),
        (None, None, None),
        (Id, "a", "a"),
        (Annotated[int, "note"], 1, 1),
        (Path, "a", Path("a")),
        (Level, 1, Level.LOW),
        (Word, "yes", Word.YES),
        (Word, Word.YES, Word.YES),
        (Literal["a", 1], 1, 1),
        (int | None, None, None),
        (float | int, 1, 1),
        (int | float, 1.5, 1.5),
        (str | list[str], ["a"], ["a"]),
        (Inner | str, {"size": 1}, Inner(1)),
        (Inner, Inner(2), Inner(2)),
        (list[int], (1, 2), [1, 2]),
        (list, [1, "a"], [1, "a"]),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple, [1], (1,)),
        (set[int], [1, 1], {1}),
        (frozenset[str], {"a"}, frozenset("a")),
        (Sequence[str], ["a"], ("a",)),
        (Iterable[str], ["a"], ("a",)),
        (collections.abc.Set, ["a"], frozenset("a")),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (dict, {1: 2}, {1: 2}),
        (Mapping[str, list[int]], {"a": (1,)}, {"a": [1]}),
        (Callable[[], str], len, len),
        (collections.abc.Callable, len, len),
        (Base, DERIVED, DERIVED),
        (type[Base], Derived, Derived),
        (Quiet, SENTINEL, SENTINEL),
        (T, SENTINEL, SENTINEL),
        (Data, {"size": 1}, Data(1)),
    ],
)
def test_values_of_the_type_are_taken(kind, value, expected):
    """A value of the declared type arrives, and in a collection of the declared kind."""
    result = one(kind, value)
    assert result == expected
    assert type(result) is type(expected) or isinstance(value, Text)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (str, None, ".x: expected str, got NoneType"),
        (str, 1, ".x: expected str, got int"),
        (int, 7.9, ".x: expected int, got float"),
        (int, "1", ".x: expected int, got str"),
        (int, True, ".x: expected int, got bool"),
        (float, True, ".x: expected float, got bool"),
        (float, "1", ".x: expected float, got str"),
        (bool, 1, ".x: expected bool, got int"),
        (Text, "a", ".x: expected Text, got str"),
        (Level, 2, ".x: expected 1, got 2"),
        (Level, None, ".x: expected 1, got NoneType"),
        (Word, "no", ".x: expected 'yes', got 'no'"),
        (Literal["a", 1], True, ".x: expected 'a' | 1, got True"),
        (Literal["a"], "b" * 99, ".x: expected 'a', got '" + "b" * 56 + "..."),
        (int | None, "1", ".x: expected int | None, got str"),
        (int | Path, 1.5, ".x: expected int | Path, got 1.5"),
        (Literal["a"] | None, "b", ".x: expected 'a' | None, got 'b'"),
        (str | Inner, {"size": "a"}, ".x.size: expected int, got str"),
        (str | Inner, 1, ".x: expected str | Inner, got int"),
        (Inner, 1, ".x: expected Inner or a mapping, got int"),
        (list[int], "12", ".x: expected list[int], got str"),
        (list[int], {1: 2}, ".x: expected list[int], got dict"),
        (list[int], [1, "2", "3"], ".x[1]: expected int, got str; .x[2]: expected int, got str"),
        (tuple[int, ...], 1, ".x: expected tuple[int, ...], got int"),
        (tuple[int, str], [1], ".x: expected 2 items (tuple[int, str]), got 1"),
        (tuple[int, str], ["a", "b"], ".x[0]: expected int, got str"),
        (set[list[int]], [[1]], ".x: unhashable type: 'list'"),
        (dict[str, int], [], ".x: expected dict[str, int], got list"),
        (dict[str, int], {"a": "b"}, ".x['a']: expected int, got str"),
        (dict[str, int], {1: 1}, ".x[1]: expected str, got int"),
        (Callable[[], str], 1, ".x: expected callable, got int"),
        (Base, 1, ".x: expected Base, got int"),
        (type[Base], 1, ".x: expected type[Base], got int"),
        (Data, {"size": "a"}, ".x: invalid type (expected int, got str) @ $.size"),
    ],
)
def test_other_values_are_problems(kind, value, text):
    """Nothing is coerced, and the problem says where it is and what was expected."""
    found = problem(kind, value)
    assert found == text or (kind is Data and found.startswith(".x: "))


def test_recursive_class():
    """A class may hold others of its own."""
    assert structure(Tree, {"parts": [{"parts": []}]}) == Tree((Tree(),))
    with pytest.raises(Problems) as caught:
        structure(Tree, {"parts": [{"parts": [1]}]})
    assert [item.path for item in caught.value.items] == [".parts[0].parts[0]"]


@attrs.frozen
class Tree:
    """A class that names itself."""

    parts: "tuple[Tree, ...]" = ()


# Converters and validators


def test_converter_with_an_annotation_says_what_it_takes():
    """A converter's own annotation decides, and its error is a problem at the field's path."""

    def parse(value: str) -> int:
        return int(value)

    cls = attrs.make_class("One", {"x": attrs.field(type=int, converter=parse)})
    assert structure(cls, {"x": "7"}).x == 7
    for value, text in (
        (7, "expected str, got int"),
        ("a", "invalid literal for int() with base 10: 'a'"),
    ):
        with pytest.raises(Problems) as caught:
            structure(cls, {"x": value})
        assert [(item.path, item.text) for item in caught.value.items] == [(".x", text)]


@pytest.mark.parametrize(
    "converter", [float, lambda value: value, lambda: 0, attrs.Converter(lambda value: value), max]
)
def test_converter_without_an_annotation(converter):
    """Without an annotation of the converter, the field's type counts."""
    cls = attrs.make_class("One", {"x": attrs.field(type=float, converter=converter)})
    with pytest.raises(Problems) as caught:
        structure(cls, {"x": "1"})
    assert caught.value.items[0].text == "expected float, got str"


def test_optional_converter():
    """attrs' own optional() passes its function's annotation on."""

    def parse(value: str) -> int:
        return int(value)

    field = attrs.field(type=int | None, converter=attrs.converters.optional(parse))
    cls = attrs.make_class("One", {"x": field})
    assert structure(cls, {"x": None}).x is None
    assert structure(cls, {"x": "1"}).x == 1


def test_converter_that_takes_the_object():
    """attrs.Converter may want the object and the field; it is found to be the one that fails."""

    def check(value: int, instance: object, field: object) -> int:
        raise ValueError("never")

    converter = attrs.Converter(check, takes_self=True, takes_field=True)
    cls = attrs.make_class("One", {"x": attrs.field(type=int, converter=converter)})
    with pytest.raises(Problems) as caught:
        structure(cls, {"x": 1})
    assert [(item.path, item.text) for item in caught.value.items] == [(".x", "never")]


def test_validator_that_needs_a_missing_field():
    """A validator over two fields is not blamed while one of them is missing."""

    def below(instance: Any, attribute: object, value: int) -> None:
        if value > instance.most:
            raise ValueError("more than most")

    cls = attrs.make_class(
        "Two", {"least": attrs.field(type=int, validator=below), "most": attrs.field(type=int)}
    )
    with pytest.raises(Problems) as caught:
        structure(cls, {"least": 1})
    assert [item.path for item in caught.value.items] == [".most"]
    with pytest.raises(Problems) as caught:
        structure(cls, {"least": 2, "most": 1})
    assert [item.path for item in caught.value.items] == [".least"]


def test_constructor_that_fails_by_itself():
    """An error of the whole config has the path $; an empty message gets its type."""

    @attrs.frozen
    class Whole:
        x: int

        def __attrs_post_init__(self) -> None:
            raise KeyError if self.x else AttributeError("nothing like it")

    for value, text in ((0, "nothing like it"), (1, "KeyError")):
        with pytest.raises(Problems) as caught:
            structure(Whole, {"x": value})
        assert [(item.path, item.text) for item in caught.value.items] == [("", text)]


def test_unresolvable_annotation_takes_anything():
    """Where a type cannot be resolved values pass; the contract check reports the type."""

    @attrs.frozen
    class Vague:
        client: "nowhere.Client"  # noqa: F821

    assert structure(Vague, {"client": 1}) == Vague(1)
    assert init_fields(Vague)[0].type == "nowhere.Client"


# Texts


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (None, "None"),
        ("Later", "Later"),
        (str | None, "str | None"),
        (Annotated[int, "x"], "int"),
        (Literal["a", 1], "'a' | 1"),
        (Callable[[int], str], "callable"),
        (Callable, "callable"),
        (Word, "'yes'"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Mapping[str, Inner], "Mapping[str, Inner]"),
        (Any, "Any"),
        (T, "T"),
    ],
)
def test_types_as_text(kind, text):
    """Types read as a person writes them."""
    assert type_text(kind) == text


def test_enum_of_other_values():
    """An enum is described by its values, whatever they are."""
    kind = Enum("Pair", {"ONE": (1, 2)})
    assert type_text(kind) == "(1, 2)"
    assert one(kind, (1, 2)) is kind.ONE


def test_hiding_and_cutting():
    """Secrets that are text are taken out of messages; long values are cut."""
    assert hide("a b", ["b", "", None, len]) == "a [hidden]"
    assert len(shown("x" * 100)) == 60
