"""The contract check: every mistake in an adapter class, each with what to write instead."""

import abc
import dataclasses
import functools
import re
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import Any

import attrs
import pytest

from adapter_api import API_VERSION, ContractError, TokenStream, WorkerAdapter, hookimpl
from registry import Registry
from registry.plugins.contract import (
    HOOKS,
    REQUIRED,
    attrs_class,
    contract_problems,
    find_config_class,
)
from registry.plugins.extensions import middleware_problems


@attrs.frozen
class Options:
    """The config of the adapters here."""


@attrs.define(eq=False)
class Good:
    """An adapter with nothing wrong; the others change it in one place."""

    config: Options

    @hookimpl
    async def submit(self, task):
        yield task

    @hookimpl
    async def health(self):
        return None


def only_problem(cls: object) -> str:
    """The one problem of `cls`."""
    problems = contract_problems(cls)
    assert len(problems) == 1, problems
    return problems[0]


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
    """One check tells everything that is wrong."""

    class Wrong:
        API_VERSION = API_VERSION + 1

        @hookimpl
        def health(self, deep=False): ...

    problems = "\n".join(contract_problems(Wrong))
    for part in ("submit is missing", "health is a plain", "default", "no config", "built as"):
        assert part in problems
    assert "API_VERSION" in problems


def test_target_that_is_no_class():
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
def test_hook_that_is_no_ordinary_method(kind):
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


# Signatures


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("(self, request)", "argument `request` must be named `task`"),
        ("(self)", "argument `task` is missing"),
        ("(self, task, more)", "argument `more` is unknown: remove it"),
        ("(self, *, task)", "argument `task` is keyword-only: remove the `*`"),
        ("(self, task=None)", "argument `task` has a default"),
        ("(self, task, *more)", "`*more` gets nothing"),
        ("(self, task, **more)", "`**more` gets nothing"),
    ],
)
def test_wrong_arguments(source, problem):
    """Each fault in a hook's arguments is named, with the form to write (WorkerAdapter.submit)."""
    scope: dict[str, Any] = {}
    exec(f"async def submit{source}: yield", scope)
    wrong = type("Wrong", (Good,), {"submit": hookimpl(scope["submit"])})
    found = only_problem(wrong)
    assert problem in found
    assert "write `async def submit(self, task): ... yield event`" in found


def test_no_self():
    """A hook without self is a problem."""

    class Wrong(Good):
        @hookimpl
        async def health(): ...

    assert "it takes no self" in only_problem(Wrong)


def test_positional_only_arguments_pass():
    """pluggy passes arguments by place, so positional-only ones work."""

    class Fine(Good):
        @hookimpl
        async def cancel(self, job_id, /):
            return False

    assert contract_problems(Fine) == []


# Sync and async


def hook_of_kind(name: str, source: str) -> type:
    """Good with the hook `name` of this source; its arguments are right."""
    scope: dict[str, Any] = {}
    exec(source, globals(), scope)
    return type("Wrong", (Good,), {name: hookimpl(scope[name])})


@pytest.mark.parametrize(
    ("name", "source", "problem"),
    [
        ("health", "def health(self): ...", "health is a plain function, not async"),
        ("health", "def health(self): yield", "health is a generator, not async"),
        ("health", "async def health(self): yield", "health is an async generator"),
        ("submit", "async def submit(self, task): ...", "submit is a coroutine"),
        ("submit", "def submit(self, task): yield", "submit is a generator, not async"),
        ("submit", "def submit(self, task): ...", "submit is a plain function"),
        ("submit", "def submit(self, task) -> list: ...", "submit is a plain function"),
        ("submit", "def submit(self, task) -> 'list[int]': ...", "submit is a plain function"),
    ],
)
def test_wrong_kind_of_function(name, source, problem):
    """Sync instead of async, and one value instead of a stream, are different problems."""
    assert problem in only_problem(hook_of_kind(name, source))


@pytest.mark.parametrize(
    "annotation",
    [TokenStream, AsyncIterator[int], AsyncGenerator[int, None], AsyncIterable[int], AsyncIterator],
)
def test_plain_submit_that_returns_a_stream(annotation):
    """A plain function is a submit if it says that it returns a stream."""

    def submit(self, task): ...

    submit.__annotations__["return"] = annotation
    assert contract_problems(type("Fine", (Good,), {"submit": hookimpl(submit)})) == []


@pytest.mark.parametrize("text", ["TokenStream", "adapter_api.TokenStream", "AsyncIterator[int]"])
def test_plain_submit_annotated_with_text(text):
    """The annotation may be text, as `from __future__ import annotations` makes it."""
    fine = hook_of_kind("submit", f"def submit(self, task) -> {text!r}: ...")
    assert contract_problems(fine) == []


def test_decorated_async_function():
    """A decorator that passes on what an async function returns leaves it async."""

    def logged(function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            return function(*args, **kwargs)

        return call

    class Fine(Good):
        @hookimpl
        @logged
        async def health(self): ...

    assert contract_problems(Fine) == []


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
def test_config_that_is_no_attrs_class(annotation):
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


# Middleware


class Around:
    """Middleware with nothing wrong."""

    @hookimpl(wrapper=True)
    def submit(self, task):
        return (yield)


class Replacing:
    """It would answer instead of the adapter."""

    @hookimpl
    def submit(self, task): ...


class NoGenerator:
    """A wrapper that does not yield."""

    @hookimpl(wrapper=True)
    def submit(self, task): ...


class Misspelt:
    """A wrapper of nothing."""

    @hookimpl(wrapper=True)
    def submitt(self, task):
        return (yield)


class OtherArgument:
    """Calls the task by another name."""

    @hookimpl(wrapper=True)
    def submit(self, tsk):
        return (yield)


class WithDefault:
    """Would never be given the task."""

    @hookimpl(wrapper=True)
    def submit(self, task=None):
        return (yield)


class Undecorated:
    """Forgot one of two decorators."""

    def submit(self, task): ...

    @hookimpl(wrapper=True)
    def health(self):
        return (yield)


class UndecoratedWrapper:
    """A function that yields was meant to be a wrapper."""

    @hookimpl(wrapper=True)
    def submit(self):
        return (yield)

    def health(self):
        return (yield)

    async def aclose(self):
        """For the application: no hook."""


@pytest.mark.parametrize(
    ("plugin", "problem"),
    [
        (Around, "give an object, not the class"),
        (
            OtherArgument(),
            "submit: argument `tsk` must be named `task`; write `def submit(self, task)`",
        ),
        (WithDefault(), "argument `task` has a default"),
        (Undecorated(), "submit is not decorated: put @hookimpl(wrapper=True) above it"),
        (UndecoratedWrapper(), "health is not decorated"),
        (object(), "it has no hook"),
        (Replacing(), "would take the adapter's place"),
        (NoGenerator(), "must be a generator"),
        (Misspelt(), "did you mean submit?"),
    ],
)
def test_wrong_middleware(plugin, problem):
    """Invalid middleware gets the advice what to write."""
    (found,) = middleware_problems(plugin)
    assert problem in found


def test_middleware_twice():
    """One object may not be given twice."""
    plugin = Around()
    assert middleware_problems(plugin) == []
    assert middleware_problems(plugin, (Around(),)) == []
    assert "equal to another" in middleware_problems(plugin, (plugin,))[0]


def test_the_error_says_which_middleware():
    """It is found when the registry is made, and is not called an adapter."""
    with pytest.raises(ContractError) as caught:
        Registry(middleware=[OtherArgument()])
    assert str(caught.value).startswith("middleware: OtherArgument does not fulfil the contract:")
