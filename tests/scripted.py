"""Adapters' events from a list of steps, well-behaved and otherwise, and readers of them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from adapter_api import (
    End,
    Metrics,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    TokenStream,
    WorkerError,
)

TASK = TaskRequest(prompt="x", job_id="job")
STARTED = Started("job", "toy", "1")
END = End(Metrics(3), "stop", "finish_reason")


def tokens(count: int) -> list[Token]:
    """The first `count` tokens of an answer."""
    return [Token(f"t{i}", i) for i in range(count)]


class Script:
    """Plays its steps: events are yielded, exceptions raised, numbers slept.

    Args:
        *steps: What happens, in order.
        cleanup: Steps of the clean-up; it takes one turn of the loop in any case.

    Attributes:
        at: Index of the step it is at; -1 before it began.
        closed: Whether the clean-up ran to its end.
    """

    def __init__(self, *steps: Any, cleanup: tuple[Any, ...] = ()) -> None:
        self.steps = steps
        self.cleanup = cleanup
        self.closed = False
        self.at = -1

    async def events(self) -> AsyncIterator[TokenEvent]:
        """The events, once."""
        try:
            for at, step in enumerate(self.steps):
                self.at = at
                if isinstance(step, int | float | BaseException):
                    await _do(step)
                else:
                    yield step
        finally:
            await asyncio.sleep(0)
            self.closed = True
            for step in self.cleanup:
                await _do(step)

    def stream(self, **changes: Any) -> TokenStream:
        """A stream of the events; `changes` are fields of its task."""
        return TokenStream(self.events(), TaskRequest(prompt="x", job_id="job", **changes))


async def _do(step: Any) -> None:
    if isinstance(step, BaseException):
        raise step
    await asyncio.sleep(step)


def facts(error: Any) -> Any:
    """Return what two copies of one error have in common."""
    return type(error), error.fields()


async def collect(stream: TokenStream, seen: list[Any] | None = None) -> list[Any]:
    """Every event, and the WorkerError that ended the stream, if one did."""
    seen = [] if seen is None else seen
    try:
        async for event in stream:
            seen.append(event)
    except WorkerError as error:
        seen.append(error)
    return seen


async def reading(stream: TokenStream, until: int) -> "tuple[asyncio.Task[list[Any]], list[Any]]":
    """A task that collects the stream, and what it has seen, when it has seen `until` events and
    waits for the next."""
    seen: list[Any] = []
    task = asyncio.create_task(collect(stream, seen))
    while len(seen) < until and not task.done():
        await turns(1)
    await turns(3)
    return task, seen


async def turns(count: int) -> None:
    """Let the loop run `count` times."""
    for _ in range(count):
        await asyncio.sleep(0)
