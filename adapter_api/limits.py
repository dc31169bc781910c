"""The time limits of one job, kept by a single timer (see docs/explanation/time.md).

The deadline runs from submit to the last event. Besides it at most one limit runs at a time: how
long the reader may wait without progress. Time in which nobody waits for the engine, because the
consumer is busy with what it already has, is not charged to that limit.
"""

import asyncio
from collections.abc import Callable
from operator import itemgetter
from time import monotonic

from adapter_api.errors import ErrorCode, WorkerError, WorkerTimeout

Late = Callable[[], WorkerError]


def _now() -> float:
    """Return the loop's time, which a virtual loop decides."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:  # no loop runs
        return monotonic()


_when = itemgetter(0)


class StreamClock:
    """Interrupts the task that waits for a job's next event when a limit passes.

    An adapter whose config has limits makes one, hands it to its TokenStream and calls
    `allow` as the job goes from phase to phase. Interrupting is done as `asyncio.timeout`
    does it: the task is cancelled, and the cancellation is taken back where it is caught.

    Args:
        deadline_s: Seconds from now within which the job must end; None for no deadline.
    """

    __slots__ = (
        "_before",
        "_disarmed",
        "_first_at",
        "_first_late",
        "_inner",
        "_interrupted",
        "_late",
        "_limit_s",
        "_since",
        "_timer",
        "_timer_at",
        "_unwatched",
        "deadline_at",
        "on_retry",
        "on_unread",
        "reader",
        "spent_s",
        "started_at",
        "stopped_by",
    )

    def __init__(self, deadline_s: float | None = None) -> None:
        self.started_at = self._since = _now()
        self.deadline_at = None if deadline_s is None else self.started_at + deadline_s
        self.spent_s = 0.0
        self.stopped_by: WorkerError | None = None
        self._limit_s: float | None = None
        self._late: Late | None = None
        self.reader: asyncio.Task[object] | None = None  # the task that waits for the next event
        self._interrupted = False
        self._before = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._unwatched = True  # no timer runs for the limits as they are
        self._disarmed = False
        self._first_at: float | None = None
        self._first_late: Late | None = None
        self._inner: StreamClock | None = None
        self.on_retry: Callable[[WorkerError], object] | None = None
        self.on_unread: Callable[[], object] | None = None  # the deadline passed, nobody reads

    def remaining_s(self) -> float | None:
        """Seconds left of the deadline (negative once it is over); None without one."""
        return None if self.deadline_at is None else self.deadline_at - _now()

    def fits(self, wait_s: float) -> bool:
        """Whether a wait of `wait_s` seconds ends before the deadline."""
        return self.deadline_at is None or _now() + wait_s < self.deadline_at

    def allow(self, limit_s: float | None, late: Late | None = None) -> None:
        """Start a new wait: `limit_s` seconds without progress end the job with `late()`.

        Args:
            limit_s: Seconds; None for no limit but the deadline.
            late: Makes the error; by default it is DECODE_TIMEOUT.
        """
        self._limit_s, self._late = limit_s, late
        self.progress()
        self._watch()

    def rename(self, late: Late) -> None:
        """Let the running wait go on; if it is too long, the job ends with `late()`."""
        self._late = late

    def progress(self) -> None:
        """The engine did something useful: the running wait begins anew."""
        self._since = _now()
        self.spent_s = 0.0

    def disarm(self) -> None:
        """The answer is whole: no limit interrupts the job any more, nor does the deadline. What
        is still waited for, such as the end of a body, the adapter has to bound by itself."""
        self._disarmed = True

    def arm(self) -> None:
        """The answer was not whole after all: the limits count as before `disarm`, and the wait
        begins anew."""
        self._disarmed = False
        self.progress()
        self._watch()

    def note_retry(self, error: WorkerError) -> None:
        """Report that an attempt failed with `error` and another one follows."""
        if self.on_retry is not None:
            self.on_retry(error)

    # What follows is for whoever reads an adapter's stream to hand it on, such as a host.

    def first_within(self, limit_s: float | None, late: Late | None = None) -> None:
        """A limit of the reader's own on the wait for the first token, beside the adapter's.

        Args:
            limit_s: Seconds from now; None ends the limit, once the token is there.
            late: Makes the error, where the adapter has not said itself what a wait that is too
                long amounts to.
        """
        self._first_at = None if limit_s is None else _now() + limit_s
        self._first_late = late
        self._watch()

    def follow(self, inner: "StreamClock") -> None:
        """The job is now on another clock, too: while that is disarmed, so is this one."""
        self._inner = inner
        self._watch()

    # What follows is called by TokenStream.

    def enter(self) -> None:
        """The current task begins to wait for the engine."""
        self._since = _now() - self.spent_s
        self.reader = reader = asyncio.current_task()
        self._before = 0 if reader is None else reader.cancelling()
        if self._unwatched:
            self._set_timer()

    def leave(self, progress: bool) -> None:
        """The wait is over; without progress the time it took stays charged to the limit."""
        self.reader = None
        self.spent_s = 0.0 if progress else _now() - self._since

    def interrupt(self, error: WorkerError) -> None:
        """End the job with `error`, now. The first error given stays."""
        if self.stopped_by is None:
            self.stopped_by = error
        reader = self.reader
        if reader is None or self._interrupted:
            return
        if reader is asyncio.current_task():
            # The adapter's own code stops its job. A task that cancels itself and does not wait
            # before it gives the next event would be cancelled later, outside of the stream.
            asyncio.get_running_loop().call_soon(self.interrupt, error)
            return
        self._interrupted = True
        reader.cancel()

    def take_back(self) -> bool:
        """Uncancel the reader if `interrupt` cancelled it.

        Returns:
            Whether somebody else cancelled the task during this wait, be it before or after
            `interrupt` did: that cancellation must go on.
        """
        reader, ours = self.reader, self._interrupted
        self._interrupted = False
        if reader is None:
            return False
        return (reader.uncancel() if ours else reader.cancelling()) > self._before

    def stop(self) -> None:
        """Nothing is to be watched any more."""
        self.reader = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> tuple[float, Late] | None:
        """When the next limit passes, and with what error. Silence counts while somebody waits."""
        if self._disarmed or (self._inner is not None and self._inner._disarmed):
            return None
        limits: list[tuple[float, Late]] = []
        if self.deadline_at is not None:
            limits.append((self.deadline_at, self._deadline_unmet))
        if self.reader is not None:
            if self._limit_s is not None:
                limits.append((self._since + self._limit_s, self._late or self._silent))
            if self._first_at is not None:
                limits.append((self._first_at, self._late or self._first_late or self._silent))
        return min(limits, key=_when, default=None)

    def _watch(self) -> None:
        """The limits have changed: have a timer for them while somebody waits."""
        if self.reader is None:
            self._unwatched = True
        else:
            self._set_timer()

    def _set_timer(self) -> None:
        """Have the timer ring in time. One that rings too early looks again: limits mostly move
        away, with each token and phase, and a timer is dear to move."""
        self._unwatched = self.reader is None
        due = self._due()
        if due is None or (self._timer is not None and self._timer_at <= due[0]):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due[0]
        self._timer = asyncio.get_running_loop().call_later(
            max(0.0, due[0] - _now()), self._on_timer
        )

    def _on_timer(self) -> None:
        self._timer = None
        due = self._due()
        if due is not None and due[0] <= _now():
            self.interrupt(due[1]())
            if self.reader is None and self.on_unread is not None:
                self.on_unread()
        else:
            self._set_timer()

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
