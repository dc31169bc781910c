"""The adapter's side of a stream: its events, closed in time and once."""

import asyncio
from typing import Any

from adapter_api.errors import WorkerError
from adapter_api.foreign import (
    Raised,
    awaited,
    error_of,
    name_of,
    warn_of_abandoned,
    warn_of_cleanup_error,
    what_propagates,
    without_our_frames,
)
from adapter_api.interruption import RELEASE_S, Abandoned, Interruption, Latch, cancels_of


class Source:
    """An adapter's events until they are closed.

    Args:
        events: Usually an async generator.
        job_id: The job, for messages.

    Attributes:
        closed: Set once all resources of the events are released.
        closer: The task that is closing them now.
    """

    __slots__ = ("_cancels", "_events", "_job_id", "_step", "_waits_for", "closed", "closer")

    def __init__(self, events: Any, job_id: str) -> None:
        self._events = events
        self._job_id = job_id
        self.closed = Latch()
        self.closer: asyncio.Task[object] | None = None
        self._cancels = 0  # of the closer, when it began
        self._step: Any = None  # the cleanup that waits
        self._waits_for: Any = None

    @property
    def name(self) -> str:
        """The code that yields the events, for a message."""
        return name_of(self._events)

    def error_of(self, exc: BaseException) -> WorkerError:
        """Convert an exception that the events raised."""
        return error_of(exc, self._events)

    def judge(self, exc: BaseException, clock: Interruption) -> BaseException | None:
        """Return what must propagate because the events raised `exc` in a wait of `clock`."""
        if isinstance(exc, Abandoned):
            self.abandon()
        exc.__traceback__ = without_our_frames(exc.__traceback__)
        cancelled = clock.uncancel_reader()
        return what_propagates(exc, cancelled=cancelled, destroyed=clock.was_destroyed)

    def note_untidy(self, exc: BaseException) -> None:
        """Log an unexpected exception that the adapter raised after its job had ended."""
        expected = (asyncio.CancelledError, StopAsyncIteration, WorkerError, Abandoned)
        if not isinstance(exc, expected):
            warn_of_cleanup_error(exc, self._job_id)

    def abandon(self) -> None:
        """Abandon code that does not stop; it keeps running in a task of its own."""
        warn_of_abandoned(self._events, self._job_id)
        self._events = None

    def close_at_once(self) -> bool:
        """Close the events if their cleanup waits for nothing, as after most whole answers.

        Returns:
            False if `close` has to be awaited for the rest.
        """
        self.closer = task = asyncio.current_task()
        self._cancels = 0 if task is None else cancels_of(task)
        try:
            aclose = getattr(self._events, "aclose", None)
            if aclose is not None:
                closing = aclose()
                self._step = closing if hasattr(closing, "send") else awaited(closing)
                self._waits_for = self._step.send(None)
                return False
        except StopIteration:
            self._step = None
        except BaseException as exc:
            self._step, self._waits_for = None, Raised(exc)
            return False
        self._released()
        return True

    async def close(self) -> None:
        """Finish closing after `close_at_once`. An error is only logged: the outcome stands.

        Raises:
            BaseException: If it must propagate, such as the cancellation of the closing task.
        """
        goes_on = None
        try:
            if isinstance(self._waits_for, Raised):
                raise self._waits_for.take()
            await Interruption().drive_within(self._step, self._waits_for, RELEASE_S)
        except Abandoned:
            self.abandon()
        except BaseException as exc:
            exc.__traceback__ = without_our_frames(exc.__traceback__)
            cancelled = self.closer is not None and self.closer.cancelling() > self._cancels
            goes_on = what_propagates(exc, cancelled=cancelled, destroyed=False)
            if goes_on is not exc:
                warn_of_cleanup_error(exc, self._job_id)
        finally:
            self._step = self._waits_for = None
            self._released()
        if goes_on is not None:
            try:
                raise goes_on
            finally:
                del goes_on  # its traceback holds this frame

    def _released(self) -> None:
        self.closer = None
        self.closed.set()
