"""Checks of what the engine sees of an adapter: its prompts, and its connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from adapter_api.conformance.check import Check, check
from adapter_api.conformance.checks.damaged import Baseline, baseline, behind
from adapter_api.conformance.checks.load import loop_pauses
from adapter_api.conformance.jobs import Adapter, becomes_true, first_token, in_time, run
from adapter_api.conformance.subject import Subject
from adapter_api.conformance.verdict import NotExamined, Violation
from adapter_api.faults import PASS, Connection, Damage, proxy
from adapter_api.stream import TokenStream

UNREAD_BYTES = 8 << 20
"""How much an adapter may read from its engine while the stream is not read: the kernel's buffers
and a bounded queue."""

STILL_S = 0.3

STILL_LOOKS = 2
"""An engine that could send nothing in this many intervals of STILL_S counts as held back."""

DELAY_S = 0.6
"""How long the engine delays its answer, to see whether the adapter blocks the event loop."""

DELAY_TRIES = 3
"""The best try counts, because the loop may be blocked for other reasons."""

_MARKS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel")


@check("WA-INT-3002", needs=("proxied", "concurrent"), capability="concurrency")
async def proxy_prompts(subject: Subject) -> str:
    """Jobs that run at the same time send their own prompts: the engine gets each of them."""
    base = await baseline(subject)
    marks = [f"kit-{mark}-{number}" for number, mark in enumerate(_MARKS)]
    async with behind(subject, PASS) as (adapter, front):
        await asyncio.gather(*(run(adapter, _marked(base, subject, mark)) for mark in marks))
        bodies = [one.body for one in front.posts if one.path == base.path]
    missing = [mark for mark in marks if not any(mark.encode() in body for body in bodies)]
    if len(missing) == len(marks):
        raise NotExamined("its requests do not show the prompt as text")
    if missing:
        raise Violation(
            f"of {len(marks)} concurrent jobs, {len(missing)} sent the prompt of another: keep a "
            "job's state in local variables of submit"
        )
    return f"{len(marks)} concurrent jobs"


def _marked(base: Baseline, subject: Subject, mark: str) -> Any:
    """Return a job with a prompt that can be found in its request."""
    if "messages" in subject.task:
        return base.job(messages=[{"role": "user", "content": mark}])
    return base.job(prompt=mark)


@check("ORCH-3055", needs=("proxied", "event-loop"))
async def proxy_event_loop(subject: Subject) -> str:
    """While an adapter waits for its engine, the event loop continues."""
    base = await baseline(subject)
    async with behind(subject, proxy.delay(DELAY_S), base.path) as (adapter, _):
        found = []
        for _ in range(DELAY_TRIES):
            found.append(await loop_pauses(adapter, base.job()))
            blocked_s, longest_s = min(found)
            if blocked_s < DELAY_S / 2:
                return f"{longest_s * 1000:.0f} ms at most"
    raise Violation(
        f"the event loop was blocked for {min(found)[0]:.1f} s while the engine was silent for "
        f"{DELAY_S:g} s: call blocking code with asyncio.to_thread, or use an asyncio client"
    )


@asynccontextmanager
async def _running(
    subject: Subject, base: Baseline, damage: Damage
) -> AsyncIterator[tuple[Adapter, TokenStream, Connection]]:
    """Yield a job whose first Token was read, and its connection."""
    async with behind(subject, damage, base.path) as (adapter, front):
        stream = adapter.submit(base.job(max_tokens=1_000_000))
        try:
            try:
                await first_token(stream)
            except Violation as violation:
                raise NotExamined(f"{damage.name} was refused: {violation}") from None
            requests = [request for request in front.posts if request.path == base.path]
            yield adapter, stream, requests[-1].connection
        finally:
            await in_time(stream.aclose(), "closing the stream")


@check("WA-INT-3002", needs=("proxied", "cancel", "closing"))
async def proxy_cancel(subject: Subject) -> None:
    """After cancel() the engine sees its connection closed, so that it can stop."""
    base = await baseline(subject)
    for damage in (proxy.stall(base.middle + 1), proxy.flood(base.middle)):
        async with _running(subject, base, damage) as (adapter, stream, connection):
            await in_time(adapter.cancel(stream.job_id), "cancel()")
            if not await becomes_true(lambda seen=connection: seen.closed):  # type: ignore[misc]
                raise Violation(
                    "after cancel() the connection to the engine stays open: close the response "
                    "in `finally`, and do not read the rest"
                )


@check("HTU-1003", needs=("proxied", "slow-reader"), capability="backpressure")
async def proxy_slow_reader(subject: Subject) -> str:
    """While the stream is not read, the engine is held back: it can send no more."""
    base = await baseline(subject)
    async with _running(subject, base, proxy.flood(base.middle)) as (_, _, connection):
        still, before = 0, 0
        while not await becomes_true(lambda: connection.sent_bytes > UNREAD_BYTES, STILL_S):
            still = still + 1 if connection.sent_bytes == before else 0
            before = connection.sent_bytes
            if still == STILL_LOOKS:
                return f"{before >> 10} KiB in flight"
    raise Violation(
        f"the engine could send {connection.sent_bytes >> 20} MiB while the stream was not read: "
        "read from the connection only when the next event is requested, or bound the queue"
    )


SEEN: tuple[Check, ...] = (proxy_prompts, proxy_event_loop, proxy_cancel, proxy_slow_reader)
