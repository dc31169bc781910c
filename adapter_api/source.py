"""The adapter's side of a stream: its events, closed in time and once."""

import asyncio
from typing import Any

from adapter_api.errors import WorkerError
from adapter_api.foreign import (
    close_in_time,
    error_of,
    name_of,
    warn_of_abandoned,
    warn_of_untidy,
    what_propagates,
    without_our_frames,
)
from adapter_api.interruption import GaveUp, Latch


class Source:
    """An adapter's events until they are closed.

    Args:
        events: Usually an async generator.
        job_id: The job, for messages.

    Attributes:
        closed: Set once everything that the events hold is released.
        closer: The task that closes them at this moment.
    """

    __slots__ = ("_events", "_job_id", "closed", "closer")

    def __init__(self, events: Any, job_id: str) -> None:
        self._events = events
        self._job_id = job_id
        self.closed = Latch()
        self.closer: asyncio.Task[object] | None = None

    @property
    def name(self) -> str:
        """The code that gives the events, for a message."""
        return name_of(self._events)

    def error_of(self, exc: BaseException) -> WorkerError:
        """Convert an exception that the events raised."""
        return error_of(exc, self._events)

    def abandon(self) -> None:
        """Let go of code that does not stop; it keeps running in a task of its own."""
        warn_of_abandoned(self._events, self._job_id)
        self._events = None

    async def close(self) -> None:
        """Close the events. An error in their cleanup is logged: the outcome stands.

        Raises:
            BaseException: What has to propagate, such as the cancellation of the closing task.
        """
        task, before, goes_on = None, 0, None
        try:
            self.closer = task = asyncio.current_task()
            before = 0 if task is None else task.cancelling()
            aclose = getattr(self._events, "aclose", None)
            if aclose is not None:
                await close_in_time(aclose())
        except GaveUp:
            self.abandon()
        except BaseException as exc:
            exc.__traceback__ = without_our_frames(exc.__traceback__)
            cancelled = task is not None and task.cancelling() > before
            goes_on = what_propagates(exc, cancelled=cancelled, destroyed=False)
            if goes_on is not exc:
                warn_of_untidy(exc, self._job_id)
        finally:
            self.closer = None
            self.closed.set()
        if goes_on is not None:
            try:
                raise goes_on
            finally:
                del goes_on  # its traceback holds this frame
