"""Observers that are refused, and those that only were installed."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from adapter_api import (
    ContractError,
    JobNotice,
    ObserverHooks,
    TaskRequest,
    hookimpl,
)
from registry import Registry
from registry.plugins.extensions import NOTICES, observer_problems
from tests.witness import Recorder


def _task(**fields: Any) -> TaskRequest:
    return TaskRequest(**{"prompt": "hi", "model": "m", "session_id": "s", **fields})


def test_installing_activates_no_observer(samples: Callable[..., None]) -> None:
    """A distribution that carries an observer and middleware changes nothing by being there."""
    samples("acme_observer")

    async def go() -> None:
        registry = Registry()
        async with registry.get("acme-observer", {}) as adapter:
            await adapter.submit(_task()).text()

    asyncio.run(go())
    from acme_observer import TOLD, Observer  # type: ignore[import-not-found]

    assert TOLD == []

    async def again() -> None:
        async with Registry(observers=[Observer()]).get("acme-observer", {}) as adapter:
            await adapter.submit(_task()).text()

    asyncio.run(again())
    assert len(TOLD) == 1


class Misspelt:
    """Has a hook that there is not."""

    @hookimpl
    def job_endet(self, job: JobNotice) -> None: ...


class Undecorated:
    """Forgot the marker on one."""

    def job_failed(self, job: JobNotice) -> None: ...

    @hookimpl
    def job_ended(self, job: JobNotice) -> None: ...


class Wrapping:
    """Would change what it is to watch."""

    @hookimpl(wrapper=True)
    def job_ended(self, job: JobNotice) -> Any:
        yield


class Waiting:
    """Wants to be waited for."""

    @hookimpl
    async def job_ended(self, job: JobNotice) -> None: ...


class OtherArgument:
    """Names its argument after its own taste."""

    @hookimpl
    def job_ended(self, notice: JobNotice) -> None: ...


class KeywordOnly:
    """Would be called with what it does not take."""

    @hookimpl
    def job_ended(self, *, job: JobNotice) -> None: ...


class WithDefault:
    """Would never receive its argument."""

    @hookimpl
    def job_ended(self, job: JobNotice | None = None) -> None: ...


class Anything:
    """Would be given nothing."""

    @hookimpl
    def job_ended(self, *job: JobNotice) -> None: ...


@pytest.mark.parametrize(
    ("observer", "problem"),
    [
        (KeywordOnly(), "`job` is keyword-only: remove the `*` before it; write `def job_ended"),
        (WithDefault(), "remove the default; write `def job_ended(self, job)`"),
        (Anything(), "`*job` receives no value"),
        (Misspelt(), "did you mean job_ended?"),
        (Undecorated(), "job_failed is not decorated"),
        (Wrapping(), "observers change nothing"),
        (Waiting(), "must be a plain function"),
        (OtherArgument(), "def job_ended(self, job)"),
        (Recorder, "not the class"),
        (object(), "it has no hook"),
    ],
)
def test_wrong_observers(observer: object, problem: str) -> None:
    """Every mistake is explained when the registry is made."""
    with pytest.raises(ContractError, match="observers") as caught:
        Registry(observers=[observer])
    assert problem in str(caught.value)


def test_an_observer_is_given_once() -> None:
    """The same observer given twice is refused."""
    recorder = Recorder()
    assert "give each once" in observer_problems(recorder, [recorder])[0]


def test_every_hook_is_one_of_the_notices() -> None:
    """The check knows all hooks, and each has one argument."""
    assert len(NOTICES) == 12
    assert all(hasattr(ObserverHooks, name) for name in NOTICES)
