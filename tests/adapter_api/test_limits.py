"""StreamClock: one deadline, and limits on silence that count waiting time only."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest

from adapter_api import (
    Cancelled,
    Error,
    ErrorCode,
    MetricsFrame,
    Started,
    StreamClock,
    TaskRequest,
    Token,
    TokenEvent,
    TokenStream,
    WorkerError,
    WorkerReset,
    WorkerTimeout,
)
from tests.scripted import END, STARTED, TASK, Script, collect, reading, tokens, turns
from tests.virtual_time import in_virtual_time, now_s, work

Events = Callable[[StreamClock], AsyncIterator[TokenEvent]]


async def _play(*events: TokenEvent) -> AsyncIterator[TokenEvent]:
    for event in events:
        yield event


def _late() -> WorkerError:
    return WorkerTimeout("DECODE_TIMEOUT", "silent")


def _limited(make: Events, deadline_s: float | None = None) -> TokenStream:
    clock = StreamClock(deadline_s)
    return TokenStream(make(clock), TASK, clock=clock)


async def _ends_after(limit_s: float, stream: TokenStream) -> WorkerError:
    """The error that ends a stream, when `limit_s` has passed."""
    began = now_s()
    *_, error = await collect(stream)
    assert isinstance(error, WorkerError)
    assert now_s() - began == pytest.approx(limit_s)
    return error


# The deadline


@pytest.mark.parametrize("steps", [(60,), (STARTED, 60), (STARTED, Token("t0", 0), 60)])
@in_virtual_time
async def test_the_deadline_ends_a_waiting_job(steps: tuple[object, ...]) -> None:
    """DEADLINE_UNMET comes when it passes, wherever the job is."""
    script = Script(*steps)
    error = await _ends_after(0.05, script.stream(deadline_s=0.05))
    assert error.code is ErrorCode.DEADLINE_UNMET
    assert error.message == "the job did not end within its deadline of 0.05 s"
    assert error.job_id == "job"
    assert script.closed


@in_virtual_time
async def test_the_deadline_counts_from_submit() -> None:
    """A stream that is opened late has what is left; one that is opened too late has nothing."""
    stream = Script(60, STARTED).stream(deadline_s=0.5)
    await asyncio.sleep(0.3)
    await _ends_after(0.2, stream)
    script = Script(0.001, STARTED, END)
    stream = script.stream(deadline_s=0.01)
    await asyncio.sleep(0.02)
    with pytest.raises(WorkerTimeout):
        await stream


@in_virtual_time
async def test_the_deadline_with_a_slow_consumer() -> None:
    """A consumer that is busy past the deadline gets the error at its next read; what the job held
    is released when the deadline passes."""
    script = Script(STARTED, *tokens(3), END)
    stream = await script.stream(deadline_s=0.03)
    await asyncio.sleep(0.05)
    assert script.closed
    seen = await collect(stream)
    assert [type(e) for e in seen] == [Started, Error, WorkerTimeout]
    assert seen[1].error.code is ErrorCode.DEADLINE_UNMET


@in_virtual_time
async def test_the_deadline_keeps_no_stream_alive() -> None:
    """One that is dropped before it is gone at once, not when the timer rings."""
    script = Script(STARTED, *tokens(3), END)
    stream = await script.stream(deadline_s=30)
    dropped = weakref.ref(stream)
    with pytest.warns(ResourceWarning):
        del stream
    assert dropped() is None
    await turns(3)
    assert script.closed


@in_virtual_time
async def test_progress_does_not_move_the_deadline() -> None:
    """A stream that makes progress is cut by its deadline, and by nothing else."""
    steps = [step for token in tokens(100) for step in (0.01, token)]
    error = await _ends_after(0.105, Script(STARTED, *steps).stream(deadline_s=0.105))
    assert error.code is ErrorCode.DEADLINE_UNMET
    assert error.tokens_emitted == 10


@in_virtual_time
async def test_an_ended_stream_ignores_the_deadline() -> None:
    """No timer outlives the job."""
    stream = Script(STARTED, END).stream(deadline_s=0.02)
    assert await stream.text() == ""
    await asyncio.sleep(0.04)
    assert await collect(stream) == []


@in_virtual_time
async def test_the_deadline_is_kept_with_any_clock() -> None:
    """An adapter that forgets the deadline when it makes its clock does not lose it."""
    task = TaskRequest(prompt="x", deadline_s=0.03)
    stream = TokenStream(Script(STARTED, 60).events(), task, clock=StreamClock())
    assert (await _ends_after(0.03, stream)).code is ErrorCode.DEADLINE_UNMET


@in_virtual_time
async def test_a_clean_up_may_outlast_the_deadline() -> None:
    """The error comes when the adapter's resources are released, not before."""
    script = Script(STARTED, 60, cleanup=(0.05,))
    error = await _ends_after(0.07, script.stream(deadline_s=0.02))
    assert isinstance(error, WorkerTimeout)


@in_virtual_time
async def test_streams_within_streams_have_the_same_deadline() -> None:
    """An adapter that reads another stream, with both timers due in one turn of the loop."""

    async def outer(task: TaskRequest) -> AsyncIterator[TokenEvent]:
        async with TokenStream(Script(STARTED, 60).events(), task) as inner:
            async for event in inner:
                yield event

    for _ in range(5):
        task = TaskRequest(prompt="x", job_id="job", deadline_s=0.02)
        stream = TokenStream(outer(task), task)
        reader, seen = await reading(stream, 1)
        work(0.03)  # so that both timers are late
        await reader
        assert [type(item) for item in seen] == [Started, Error, WorkerTimeout]
        assert reader.cancelling() == 0


# Limits on silence


@in_virtual_time
async def test_a_limit_on_silence_ends_the_job() -> None:
    """allow() bounds the wait; time before Started is part of it."""

    async def silent(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.08, _late)
        await asyncio.sleep(0.05)
        yield STARTED
        await asyncio.sleep(60)

    error = await _ends_after(0.08, _limited(silent))
    assert (error.code, error.message) == (ErrorCode.DECODE_TIMEOUT, "silent")


@in_virtual_time
async def test_a_limit_needs_no_error_of_its_own() -> None:
    """By default silence is DECODE_TIMEOUT; the message tells the limit."""

    async def silent(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.02)
        yield STARTED
        await asyncio.sleep(60)

    error = await _ends_after(0.02, _limited(silent))
    assert isinstance(error, WorkerTimeout)
    assert error.message == "the engine made no progress for 0.02 s"
    assert error.retriable


@in_virtual_time
async def test_a_limit_may_be_set_before_the_stream_is_opened() -> None:
    """Then it runs from the opening on, beside a deadline or alone."""
    for deadline_s in (None, 10.0):
        clock = StreamClock(deadline_s)
        clock.allow(0.03, _late)
        stream = TokenStream(Script(60).events(), TASK, clock=clock)
        assert (await _ends_after(0.03, stream)).code is ErrorCode.DECODE_TIMEOUT


@in_virtual_time
async def test_a_limit_set_between_two_reads_is_watched() -> None:
    """The same with a running timer for the deadline."""
    clock = StreamClock(10)
    stream = await TokenStream(Script(STARTED, 60).events(), TASK, clock=clock)
    clock.allow(0.03, _late)
    assert (await _ends_after(0.03, stream)).code is ErrorCode.DECODE_TIMEOUT


@in_virtual_time
async def test_only_progress_begins_the_wait_anew() -> None:
    """A MetricsFrame does not count as a token."""

    async def pinging(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.08, _late)
        yield STARTED
        await asyncio.sleep(0.05)
        yield MetricsFrame({"alive": True})
        for _ in range(100):
            await asyncio.sleep(0.01)

    error = await _ends_after(0.08, _limited(pinging))
    assert error.code is ErrorCode.DECODE_TIMEOUT


@in_virtual_time
async def test_a_stream_that_makes_progress_is_never_cut() -> None:
    """Tokens and reported progress restart the wait."""

    async def steady(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.1, _late)
        yield STARTED
        for token in tokens(6):
            await asyncio.sleep(0.04)
            yield token
        for _ in range(3):
            clock.progress()
            await asyncio.sleep(0.05)
        yield END

    assert (await collect(_limited(steady)))[-1] == END


@pytest.mark.parametrize("deadline_s", [None, 10.0])
@in_virtual_time
async def test_a_slow_consumer_is_no_stall(deadline_s: float | None) -> None:
    """Only waiting for the engine counts, before a token as after one."""

    async def quick(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.05, _late)
        yield STARTED
        for token in tokens(3):
            await asyncio.sleep(0.01)
            yield token
        yield END

    seen = []
    async for event in _limited(quick, deadline_s):
        seen.append(event)
        await asyncio.sleep(0.07)
    assert seen == [STARTED, *tokens(3), END]


@pytest.mark.parametrize("deadline_s", [None, 10.0])
@in_virtual_time
async def test_a_busy_consumer_does_not_lengthen_the_wait(deadline_s: float | None) -> None:
    """What was waited before the consumer was busy stays charged, also if the timer came while
    no task waited."""

    async def silent(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.6, _late)
        await asyncio.sleep(0.4)
        yield STARTED
        await asyncio.sleep(60)

    stream = await _limited(silent, deadline_s)
    await asyncio.sleep(0.25)  # the timer of the first wait comes here
    assert (await _ends_after(0.2, stream)).code is ErrorCode.DECODE_TIMEOUT


@in_virtual_time
async def test_rename_changes_the_error_not_the_wait() -> None:
    """The head of an answer changes what a timeout is called, not when it comes."""

    async def phases(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.08, _late)
        await asyncio.sleep(0.05)
        clock.rename(lambda: WorkerReset("WORKER_RESET", "renamed"))
        await asyncio.sleep(60)
        yield STARTED

    error = await _ends_after(0.08, _limited(phases))
    assert error.code is ErrorCode.WORKER_RESET


@in_virtual_time
async def test_a_new_limit_replaces_the_old_one() -> None:
    """A shorter one is watched at once, a longer one is not cut by the old timer."""

    async def phases(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(30, _late)
        yield STARTED
        clock.allow(0.03, _late)
        await asyncio.sleep(0.02)
        clock.allow(0.08, lambda: WorkerReset("WORKER_RESET", "second"))
        await asyncio.sleep(60)

    error = await _ends_after(0.1, _limited(phases))
    assert error.code is ErrorCode.WORKER_RESET


@in_virtual_time
async def test_a_limit_can_be_lifted() -> None:
    """allow(None) leaves the deadline alone in force."""

    async def lifted(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.02, _late)
        yield STARTED
        clock.allow(None)
        await asyncio.sleep(60)

    error = await _ends_after(0.08, _limited(lifted, deadline_s=0.08))
    assert error.code is ErrorCode.DEADLINE_UNMET


@in_virtual_time
async def test_a_lifted_limit_leaves_no_limit() -> None:
    """Without a deadline nothing is watched then, though the old timer still comes."""

    async def lifted(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.02, _late)
        yield STARTED
        clock.allow(None)
        await asyncio.sleep(0.05)
        yield END

    assert await collect(_limited(lifted)) == [STARTED, END]


@in_virtual_time
async def test_a_whole_answer_is_never_interrupted() -> None:
    """disarm() ends all limits; what comes later is the End, the deadline notwithstanding."""

    async def whole(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.02, _late)
        yield STARTED
        clock.disarm()
        await asyncio.sleep(0.2)
        yield END

    assert await collect(_limited(whole, deadline_s=0.1)) == [STARTED, END]


@in_virtual_time
@pytest.mark.parametrize(("deadline_s", "after_s"), [(None, 0.25), (0.15, 0.15)])
async def test_an_answer_that_was_not_whole_has_its_limits_again(
    deadline_s: float | None, after_s: float
) -> None:
    """arm() restarts the wait."""

    async def resumed(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.2, _late)
        yield STARTED
        clock.disarm()
        await asyncio.sleep(0.05)
        clock.arm()
        await asyncio.sleep(60)

    await _ends_after(after_s, _limited(resumed, deadline_s))


@in_virtual_time
async def test_a_reader_may_limit_the_wait_for_the_first_token() -> None:
    """Beside the adapter's limits, in the adapter's words where it has any; lifted, it is gone."""

    async def slow(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        await asyncio.sleep(0.3)
        yield STARTED
        yield END

    async def knowing(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(60.0, lambda: WorkerReset("WORKER_RESET", "known"))
        await asyncio.sleep(60)
        yield STARTED

    stream = _limited(slow)
    stream.clock.first_within(0.1, _late)
    assert (await _ends_after(0.1, stream)).message == "silent"
    stream = _limited(knowing)
    stream.clock.first_within(0.1, _late)
    assert (await _ends_after(0.1, stream)).message == "known"
    stream = _limited(slow)
    stream.clock.first_within(0.1, _late)
    stream.clock.first_within(None)
    assert await collect(stream) == [STARTED, END]


@in_virtual_time
async def test_a_stream_around_another_spares_what_that_has_whole() -> None:
    """While the clock inside is disarmed the deadline outside interrupts nothing."""
    inside = StreamClock()

    async def handed_on(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.follow(inside)
        yield STARTED
        inside.disarm()
        await asyncio.sleep(0.3)
        yield END

    assert await collect(_limited(handed_on, deadline_s=0.1)) == [STARTED, END]


@in_virtual_time
async def test_the_sooner_of_limit_and_deadline_counts() -> None:
    """Both run on one timer."""

    async def silent(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.05, _late)
        yield STARTED
        await asyncio.sleep(60)

    assert (await _ends_after(0.02, _limited(silent, 0.02))).code == "DEADLINE_UNMET"
    assert (await _ends_after(0.05, _limited(silent, 0.5))).code == "DECODE_TIMEOUT"


@pytest.mark.parametrize("how", ["yields", "raises", "ends"])
@in_virtual_time
async def test_an_adapter_that_swallows_a_limit_is_late_all_the_same(how: str) -> None:
    """The outcome is the limit's error, whatever the adapter makes of the interruption."""

    async def stubborn(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.02, _late)
        yield STARTED
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if how == "raises":
                raise WorkerReset("WORKER_RESET", "broken") from None
            if how == "yields":
                yield END

    assert (await _ends_after(0.02, _limited(stubborn))).code == "DECODE_TIMEOUT"


# Inside


@in_virtual_time
async def test_the_clock_tells_what_is_left() -> None:
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


def test_nothing_is_taken_back_where_nobody_reads() -> None:
    """An interruption between two reads waits for the next one and cancels no task."""
    clock = StreamClock()
    clock.interrupt(_late())
    assert clock.take_back() is False
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
        clock.allow(10, _late)
        yield STARTED
        for token in tokens(1000):
            if token.index % 100 == 0:
                await turns(1)
            yield token
        yield END

    with _timers() as delays:
        await _limited(quick, 30).text()
        assert len(delays) == 1  # the limit's; it looks again for the deadline
        await TokenStream(_play(STARTED, *tokens(10), END), TASK).text()
        assert len(delays) == 1


@in_virtual_time
async def test_no_timer_spins_while_nobody_waits() -> None:
    """A consumer that is busy for long is watched by nothing but the deadline."""

    async def silent(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.05, _late)
        await asyncio.sleep(0.01)
        yield STARTED
        yield END

    with _timers() as delays:
        stream = await _limited(silent, 30)
        await asyncio.sleep(0.2)
        assert len(delays) == 4  # the limit's, then the deadline's, and two sleeps of this test
        await stream.text()


@in_virtual_time
async def test_limits_that_move_away_set_no_timer() -> None:
    """A timer that fires before the limit is checked again; one that is too late is replaced."""

    async def phases(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        for _ in range(100):
            clock.allow(0.5, _late)
        clock.allow(None)
        clock.allow(20, _late)
        yield STARTED
        clock.allow(0.1, _late)
        await asyncio.sleep(10)

    with _timers() as delays:
        stream = await _limited(phases, 30)
        assert len(delays) == 1  # the first of the hundred
        assert isinstance(await _ends_after(0.1, stream), WorkerTimeout)
        assert len(delays) < 6  # the sleep is one of them


@in_virtual_time
async def test_a_clock_keeps_nothing_alive() -> None:
    """A dropped job goes at once, with what its adapter holds, though a timer of it runs."""

    class Connection:
        pass

    connection = Connection()
    gone = weakref.ref(connection)

    async def holding(clock: StreamClock, connection: Connection) -> AsyncIterator[TokenEvent]:
        clock.allow(30, _late)
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
