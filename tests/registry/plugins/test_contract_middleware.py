"""The contract check of middleware."""

import pytest

from adapter_api import ContractError, hookimpl
from registry import Registry
from registry.plugins.extensions import middleware_problems

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
