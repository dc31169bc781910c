"""Circuit breakers: a replica that keeps failing is left alone for a while (ORCH-3602)."""

from collections import deque

import attrs

from adapter_api.errors import ErrorCode, WorkerError
from adapter_api.validators import integer, seconds
from registry.host.snapshot import BreakerState

_COUNTED = frozenset(
    {
        ErrorCode.POOL_UNAVAILABLE,  # no connection, no answer, 502 to 504
        ErrorCode.WORKER_RESET,  # a reset connection, 500
        ErrorCode.DECODE_TIMEOUT,  # a stall
        ErrorCode.STREAM_TRUNCATED,
        ErrorCode.UPSTREAM_PROTOCOL,
    }
)


def counts(error: WorkerError) -> bool:
    """Whether a failure speaks against the replica: connect failures, resets, 5xx, stalls and
    answers cut off do; 4xx, a busy engine, saturation of our own, cancels and deadlines do not."""
    if error.status is not None and 400 <= error.status < 500:
        return False
    return error.code in _COUNTED


@attrs.frozen
class BreakerPolicy:
    """When a breaker opens, and for how long.

    Args:
        failures: How many within the window open it.
        window_s: The window, in seconds.
        open_s: How long it stays open before one attempt may probe.
        max_open_s: The longest it stays open: the time doubles with each failed probe.

    Raises:
        ValueError: If one of them is not above 0, or not finite.
    """

    failures: int = attrs.field(default=5, validator=integer(1))
    window_s: float = attrs.field(default=30.0, validator=seconds)
    open_s: float = attrs.field(default=10.0, validator=seconds)
    max_open_s: float = attrs.field(default=60.0, validator=seconds)


class Breaker:
    """The breaker of one replica. Every `now` is in seconds of one monotonic clock.

    Args:
        policy: When it opens.
    """

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.state: BreakerState = "closed"
        self.retry_at: float | None = None
        """When an open breaker lets a probe through; None if it is not open."""
        self._failures: deque[float] = deque(maxlen=policy.failures)
        self._probe: Trial | None = None
        self._openings = 0
        self._open_s = policy.open_s

    @property
    def is_probing(self) -> bool:
        """Whether the one probe of a half open breaker is under way."""
        return self._probe is not None

    def allows(self, now: float) -> bool:
        """Whether an attempt may begin now."""
        if self.state == "open":
            return self.retry_at is not None and now >= self.retry_at
        return self._probe is None

    def begin(self, now: float) -> "Trial":
        """Begin an attempt. The first one after the open time is the only probe.

        Raises:
            RuntimeError: If none may begin.
        """
        if not self.allows(now):
            raise RuntimeError(f"no attempt may begin: the breaker is {self.state}")
        trial = Trial(self, self._openings)
        if self.state != "closed":
            self.state, self.retry_at, self._probe = "half_open", None, trial
        return trial

    def _on_success(self) -> None:
        if self.state == "half_open":
            self.state, self._probe = "closed", None
            self._open_s = self.policy.open_s
            self._failures.clear()

    def _on_failure(self, now: float) -> None:
        if self.state == "half_open":
            self._open_s = min(2 * self._open_s, self.policy.max_open_s)
            self._open(now)
        elif self.state == "closed":
            self._failures.append(now)
            full = len(self._failures) == self.policy.failures
            if full and now - self._failures[0] <= self.policy.window_s:
                self._open(now)

    def _open(self, now: float) -> None:
        self.state, self._probe = "open", None
        self.retry_at = now + min(self._open_s, self.policy.max_open_s)
        self._failures.clear()
        self._openings += 1


@attrs.define(eq=False)
class Trial:
    """One attempt, as its breaker sees it.

    One that began before the breaker opened decides nothing any more: that is for the probe.
    """

    _breaker: Breaker
    _opening: int

    def succeeded(self) -> None:
        """It was answered: a half open breaker closes."""
        if self._counts:
            self._breaker._on_success()

    def failed(self, now: float) -> None:
        """It failed in a way that counts."""
        if self._counts:
            self._breaker._on_failure(now)

    def end(self) -> None:
        """It is over. If it was the probe and had no verdict, another one may be made."""
        if self._breaker._probe is self:
            self._breaker._probe = None

    @property
    def _counts(self) -> bool:
        return self._opening == self._breaker._openings
