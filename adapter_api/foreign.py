"""Helpers with which TokenStream runs an adapter's code and converts its exceptions."""

import asyncio
import logging
import sys
import warnings
from collections.abc import Awaitable
from inspect import iscoroutinefunction
from types import AsyncGeneratorType, TracebackType
from typing import Any

from adapter_api.errors import Cancelled, ErrorCode, InternalError, StreamingError, WorkerError
from adapter_api.interruption import RELEASE_S, Abandoned

logger = logging.getLogger("worker_adapters.stream")
# A library stays silent unless the application configures logging.
logging.getLogger("worker_adapters").addHandler(logging.NullHandler())

_OURS = frozenset(
    {f"adapter_api.{name}" for name in ("stream", "source", "whole", "interruption", "foreign")}
)


HANDED_ON = ("another stream", 0)
"""Stands for the caller if a stream is read by another stream."""


def caller() -> tuple[str, int]:
    """Return the file and the line from which the stream's methods were called."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__") in _OURS:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


class Raised:
    """An exception of an adapter, to be handled outside the except block. An exception that is
    raised inside the block would keep it as its context, and with it every frame of the adapter.

    Attributes:
        propagates: Whether it is a watcher's, not the adapter's, so that the reader gets it.
    """

    __slots__ = ("_exc", "propagates")

    def __init__(self, exc: BaseException, *, propagates: bool = False) -> None:
        self._exc: BaseException | None = exc
        self.propagates = propagates

    def take(self) -> BaseException:
        """Return the exception, once: its traceback holds the frame that holds this."""
        exc, self._exc = self._exc, None
        assert exc is not None
        return exc


def name_of(events: Any) -> str:
    """Name the code that yields the events, for a message."""
    name = getattr(events, "__qualname__", type(events).__qualname__)
    return f"the adapter ({name.replace('.<locals>', '')})"


def error_of(exc: BaseException, events: Any) -> WorkerError:
    """Convert an adapter's exception to a WorkerError."""
    if isinstance(exc, WorkerError):
        return exc
    if isinstance(exc, StopAsyncIteration):
        message = f"the events of {name_of(events)} ended without End or Error"
        return StreamingError(ErrorCode.STREAM_TRUNCATED, message)
    message = f"{name_of(events)} failed with {type(exc).__name__}"
    error = InternalError(ErrorCode.INTERNAL, message)
    error.__cause__ = exc
    return error


def warn_of_abandoned(events: Any, job_id: str) -> None:
    """Log that an adapter's code did not stop."""
    logger.warning(
        "%s did not stop within %g s after job %s ended; it keeps running in a task of its own",
        name_of(events),
        RELEASE_S,
        job_id,
    )


def warn_of_dropped(job_id: str, opened_at: tuple[str, int]) -> None:
    """Warn of a stream that was dropped before its end."""
    filename, line = opened_at
    warnings.warn(
        f"the stream of job {job_id}, opened at {filename}:{line}, was dropped before its end: use "
        "`async with adapter.submit(task) as stream`, or call aclose()",
        ResourceWarning,
        stacklevel=3,  # no source=: a recorded warning would keep the connection open
    )


def warn_of_cleanup_error(exc: BaseException, job_id: str) -> None:
    """Log an exception of an adapter's cleanup. The outcome of the job stands."""
    # The exception's text may contain a key, so it is logged at DEBUG only.
    logger.warning(
        "closing the event stream of job %s failed with %s",
        job_id,
        type(exc).__name__,
        exc_info=exc if logger.isEnabledFor(logging.DEBUG) else None,
    )


def steps_of(events: Any) -> Any:
    """Return a function that creates the awaitable of the next event."""
    advance = events.__anext__
    if isinstance(events, AsyncGeneratorType) or iscoroutinefunction(advance):
        return advance
    return lambda: awaited(advance())


async def awaited(step: Awaitable[Any]) -> Any:
    """Return an awaitable's result; unlike some awaitables, this one has `send` and `throw`."""
    return await step


def cancellation(why: str) -> Cancelled:
    return Cancelled(ErrorCode.CANCELLED, why)


def ended_by(exc: BaseException) -> Cancelled:
    return cancellation(f"the reader was ended by {type(exc).__name__}")


def twin_of(error: WorkerError) -> WorkerError:
    """Return a copy of `error` with its cause and without its traceback."""
    make, arguments = error.__reduce__()
    twin = make(*arguments)  # as copy.copy does it, at a third of the cost
    assert isinstance(twin, WorkerError)
    twin.__cause__ = error.__cause__
    return twin


def without_our_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Drop this package's leading frames: they reference the stream and would form a cycle."""
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__") in _OURS:
        traceback = traceback.tb_next
    return traceback


def what_propagates(
    exc: BaseException, *, cancelled: bool, destroyed: bool
) -> BaseException | None:
    """Return the exception that must propagate because of an adapter's exception, if any.

    These are a cancellation from elsewhere (even if the adapter replaced it by another exception),
    KeyboardInterrupt, and the GeneratorExit that destroys the reader's coroutine. Everything else
    is a failure of this job only, including SystemExit and the CancelledError of a task that the
    adapter waits for.
    """
    if isinstance(exc, KeyboardInterrupt) or (isinstance(exc, GeneratorExit) and destroyed):
        return exc
    if not cancelled:
        return None
    if isinstance(exc, asyncio.CancelledError):
        return exc
    again = asyncio.CancelledError()
    again.__cause__ = None if isinstance(exc, Abandoned) else exc
    return again
