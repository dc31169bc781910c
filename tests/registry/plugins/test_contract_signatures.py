"""The contract check: signatures of hooks, and whether they are async."""

import functools
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import Any

import pytest

from adapter_api import TokenStream, hookimpl
from registry.plugins.contract import (
    contract_problems,
)
from tests.registry.plugins.contract_samples import Good, only_problem

# Signatures


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("(self, request)", "argument `request` must be named `task`"),
        ("(self)", "argument `task` is missing"),
        ("(self, task, more)", "argument `more` is unknown: remove it"),
        ("(self, *, task)", "argument `task` is keyword-only: remove the `*`"),
        ("(self, task=None)", "argument `task` has a default"),
        ("(self, task, *more)", "`*more` receives no value"),
        ("(self, task, **more)", "`**more` receives no value"),
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
