"""Cancelling: the job by any task, the reading task by its owner, with any adapter."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_api import (
    Cancelled,
    End,
    Error,
    Started,
    StreamClock,
    Token,
    TokenEvent,
    TokenStream,
    WorkerError,
    WorkerReset,
    WorkerTimeout,
)
from tests.scripted import END, STARTED, TASK, Script, collect, facts, reading, tokens, turns

# The job is cancelled


@pytest.mark.parametrize("until", [0, 1, 3])
async def test_cancel_while_another_task_waits(until: int) -> None:
    """AH-1004, WA-INT-3002: cancel returns after the release; no token comes after it."""
    count = max(0, until - 1)
    script = Script(STARTED, *tokens(count), 60) if until else Script(60, STARTED)
    stream = script.stream()
    reader, seen = await reading(stream, until)
    assert await stream.cancel() is True
    assert script.closed
    before = [e for e in seen if isinstance(e, Token)]
    await reader
    assert [e for e in seen if isinstance(e, Token)] == before
    assert isinstance(seen[-1], Cancelled)
    assert (seen[-1].job_id, seen[-1].tokens_emitted) == ("job", count)
    assert reader.cancelling() == 0
    assert len(seen) == until + (2 if until else 1)
    if until:
        assert isinstance(seen[-2], Error)
        assert facts(seen[-2].error) == facts(seen[-1])


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
                assert script.closed
    assert seen[:2] == [STARTED, Token("t0", 0)]
    assert isinstance(seen[2], Error)
    assert len(seen) == 3


async def test_cancel_after_opening_keeps_the_order() -> None:
    """A stream cancelled after `await stream` gives Started, Error, and then raises again and
    again: the engine did accept the job, and a reader's match sees events in their order."""
    stream = await Script(STARTED, *tokens(3), END).stream()
    assert await stream.cancel()
    seen = await collect(stream)
    assert [type(item) for item in seen] == [Started, Error, Cancelled]
    assert facts(seen[1].error) == facts(seen[2])
    with pytest.raises(Cancelled):
        await stream.text()


async def test_cancel_before_opening_sends_nothing() -> None:
    """The job never reaches the adapter; opening raises Cancelled."""
    script = Script(STARTED, END)
    stream = script.stream()
    assert await stream.cancel() is True
    for _ in range(2):
        with pytest.raises(Cancelled):
            await stream
    assert script.at == -1


async def test_cancel_while_opening_raises_from_there() -> None:
    """Opening a cancelled stream raises Cancelled, since nothing had started."""
    script = Script(60, STARTED)
    stream = script.stream()

    async def open_it() -> None:
        await stream

    opening = asyncio.create_task(open_it())
    await turns(3)
    assert await stream.cancel() is True
    assert script.closed
    with pytest.raises(Cancelled):
        await opening
    assert opening.cancelling() == 0


async def test_cancel_is_idempotent_and_false_after_the_end() -> None:
    """Ten at once are one; a cancelled job stays so; a finished or failed one is not cancelled."""
    script = Script(STARTED, 60)
    stream = script.stream()
    reader, _ = await reading(stream, 1)
    assert await asyncio.gather(*(stream.cancel() for _ in range(10))) == [True] * 10
    assert await stream.cancel() is True
    await reader
    for last in (END, WorkerReset("WORKER_RESET", "x")):
        done = Script(STARTED, last).stream()
        await collect(done)
        assert await done.cancel() is False


async def test_ten_tasks_cancel_an_unread_job() -> None:
    """The first closes the events, the others wait until that is done."""
    script = Script(STARTED, 60, cleanup=(0.02,))
    stream = await script.stream()
    done: list[bool] = []

    async def cancel() -> bool:
        answer = await stream.cancel()
        done.append(script.closed)
        return answer

    assert await asyncio.gather(*(cancel() for _ in range(10))) == [True] * 10
    assert done == [True] * 10


@pytest.mark.parametrize("read", [True, False])
async def test_cancel_returns_after_the_clean_up(read: bool) -> None:
    """True means that the connection is closed, however long that takes, for a read job and for
    one that waits for its reader."""
    ended = False

    async def slow() -> AsyncIterator[TokenEvent]:
        nonlocal ended
        try:
            yield STARTED
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            ended = True

    stream = await TokenStream(slow(), TASK)
    reader, seen = (await reading(stream, 1)) if read else (None, [])
    assert await stream.cancel() is True
    assert ended
    if reader is not None:
        await reader
        assert isinstance(seen[-1], Cancelled)


async def test_a_cancelled_caller_of_cancel_does_not_undo_it() -> None:
    """The task that called cancel may be cancelled; the job still stops."""
    script = Script(STARTED, 60)
    stream = script.stream()
    reader, seen = await reading(stream, 1)
    canceller = asyncio.create_task(stream.cancel())
    await turns(1)
    canceller.cancel()
    await asyncio.wait([reader], timeout=1)
    assert isinstance(seen[-1], Cancelled)
    assert canceller.cancelled()
    assert await stream.cancel() is True


async def test_a_canceller_cancelled_while_it_releases() -> None:
    """Its CancelledError propagates, no task waits forever, and the job stays cancelled."""
    script = Script(STARTED, 60, cleanup=(60,))
    stream = await script.stream()
    first = asyncio.create_task(stream.cancel())
    second = asyncio.create_task(stream.cancel())
    await turns(5)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await asyncio.wait_for(second, 1) is True
    assert [type(item) for item in await collect(stream)] == [Started, Error, Cancelled]


async def test_the_end_is_not_lost_when_its_reader_is_cancelled() -> None:
    """Cancelled while a whole answer's connection is released: End is there for who reads on."""
    stream = Script(STARTED, END, cleanup=(60,)).stream()
    reader, _ = await reading(stream, 1)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await collect(stream) == [END]
    assert await stream.cancel() is False


async def test_the_first_reason_stays() -> None:
    """A job that its deadline stopped is not cancelled afterwards; the error says deadline."""
    script = Script(STARTED, 60)
    stream = await script.stream(deadline_s=0.02)
    await asyncio.sleep(0.05)
    assert await stream.cancel() is False
    assert script.closed
    seen = await collect(stream)
    assert [type(item) for item in seen] == [Started, Error, WorkerTimeout]
    assert (seen[2].job_id, seen[2].tokens_emitted) == ("job", 0)


async def test_cancel_and_deadline_at_once() -> None:
    """The first cause decides the error; no task waits forever."""
    for _ in range(5):
        stream = Script(STARTED, 60).stream(deadline_s=0.02)
        reader, seen = await reading(stream, 1)
        await asyncio.sleep(0.0199)
        answer = await asyncio.wait_for(stream.cancel(), 1)
        await reader
        assert isinstance(seen[-1], Cancelled if answer else WorkerTimeout)
        assert reader.cancelling() == 0


# Everything at once

_ADAPTERS: dict[str, Callable[[], Script]] = {
    "plain": lambda: Script(0, STARTED, 0, *tokens(2), 0, 0, Token("t2", 2), 0, END),
    "waiting": lambda: Script(0, STARTED, 0, *tokens(2), 0, 60, END),
    "slow to close": lambda: Script(STARTED, 0, *tokens(2), 0, 0, END, cleanup=(0, 0, 0.001)),
    "untidy": lambda: Script(STARTED, 0, *tokens(2), 0, 0, END, cleanup=(0, OSError("x"))),
    "failing": lambda: Script(STARTED, 0, *tokens(2), 0, WorkerReset("WORKER_RESET", "x")),
    "cancelled within": lambda: Script(STARTED, 0, *tokens(1), 0, asyncio.CancelledError()),
}


_ACTIONS = ("cancel", "aclose", "cancel the reader", "limit", "cancel a canceller")


@settings(max_examples=300)
@given(
    adapter=st.sampled_from(sorted(_ADAPTERS)),
    opened=st.booleans(),
    slow=st.booleans(),
    actions=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(_ACTIONS)), max_size=4),
    patience=st.integers(0, 20),
)
def test_any_interleaving_ends_well(
    adapter: str, opened: bool, slow: bool, actions: list[tuple[int, str]], patience: int
) -> None:
    """After any sequence of stops the adapter is closed, no task waits forever, no
    token follows a cancel, the stream is legal, and cancellations from outside are not lost."""
    asyncio.run(_interleave(_ADAPTERS[adapter](), opened, slow, actions, patience))


async def _interleave(
    script: Script, opened: bool, slow: bool, actions: list[tuple[int, str]], patience: int
) -> None:
    clock = StreamClock()
    events: Any = script.events()
    stream = TokenStream(events, TASK, clock=clock)
    seen: list[Any] = []
    at_cancel: list[int] = []  # how many tokens had come when cancel returned

    def token_count() -> int:
        return sum(isinstance(event, Token) for event in seen)

    async def read() -> None:
        if opened:
            await stream
        async for event in stream:
            seen.append(event)
            if slow:
                await asyncio.sleep(0)

    async def cancel() -> None:
        await stream.cancel()
        at_cancel.append(token_count())

    reader = asyncio.create_task(read())
    helpers: list[asyncio.Task[None]] = []
    outside = 0
    for pause, action in [*actions, (patience, "cancel")]:
        await turns(pause)
        if action == "limit":
            clock.interrupt(WorkerTimeout("DECODE_TIMEOUT", "x"))
        elif action == "cancel the reader":
            outside += reader.cancel()
        else:
            helpers.append(asyncio.create_task(stream.aclose() if action == "aclose" else cancel()))
        if action == "cancel a canceller":
            await turns(pause)
            helpers[-1].cancel()
    _, late = await asyncio.wait([reader, *helpers], timeout=5)
    assert not late
    assert reader.cancelling() == outside
    assert reader.cancelled() or not outside
    assert events.ag_frame is None  # it is finished
    assert all(count == token_count() for count in at_cancel)
    kinds = [type(event) for event in seen]
    assert kinds[:1] in ([], [Started])
    assert kinds[1 : 1 + token_count()] == [Token] * token_count()
    assert kinds[1 + token_count() :] in ([], [End], [Error])
    if not reader.cancelled():
        error = reader.exception()
        assert error is None or isinstance(error, WorkerError)
        assert kinds[-1:] == ([End] if error is None else [Error] if kinds else [])


async def test_tokens_that_are_buffered_when_the_job_is_cancelled_are_dropped() -> None:
    """Tokens buffered with the last one are neither delivered nor kept."""
    rest = [Token(f"rest {number}", number) for number in range(1, 4)]
    script = Script(STARTED, [Token("first", 0), *rest], 60)
    stream = script.stream()
    assert isinstance(await anext(stream), Started)
    assert await anext(stream) == Token("first", 0)
    assert await stream.cancel() is True
    assert stream.take_buffered() == []
    kept = [item for item in gc.get_referents(stream) if isinstance(item, list)]
    assert not [token for item in kept for token in item if isinstance(token, Token)]
    assert isinstance(await anext(stream), Error)
    with pytest.raises(Cancelled) as caught:
        await anext(stream)
    assert caught.value.tokens_emitted == 1
