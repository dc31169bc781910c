"""Time and room: jobs side by side, slow readers, deadlines, and a loop that nobody blocks."""

import asyncio
import tracemalloc
from time import monotonic

from adapter_api.conformance.check import Check, Violation, check
from adapter_api.conformance.checks.cancelling import STOPPED
from adapter_api.conformance.checks.stream import WHOLE
from adapter_api.conformance.subject import (
    Adapter,
    Outcome,
    Subject,
    first_token,
    in_time,
    run,
    whole,
)
from adapter_api.task import TaskRequest

SLOW_READER_S = 0.5
SLOW_READER_BYTES = 2 << 20
"""How much memory an adapter may take in SLOW_READER_S while nobody reads: kernel buffers are not
counted, a pipe's or a socket's worth of them is."""

LONG_ANSWER_TOKENS = 100_000

DEADLINES_S = (0.001, 0.02, 0.2)
DEADLINE_SLACK_S = 1.0
"""What a busy machine may add to a deadline."""

BLOCKED_S = 0.5
"""How long the event loop may stand still, on a busy machine, while a job runs."""

TRIES = 3
"""How often the loop may stand still for other reasons: another process, garbage."""


@check("ADAPT-3001 ORCH-3024", needs=(*WHOLE, "repeatable"), capability="concurrency")
async def concurrent(subject: Subject) -> str:
    """Streams that run at the same time do not mix: each has its own job, indexes and text."""
    tasks = [subject.job(f"{word} " * 3, seed=i) for i, word in enumerate(_WORDS)]
    async with subject.adapter() as adapter:
        alone = [await _outcome(adapter, task) for task in tasks]
        together = await asyncio.gather(
            *(_outcome(adapter, subject.job(task.prompt or "", seed=task.seed)) for task in tasks)
        )
    for task, one, other in zip(tasks, alone, together, strict=True):
        if other.error is not None:
            raise Violation(f"one of {len(tasks)} jobs at a time failed: {other}")
        if one.text != other.text and "seed" not in _absent(subject, adapter):
            raise Violation(
                f"the answer to {task.prompt!r} was {one.text[:40]!r} alone, and "
                f"{other.text[:40]!r} among others: keep a job's state in local variables of submit"
            )
    return f"{len(tasks)} at a time"


_WORDS = ("red", "green", "blue", "white", "black", "brown", "grey", "pink")


def _absent(subject: Subject, adapter: Adapter) -> set[str]:
    return {*subject.absent, *getattr(adapter.adapter, "ABSENT", ())}


async def _outcome(adapter: Adapter, task: TaskRequest) -> Outcome:
    outcome = await run(adapter, task)
    if outcome.started is not None and outcome.started.job_id != task.job_id:
        raise Violation("a job's Started carries the job_id of another that runs beside it")
    return outcome


@check("HTU-1003", needs=STOPPED, capability="backpressure")
async def slow_reader(subject: Subject) -> str:
    """While nobody reads the stream, memory does not grow."""
    async with subject.adapter() as adapter:
        await whole(adapter, subject.job())  # what is loaded once is loaded now
        stream = adapter.submit(subject.job(max_tokens=LONG_ANSWER_TOKENS))
        await first_token(stream)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            await asyncio.sleep(SLOW_READER_S)
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
            await in_time(stream.aclose(), "closing the stream")
    if grown > SLOW_READER_BYTES:
        raise Violation(
            f"{grown >> 10} KiB came in {SLOW_READER_S:g} s that nobody read: bound the queue, "
            "or read from the engine only when the next event is asked for"
        )
    return f"{max(0, grown) >> 10} KiB"


@check("SPEC deadline, ADAPT-3005", needs=WHOLE)
async def deadline(subject: Subject) -> str:
    """A job ends within its deadline_s: whole, or with DEADLINE_UNMET."""
    ends = []
    async with subject.adapter() as adapter:
        await whole(adapter, subject.job())  # the first one may have to wait for a model
        for limit_s in DEADLINES_S:
            outcome = await run(adapter, subject.job(deadline_s=limit_s))
            over_s = outcome.took_s - limit_s
            if over_s > DEADLINE_SLACK_S:
                raise Violation(f"with deadline_s={limit_s:g} a job took {outcome.took_s:.1f} s")
            code = "in time" if outcome.error is None else str(outcome.error.code)
            if code not in ("in time", "DEADLINE_UNMET"):
                raise Violation(f"with deadline_s={limit_s:g} a job failed: {outcome}")
            ends.append(f"{limit_s:g} s: {code}")
    return ", ".join(ends)


@check("ORCH-3055", needs=WHOLE)
async def event_loop(subject: Subject) -> str:
    """The event loop is never blocked: other jobs go on while this one waits for its engine."""
    async with subject.adapter() as adapter:
        await whole(adapter, subject.job())
        stood_s = min([await _longest_stop(adapter, subject.job()) for _ in range(TRIES)])
    if stood_s > BLOCKED_S:
        raise Violation(
            f"the event loop stood still for {stood_s:.1f} s: call blocking code with "
            "asyncio.to_thread, or use an asyncio client"
        )
    return f"{stood_s * 1000:.0f} ms"


async def _longest_stop(adapter: Adapter, task: TaskRequest) -> float:
    job = asyncio.ensure_future(whole(adapter, task))
    longest, last = 0.0, monotonic()
    while not job.done():
        await asyncio.sleep(0.005)
        longest, last = max(longest, monotonic() - last), monotonic()
    await job
    return longest


LOAD: tuple[Check, ...] = (concurrent, slow_reader, deadline, event_loop)
