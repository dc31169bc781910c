"""Circuit breakers: a replica that keeps failing is left alone for a while (ORCH-3602)."""

from collections import deque
from typing import Any

import attrs

from adapter_api.errors import ErrorCode, WorkerError
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


def _positive(_: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    if not value > 0:
        raise ValueError(f"{attribute.name} must be above 0, got {value!r}")


@attrs.frozen
class BreakerPolicy:
    """When a breaker opens, and for how long.

    Args:
        failures: How many within the window open it.
        window_s: The window, in seconds.
        open_s: How long it stays open before one attempt may probe.
        most_open_s: The longest it stays open: the time doubles with each failed probe.

    Raises:
        ValueError: If one of them is not above 0.
    """

    failures: int = attrs.field(default=5, validator=_positive)
    window_s: float = attrs.field(default=30.0, validator=_positive)
    open_s: float = attrs.field(default=10.0, validator=_positive)
    most_open_s: float = attrs.field(default=60.0, validator=_positive)


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
        self._probing = False
        self._open_s = policy.open_s

    def allows(self, now: float) -> bool:
        """Whether an attempt may begin now."""
        if self.state == "open":
            return self.retry_at is not None and now >= self.retry_at
        return not self._probing

    def begin(self, now: float) -> bool:
        """Begin an attempt. The first one after the open time is the only probe.

        Returns:
            False if none may begin.
        """
        if not self.allows(now):
            return False
        if self.state != "closed":
            self.state, self.retry_at, self._probing = "half_open", None, True
        return True

    def succeeded(self, now: float) -> None:
        """An attempt was answered: a half open breaker closes."""
        if self.state == "half_open":
            self.state, self._probing = "closed", False
            self._open_s = self.policy.open_s
            self._failures.clear()

    def failed(self, now: float) -> None:
        """An attempt failed in a way that counts."""
        if self.state == "half_open":
            self._open_s = min(2 * self._open_s, self.policy.most_open_s)
            self._open(now)
        elif self.state == "closed":
            self._failures.append(now)
            full = len(self._failures) == self.policy.failures
            if full and now - self._failures[0] <= self.policy.window_s:
                self._open(now)

    def released(self, now: float) -> None:
        """The probe ended without a verdict: another one may be made."""
        self._probing = False

    def _open(self, now: float) -> None:
        self.state, self._probing = "open", False
        self.retry_at = now + min(self._open_s, self.policy.most_open_s)
        self._failures.clear()
