"""The time limits of one job, kept by a single timer (see docs/explanation/time.md).

The deadline runs from submit to the last event. In addition, at most one limit runs at a time: how
long the reader may wait without progress. Time in which nothing waits for the engine, because the
consumer is busy with what it already has, is not charged to that limit.
"""

import asyncio
import time
from collections.abc import Callable

from adapter_api.alarms import Alarm, cancel_alarm, set_alarm
from adapter_api.errors import ErrorCode, InternalError, WorkerError, WorkerTimeout
from adapter_api.interruption import Interruption, cancels_of

Late = Callable[[], WorkerError]


class StreamClock(Interruption):
    """The clock of one job: interrupts the wait for the next event when a limit passes.

    An adapter whose config has limits makes one, passes it to its TokenStream and calls `allow` as
    the job goes from phase to phase. All times are those of the event loop it is made in.

    Args:
        deadline_s: Seconds from now within which the job must end; None for no deadline.

    Attributes:
        now: Returns the time of the loop in which the clock was made.
    """

    __slots__ = (
        "_alarm",
        "_disarmed",
        "_first_at",
        "_first_late",
        "_inner",
        "_late",
        "_limit_s",
        "_loop",
        "_since",
        "_unwatched",
        "deadline_at",
        "is_followed",
        "now",
        "on_retry",
        "on_unread",
        "spent_s",
        "started_at",
    )

    def __init__(self, deadline_s: float | None = None) -> None:
        super().__init__()
        self._loop = _running_loop()
        self.now = _clock(self._loop)
        self.started_at = self._since = self.now()
        self.deadline_at = None if deadline_s is None else self.started_at + deadline_s
        self.spent_s = 0.0
        self._limit_s: float | None = None
        self._late: Late | None = None
        self._alarm: Alarm | None = None
        self._unwatched = True  # no timer runs for the current limits
        self._disarmed = False
        self._first_at: float | None = None
        self._first_late: Late | None = None
        self._inner: StreamClock | None = None
        self.is_followed = False  # another clock keeps the deadline of both
        self.on_retry: Callable[[WorkerError], object] | None = None
        self.on_unread: Callable[[], object] | None = None  # the deadline passed between two reads

    @property
    def keeps_deadline(self) -> bool:
        """True if this clock ends the job at a deadline."""
        return self.deadline_at is not None and not self.is_followed

    def remaining_s(self) -> float | None:
        """Return the seconds left of the deadline, negative once it is over; None without one."""
        return None if self.deadline_at is None else self.deadline_at - self.now()

    def fits(self, wait_s: float) -> bool:
        """Return whether a wait of `wait_s` seconds ends before the deadline."""
        return self.deadline_at is None or self.now() + wait_s < self.deadline_at

    def allow(self, limit_s: float | None, late: Late | None = None) -> None:
        """Start a new wait: after `limit_s` seconds without progress the job ends with `late()`.

        Args:
            limit_s: Seconds; None for no limit but the deadline.
            late: Makes the error; by default it is DECODE_TIMEOUT.
        """
        self._limit_s, self._late = limit_s, late
        self._since = self.now()
        self.spent_s = 0.0
        self.watch()

    def rename(self, late: Late) -> None:
        """Let the running wait continue; if it takes too long, the job ends with `late()`."""
        self._late = late

    def progress(self) -> None:
        """Restart the running wait, because the engine did something useful."""
        self._since = self.now()
        self.spent_s = 0.0

    def disarm(self) -> None:
        """Stop enforcing the limits and the deadline, because the answer is whole.

        The adapter bounds what it still waits for, such as the end of a body.
        """
        self._disarmed = True

    def arm(self) -> None:
        """Enforce the limits again and restart the wait: the answer was not whole after all."""
        self._disarmed = False
        self.is_followed = False  # the other clock's alarm may have gone off early
        self.progress()
        self.watch()

    def note_retry(self, error: WorkerError) -> None:
        """Report that an attempt failed with `error` and another one follows."""
        if self.on_retry is not None:
            self.on_retry(error)

    # What follows is for code that hands an adapter's stream on, such as a host.

    def first_within(self, limit_s: float | None, late: Late | None = None) -> None:
        """Set the reader's own limit on the wait for the first token, in addition to the adapter's.

        Args:
            limit_s: Seconds from now; None ends the limit, once the token is there.
            late: Makes the error, unless the adapter has named one for a wait that is too long.
        """
        self._first_at = None if limit_s is None else self.now() + limit_s
        self._first_late = late
        self.watch()

    def follow(self, inner: "StreamClock") -> None:
        """Follow another clock of the same job: while that one is disarmed, so is this one.

        This one keeps the deadline of both, so that they need one timer for it.
        """
        self._inner = inner
        inner.is_followed = self.deadline_at is not None
        self.watch()

    # What follows is called by TokenStream.

    def begin(self) -> None:
        """Note that the stream is read in the running loop, wherever it was made."""
        self._loop = asyncio.get_running_loop()

    def enter(self) -> None:
        """Begin a wait of the current task for the engine."""
        now = self.now  # called in place, an attribute is looked up as if it were a method
        self._since = now() - self.spent_s
        # Naming the loop saves a system call, as asyncio asks for the process before it says which.
        reader = asyncio.current_task(self._loop) or asyncio.current_task()  # in another loop
        self.reader = reader
        self._before = 0 if reader is None else reader.cancelling() and cancels_of(reader)
        if self._unwatched:
            self._set_alarm()

    def leave(self) -> None:
        """End the wait; without progress its time stays charged to the limit."""
        self.reader = None
        self.spent_s = self.now() - self._since

    def stop(self) -> None:
        """Cancel the timer, because the job has ended."""
        self.reader = None
        if self._alarm is not None:
            cancel_alarm(self._alarm)
            self._alarm = None

    def _due_at(self) -> float | None:
        """Return when the next limit passes. Silence counts during a wait only."""
        if self._disarmed or (self._inner is not None and self._inner._disarmed):
            return None
        due = None if self.is_followed else self.deadline_at
        if self.reader is None:
            return due
        if self._limit_s is not None:
            silent_at = self._since + self._limit_s
            due = silent_at if due is None else min(due, silent_at)
        if self._first_at is not None:
            due = self._first_at if due is None else min(due, self._first_at)
        return due

    def _error_at(self, due: float) -> WorkerError:
        """Return the error of the limit that passes at `due`."""
        if due == self.deadline_at:
            return self._deadline_unmet()
        is_own = self._limit_s is not None and due == self._since + self._limit_s
        late = self._late or (None if is_own else self._first_late) or self._silent
        try:
            return late()
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # the job has to end nevertheless
            error = InternalError(
                ErrorCode.INTERNAL,
                f"building the error of a time limit failed with {type(exc).__name__}",
            )
            error.__cause__ = exc
            return error

    def watch(self) -> None:
        """Adjust the timer to changed limits during a wait."""
        if self.reader is None and self.on_unread is None:
            self._unwatched = True
        else:
            self._set_alarm()

    def _set_alarm(self) -> None:
        """Make the alarm ring in time.

        An alarm that goes off too early is set again: limits move away with each token and phase,
        and moving the alarm each time would cost more.
        """
        self._unwatched = self.reader is None
        due = self._due_at()
        if due is None or (self._alarm is not None and self._alarm[0] <= due):
            return
        if self._alarm is not None:
            cancel_alarm(self._alarm)
        self._alarm = set_alarm(due, self)

    def ring(self) -> None:
        """Interrupt the job if a limit has passed. The alarm calls it."""
        self._alarm = None
        due = self._due_at()
        if due is not None and due <= self.now():
            self.interrupt(self._error_at(due))
            if self.reader is None and self.on_unread is not None:
                self.on_unread()
        else:
            self._set_alarm()

    def _silent(self) -> WorkerError:
        return WorkerTimeout(
            ErrorCode.DECODE_TIMEOUT, f"the engine made no progress for {self._limit_s:g} s"
        )

    def _deadline_unmet(self) -> WorkerError:
        assert self.deadline_at is not None
        given_s = self.deadline_at - self.started_at
        return WorkerTimeout(
            ErrorCode.DEADLINE_UNMET, f"the job did not end within its deadline of {given_s:g} s"
        )


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # a stream may be made before its loop runs
        return None


def _clock(loop: asyncio.AbstractEventLoop | None) -> Callable[[], float]:
    if loop is None or type(loop).time is asyncio.BaseEventLoop.time:
        return time.monotonic  # what loop.time calls, at a quarter of the cost
    return loop.time
