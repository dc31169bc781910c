"""Cancelling, from inside of the adapter's own code and against it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapter_api import (
    Cancelled,
    Error,
    InternalError,
    Started,
    StreamTable,
    Token,
    TokenEvent,
    TokenStream,
)
from tests.adapter_api.answering import answers
from tests.scripted import END, STARTED, TASK, collect, reading, turns

# From inside of the adapter's own code


@pytest.mark.parametrize("then", ["yields", "waits", "raises", "ends"])
async def test_the_adapters_own_code_may_cancel_its_job(then: str) -> None:
    """Middleware may cancel the job: no token comes, and the reader's task is not cancelled."""
    stream: TokenStream

    async def stops_itself() -> AsyncIterator[TokenEvent]:
        yield STARTED
        assert await stream.cancel() is True
        if then == "raises":
            raise OSError
        if then == "waits":
            await asyncio.sleep(60)
        if then != "ends":
            yield Token("late", 0)

    stream = TokenStream(stops_itself(), TASK)
    seen = await asyncio.wait_for(collect(stream), 1)
    assert [type(item) for item in seen] == [Started, Error, Cancelled]
    task = asyncio.current_task()
    assert task is not None
    await turns(3)
    assert task.cancelling() == 0


@pytest.mark.parametrize("how", ["end", "cancel", "task"])
async def test_a_clean_up_may_close_its_own_job(how: str) -> None:
    """`finally: await adapter.cancel(job_id)` does not wait for itself."""
    table = StreamTable()
    closed = False

    async def careful() -> AsyncIterator[TokenEvent]:
        nonlocal closed
        try:
            yield STARTED
            if how != "end":
                await asyncio.sleep(60)
            yield END
        finally:
            await table.cancel("job")
            await table.aclose()
            closed = True

    stream = table.add(TokenStream(careful(), TASK))
    reader, _ = await reading(stream, 1)
    if how == "cancel":
        assert await asyncio.wait_for(stream.cancel(), 1)
    if how == "task":
        reader.cancel()
    await asyncio.wait([reader], timeout=1)
    assert reader.done()
    assert reader.cancelled() is (how == "task")
    assert closed


# Adapters that misbehave when they are cancelled


@pytest.mark.parametrize(
    "how", ["lets it pass", "yields", "raises", "raises a WorkerError", "ends", "ends the answer"]
)
async def test_whatever_an_adapter_makes_of_it_the_job_is_cancelled(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No token of such an adapter is delivered after cancel, and the outcome is CANCELLED."""
    stream = TokenStream(answers(how), TASK)
    reader, seen = await reading(stream, 1)
    assert await stream.cancel() is True
    await reader
    assert [type(item) for item in seen] == [Started, Error, Cancelled]
    assert reader.cancelling() == 0
    assert ("failed with OSError" in caplog.text) is (how == "raises")


@pytest.mark.parametrize("how", ["raises", "raises a WorkerError", "ends"])
async def test_an_adapter_cannot_hide_that_its_reader_is_cancelled(how: str) -> None:
    """Another exception of it, or its silent end, does not become the job's outcome."""
    stream = TokenStream(answers(how), TASK)
    reader, seen = await reading(stream, 1)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await reader
    assert caught.value.__cause__ is not None
    assert seen == [STARTED]
    assert isinstance((await collect(stream))[-1], Cancelled)


async def _own_cancellation() -> None:
    """`task.cancel(); await task` raises, and the awaiting task itself is not cancelled."""
    pump = asyncio.create_task(asyncio.sleep(60))
    await turns(1)
    pump.cancel()
    await pump


async def test_a_cancellation_from_within_is_a_failure() -> None:
    """The CancelledError of a task that an adapter waits for would end a reader without a word."""

    async def pumped() -> AsyncIterator[TokenEvent]:
        yield STARTED
        await _own_cancellation()

    seen = await collect(TokenStream(pumped(), TASK))
    assert isinstance(seen[-1], InternalError)
    assert seen[-1].message.endswith(".pumped) failed with CancelledError")
    assert isinstance(seen[-1].__cause__, asyncio.CancelledError)


async def test_a_cancellation_from_within_the_clean_up_is_untidy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither the reader of a whole answer nor the caller of cancel is cancelled by it."""

    async def pumped() -> AsyncIterator[TokenEvent]:
        try:
            yield STARTED
            yield END
        finally:
            await _own_cancellation()

    assert await TokenStream(pumped(), TASK).text() == ""
    stream = await TokenStream(pumped(), TASK)
    assert await stream.cancel() is True
    assert caplog.text.count("failed with CancelledError") == 2


@pytest.mark.parametrize("read", [True, False])
async def test_a_clean_up_that_turns_cancellation_into_an_error(read: bool) -> None:
    """A reader or canceller that is cancelled while the adapter cleans up stays cancelled."""

    async def touchy() -> AsyncIterator[TokenEvent]:
        try:
            yield STARTED
            yield END
        finally:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise OSError("broken pipe") from None

    stream = await TokenStream(touchy(), TASK)
    task: asyncio.Task[Any] = asyncio.create_task(collect(stream) if read else stream.cancel())
    await turns(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await stream.cancel() is not read
