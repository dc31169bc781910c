"""BoundAdapter: middleware around its hooks."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import attrs
import pytest

from adapter_api import (
    ErrorCode,
    HealthState,
    HealthStatus,
    InvalidRequest,
    TaskRequest,
    Token,
    TokenEvent,
    TokenStream,
    hookimpl,
)
from registry.adapter import BoundAdapter
from tests.registry.samples import Giving, Least, Whole, task, three_words


def bind(adapter: object, *middleware: object) -> BoundAdapter:
    """The adapter, bound."""
    return BoundAdapter(adapter, name="made", middleware=middleware)


# Middleware


class Upper:
    """Makes the text upper case; `log` records the order of events."""

    def __init__(self, log: list[str], name: str = "") -> None:
        self.log = log
        self.name = name

    @hookimpl(wrapper=True)
    def submit(self, task: TaskRequest) -> Any:
        events = yield
        return self.changed(events)

    async def changed(self, events: AsyncIterator[TokenEvent]) -> AsyncIterator[TokenEvent]:
        self.log.append(self.name)
        async for event in events:
            yield attrs.evolve(event, text=event.text.upper()) if type(event) is Token else event


async def test_middleware_changes_the_stream():
    """A wrapper of submit may replace what the adapter gives."""
    assert await bind(Least(), Upper([])).submit(task()).text() == "ONETWOTHREE"


async def test_first_middleware_is_outermost():
    """The first of several is the outermost: it runs first and sees what the others made."""
    log: list[str] = []
    adapter = bind(Least(), Upper(log, "outer"), Upper(log, "inner"))
    await adapter.submit(task()).text()
    assert log == ["outer", "inner"]


@pytest.mark.parametrize("opened", [True, False])
async def test_closing_the_outer_closes_the_inner(opened):
    """Closing the stream closes the adapter's generator, even if the middleware does not."""
    least = Least()
    stream = bind(least, Upper([])).submit(task())
    if opened:
        await anext(await stream)
        await anext(stream)
    await stream.aclose()
    assert least.closed == int(opened)


async def test_middleware_around_another_hook():
    """Other hooks may be wrapped too; the wrapper may answer by itself."""

    class Sleeping:
        @hookimpl(wrapper=True)
        def health(self) -> Any:
            (yield).close()
            return HealthStatus(HealthState.DEGRADED)

    assert (await bind(Least(), Sleeping()).health()).state is HealthState.DEGRADED


async def test_middleware_that_is_not_a_generator():
    """A middleware may give any async iterator, without a way to close it."""

    class Plain:
        @hookimpl(wrapper=True)
        def submit(self, task: TaskRequest) -> Any:
            events = yield

            class Passing(AsyncIterator[TokenEvent]):
                async def __anext__(self) -> TokenEvent:
                    return await anext(events)

            return Passing()

    least = Least()
    async with bind(least, Plain()).submit(task()) as stream:
        await anext(stream)
    assert least.closed == 1


async def test_middleware_that_leaves_the_stream_alone():
    """A wrapper that gives back what it got adds nothing around the stream."""

    class Watching:
        @hookimpl(wrapper=True)
        def submit(self, task: TaskRequest) -> Any:
            return (yield)

    given: list[TokenStream] = []

    def make(job: TaskRequest) -> TokenStream:
        given.append(TokenStream(three_words(job), job))
        return given[0]

    stream = bind(Giving(make=make), Watching()).submit(task())
    assert stream is given[0]
    await stream.aclose()


async def test_middleware_that_fails():
    """A wrapper that raises fails the job, not the submit."""

    class Failing:
        @hookimpl(wrapper=True)
        def submit(self, task: TaskRequest) -> Any:
            yield
            raise InvalidRequest(ErrorCode.INVALID_PARAMS, "too long for us")

    with pytest.raises(InvalidRequest, match="too long for us"):
        await bind(Least(), Failing()).submit(task())


async def test_middleware_applies_before_start_too():
    """The job that starts the adapter goes through the middleware as well."""
    whole = Whole()
    async with aclosing(bind(whole, Upper([]))) as adapter:
        assert await adapter.submit(task()).text() == "ONETWOTHREE"
    assert whole.calls == ["start", "aclose"]
