"""BoundAdapter: starting, cancelling and closing."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from adapter_api import (
    Cancelled,
    EngineUnavailable,
    ErrorCode,
    HealthState,
    Started,
    StreamingError,
    TaskRequest,
    TokenEvent,
    hookimpl,
)
from registry.adapter import BoundAdapter
from tests.registry.samples import Least, Whole, task


def bind(adapter: object, *middleware: object) -> BoundAdapter:
    """The adapter, bound."""
    return BoundAdapter(adapter, name="made", middleware=middleware)


# Starting


@pytest.mark.parametrize("call", ["health", "props", "engine_version", "start"])
async def test_started_once_before_anything_else(call):
    """The first call that needs the engine starts the adapter, and no later one (ORCH-3056)."""
    whole = Whole()
    adapter = bind(whole)
    await getattr(adapter, call)()
    await getattr(adapter, call)()
    async with adapter:
        await adapter.submit(task()).text()
    assert whole.calls == ["start", "aclose"]


async def test_concurrent_first_submits_start_once():
    """Many first jobs at once wait for one start."""
    whole = Whole()
    async with aclosing(bind(whole)) as adapter:
        texts = await asyncio.gather(*(adapter.submit(task()).text() for _ in range(20)))
    assert texts == ["onetwothree"] * 20
    assert whole.calls.count("start") == 1


async def test_failed_start_is_tried_again():
    """A start that failed is the job's error, and the next job tries again."""
    whole = Whole(failures=[EngineUnavailable("POOL_UNAVAILABLE", "not yet")])
    adapter = bind(whole)
    with pytest.raises(EngineUnavailable, match="not yet"):
        await adapter.submit(task())
    assert await adapter.submit(task()).text() == "onetwothree"
    assert whole.calls == ["start", "start"]
    await adapter.aclose()


async def test_submit_before_start_sends_nothing():
    """A stream that is never opened starts nothing and leaves nothing."""
    whole = Whole()
    adapter = bind(whole)
    stream = adapter.submit(task())
    await adapter.aclose()
    assert whole.calls == ["aclose"]
    with pytest.raises(Cancelled):
        await stream


async def test_deadline_covers_the_start():
    """Starting is charged to the job's deadline like everything else."""

    class Slow(Whole):
        @hookimpl
        async def start(self) -> None:
            await asyncio.sleep(10)

    async with aclosing(bind(Slow())) as adapter:
        with pytest.raises(Exception, match="deadline") as caught:
            await adapter.submit(task(deadline_s=0.05))
    assert caught.value.code is ErrorCode.DEADLINE_UNMET


async def test_closing_the_first_stream_closes_the_adapters_generator():
    """The stream that started the adapter releases the adapter's generator when it is closed."""
    whole = Whole()
    async with bind(whole) as adapter:
        pass
    whole = Whole()
    adapter = bind(whole)
    async with adapter.submit(task()) as stream:
        await anext(stream)
        await anext(stream)
    assert whole.closed == 1
    await adapter.aclose()


async def test_first_stream_without_an_end():
    """A stream that starts the adapter and then ends without End is cut off, like any other."""

    class Short(Whole):
        @hookimpl
        async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
            yield Started(task.job_id, "test", "1")

    async with aclosing(bind(Short())) as adapter:
        with pytest.raises(StreamingError, match="ended without End"):
            await adapter.submit(task()).text()


async def test_failed_start_in_async_with_releases():
    """If entering fails, the adapter is closed, and the first error propagates."""

    class Worse(Whole):
        @hookimpl
        async def aclose(self) -> None:
            self.calls.append("aclose")
            raise OSError("and that too")

    whole = Worse(failures=[ValueError("no engine")])
    with pytest.raises(ValueError, match="no engine"):
        async with bind(whole):
            pass
    assert whole.calls == ["start", "aclose"]


# Cancelling and closing


async def test_cancel_stops_the_stream():
    """Every cancel call returns True once the job is closed (ORCH-3026, WA-INT-3002)."""
    least = Least()
    async with bind(least) as adapter:
        stream = await adapter.submit(task(job_id="j"))
        assert await adapter.cancel("j")
        assert least.closed == 1
        with pytest.raises(Cancelled):
            await stream.text()
        assert await adapter.cancel("j")
        async with adapter.submit(task(job_id="whole")) as whole:
            assert len([event async for event in whole]) == 5
        assert not await adapter.cancel("whole")


async def test_cancel_calls_the_adapters_hook_too():
    """The cancel hook is called, too; it may know jobs of its own."""
    whole = Whole()
    async with bind(whole) as adapter:
        assert await adapter.cancel("only the engine knows it")
        async with adapter.submit(task(job_id="j")):
            assert await adapter.cancel("j")
        assert not await adapter.cancel("unknown")
    assert whole.calls == ["start", "cancel", "cancel", "cancel", "aclose"]
    assert not await adapter.cancel("only the engine knows it")


async def test_cancel_before_start_calls_no_hook():
    """An adapter that has not started has no jobs."""
    whole = Whole()
    assert not await bind(whole).cancel("j")
    assert whole.calls == []


async def test_aclose_cancels_streams_first():
    """Streams end before the adapter is closed, and closing again does nothing."""
    order: list[str] = []

    class Ordered(Least):
        @hookimpl
        async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
            try:
                yield Started(task.job_id, "test", "1")
                await asyncio.sleep(10)
            finally:
                order.append("stream")

        @hookimpl
        async def aclose(self) -> None:
            order.append("adapter")

    adapter = bind(Ordered())
    stream = await adapter.submit(task())
    await anext(stream)
    reader = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    await asyncio.gather(adapter.aclose(), adapter.aclose())
    await adapter.aclose()
    assert order == ["stream", "adapter"]
    assert isinstance((await reader).error, Cancelled)


async def test_closed_adapter_refuses():
    """After aclose every use says so, and health says it without raising."""
    adapter = bind(Whole())
    await adapter.aclose()
    stream = adapter.submit(task())
    with pytest.raises(EngineUnavailable, match=r"is closed: get a new one") as caught:
        await stream
    assert caught.value.code is ErrorCode.POOL_UNAVAILABLE
    assert not caught.value.retriable
    with pytest.raises(EngineUnavailable):
        await adapter.submit(task()).text()
    (frame,) = [frame async for frame in adapter.submit(task()).frames()]
    assert (frame["type"], frame["code"], frame["retriable"]) == ("error", caught.value.code, False)
    assert not await adapter.cancel(stream.job_id)
    for call in (adapter.start, adapter.props, adapter.engine_version):
        with pytest.raises(EngineUnavailable):
            await call()
    status = await adapter.health()
    assert (status.state, status.live, status.ready) == (HealthState.UNHEALTHY, False, False)
    assert "is closed" in status.message


async def test_closing_while_starting():
    """A first use that waits for a start is refused if the adapter is closed meanwhile."""
    may_go_on = asyncio.Event()

    class Slow(Whole):
        @hookimpl
        async def start(self) -> None:
            self.calls.append("start")
            await may_go_on.wait()

    slow = Slow()
    adapter = bind(slow)
    starting = asyncio.create_task(adapter.start())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(adapter.props())
    await asyncio.sleep(0)
    closing = asyncio.create_task(adapter.aclose())
    await asyncio.sleep(0)
    may_go_on.set()
    await starting
    with pytest.raises(EngineUnavailable):
        await waiting
    await closing
    assert slow.calls == ["start", "aclose"]


async def test_dropped_adapter_leaves_nothing():
    """An adapter that was never closed warns of nothing: it holds no task and no timer."""
    adapter = bind(Least())
    await adapter.submit(task()).text()
    del adapter
    gc.collect()
