"""TokenStream: closing, dropping, and the table of running streams."""

import asyncio
import gc
import logging
import sys
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapter_api import (
    Cancelled,
    End,
    Error,
    Started,
    StreamTable,
    TaskRequest,
    Token,
    TokenEvent,
    TokenStream,
    WorkerError,
)
from adapter_api.table import StreamMap
from tests.scripted import END, STARTED, TASK, Script, collect, tokens, turns

# Closing


async def test_leaving_the_block_closes_the_job() -> None:
    """`async with` releases the connection, also after `break` and when the block raises."""
    script = Script(STARTED, *tokens(2), 60)
    async with script.stream() as stream:
        async for _ in stream:
            break
    assert script.closed
    with pytest.raises(ZeroDivisionError):
        async with Script(STARTED, 60).stream():
            raise ZeroDivisionError


async def test_closing_is_idempotent() -> None:
    """aclose may come at any time and again; a closed stream raises Cancelled, never stops."""
    script = Script(STARTED, *tokens(2), END)
    stream = await script.stream()
    await stream.aclose()
    await stream.aclose()
    assert script.closed
    assert [type(item) for item in await collect(stream)] == [Started, Error, Cancelled]
    done = Script(STARTED, END).stream()
    await done.text()
    await done.aclose()
    assert await collect(done) == []


@pytest.mark.parametrize("level", [logging.DEBUG, logging.WARNING])
async def test_a_failing_clean_up_does_not_change_the_outcome(
    level: int, caplog: pytest.LogCaptureFixture
) -> None:
    """HTU-1004: what an adapter raises while it is closed is logged by type; its text may hold a
    key, and is for the one who asks to debug."""
    caplog.set_level(level, "worker_adapters")
    script = Script(STARTED, END, cleanup=(OSError("sk-secret"),))
    assert await script.stream().text() == ""
    assert "closing the event stream of job job failed with OSError" in caplog.text
    assert ("sk-secret" in caplog.text) is (level == logging.DEBUG)


async def test_a_clean_up_that_yields_is_a_failing_one(caplog: pytest.LogCaptureFixture) -> None:
    """An adapter that answers its closing with events gets no reader for them."""

    async def talkative() -> AsyncIterator[TokenEvent]:
        try:
            yield STARTED
        finally:
            yield Token("late", 0)

    stream = await TokenStream(talkative(), TASK)
    assert await stream.cancel()
    assert "failed with RuntimeError" in caplog.text
    assert not any(isinstance(item, Token) for item in await collect(stream))


@pytest.mark.parametrize("how", ["await", "enter", "iterate"])
async def test_a_dropped_stream_releases_and_warns(how: str) -> None:
    """The warning says where the stream was opened; the generator is closed by the loop."""
    script = Script(STARTED, 60)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stream = script.stream(deadline_s=30)
        if how == "await":
            line, _ = _line(), await stream
        elif how == "enter":
            line, _ = _line(), await stream.__aenter__()
        else:
            line, _ = _line(), await anext(stream)
        del stream, _
        gc.collect()
        await turns(10)
    messages = [str(w.message) for w in caught if w.category is ResourceWarning]
    assert len(messages) == 1
    assert f"the stream of job job, opened at {__file__}:{line}, was dropped" in messages[0]
    assert "async with" in messages[0]
    assert script.closed


def _line() -> int:
    return sys._getframe(1).f_lineno


async def test_a_stream_that_was_not_opened_may_be_dropped() -> None:
    """Dropping a stream that was never opened, or has ended, does not warn."""
    stream = Script(STARTED).stream()
    del stream
    stream = Script(STARTED, END).stream()
    await stream.text()
    del stream
    gc.collect()


def test_a_reader_destroyed_with_its_loop_lets_go() -> None:
    """A reader whose coroutine is thrown away while it waits leaves a stream that is over, and for
    which no task waits forever."""

    async def events() -> AsyncIterator[TokenEvent]:
        yield STARTED
        await asyncio.sleep(60)

    stream = TokenStream(events(), TASK)

    async def begin() -> Any:
        assert await anext(stream) == STARTED
        waiting = stream.__anext__()
        waiting.send(None)
        return waiting

    asyncio.run(begin()).close()
    assert asyncio.run(stream.cancel()) is True
    with pytest.raises(Cancelled):
        asyncio.run(stream.text())


def test_a_destroyed_reader_gets_no_event_of_a_cleanup_that_waits() -> None:
    """It is too late for the adapter's cleanup, and the reader's coroutine may not go on."""

    class Events:
        def __aiter__(self) -> "Events":
            return self

        async def __anext__(self) -> TokenEvent:
            try:
                await asyncio.sleep(60)
                return STARTED
            finally:
                await asyncio.sleep(0)

    stream = TokenStream(Events(), TASK)
    seen: list[Any] = []

    async def begin() -> Any:
        reader = collect(stream, seen)
        reader.send(None)
        return reader

    asyncio.run(begin()).close()
    assert seen == []
    assert asyncio.run(stream.cancel()) is True


# The table


async def test_the_table_cancels_by_job_id() -> None:
    """ORCH-3024: an unknown id is False; a known one is cancelled; closing closes all."""
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


async def test_the_table_forgets_unreferenced_streams() -> None:
    """It keeps no stream alive."""
    table = StreamTable()
    stream = table.add(Script(STARTED, END).stream())
    await stream.text()
    del stream
    gc.collect()
    assert await table.cancel("job") is False


async def test_a_map_finds_every_stream_of_a_key_while_it_lives() -> None:
    """Streams of one id are all found, and an entry goes with its stream, cycles or not."""
    streams: StreamMap[str] = StreamMap()
    first, second, third = (Script().stream() for _ in range(3))
    for stream, note in ((first, "1"), (second, "2")):
        streams.put(("p", "job"), stream, note)
    streams.put(("q", "job"), third, "3")
    assert streams.get(("p", "job")) == [(first, "1"), (second, "2")]
    assert streams.get(("r", "job")) == []
    cycle: list[object] = [first, second]
    cycle.append(cycle)
    del first, stream
    assert streams.get(("p", "job"))[1:] == [(second, "2")]
    del second, cycle
    gc.collect()
    assert streams.get(("p", "job")) == []
    assert streams.streams() == [third]
    del third
    assert streams.streams() == []
    assert len(streams) == 0


async def test_buffered_tokens_can_be_taken_at_once() -> None:
    """take_buffered gives the rest of a list that the adapter gave; reading continues after it."""
    stream = Script(STARTED, tokens(4)[:3], tokens(4)[3], END).stream()
    async with stream:
        assert [await anext(stream), await anext(stream)] == [STARTED, tokens(1)[0]]
        assert stream.take_buffered() == tokens(3)[1:]
        assert stream.take_buffered() == []
        assert [event async for event in stream] == [tokens(4)[3], END]


# A watcher that raises


class Raising:
    """A watcher whose callback `at` raises `exc`."""

    def __init__(self, at: str, exc: BaseException) -> None:
        self._at = at
        self._exc = exc
        self.seen: list[str] = []

    def _note(self, name: str) -> None:
        self.seen.append(name)
        if name == self._at:
            raise self._exc

    def opened(self) -> None:
        self._note("opened")

    def started(self, event: Started) -> None:
        self._note("started")

    def first_token(self) -> None:
        self._note("first_token")

    def ended(self, end: End | None, error: WorkerError | None, delivered: int) -> None:
        self._note(f"{type(error).__name__} {delivered}")


@pytest.mark.parametrize("exc", [KeyboardInterrupt(), ValueError("the watcher's")])
@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("at", ["opened", "started", "first_token"])
async def test_what_a_watcher_raises_propagates_from_a_closed_stream(
    at: str, at_once: bool, exc: BaseException
) -> None:
    """The caller has no stream yet that it could close, so everything is released before."""
    wait = () if at_once else (0,)
    script = Script(*wait, STARTED, *wait, *tokens(2), 60)
    watcher = Raising(at, exc)
    stream = script.stream().watch(watcher)
    with pytest.raises(type(exc)) as caught:
        await collect(stream)
    assert caught.value is exc
    assert script.closed or script.at == -1  # it never began
    assert watcher.seen[-2:] == [at, "Cancelled 0"]
    assert isinstance((await collect(stream))[-1], Cancelled)
