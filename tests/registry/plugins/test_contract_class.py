"""The contract check: the config of an adapter class, and the class itself."""

import abc
import dataclasses
import typing
from typing import Any

import attrs
import pytest

from adapter_api import API_VERSION
from registry.plugins.contract import (
    attrs_class,
    contract_problems,
    find_config_class,
)
from tests.registry.plugins.contract_samples import Good, Options, only_problem

# Config


class Holder:
    """Good without its config."""

    submit = Good.submit
    health = Good.health

    def __init__(self, config): ...


def test_no_config_class():
    """An adapter without a config class gets both ways to name one."""
    assert "annotate `config: YourConfig`" in only_problem(Holder)


def test_config_attribute_comes_first():
    """A `Config` attribute names the class."""

    class Fine(Holder):
        Config = Options

    assert find_config_class(Fine) == (Options, None)


@pytest.mark.parametrize("annotation", ["Options", Options, Options | None, "Options | None"])
def test_annotation_names_the_config(annotation):
    """The annotation may be text and may admit None."""
    fine = type("Fine", (Holder,), {"__annotations__": {"config": annotation}})
    fine.__module__ = __name__
    assert find_config_class(fine) == (Options, None)


class Record(typing.NamedTuple):
    """A class that cannot be made an attrs class."""


@dataclasses.dataclass
class Plain:
    """A class that can."""


NO_CONFIGS = [int, dict, dict[str, int], Options | Good, list[Options], Any, Record]


@pytest.mark.parametrize("annotation", NO_CONFIGS)
def test_config_that_is_not_an_attrs_class(annotation):
    """A config class must be one attrs class; what cannot be decorated is to be replaced."""
    wrong = type("Wrong", (Holder,), {"__annotations__": {"config": annotation}})
    problem = only_problem(wrong)
    assert "is not an attrs class" in problem
    assert "write a class with a field for each and @attrs.frozen above it" in problem


def test_config_class_that_can_be_decorated():
    """One line makes an attrs class of it."""
    wrong = type("Wrong", (Holder,), {"Config": Plain})
    assert "Plain is not an attrs class: decorate it with @attrs.frozen" in only_problem(wrong)


def test_config_that_is_an_object():
    """Given is an object where its class is wanted."""
    wrong = type("Wrong", (Holder,), {"Config": Options()})
    assert "the config Options() is an object: let `Config` be its class" in only_problem(wrong)


def test_unresolvable_annotation():
    """An annotation that names nothing at run time is explained."""
    wrong = type("Wrong", (Holder,), {"__annotations__": {"config": "Nowhere"}})
    wrong.__module__ = __name__
    assert "cannot be resolved (name 'Nowhere' is not defined)" in only_problem(wrong)


def test_unresolvable_types_in_the_config():
    """The options' types must be there at run time, since values are checked by them."""

    @attrs.frozen
    class Vague:
        client: "nowhere.Client"  # noqa: F821

    class Wrong(Holder):
        Config = Vague

    assert "the annotations of Vague cannot be resolved" in only_problem(Wrong)


def test_attrs_class_is_a_class():
    """An attrs object is not an attrs class."""
    assert attrs_class(Options)
    assert not attrs_class(Options())


# The class


def test_constructor_without_config():
    """A constructor that does not take a config alone is shown."""

    @attrs.define(eq=False)
    class Wrong(Good):
        other: int

    problem = only_problem(Wrong)
    assert "cannot be built as Wrong(config)" in problem
    assert "other: int" in problem


def test_class_without_signature():
    """A class whose signature cannot be read is given the benefit of the doubt."""

    class Fine(Good):
        __signature__ = "none"

    with pytest.raises((TypeError, ValueError)):
        __import__("inspect").signature(Fine)
    assert contract_problems(Fine) == []


def test_abstract_class():
    """An abstract class lists what it lacks."""

    class Wrong(Good, abc.ABC):
        @abc.abstractmethod
        def finish(self): ...

    assert only_problem(Wrong) == "it is abstract: implement finish"


def test_comparing_by_value():
    """pluggy compares plugins with ==, so objects that compare by value are refused."""

    @attrs.define
    class Wrong(Good): ...

    class ByHand(Good):
        def __eq__(self, other): ...

        def __hash__(self): ...

    for cls in (Wrong, ByHand):
        assert "use @attrs.define(eq=False)" in only_problem(cls)


def test_unhashable():
    """Objects that only lack a hash are a problem of their own."""

    class Wrong(Good):
        __hash__ = None

    assert "unhashable" in only_problem(Wrong)


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        (API_VERSION + 1, "upgrade worker-adapters"),
        (API_VERSION - 1, "upgrade the adapter's distribution"),
        ("1", "API_VERSION must be an int, got '1'"),
        (True, "API_VERSION must be an int, got True"),
    ],
)
def test_api_version(version, problem):
    """A contract of another version says which side to upgrade."""
    assert problem in only_problem(type("Wrong", (Good,), {"API_VERSION": version}))
