"""Concurrent jobs, slow readers, deadlines, and an event loop that is not blocked."""

import asyncio
import tracemalloc
from itertools import pairwise
from time import monotonic

from adapter_api.conformance.check import Check, check
from adapter_api.conformance.checks.cancelling import LONG_ANSWER_TOKENS, STOPPED
from adapter_api.conformance.checks.stream import WHOLE
from adapter_api.conformance.fair_timeout import FairTimeout, sleep_fairly
from adapter_api.conformance.jobs import Adapter, Outcome, first_token, in_time, run, whole
from adapter_api.conformance.subject import Subject
from adapter_api.conformance.verdict import Violation
from adapter_api.task import TaskRequest

WINDOW_S = 0.25
"""The window in which memory growth is measured while the stream is not read. Buffers fill during
the first window."""

STILL_BYTES = 32 << 10
"""If memory grows by less in a later window, the adapter holds its engine back. An unbounded queue
behind an engine that is worth holding back grows faster."""

SLOW_READER_BYTES = 2 << 20
"""How much memory an adapter may take while the stream is not read: kernel buffers are not
counted, a pipe's or a socket's worth of them is."""

DEADLINES_S = (0.001, 0.02, 0.2)
DEADLINE_LATE_S = 0.2
"""How late a job may end after its deadline, in addition to its duration without a deadline."""

BLOCKED_S = 0.5
"""How long the event loop may be blocked in total while a small job runs."""

PIECE_S = 0.02
"""Shorter pauses are not counted: they come from ordinary work and other threads."""

TICK_S = 0.005

TRIES = 3
"""The best try counts: a job may be late because of another process or a garbage collection."""


@check("ADAPT-3001 ORCH-3024", needs=(*WHOLE, "repeatable"), capability="concurrency")
async def concurrent(subject: Subject) -> str:
    """Streams that run at the same time do not mix: each has its own job, indexes and text."""
    tasks = [subject.job(f"{word} " * 3, seed=i) for i, word in enumerate(_WORDS)]
    async with subject.adapter() as adapter:
        alone = [await _outcome(adapter, task) for task in tasks]
        together = await asyncio.gather(
            *(_outcome(adapter, subject.job(task.prompt or "", seed=task.seed)) for task in tasks)
        )
    compared = subject.steady or not subject.lacks("seed", adapter)
    for task, one, other in zip(tasks, alone, together, strict=True):
        if other.error is not None:
            raise Violation(f"one of {len(tasks)} concurrent jobs failed: {other}")
        if one.text != other.text and compared:
            raise Violation(
                f"the answer to {task.prompt!r} was {one.text[:40]!r} alone, and "
                f"{other.text[:40]!r} among others: keep a job's state in local variables of submit"
            )
    only = "" if compared else "; their texts are not compared, as without a seed they may differ"
    return f"{len(tasks)} concurrent jobs{only}"


_WORDS = ("red", "green", "blue", "white", "black", "brown", "grey", "pink")


async def _outcome(adapter: Adapter, task: TaskRequest) -> Outcome:
    outcome = await run(adapter, task)
    if outcome.started is not None and outcome.started.job_id != task.job_id:
        raise Violation("a job's Started carries the job_id of another that runs beside it")
    return outcome


@check("HTU-1003", needs=STOPPED, capability="backpressure")
async def slow_reader(subject: Subject) -> str:
    """While the stream is not read, memory does not grow."""
    async with subject.adapter() as adapter:
        await whole(adapter, subject.job())  # lazy imports are done
        stream = adapter.submit(subject.job(max_tokens=LONG_ANSWER_TOKENS))
        await first_token(stream)
        try:
            grown = await _growth()
        finally:
            await in_time(stream.aclose(), "closing the stream")
    if sum(grown) > SLOW_READER_BYTES:
        raise Violation(
            f"memory grew by {sum(grown) >> 10} KiB in {len(grown) * WINDOW_S:g} s while the "
            "stream "
            "was not read: bound the queue, or read from the engine only when the next event is "
            "requested"
        )
    return f"{max(0, sum(grown)) >> 10} KiB"


async def _growth() -> list[int]:
    """Return by how many bytes memory grows in each window, until it does not, or by too much."""
    tracemalloc.start()
    try:
        sizes = [tracemalloc.get_traced_memory()[0]]
        while sizes[-1] - sizes[0] <= SLOW_READER_BYTES:
            await sleep_fairly(WINDOW_S)
            sizes.append(tracemalloc.get_traced_memory()[0])
            if len(sizes) > 2 and sizes[-1] - sizes[-2] <= STILL_BYTES:
                break
    finally:
        tracemalloc.stop()
    return [after - before for before, after in pairwise(sizes)]


@check("SPEC deadline, ADAPT-3005", needs=WHOLE)
async def deadline(subject: Subject) -> str:
    """A job ends within its deadline_s: whole, or with DEADLINE_UNMET."""
    ends = []
    async with subject.adapter() as adapter:
        await whole(adapter, subject.job())  # the first one may have to wait for a model
        usual = await whole(adapter, subject.job())
        for limit_s in DEADLINES_S:
            tries_left = TRIES
            outcome = await run(adapter, subject.job(deadline_s=limit_s))
            while outcome.took_s - limit_s > DEADLINE_LATE_S + usual.took_s:
                tries_left -= 1
                if not tries_left:
                    raise Violation(
                        f"with deadline_s={limit_s:g} a job took {outcome.took_s:.1f} s"
                    )
                outcome = await run(adapter, subject.job(deadline_s=limit_s))
            code = "in time" if outcome.error is None else str(outcome.error.code)
            if code not in ("in time", "DEADLINE_UNMET"):
                raise Violation(f"with deadline_s={limit_s:g} a job failed: {outcome}")
            ends.append(f"{limit_s:g} s: {code}")
    return ", ".join(ends)


@check("ORCH-3055", needs=WHOLE)
async def event_loop(subject: Subject) -> str:
    """The event loop is never blocked: other jobs continue while this one waits for its engine."""
    async with subject.adapter() as adapter:
        await whole(adapter, subject.job())
        found = [await loop_pauses(adapter, subject.job()) for _ in range(TRIES)]
    blocked_s, longest_s = min(found)
    if blocked_s > BLOCKED_S:
        raise Violation(
            f"the event loop was blocked for {blocked_s:.1f} s during a small job, "
            f"{longest_s:.2f} s of them at once: call blocking code with asyncio.to_thread, or "
            "use an asyncio client"
        )
    return f"{longest_s * 1000:.0f} ms at most"


async def loop_pauses(adapter: Adapter, task: TaskRequest) -> tuple[float, float]:
    """Return the total and the longest pause of the event loop, in seconds."""
    job = asyncio.ensure_future(whole(adapter, task))
    total, longest, last = 0.0, 0.0, monotonic()
    async with FairTimeout() as timeout:
        while not job.done():
            await asyncio.sleep(TICK_S)
            blocked_s, last = monotonic() - last - TICK_S, monotonic()
            longest = max(longest, blocked_s)
            total += blocked_s if blocked_s > PIECE_S else 0.0
    await job
    return max(0.0, total - timeout.preempted_s), longest


LOAD: tuple[Check, ...] = (concurrent, slow_reader, deadline, event_loop)
