"""Cancelling the task that reads a stream."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from adapter_api import (
    Cancelled,
    Error,
    Started,
    StreamClock,
    Token,
    TokenEvent,
    TokenStream,
    WorkerReset,
    WorkerTimeout,
)
from tests.adapter_api.answering import answers
from tests.scripted import END, STARTED, TASK, Script, collect, reading, tokens, turns
from tests.virtual_time import in_virtual_time

# The reading task is cancelled


@pytest.mark.parametrize("when", range(14))
@pytest.mark.parametrize("opened", [False, True])
async def test_task_cancellation_at_any_await_goes_on(when: int, opened: bool) -> None:
    """The reading task's CancelledError is never swallowed and always closes the adapter."""
    script = Script(0, STARTED, 0, 0.0001, *tokens(2), 0, 0, Token("t2", 2), 60)
    stream = script.stream(deadline_s=10)

    async def read() -> None:
        if opened:
            await stream
        await collect(stream)

    reader = asyncio.create_task(read())
    await turns(when)
    reader.cancel("from outside")
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert reader.cancelling() == 1
    if script.at >= 0:
        assert script.closed
        assert isinstance((await collect(stream))[-1], Cancelled)
        assert await stream.cancel() is True
    else:
        await stream.aclose()


@pytest.mark.parametrize("first", ["ours", "outside"])
@pytest.mark.parametrize("ours", ["cancel", "limit"])
@pytest.mark.parametrize("adapter", ["lets it pass", "yields", "raises", "ends"])
async def test_outside_cancellation_wins_over_our_own(first: str, ours: str, adapter: str) -> None:
    """When both fall together, in either order and whatever the adapter makes of it, the task is
    cancelled, and its count of cancellations is right."""
    clock = StreamClock()
    stream = TokenStream(answers(adapter), TASK, clock=clock)
    reader, _ = await reading(stream, 1)

    def interrupt() -> None:
        clock.interrupt(
            Cancelled("CANCELLED", "x") if ours == "cancel" else WorkerTimeout("DECODE_TIMEOUT", "")
        )

    actions: list[Callable[[], object]] = [interrupt, reader.cancel]
    for action in actions if first == "ours" else reversed(actions):
        action()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert reader.cancelling() == 1
    assert await asyncio.wait_for(stream.cancel(), 1) is True


async def test_asyncio_timeout_around_a_reader_works() -> None:
    """asyncio.timeout sees its own cancellation come back as TimeoutError."""
    script = Script(STARTED, 60)
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await script.stream().text()
    assert script.closed
    assert task.cancelling() == 0


async def test_asyncio_timeout_inside_of_an_adapter_works() -> None:
    """An adapter's own timeout is its own business; a job that continues is not disturbed."""

    async def patient() -> AsyncIterator[TokenEvent]:
        yield STARTED
        for token in tokens(3):
            try:
                async with asyncio.timeout(0.005):
                    await asyncio.sleep(60)
            except TimeoutError:
                yield token
        yield END

    stream = TokenStream(patient(), TASK, clock=StreamClock(10))
    assert await stream.text() == "t0t1t2"


async def test_a_task_group_around_a_reader_works() -> None:
    """A sibling's failure cancels the reader; the group reports the failure alone."""
    script = Script(STARTED, 60)

    async def fail() -> None:
        await turns(5)
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(collect(script.stream()))
            group.create_task(fail())
    assert [type(e) for e in caught.value.exceptions] == [ZeroDivisionError]
    assert script.closed


async def test_a_reader_that_was_cancelled_before_reads_on() -> None:
    """A task that caught an earlier CancelledError, and never took it back, is not taken for
    cancelled: only what comes during the wait counts."""

    async def read() -> list[Any]:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        script = Script(STARTED, 0.001, *tokens(1), WorkerReset("WORKER_RESET", "x"))
        return await collect(script.stream(deadline_s=5))

    reader = asyncio.create_task(read())
    await turns(2)
    reader.cancel()
    assert [type(item) for item in await reader] == [Started, Token, Error, WorkerReset]
    assert reader.cancelling() == 1


@in_virtual_time
async def test_a_cancellation_that_comes_while_the_reader_works_is_not_lost() -> None:
    """As Ctrl-C does in asyncio.run: the next wait, for the adapter or its cleanup, gets it."""
    task = asyncio.current_task()
    assert task is not None
    for closes in (False, True):
        script = Script(STARTED, *tokens(1), 60, cleanup=(0.1,))
        with pytest.raises(asyncio.CancelledError):
            async with script.stream() as stream:
                await anext(stream)
                task.cancel()
                if not closes:
                    await anext(stream)
                    await anext(stream)
        assert await stream.cancel() is True
        assert task.uncancel() == 0
