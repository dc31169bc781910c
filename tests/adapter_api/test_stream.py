"""TokenStream: one place for order, cancelling, deadline and the last word, for every adapter."""

import asyncio
import gc
import time
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from adapter_api import (
    Cancelled,
    End,
    Error,
    ErrorCode,
    InternalError,
    Metrics,
    MetricsFrame,
    Started,
    StreamClock,
    StreamingError,
    StreamTable,
    TaskRequest,
    Token,
    TokenEvent,
    TokenStream,
    WorkerError,
    WorkerReset,
    WorkerTimeout,
)

TASK = TaskRequest(prompt="x", job_id="job")
STARTED = Started("job", "toy", "1")
END = End(Metrics(3), "stop", "finish_reason")


class Script:
    """An adapter's events from a list: events are yielded, exceptions raised, numbers slept."""

    def __init__(self, *steps: Any) -> None:
        self.steps = steps
        self.closed = False
        self.at = -1

    async def events(self) -> AsyncIterator[TokenEvent]:
        try:
            for self.at, step in enumerate(self.steps):
                if isinstance(step, BaseException):
                    raise step
                if isinstance(step, int | float):
                    await asyncio.sleep(step)
                else:
                    yield step
        finally:
            await asyncio.sleep(0)
            self.closed = True

    def stream(self, **changes: Any) -> TokenStream:
        task = TaskRequest(prompt="x", job_id="job", **changes)
        return TokenStream(self.events(), task)


def tokens(count: int) -> list[Token]:
    return [Token(f"t{i}", i) for i in range(count)]


async def collect(stream: TokenStream) -> list[Any]:
    """Every event, and the exception that ended it, if one did."""
    seen: list[Any] = []
    try:
        async for event in stream:
            seen.append(event)
    except WorkerError as error:
        seen.append(error)
    return seen


async def test_the_happy_path_is_started_tokens_metrics_end() -> None:
    """ADAPT-3001, WA-INT-3001: events come through as they are, then iteration stops."""
    steps = [STARTED, *tokens(3), MetricsFrame({"a": 1}), END]
    script = Script(*steps)
    assert await collect(script.stream()) == steps
    assert script.closed


@pytest.mark.parametrize("how", ["await", "async with", "async for"])
async def test_three_ways_to_open(how: str) -> None:
    """Awaiting, entering and iterating give the same events, Started included."""
    stream = Script(STARTED, *tokens(2), END).stream()
    if how == "await":
        assert await stream is stream
    if how == "async with":
        async with stream as entered:
            assert await collect(entered) == [STARTED, *tokens(2), END]
        return
    assert await collect(stream) == [STARTED, *tokens(2), END]


async def test_nothing_happens_before_it_is_opened() -> None:
    """submit returns at once; the adapter runs from the opening on."""
    script = Script(STARTED, END)
    stream = script.stream()
    await asyncio.sleep(0)
    assert script.at == -1
    await stream.aclose()


@pytest.mark.parametrize("how", ["await", "enter", "iterate"])
async def test_a_failure_before_started_raises(how: str) -> None:
    """What fails before the engine accepted the job raises from the opening, again and again."""
    stream = Script(WorkerReset("WORKER_RESET", "no")).stream()
    for _ in range(2):
        with pytest.raises(WorkerReset) as caught:
            if how == "await":
                await stream
            elif how == "enter":
                async with stream:
                    pass
            else:
                await anext(stream)
        assert caught.value.job_id == "job"
        how = "iterate"


async def test_a_failure_after_started_is_the_last_event_then_raises() -> None:
    """A loop that ignores Error cannot take half an answer for a whole one."""
    stream = Script(STARTED, *tokens(2), WorkerReset("WORKER_RESET", "gone")).stream()
    seen = await collect(stream)
    assert seen[:3] == [STARTED, *tokens(2)]
    assert isinstance(seen[3], Error)
    assert seen[3].error is seen[4]
    assert seen[4].tokens_emitted == 2
    with pytest.raises(WorkerReset):
        await anext(stream)


async def test_a_yielded_error_is_the_same_as_a_raised_one() -> None:
    """An adapter may yield Error, after Started or instead of it."""
    error = WorkerReset("WORKER_RESET", "gone")
    seen = await collect(Script(STARTED, Error(error), Token("never", 0)).stream())
    assert seen == [STARTED, Error(error), error]
    with pytest.raises(WorkerReset):
        await Script(Error(error)).stream()


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([Token("x", 0)], "Token after nothing"),
        ([END], "End after nothing"),
        ([STARTED, STARTED], "Started after Started"),
        ([STARTED, Token("x", 1)], "index 1, expected 0"),
        ([STARTED, Token("x", 0), Token("y", 0)], "index 0, expected 1"),
        ([STARTED, MetricsFrame({}), Token("x", 0)], "Token after MetricsFrame"),
        ([STARTED, MetricsFrame({}), MetricsFrame({})], "MetricsFrame after MetricsFrame"),
        ([STARTED, "text"], "a str, which is not an event"),
    ],
)
async def test_the_order_is_enforced(steps: list[Any], says: str) -> None:
    """ADAPT-3001: a violation ends the stream as INTERNAL and closes the adapter's generator."""
    script = Script(*steps, END)
    seen = await collect(script.stream())
    assert isinstance(seen[-1], InternalError)
    assert says in seen[-1].message
    assert script.closed


async def test_events_that_just_stop_are_truncation() -> None:
    """No End, no Error: the answer has no proof (completion proof for every adapter)."""
    seen = await collect(Script(STARTED, *tokens(1)).stream())
    assert isinstance(seen[-1], StreamingError)
    assert seen[-1].code is ErrorCode.STREAM_TRUNCATED


async def test_a_foreign_exception_is_internal_with_its_cause() -> None:
    """A bug in an adapter is named by type, its text (which may hold anything) is not shown."""
    seen = await collect(Script(STARTED, KeyError("sk-secret")).stream())
    assert isinstance(seen[-1], InternalError)
    assert "KeyError" in seen[-1].message
    assert "sk-secret" not in str(seen[-1])
    assert isinstance(seen[-1].__cause__, KeyError)


async def test_text_is_whole_or_raises() -> None:
    """text() joins the tokens of a whole answer and raises for any other."""
    assert await Script(STARTED, *tokens(2), END).stream().text() == "t0t1"
    script = Script(STARTED, *tokens(2), WorkerReset("WORKER_RESET", "gone"))
    with pytest.raises(WorkerReset):
        await script.stream().text()
    assert script.closed


async def test_frames_never_raise() -> None:
    """A failure before or after Started is the last frame."""
    for steps in ([STARTED, WorkerReset("WORKER_RESET", "a")], [WorkerReset("WORKER_RESET", "a")]):
        frames = [frame async for frame in Script(*steps).stream().frames()]
        assert frames[-1]["type"] == "error"
        assert frames[-1]["code"] == "WORKER_RESET"
        assert [f["type"] for f in frames].count("error") == 1


# Cancel


async def _reading(stream: TokenStream, until: int) -> "tuple[asyncio.Task[list[Any]], list[Any]]":
    seen: list[Any] = []

    async def read() -> list[Any]:
        try:
            async for event in stream:
                seen.append(event)
        except WorkerError as error:
            seen.append(error)
        return seen

    task = asyncio.create_task(read())
    while len(seen) < until:
        await asyncio.sleep(0)
    return task, seen


@pytest.mark.parametrize("until", [0, 1, 3])
async def test_cancel_while_another_task_waits(until: int) -> None:
    """AH-1004, WA-INT-3002: cancel returns after the release; no token comes after it."""
    script = Script(STARTED, *tokens(2), 60)
    if until == 0:
        script = Script(60, STARTED)
    stream = script.stream()
    reader, seen = await _reading(stream, until)
    await asyncio.sleep(0.01)
    assert await stream.cancel() is True
    assert script.closed
    before = [e for e in seen if isinstance(e, Token)]
    await reader
    assert [e for e in seen if isinstance(e, Token)] == before
    assert isinstance(seen[-1], Cancelled)
    assert reader.cancelling() == 0
    if until:
        assert isinstance(seen[-2], Error)


async def test_cancel_between_two_reads() -> None:
    """Cancelled from the reader's own loop: the next event is Error, then it raises."""
    script = Script(STARTED, *tokens(3), END)
    stream = script.stream()
    seen = []
    with pytest.raises(Cancelled):
        async for event in stream:
            seen.append(event)
            if len(seen) == 2:
                assert await stream.cancel() is True
    assert seen[:2] == [STARTED, Token("t0", 0)]
    assert isinstance(seen[2], Error)
    assert len(seen) == 3
    assert script.closed


async def test_cancel_after_opening_keeps_the_order() -> None:
    """A stream cancelled after `await stream` gives Started, Error, and then raises."""
    stream = await Script(STARTED, *tokens(3), END).stream()
    assert await stream.cancel()
    seen = await collect(stream)
    assert seen[0] == STARTED
    assert isinstance(seen[1], Error)
    assert isinstance(seen[2], Cancelled)


async def test_cancel_before_opening_sends_nothing() -> None:
    """The job never reaches the adapter; opening raises Cancelled."""
    script = Script(STARTED, END)
    stream = script.stream()
    assert await stream.cancel() is True
    with pytest.raises(Cancelled):
        await stream
    assert script.at == -1


async def test_cancel_is_idempotent_and_false_after_the_end() -> None:
    """Ten at once are one; a finished job cannot be cancelled."""
    script = Script(STARTED, 60)
    stream = script.stream()
    reader, _ = await _reading(stream, 1)
    await asyncio.sleep(0.01)
    assert await asyncio.gather(*(stream.cancel() for _ in range(10))) == [True] * 10
    await reader
    done = Script(STARTED, END).stream()
    await done.text()
    assert await done.cancel() is False


async def test_a_cancelled_caller_of_cancel_does_not_undo_it() -> None:
    """Whoever called cancel may go away; the job still stops."""
    script = Script(STARTED, 60)
    stream = script.stream()
    reader, seen = await _reading(stream, 1)
    await asyncio.sleep(0.01)
    canceller = asyncio.create_task(stream.cancel())
    await asyncio.sleep(0)
    canceller.cancel()
    await asyncio.wait([reader], timeout=1)
    assert reader.done()
    assert isinstance(seen[-1], Cancelled)


@pytest.mark.parametrize("steps", range(12))
async def test_task_cancellation_at_any_await_goes_on(steps: int) -> None:
    """The reading task's CancelledError is never swallowed and always closes the adapter."""
    script = Script(0, STARTED, 0, 0.0001, *tokens(2), 0, 0.0001, Token("t2", 2), 60)
    stream = script.stream()
    reader = asyncio.create_task(collect(stream))
    for _ in range(steps):
        await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    if script.at >= 0:
        assert script.closed
        with pytest.raises(Cancelled):
            await anext(stream)
    else:
        await stream.aclose()


async def test_outside_cancellation_wins_over_our_own() -> None:
    """When both fall together the task is cancelled, and its count of cancellations is right."""
    script = Script(STARTED, 60)
    stream = script.stream()
    reader, _ = await _reading(stream, 1)
    await asyncio.sleep(0.01)
    canceller = asyncio.create_task(stream.cancel())
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert reader.cancelling() == 1
    assert await canceller is True
    assert script.closed


async def test_asyncio_timeout_around_a_reader_works() -> None:
    """asyncio.timeout sees its own cancellation come back as TimeoutError."""
    script = Script(STARTED, 60)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await script.stream().text()
    assert script.closed


async def test_an_adapter_that_swallows_the_interruption_cannot_go_on() -> None:
    """No token of such an adapter is delivered after cancel."""

    async def stubborn() -> AsyncIterator[TokenEvent]:
        yield STARTED
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            yield Token("late", 0)

    stream = TokenStream(stubborn(), TASK)
    reader, seen = await _reading(stream, 1)
    await asyncio.sleep(0.01)
    assert await stream.cancel()
    await reader
    assert not any(isinstance(event, Token) for event in seen)
    assert reader.cancelling() == 0


async def test_a_failing_clean_up_does_not_change_the_outcome(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What an adapter raises while it is closed is logged."""

    async def messy() -> AsyncIterator[TokenEvent]:
        try:
            yield STARTED
            yield END
        finally:
            raise OSError("untidy")

    assert await TokenStream(messy(), TASK).text() == ""
    assert "failed" in caplog.text


async def test_events_without_aclose_are_fine() -> None:
    """Any async iterator will do."""

    class Plain:
        def __init__(self) -> None:
            self.rest = [STARTED, END]

        def __aiter__(self) -> "Plain":
            return self

        async def __anext__(self) -> TokenEvent:
            return self.rest.pop(0)

    assert await TokenStream(Plain(), TASK).text() == ""


async def test_two_readers_are_refused() -> None:
    """The second reader gets a RuntimeError, the first goes on."""
    stream = Script(STARTED, 0.05, END).stream()
    reader, seen = await _reading(stream, 1)
    await asyncio.sleep(0.01)
    with pytest.raises(RuntimeError, match="two tasks read"):
        await anext(stream)
    await reader
    assert seen == [STARTED, END]


async def test_a_dropped_stream_releases_and_warns() -> None:
    """The warning says where the stream was opened; the generator is closed by the loop."""
    script = Script(STARTED, 60)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stream = await script.stream()
        del stream
        gc.collect()
        await asyncio.sleep(0.05)
    messages = [str(w.message) for w in caught if w.category is ResourceWarning]
    assert len(messages) == 1
    assert "test_stream.py:" in messages[0]
    assert "async with" in messages[0]
    assert script.closed


async def test_a_stream_that_was_not_opened_may_be_dropped() -> None:
    """Nothing was begun, nothing is lost, nobody is warned."""
    stream = Script(STARTED).stream()
    del stream
    gc.collect()


# Time


async def _fails_after(stream: TokenStream) -> tuple[float, WorkerError]:
    began = time.monotonic()
    seen = await collect(stream)
    assert isinstance(seen[-1], WorkerError)
    return time.monotonic() - began, seen[-1]


@pytest.mark.parametrize("steps", [(60,), (STARTED, 60), (STARTED, Token("t0", 0), 60)])
async def test_the_deadline_ends_a_waiting_job(steps: tuple[Any, ...]) -> None:
    """DEADLINE_UNMET comes at most 100 ms after the limit, wherever the job is."""
    script = Script(*steps)
    spent, error = await _fails_after(script.stream(deadline_s=0.2))
    assert error.code is ErrorCode.DEADLINE_UNMET
    assert 0.19 < spent < 0.3
    assert script.closed


async def test_the_deadline_counts_from_submit_and_with_a_slow_consumer() -> None:
    """A consumer that is busy past the deadline gets the error at its next read."""
    stream = await Script(STARTED, *tokens(3), END).stream(deadline_s=0.05)
    await asyncio.sleep(0.1)
    seen = await collect(stream)
    assert [type(e) for e in seen] == [Started, Error, WorkerTimeout]


async def test_an_ended_stream_ignores_the_deadline() -> None:
    """No timer outlives the job."""
    stream = Script(STARTED, END).stream(deadline_s=0.05)
    assert await stream.text() == ""
    await asyncio.sleep(0.1)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


def _late() -> WorkerError:
    return WorkerTimeout("DECODE_TIMEOUT", "silent")


def _limited(
    make: Callable[[StreamClock], AsyncIterator[TokenEvent]], deadline_s: float | None = None
) -> TokenStream:
    clock = StreamClock(deadline_s)
    return TokenStream(make(clock), TASK, clock=clock)


async def test_a_limit_on_silence_ends_the_job() -> None:
    """allow() bounds the wait; MetricsFrames and time before them do not start it anew."""

    async def silent(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.2, _late)
        await asyncio.sleep(0.12)
        yield STARTED
        await asyncio.sleep(60)

    spent, error = await _fails_after(_limited(silent))
    assert error.code is ErrorCode.DECODE_TIMEOUT
    assert 0.19 < spent < 0.3


async def test_progress_never_times_out_and_a_slow_consumer_is_no_stall() -> None:
    """Tokens start the wait anew, and only waiting for the engine counts."""

    async def steady(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.1, _late)
        yield STARTED
        for token in tokens(6):
            await asyncio.sleep(0.05)
            yield token
        clock.progress()
        await asyncio.sleep(0.07)
        yield END

    stream = _limited(steady)
    seen = []
    async for event in stream:
        seen.append(event)
        if len(seen) in (1, 3):
            await asyncio.sleep(0.2)
    assert seen[-1] == END


async def test_rename_changes_the_error_not_the_wait() -> None:
    """The head of an answer changes what a timeout is called, not when it comes."""

    async def phases(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.2, _late)
        await asyncio.sleep(0.1)
        clock.rename(lambda: WorkerReset("WORKER_RESET", "renamed"))
        await asyncio.sleep(60)
        yield STARTED

    spent, error = await _fails_after(_limited(phases))
    assert error.code is ErrorCode.WORKER_RESET
    assert 0.19 < spent < 0.3


async def test_a_limit_can_be_lifted() -> None:
    """allow(None) leaves the deadline alone in force."""

    async def lifted(clock: StreamClock) -> AsyncIterator[TokenEvent]:
        clock.allow(0.05, _late)
        yield STARTED
        clock.allow(None)
        await asyncio.sleep(60)

    spent, error = await _fails_after(_limited(lifted, deadline_s=0.2))
    assert error.code is ErrorCode.DEADLINE_UNMET
    assert spent > 0.19


def test_the_clock_tells_what_is_left() -> None:
    """remaining_s and fits speak of the deadline; without one everything fits."""
    clock = StreamClock(10.0)
    assert 9.9 < (clock.remaining_s() or 0) <= 10.0
    assert clock.fits(9.0)
    assert not clock.fits(10.5)
    assert StreamClock().remaining_s() is None
    assert StreamClock().fits(1e9)


async def test_the_table_cancels_by_job_id() -> None:
    """An unknown id is False; a known one is cancelled; closing closes all; nothing is kept alive."""
    table = StreamTable()
    scripts = [Script(STARTED, 60) for _ in range(3)]
    streams = [
        table.add(TokenStream(s.events(), TaskRequest(prompt="x", job_id=f"job{i}")))
        for i, s in enumerate(scripts)
    ]
    for stream in streams:
        await stream
    assert await table.cancel("other") is False
    assert await table.cancel("job1") is True
    assert [s.closed for s in scripts] == [False, True, False]
    await table.aclose()
    assert all(s.closed for s in scripts)
