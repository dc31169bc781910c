"""Cancelling a job: at any moment, repeatedly, and without leaving anything running."""

import asyncio
from contextlib import suppress

from adapter_api.conformance.check import Check, check
from adapter_api.conformance.checks.stream import WHOLE
from adapter_api.conformance.jobs import (
    PROMPT_LIMIT_S,
    becomes_true,
    first_token,
    in_time,
    listed,
    whole,
)
from adapter_api.conformance.subject import Subject
from adapter_api.conformance.verdict import Absent, Violation
from adapter_api.errors import Cancelled, WorkerError
from adapter_api.events import Token
from adapter_api.stream import TokenStream

TURNS = (*range(16), 24, 32, 48, 64)
"""The iterations of the event loop after which a job is stopped. Few await points are further
apart."""

LONG_ANSWER_TOKENS = 100_000
"""Enough to keep a job running until the check ends."""

_TURNS_TO_END = 16
"""A task that is cancelled but not awaited needs a few iterations of the loop to end."""

SETTLE_S = 0.2
"""The time allowed for operations that end a moment later, such as closing a socket. On a slow
machine, the duration of a whole job is added."""

_SLOWDOWN = 5
"""How much longer than usual a job may take after others were cut short."""


@check("WA-INT-3002", needs=WHOLE)
async def closing(subject: Subject) -> None:
    """The submit hook's events can be closed after a Token: nothing more is yielded or raised."""
    async with subject.adapter() as adapter:
        await adapter.start()
        events = adapter.adapter.submit(task=subject.job(max_tokens=256))
        async for event in events:
            if isinstance(event, Token):
                break
        close = getattr(events, "aclose", None)
        if close is None:
            raise Absent("the submit hook's events are an iterator without aclose")
        try:
            await in_time(close(), "closing the submit hook's events")
        except RuntimeError as exc:
            raise Violation(f"{exc}: do not yield in `finally` or in `except`") from exc


@check("WA-INT-3002 ORCH-3026", needs=(*WHOLE, "closing"))
async def cancel(subject: Subject) -> None:
    """After cancel() returns no Token comes; the stream ends with CANCELLED."""
    async with subject.adapter() as adapter:
        stream = adapter.submit(subject.job(max_tokens=256))
        await first_token(stream)
        await in_time(adapter.cancel(stream.job_id), "cancel()")
        with suppress(Cancelled):
            async for event in stream:
                if isinstance(event, Token):
                    raise Violation("a Token came after cancel() had returned")


STOPPED = (*WHOLE, "closing", "cancel")
"""The checks without which no job can be interrupted."""


@check("WA-INT-3002 ORCH-3026", needs=STOPPED)
async def cancel_stops(subject: Subject) -> None:
    """When cancel() returns the job is over: no task that it began continues."""
    async with subject.adapter() as adapter:
        usual = await whole(adapter, subject.job())  # shared background tasks have begun
        before = asyncio.all_tasks()
        stream = adapter.submit(subject.job(max_tokens=LONG_ANSWER_TOKENS))
        await first_token(stream)
        await in_time(adapter.cancel(stream.job_id), "cancel()")
        await _turn(_TURNS_TO_END)
        await becomes_true(lambda: asyncio.all_tasks() <= before, SETTLE_S + usual.took_s)
        left = asyncio.all_tasks() - before
        await stream.aclose()
    if left:
        raise Violation(
            f"after cancel() the job's {listed(_name(task) for task in left)} continues: cancel it "
            "in `finally`, and wait for it"
        )


def _name(task: "asyncio.Task[object]") -> str:
    return getattr(task.get_coro(), "__qualname__", task.get_name())


@check("ORCH-3026", needs=STOPPED)
async def cancel_unknown(subject: Subject) -> None:
    """cancel() of an unknown or ended job returns False; it may be repeated."""
    async with subject.adapter() as adapter:
        task = subject.job()
        outcomes = [await in_time(adapter.cancel("no-such-job"), "cancel()")]
        await whole(adapter, task)
        outcomes += [await in_time(adapter.cancel(task.job_id), "cancel()") for _ in range(2)]
        stream = adapter.submit(subject.job(max_tokens=256))
        await first_token(stream)
        for _ in range(2):
            await in_time(adapter.cancel(stream.job_id), "cancel()")
        await stream.aclose()
    names = ("an unknown job", "an ended job", "an ended job")
    wrong = [name for name, outcome in zip(names, outcomes, strict=True) if outcome]
    if wrong:
        raise Violation(f"cancel() of {wrong[0]} returned True: remember running jobs only")


@check("WA-INT-3002", needs=STOPPED)
async def cancel_anywhere(subject: Subject) -> str:
    """A job can be cancelled at any await point, while another task waits for its next event."""
    async with subject.adapter() as adapter:
        usual = await whole(adapter, subject.job())
        for turns in TURNS:
            stream = adapter.submit(subject.job())
            reading = asyncio.ensure_future(_read(stream))
            await _turn(turns)
            await in_time(adapter.cancel(stream.job_id), f"cancel() after {turns} turns")
            await in_time(reading, f"the reader of a job cancelled after {turns} turns")
        await whole(adapter, subject.job(), _SLOWDOWN * usual.took_s + PROMPT_LIMIT_S)
    return f"{len(TURNS)} points"


@check("WA-INT-3002", needs=(*STOPPED, "cancel-anywhere"))
async def reader_cancelled(subject: Subject) -> str:
    """CancelledError propagates to the reading task, cancelled anywhere, and harms no other job."""
    async with subject.adapter() as adapter:
        usual = await whole(adapter, subject.job())
        for turns in TURNS:
            reading = asyncio.ensure_future(_read(adapter.submit(subject.job())))
            await _turn(turns)
            ended = reading.done()
            reading.cancel()
            if not await becomes_true(reading.done):
                raise Violation(
                    f"the reader, cancelled after {turns} turns, did not end in time: "
                    "let CancelledError pass"
                )
            if not ended and not reading.cancelled():
                raise Violation(f"the CancelledError was lost, {turns} turns after submit")
        await whole(adapter, subject.job(), _SLOWDOWN * usual.took_s + PROMPT_LIMIT_S)
    return f"{len(TURNS)} points"


async def _read(stream: TokenStream) -> None:
    """Read to the end; raise only what no stream may raise."""
    with suppress(WorkerError):
        async with stream:
            async for _ in stream:
                pass


async def _turn(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


CANCELLING: tuple[Check, ...] = (
    closing,
    cancel,
    cancel_stops,
    cancel_unknown,
    cancel_anywhere,
    reader_cancelled,
)
