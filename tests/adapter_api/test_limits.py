"""StreamClock: one deadline, and limits on silence that count waiting time only."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from adapter_api import (
    ErrorCode,
    MetricsFrame,
    StreamClock,
    TokenEvent,
    TokenStream,
    WorkerError,
    WorkerReset,
    WorkerTimeout,
)
from tests.adapter_api.clocks import ends_after, late, limited
from tests.scripted import END, STARTED, TASK, Script, collect, tokens, turns
from tests.virtual_time import in_virtual_time

# Limits on silence


@in_virtual_time
async def test_a_limit_on_silence_ends_the_job() -> None:
    """allow() bounds the wait; time before Started is part of it."""

    async def silent(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.08, late)
        await asyncio.sleep(0.05)
        yield STARTED
        await asyncio.sleep(60)

    error = await ends_after(0.08, limited(silent))
    assert (error.code, error.message) == (ErrorCode.DECODE_TIMEOUT, "silent")


@in_virtual_time
async def test_a_limit_needs_no_error_of_its_own() -> None:
    """By default silence is DECODE_TIMEOUT; the message names the limit."""

    async def silent(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.02)
        yield STARTED
        await asyncio.sleep(60)

    error = await ends_after(0.02, limited(silent))
    assert isinstance(error, WorkerTimeout)
    assert error.message == "the engine made no progress for 0.02 s"
    assert error.retriable


@in_virtual_time
async def test_a_limit_whose_error_cannot_be_made_ends_the_job() -> None:
    """A mistake in the function that builds the error does not disable the limit."""

    def wrong() -> WorkerError:
        raise KeyError("sk-secret")

    async def silent(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.02, wrong)
        yield STARTED
        await asyncio.sleep(60)

    error = await ends_after(0.02, limited(silent))
    assert error.code is ErrorCode.INTERNAL
    assert error.message == "building the error of a time limit failed with KeyError"


def test_a_stream_may_be_read_in_another_loop_than_it_was_made_in() -> None:
    """Its cancellation and its limits reach the reader."""

    async def make(limit_s: float | None) -> TokenStream:
        clock = StreamClock()
        clock.allow(limit_s, late)
        return TokenStream(Script(STARTED, 60).events(), TASK, clock=clock)

    async def read(stream: TokenStream, *, cancel: bool) -> WorkerError:
        reader = asyncio.create_task(collect(stream))
        await turns(3)
        if cancel:
            assert await stream.cancel() is True
        await asyncio.wait([reader], timeout=5.0)
        assert reader.done()
        *_, error = reader.result()
        assert isinstance(error, WorkerError)
        return error

    for limit_s, code in ((None, ErrorCode.CANCELLED), (0.02, ErrorCode.DECODE_TIMEOUT)):
        stream = asyncio.run(make(limit_s))
        assert asyncio.run(read(stream, cancel=limit_s is None)).code is code


@in_virtual_time
async def test_a_limit_may_be_set_before_the_stream_is_opened() -> None:
    """Then it runs from the opening on, beside a deadline or alone."""
    for deadline_s in (None, 10.0):
        clock = StreamClock(deadline_s)
        clock.allow(0.03, late)
        stream = TokenStream(Script(60).events(), TASK, clock=clock)
        assert (await ends_after(0.03, stream)).code is ErrorCode.DECODE_TIMEOUT


@in_virtual_time
async def test_a_limit_set_between_two_reads_is_watched() -> None:
    """The same with a running timer for the deadline."""
    clock = StreamClock(10)
    stream = await TokenStream(Script(STARTED, 60).events(), TASK, clock=clock)
    clock.allow(0.03, late)
    assert (await ends_after(0.03, stream)).code is ErrorCode.DECODE_TIMEOUT


@in_virtual_time
async def test_only_progress_begins_the_wait_anew() -> None:
    """A MetricsFrame does not count as a token."""

    async def pinging(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.08, late)
        yield STARTED
        await asyncio.sleep(0.05)
        yield MetricsFrame({"alive": True})
        for _ in range(100):
            await asyncio.sleep(0.01)

    error = await ends_after(0.08, limited(pinging))
    assert error.code is ErrorCode.DECODE_TIMEOUT


@in_virtual_time
async def test_a_stream_that_makes_progress_is_never_cut() -> None:
    """Tokens and reported progress restart the wait."""

    async def steady(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.1, late)
        yield STARTED
        for token in tokens(6):
            await asyncio.sleep(0.04)
            yield token
        for _ in range(3):
            clock.progress()
            await asyncio.sleep(0.05)
        yield END

    assert (await collect(limited(steady)))[-1] == END


@pytest.mark.parametrize("deadline_s", [None, 10.0])
@in_virtual_time
async def test_a_slow_consumer_is_not_a_stall(deadline_s: float | None) -> None:
    """Only waiting for the engine counts, before a token as after one."""

    async def quick(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.05, late)
        yield STARTED
        for token in tokens(3):
            await asyncio.sleep(0.01)
            yield token
        yield END

    seen = []
    async for event in limited(quick, deadline_s):
        seen.append(event)
        await asyncio.sleep(0.07)
    assert seen == [STARTED, *tokens(3), END]


@pytest.mark.parametrize("deadline_s", [None, 10.0])
@in_virtual_time
async def test_a_busy_consumer_does_not_lengthen_the_wait(deadline_s: float | None) -> None:
    """What was waited before the consumer was busy stays charged, also if the timer came while
    no task waited."""

    async def silent(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.6, late)
        await asyncio.sleep(0.4)
        yield STARTED
        await asyncio.sleep(60)

    stream = await limited(silent, deadline_s)
    await asyncio.sleep(0.25)  # the timer of the first wait comes here
    assert (await ends_after(0.2, stream)).code is ErrorCode.DECODE_TIMEOUT


@in_virtual_time
async def test_rename_changes_the_error_not_the_wait() -> None:
    """The head of an answer changes what a timeout is called, not when it comes."""

    async def phases(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.08, late)
        await asyncio.sleep(0.05)
        clock.rename(lambda: WorkerReset("WORKER_RESET", "renamed"))
        await asyncio.sleep(60)
        yield STARTED

    error = await ends_after(0.08, limited(phases))
    assert error.code is ErrorCode.WORKER_RESET


@in_virtual_time
async def test_a_new_limit_replaces_the_old_one() -> None:
    """A shorter one is watched at once, a longer one is not cut by the old timer."""

    async def phases(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(30, late)
        yield STARTED
        clock.allow(0.03, late)
        await asyncio.sleep(0.02)
        clock.allow(0.08, lambda: WorkerReset("WORKER_RESET", "second"))
        await asyncio.sleep(60)

    error = await ends_after(0.1, limited(phases))
    assert error.code is ErrorCode.WORKER_RESET


@in_virtual_time
async def test_a_limit_can_be_lifted() -> None:
    """allow(None) leaves the deadline alone in force."""

    async def lifted(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.02, late)
        yield STARTED
        clock.allow(None)
        await asyncio.sleep(60)

    error = await ends_after(0.08, limited(lifted, deadline_s=0.08))
    assert error.code is ErrorCode.DEADLINE_UNMET


@in_virtual_time
async def test_a_lifted_limit_leaves_no_limit() -> None:
    """Without a deadline nothing is watched then, though the old timer still comes."""

    async def lifted(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.02, late)
        yield STARTED
        clock.allow(None)
        await asyncio.sleep(0.05)
        yield END

    assert await collect(limited(lifted)) == [STARTED, END]


@in_virtual_time
async def test_a_whole_answer_is_never_interrupted() -> None:
    """disarm() ends all limits; what comes later is the End, the deadline notwithstanding."""

    async def whole(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.02, late)
        yield STARTED
        clock.disarm()
        await asyncio.sleep(0.2)
        yield END

    assert await collect(limited(whole, deadline_s=0.1)) == [STARTED, END]


@in_virtual_time
@pytest.mark.parametrize(("deadline_s", "after_s"), [(None, 0.25), (0.15, 0.15)])
async def test_an_answer_that_was_not_whole_has_its_limits_again(
    deadline_s: float | None, after_s: float
) -> None:
    """arm() restarts the wait."""

    async def resumed(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.2, late)
        yield STARTED
        clock.disarm()
        await asyncio.sleep(0.05)
        clock.arm()
        await asyncio.sleep(60)

    await ends_after(after_s, limited(resumed, deadline_s))


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

    stream = limited(slow)
    stream.clock.first_within(0.1, late)
    assert (await ends_after(0.1, stream)).message == "silent"
    stream = limited(knowing)
    stream.clock.first_within(0.1, late)
    assert (await ends_after(0.1, stream)).message == "known"
    stream = limited(slow)
    stream.clock.first_within(0.1, late)
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

    assert await collect(limited(handed_on, deadline_s=0.1)) == [STARTED, END]


@in_virtual_time
async def test_a_deadline_that_passed_while_limits_were_lifted_counts_afterwards() -> None:
    """For a stream around another one, too: its alarm rang while the answer seemed whole."""
    clock = StreamClock(1.0)

    async def inner() -> AsyncIterator[TokenEvent]:
        yield STARTED
        clock.disarm()
        await asyncio.sleep(1.5)
        clock.arm()
        await asyncio.sleep(60)

    async def outer(own: StreamClock) -> AsyncIterator[TokenEvent]:
        own.follow(clock)
        async for event in TokenStream(inner(), TASK, clock=clock):
            yield event

    error = await ends_after(1.5, limited(outer, deadline_s=1.0))
    assert error.code is ErrorCode.DEADLINE_UNMET


@in_virtual_time
async def test_the_sooner_of_limit_and_deadline_counts() -> None:
    """Both run on one timer."""

    async def silent(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.05, late)
        yield STARTED
        await asyncio.sleep(60)

    assert (await ends_after(0.02, limited(silent, 0.02))).code == "DEADLINE_UNMET"
    assert (await ends_after(0.05, limited(silent, 0.5))).code == "DECODE_TIMEOUT"


@pytest.mark.parametrize("how", ["yields", "raises", "ends"])
@in_virtual_time
async def test_an_adapter_that_swallows_a_limit_is_late_all_the_same(how: str) -> None:
    """The outcome is the limit's error, whatever the adapter makes of the interruption."""

    async def stubborn(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.02, late)
        yield STARTED
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if how == "raises":
                raise WorkerReset("WORKER_RESET", "broken") from None
            if how == "yields":
                yield END

    assert (await ends_after(0.02, limited(stubborn))).code == "DECODE_TIMEOUT"
