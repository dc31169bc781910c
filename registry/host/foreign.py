"""Waiting for an adapter's code, which may hang and may not heed its cancellation."""

import asyncio
from typing import Any, TypeVar

_T = TypeVar("_T")


async def result_in_time(call: "asyncio.Task[_T]", limit_s: float) -> _T:
    """The call's result. The call is cancelled when the time is over, or the caller is cancelled;
    nobody waits for it then.

    Args:
        call: Runs in a task of its own.
        limit_s: The longest to wait, in seconds.

    Raises:
        TimeoutError: If it took longer.
        Exception: What the call raised.
    """
    try:
        await asyncio.wait({call}, timeout=limit_s)
    finally:
        if not call.done():
            call.cancel()
            call.add_done_callback(_retrieve)
    if not call.done():
        raise TimeoutError
    if call.cancelled():
        raise RuntimeError("the call cancelled itself")
    return call.result()


def _retrieve(call: "asyncio.Task[Any]") -> None:
    """What a late call raised is of no interest; unretrieved it would be logged as a defect."""
    if not call.cancelled():
        call.exception()
