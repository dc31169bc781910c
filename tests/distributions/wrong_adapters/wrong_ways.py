"""More ways to break the rules, each named behind a dot in its entry point; and one to keep them.

`wrong_adapters` has one way for each rule.
"""

import asyncio
from collections.abc import AsyncIterator

import attrs
from right_adapter import RightAdapter
from wrong_adapters import Editor, SlowReader, block

from adapter_api import (
    End,
    HealthState,
    HealthStatus,
    InvalidRequest,
    TaskRequest,
    Token,
    TokenEvent,
    hookimpl,
)


class LateIndexes(Editor):
    """Counts in a hundred numbers."""

    def edit(self, event: TokenEvent) -> list[TokenEvent]:
        return [attrs.evolve(event, index=event.index % 100) if isinstance(event, Token) else event]


class Hurries(Editor):
    """Reports a time that is longer than the job."""

    def edit(self, event: TokenEvent) -> list[TokenEvent]:
        if isinstance(event, End):
            event = attrs.evolve(event, metrics=attrs.evolve(event.metrics, decode_time_ms=6e4))
        return [event]


class Exits(Editor):
    """Ends the process where it should fail."""

    def edit(self, event: TokenEvent) -> list[TokenEvent]:
        if isinstance(event, Token) and event.index == 3:
            raise SystemExit(7)
        return [event]


class RightIterator(RightAdapter):
    """Gives an iterator that cannot be closed, which is allowed."""

    @hookimpl
    def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        return _Iterator(RightAdapter.submit(self, task))


class _Iterator(AsyncIterator[TokenEvent]):
    def __init__(self, events: AsyncIterator[TokenEvent]) -> None:
        self.events = events

    async def __anext__(self) -> TokenEvent:
        return await anext(self.events)


class SmallWords(SlowReader):
    """Does the same with words as engines give them."""

    async def pump(self, task: TaskRequest, queue: asyncio.Queue[str | None]) -> None:
        async for word in RightAdapter.words(self, task):
            queue.put_nowait("".join(word))
        queue.put_nowait(None)


class BlockedInPieces(RightAdapter):
    """Blocks for each word of the jobs of which EventLoop blocks as a whole."""

    jobs = 0

    async def words(self, task: TaskRequest) -> AsyncIterator[str]:
        self.jobs += 1
        async for word in RightAdapter.words(self, task):
            if self.jobs in (2, 3, 4) and task.max_tokens == 16:
                block(0.04)
            yield word


class Retriable(RightAdapter):
    """Marks permanent errors as retriable."""

    async def words(self, task: TaskRequest) -> AsyncIterator[str]:
        if len(task.prompt or "") > 50_000:
            raise InvalidRequest("INVALID_PARAMS", "the prompt is too long", retriable=True)
        async for word in RightAdapter.words(self, task):
            yield word


class CancelledHealth(RightAdapter):
    """Has something cancelled behind its back while a job runs."""

    running = 0

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        self.running += 1
        try:
            async for event in RightAdapter.submit(self, task):
                yield event
        finally:
            self.running -= 1

    @hookimpl
    async def health(self) -> HealthStatus:
        if self.running:
            raise asyncio.CancelledError
        return HealthStatus(HealthState.HEALTHY)
