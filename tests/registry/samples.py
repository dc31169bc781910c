"""Adapters for the tests of BoundAdapter."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import attrs

from adapter_api import (
    End,
    EngineProps,
    HealthState,
    HealthStatus,
    Metrics,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    hookimpl,
)

HEALTHY = HealthStatus(HealthState.HEALTHY)


def task(**fields: Any) -> TaskRequest:
    """A job."""
    return TaskRequest(prompt="one two three", **fields)


async def three_words(job: TaskRequest) -> AsyncIterator[TokenEvent]:
    """The events of a whole answer."""
    yield Started(job.job_id, "test", "1")
    for index, word in enumerate(("one", "two", "three")):
        yield Token(word, index)
    yield End(Metrics(3), "stop", "finish_reason")


@attrs.define(eq=False)
class Least:
    """The required hooks and no other; `closed` counts the generators that ended."""

    closed: int = 0

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        try:
            async for event in three_words(task):
                yield event
                await asyncio.sleep(0)
        finally:
            self.closed += 1

    @hookimpl
    async def health(self) -> HealthStatus:
        return HEALTHY


@attrs.define(eq=False)
class Whole(Least):
    """An adapter with all hooks; `calls` records the calls, in order."""

    calls: list[str] = attrs.field(factory=list)
    failures: list[Exception] = attrs.field(factory=list)

    @hookimpl
    async def start(self) -> None:
        self.calls.append("start")
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop()

    @hookimpl
    async def aclose(self) -> None:
        self.calls.append("aclose")

    @hookimpl
    async def cancel(self, job_id: str) -> bool:
        self.calls.append("cancel")
        return job_id == "only the engine knows it"

    @hookimpl
    async def props(self) -> EngineProps:
        return EngineProps(engine="test")

    @hookimpl
    async def engine_version(self) -> str:
        return "7"


# What the submit hook may give


@attrs.define(eq=False)
class Giving(Least):
    """An adapter whose submit gives whatever the test wants."""

    make: Any = None

    @hookimpl
    def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        return self.make(task)
