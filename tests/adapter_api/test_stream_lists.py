"""An adapter may give the Tokens that came at once as a list; the reader sees single events."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapter_api import (
    Cancelled,
    Error,
    ErrorCode,
    InternalError,
    MetricsFrame,
    StreamClock,
    Token,
    TokenStream,
    WorkerError,
)
from adapter_api.events import tokens_of
from tests.scripted import END, STARTED, TASK


def stream_of(*events: Any, clock: StreamClock | None = None) -> TokenStream:
    """A stream of these events; a float is a wait in seconds."""

    async def give() -> AsyncIterator[Any]:
        for event in events:
            if isinstance(event, float):
                await asyncio.sleep(event)
            else:
                yield event

    return TokenStream(give(), TASK, clock=clock)


async def test_a_list_comes_one_by_one() -> None:
    """Mixed with single Tokens, the order is that of the indexes."""
    stream = stream_of(STARTED, Token("a", 0), tokens_of("bcd", 1), Token("e", 4), END)
    events = [event async for event in stream]
    assert events == [STARTED, *(Token(text, i) for i, text in enumerate("abcde")), END]


@pytest.mark.parametrize(
    "events",
    [
        ([Token("a", 0), Token("b", 2)],),
        ([Token("a", 1)],),
        ([Token("a", 0), "b"],),
        ([],),
        (MetricsFrame({}), [Token("a", 0)]),
        ([Token("a", 0), MetricsFrame({}), Token("b", 1)],),
    ],
    ids=str,
)
async def test_the_order_is_checked_inside_of_lists(events: tuple[Any, ...]) -> None:
    """ADAPT-3001: a gap, a stranger, an empty list or a Token too late is an error."""
    stream = stream_of(STARTED, *events, END)
    last = [event async for event in _until_error(stream)][-1]
    assert isinstance(last, Error)
    assert isinstance(last.error, InternalError)
    with pytest.raises(InternalError):
        await anext(stream)


async def _until_error(stream: TokenStream) -> AsyncIterator[Any]:
    async for event in stream:
        yield event
        if isinstance(event, Error):
            return


async def test_a_list_before_started_is_an_error() -> None:
    """ADAPT-3001."""
    with pytest.raises(InternalError, match="Token after nothing"):
        await stream_of(tokens_of("ab", 0))


async def test_no_token_comes_after_cancel() -> None:
    """Buffered Tokens are dropped, and the error counts the delivered ones."""
    stream = stream_of(STARTED, tokens_of("abc", 0), END)
    assert [await anext(stream) for _ in range(3)][-1] == Token("b", 1)
    assert await stream.cancel()
    event = await anext(stream)
    assert isinstance(event, Error)
    assert isinstance(event.error, Cancelled)
    assert event.error.tokens_emitted == 2
    with pytest.raises(Cancelled):
        await anext(stream)


async def test_the_deadline_passes_while_tokens_are_ready() -> None:
    """A slow consumer gets no Token after the deadline, however many are ready."""
    stream = stream_of(STARTED, tokens_of("abc", 0), END, clock=StreamClock(0.05))
    async with stream:
        assert [await anext(stream) for _ in range(2)][-1] == Token("a", 0)
        await asyncio.sleep(0.1)
        event = await anext(stream)
    assert isinstance(event, Error)
    assert event.error.code is ErrorCode.DEADLINE_UNMET
    assert event.error.tokens_emitted == 1


async def test_a_failure_behind_a_list_comes_after_its_tokens() -> None:
    """Tokens that arrived are delivered first."""

    async def give() -> AsyncIterator[Any]:
        yield STARTED
        yield tokens_of("ab", 0)
        raise WorkerError.of(ErrorCode.WORKER_RESET, "broke")

    events = [event async for event in _until_error(TokenStream(give(), TASK))]
    assert events[1:3] == [Token("a", 0), Token("b", 1)]
    assert isinstance(events[3], Error)
    assert events[3].error.tokens_emitted == 2


async def test_ready_tokens_start_the_stall_clock_anew() -> None:
    """The wait for the next read begins when the reader comes back for it."""
    clock = StreamClock()
    clock.allow(0.2)
    stream = stream_of(STARTED, tokens_of("ab", 0), 0.1, tokens_of("cd", 2), 0.1, END, clock=clock)
    assert await stream.text() == "abcd"
