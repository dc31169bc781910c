"""The contract check: every mistake in an adapter class, each with what to write instead."""

import functools
import re

import attrs
import pytest

from adapter_api import API_VERSION, WorkerAdapter, hookimpl
from registry.plugins.contract import (
    HOOKS,
    REQUIRED,
    contract_problems,
)
from tests.registry.plugins.contract_samples import Good, Options, only_problem


def test_hooks_are_those_of_the_contract():
    """The check knows the hooks from WorkerAdapter itself (ADAPT-3000)."""
    assert set(HOOKS) == {
        "submit", "health", "start", "aclose", "cancel", "props", "engine_version",
    }  # fmt: skip
    assert HOOKS["submit"].streams
    assert HOOKS["cancel"].arguments == ("job_id",)
    assert set(REQUIRED) <= set(HOOKS)


def test_good_adapter_has_no_problem():
    """The least that is an adapter passes."""
    assert contract_problems(Good) == []


def test_adapter_with_every_hook_has_no_problem():
    """All hooks, a constructor with more defaults and the right API_VERSION pass."""

    class Whole(Good):
        API_VERSION = API_VERSION

        def __init__(self, config: Options, more: int = 1) -> None:
            self.config = config

        @hookimpl
        async def start(self): ...

        @hookimpl
        async def aclose(self): ...

        @hookimpl
        async def cancel(self, job_id):
            return False

        @hookimpl
        async def props(self): ...

        @hookimpl
        async def engine_version(self): ...

    assert contract_problems(Whole) == []


def test_explicit_subclass_of_the_protocol_passes():
    """Deriving from WorkerAdapter is allowed: what it inherits from there is not a hook of its
    own."""

    @attrs.define(eq=False)
    class Derived(WorkerAdapter):
        config: Options

        @hookimpl
        async def submit(self, task):
            yield task

        @hookimpl
        async def health(self): ...

    assert contract_problems(Derived) == []


def test_all_problems_come_together():
    """One check reports everything that is wrong."""

    class Wrong:
        API_VERSION = API_VERSION + 1

        @hookimpl
        def health(self, deep=False): ...

    problems = "\n".join(contract_problems(Wrong))
    for part in ("submit is missing", "health is a plain", "default", "no config", "built as"):
        assert part in problems
    assert "API_VERSION" in problems


def test_target_that_is_not_a_class():
    """A function or a module as target gets the advice to name the class."""
    assert "not a class" in only_problem(len)


# Missing, undecorated, misspelt


def test_missing_hook():
    """A missing hook comes with the form to write."""

    class Wrong:
        Config = Options

        def __init__(self, config): ...

        @hookimpl
        async def health(self): ...

    problem = only_problem(Wrong)
    assert "submit is missing" in problem
    assert "`async def submit(self, task): ... yield event` with @hookimpl" in problem


def test_missing_hook_with_a_near_method():
    """A method that may be meant is named."""

    class Wrong:
        Config = Options

        def __init__(self, config): ...

        async def sumbit(self, task): ...

        @hookimpl
        async def health(self): ...

    assert "mean it by sumbit?" in only_problem(Wrong)


@pytest.mark.parametrize("name", ["submit", "cancel"])
def test_undecorated_hook(name):
    """A method of the contract without @hookimpl would never be called."""

    class Wrong(Good): ...

    async def method(self, job_id): ...

    setattr(Wrong, name, method)
    assert f"{name} is not decorated: put @hookimpl" in only_problem(Wrong)


def test_data_under_the_name_of_an_optional_hook():
    """A field may have the name of an optional hook: it is data, not a forgotten decorator."""

    @attrs.define(eq=False)
    class Fine(Good):
        engine_version: str = "1"

    assert contract_problems(Fine) == []


def test_misspelt_hook():
    """A decorated method that is not a hook gets the nearest hook's name."""

    class Wrong(Good):
        @hookimpl
        async def close(self): ...

    assert only_problem(Wrong) == "close is not a hook: did you mean aclose?"


def test_unknown_hook():
    """A decorated method unlike any hook gets the list of hooks."""

    class Wrong(Good):
        @hookimpl
        async def frobnicate(self): ...

    assert "the hooks are submit, health" in only_problem(Wrong)


def test_optional_hook_marker():
    """pluggy's optionalhook says that the author knows of no such hook."""

    class Fine(Good):
        @hookimpl(optionalhook=True)
        async def of_the_future(self): ...

    assert contract_problems(Fine) == []


def test_specname_names_the_hook():
    """A method may implement a hook under another name, but not a second time."""

    class Fine(Good):
        @hookimpl(specname="props")
        async def facts(self): ...

    class Wrong(Good):
        @hookimpl(specname="health")
        async def pulse(self): ...

    assert contract_problems(Fine) == []
    assert only_problem(Wrong) == "health and pulse both implement health: keep one"


class CallableObject:
    """Answers when it is called; as an attribute, it gets no self."""

    async def __call__(self):
        return None


async def _health(self):
    return None


@pytest.mark.parametrize("decorate", [hookimpl, lambda value: value])
@pytest.mark.parametrize(
    "make",
    [lambda: functools.cache(_health), lambda: functools.partialmethod(_health), CallableObject],
)
def test_hook_that_is_an_object(make, decorate):
    """It is there, so it is not called missing: it is of a kind that pluggy does not call."""
    wrong = type("Wrong", (Good,), {"health": decorate(make())})
    assert re.match(r"health is a \w+ object, which is never called as a hook", only_problem(wrong))


def test_attributes_are_left_alone():
    """An object that claims every attribute, as proxies and mocks do, is not a hook, and is
    not called."""

    class Proxy:
        def __getattr__(self, name):
            raise RuntimeError("nothing is behind it")

    fine = type("Fine", (Good,), {"client": Proxy(), "start": None})
    assert contract_problems(fine) == []


@pytest.mark.parametrize("kind", [staticmethod, classmethod])
def test_hook_that_is_not_an_ordinary_method(kind):
    """A static or class method as a hook is one problem, not also a missing hook."""

    class Wrong(Good):
        @kind
        @hookimpl
        async def health(self): ...

    assert f"health is a {kind.__name__}" in only_problem(Wrong)


def test_static_method_beside_the_hooks():
    """A static method of another name is ignored."""

    class Fine(Good):
        @staticmethod
        def helper(): ...

    assert contract_problems(Fine) == []


def test_wrapper_in_an_adapter():
    """Only middleware may wrap hooks."""

    class Wrong(Good):
        @hookimpl(wrapper=True)
        def health(self):
            return (yield)

    assert "only middleware may be" in only_problem(Wrong)
