"""What the engine sees of a job that nobody reads any more: the lab's engine can be asked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from adapter_api.conformance.check import Check, Violation, check
from adapter_api.conformance.lab.faults import UNDERSTOOD
from adapter_api.conformance.lab.subject import HttpSubject
from adapter_api.conformance.patience import undisturbed
from adapter_api.conformance.subject import (
    Adapter,
    Subject,
    first_token,
    in_time,
    settled,
)
from adapter_api.faults import Connection
from adapter_api.stream import TokenStream

UNREAD_BYTES = 8 << 20
"""How much an adapter may take from its engine while nobody reads: the kernel's buffers, and
10,000 events of the flood."""

STILL_S = 0.3
"""An engine that could send nothing for as long is held back."""

LOOKS = 20
"""How many times STILL_S an adapter may take until it holds its engine back."""

CLOSED_S = 1.0
"""How soon after cancel() the engine sees its connection closed. Kernels need far less."""

NEEDS = (UNDERSTOOD, "cancel", "closing")


@asynccontextmanager
async def _flooded(subject: Subject) -> AsyncIterator[tuple[Adapter, TokenStream, Connection]]:
    """A job without an end whose first Token was read, and its connection."""
    assert isinstance(subject, HttpSubject)
    server = subject.lab.server
    flooded = subject.at(subject.lab.flood_url, limit_s=None)
    async with flooded.adapter() as adapter:
        stream = adapter.submit(flooded.job(model="fault", max_tokens=1_000_000))
        try:
            await first_token(stream)
            sending = [one for one in server.requests if one.method == "POST"][-1]
            yield adapter, stream, sending.connection
        finally:
            await in_time(stream.aclose(), "closing the stream")


@check("WA-INT-3002", needs=NEEDS)
async def lab_cancel(subject: Subject) -> None:
    """After cancel() the engine sees its connection closed, so that it can stop."""
    async with _flooded(subject) as (adapter, stream, connection):
        await in_time(adapter.cancel(stream.job_id), "cancel()")
        if not await settled(lambda: connection.closed, CLOSED_S):
            raise Violation(
                f"{CLOSED_S:g} s after cancel() the engine still sends: close the response in "
                "`finally`, and do not read the rest"
            )


@check("HTU-1003", needs=(*NEEDS, "slow-reader"), capability="backpressure")
async def lab_slow_reader(subject: Subject) -> str:
    """While nobody reads the stream, the engine is held back: it can send no more."""
    async with _flooded(subject) as (_, _, connection):
        for _ in range(LOOKS):
            before = connection.sent_bytes
            await undisturbed(STILL_S)
            if connection.sent_bytes == before:
                return f"{before >> 10} KiB under way"
            if connection.sent_bytes > UNREAD_BYTES:
                break
    raise Violation(
        f"the engine could send {connection.sent_bytes >> 20} MiB that nobody read, and more: "
        "read from the connection only when the next event is asked for, or bound the queue"
    )


WATCHED: tuple[Check, ...] = (lab_cancel, lab_slow_reader)
