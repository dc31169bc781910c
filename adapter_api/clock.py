"""The time limits of one job, kept by a single timer (see docs/explanation/time.md).

The deadline runs from submit to the last event. Besides it at most one limit runs at a time: how
long the reader may wait without progress. Time in which nobody waits for the engine, because the
consumer is busy with what it already has, is not charged to that limit.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

from adapter_api.errors import ErrorCode, WorkerError, WorkerTimeout

Late = Callable[[], WorkerError]


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
        "_interrupted",
        "_late",
        "_limit_s",
        "_reader",
        "_since",
        "_timer",
        "deadline_at",
        "spent_s",
        "started_at",
        "stopped_by",
    )

    def __init__(self, deadline_s: float | None = None) -> None:
        self.started_at = self._since = monotonic()
        self.deadline_at = None if deadline_s is None else self.started_at + deadline_s
        self.spent_s = 0.0
        self.stopped_by: WorkerError | None = None
        self._limit_s: float | None = None
        self._late: Late | None = None
        self._reader: asyncio.Task[object] | None = None
        self._interrupted = False
        self._before = 0
        self._timer: asyncio.TimerHandle | None = None

    def remaining_s(self) -> float | None:
        """Seconds left of the deadline (negative once it is over); None without one."""
        return None if self.deadline_at is None else self.deadline_at - monotonic()

    def fits(self, wait_s: float) -> bool:
        """Whether a wait of `wait_s` seconds ends before the deadline."""
        return self.deadline_at is None or monotonic() + wait_s < self.deadline_at

    def allow(self, limit_s: float | None, late: Late | None = None) -> None:
        """Start a new wait: `limit_s` seconds without progress end the job with `late()`."""
        self._limit_s, self._late = limit_s, late
        self.progress()
        if self._reader is not None:
            self._arm()

    def rename(self, late: Late) -> None:
        """Let the running wait go on; if it is too long, the job ends with `late()`."""
        self._late = late

    def progress(self) -> None:
        """The engine did something useful: the running wait begins anew."""
        self._since = monotonic()
        self.spent_s = 0.0

    # What follows is called by TokenStream.

    @property
    def reader(self) -> "asyncio.Task[object] | None":
        """The task that waits for the next event now."""
        return self._reader

    def enter(self) -> None:
        """The current task begins to wait for the engine."""
        self._since = monotonic() - self.spent_s
        self._reader = asyncio.current_task()
        if self._timer is None and (self.deadline_at is not None or self._limit_s is not None):
            self._arm()

    def leave(self, progress: bool) -> None:
        """The wait is over; without progress the time it took stays charged to the limit."""
        self._reader = None
        self.spent_s = 0.0 if progress else monotonic() - self._since

    def interrupt(self, error: WorkerError) -> None:
        """End the job with `error`, now. The first error given stays."""
        if self.stopped_by is None:
            self.stopped_by = error
        if self._reader is not None and not self._interrupted:
            self._interrupted = True
            self._before = self._reader.cancelling()
            self._reader.cancel()

    def take_back(self) -> bool:
        """Uncancel the reader if `interrupt` cancelled it.

        Returns:
            True if the cancellation was ours alone; False if somebody else cancelled the
            task too, whose CancelledError must go on.
        """
        reader, ours = self._reader, self._interrupted
        self._interrupted = False
        if not ours or reader is None:
            return False
        return reader.uncancel() <= self._before

    def stop(self) -> None:
        """Nothing is to be watched any more."""
        self._reader = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self, now: float) -> tuple[float, Late] | None:
        limits: list[tuple[float, Late]] = []
        if self.deadline_at is not None:
            limits.append((self.deadline_at, self._deadline_unmet))
        if self._limit_s is not None and self._late is not None:
            since = self._since if self._reader is not None else now
            limits.append((since + self._limit_s, self._late))
        return min(limits, key=lambda limit: limit[0], default=None)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = monotonic()
        due = self._due(now)
        if due is not None:
            self._timer = asyncio.get_running_loop().call_later(
                max(0.0, due[0] - now), self._on_timer
            )

    def _on_timer(self) -> None:
        self._timer = None
        now = monotonic()
        due = self._due(now)
        if due is not None and due[0] <= now:
            self.interrupt(due[1]())
        else:
            self._arm()

    def _deadline_unmet(self) -> WorkerError:
        assert self.deadline_at is not None
        given_s = self.deadline_at - self.started_at
        return WorkerTimeout(
            ErrorCode.DEADLINE_UNMET, f"the job did not end within its deadline of {given_s:g} s"
        )
