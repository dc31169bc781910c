"""StreamClock: what it says is left, and the timers it sets."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest

from adapter_api import (
    Cancelled,
    StreamClock,
    TokenEvent,
    TokenStream,
    WorkerTimeout,
)
from tests.adapter_api.clocks import ends_after, late, limited
from tests.scripted import END, STARTED, TASK, Script, tokens, turns
from tests.virtual_time import in_virtual_time, work


async def _play(*events: TokenEvent) -> AsyncIterator[TokenEvent]:
    for event in events:
        yield event


# Inside


@in_virtual_time
async def test_the_clock_returns_the_remaining_time() -> None:
    """remaining_s and fits speak of the deadline; without one everything fits."""
    clock = StreamClock(10.0)
    work(1.0)
    assert clock.remaining_s() == 9.0
    assert clock.fits(8.9)
    assert not clock.fits(9.0)
    work(9.5)
    assert clock.remaining_s() == -0.5
    assert not clock.fits(0)
    assert StreamClock().remaining_s() is None
    assert StreamClock().fits(1e9)


def test_nothing_is_uncancelled_without_a_reader() -> None:
    """An interruption between two reads waits for the next one and cancels no task."""
    clock = StreamClock()
    clock.interrupt(late())
    assert clock.uncancel_reader() is False
    assert clock.stopped_by is not None


@contextmanager
def _timers() -> Iterator[list[float]]:
    """The delays of all timers that are set."""
    delays: list[float] = []
    loop = asyncio.get_running_loop()
    call_at = loop.call_at

    def spy(when: float, *args: Any, **more: Any) -> asyncio.TimerHandle:
        delays.append(when - loop.time())
        return call_at(when, *args, **more)

    with mock.patch.object(loop, "call_at", spy):  # call_later calls it, too
        yield delays


@in_virtual_time
async def test_tokens_set_no_timers() -> None:
    """A thousand tokens cost one timer; a job without limits costs none."""

    async def quick(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(10, late)
        yield STARTED
        for token in tokens(1000):
            if token.index % 100 == 0:
                await turns(1)
            yield token
        yield END

    with _timers() as delays:
        await limited(quick, 30).text()
        assert len(delays) == 1  # the limit's; it looks again for the deadline
        await TokenStream(_play(STARTED, *tokens(10), END), TASK).text()
        assert len(delays) == 1


@in_virtual_time
async def test_no_timer_spins_without_a_waiter() -> None:
    """A consumer that is busy for long is watched by nothing but the deadline."""

    async def silent(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.05, late)
        await asyncio.sleep(0.01)
        yield STARTED
        yield END

    with _timers() as delays:
        stream = await limited(silent, 30)
        await asyncio.sleep(0.2)
        assert len(delays) == 4  # the limit's, then the deadline's, and two sleeps of this test
        await stream.text()


@in_virtual_time
async def test_limits_that_move_away_set_no_timer() -> None:
    """A timer that fires before the limit is checked again; one that is too late is replaced."""

    async def phases(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        for _ in range(100):
            clock.allow(0.5, late)
        clock.allow(None)
        clock.allow(20, late)
        yield STARTED
        clock.allow(0.1, late)
        await asyncio.sleep(10)

    with _timers() as delays:
        stream = await limited(phases, 30)
        assert len(delays) == 1  # the first of the hundred
        assert isinstance(await ends_after(0.1, stream), WorkerTimeout)
        assert len(delays) < 6  # the sleep is one of them


@in_virtual_time
async def test_a_clock_keeps_nothing_alive() -> None:
    """A dropped job goes at once, with what its adapter holds, though a timer of it runs."""

    class Connection:
        pass

    connection = Connection()
    gone = weakref.ref(connection)

    async def holding(clock: StreamClock, connection: Connection) -> AsyncIterator[TokenEvent]:
        clock.allow(30, late)
        yield STARTED
        yield END
        del connection

    clock = StreamClock(30)
    stream = TokenStream(holding(clock, connection), TASK, clock=clock)
    gc.disable()
    try:
        with pytest.warns(ResourceWarning):
            await stream
            del stream, connection, clock
            await turns(3)
        assert gone() is None
    finally:
        gc.enable()


@in_virtual_time
async def test_a_stream_that_is_over_sets_no_timer() -> None:
    """Reading on after a cancel leaves no deadline behind that would hold the stream's clock."""
    stream = await Script(STARTED, 60).stream(deadline_s=100)
    assert await stream.cancel()
    with _timers() as delays:
        with pytest.raises(Cancelled):
            await stream.text()
        assert delays == []
