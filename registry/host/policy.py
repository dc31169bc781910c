"""The policy of a pool: its limits, the failures that count against a replica, and the budget of
further attempts.

Every `now` is in seconds of one monotonic clock.
"""

import re
from collections import deque
from enum import StrEnum
from typing import Any, Literal

import attrs

from adapter_api.errors import ErrorCode, WorkerError
from adapter_api.validators import integer, number, one_of, seconds, seconds_or_none
from registry.host.breaker import BreakerPolicy
from registry.host.routing import DefaultPolicy, RoutingPolicy

QueueFull = Literal["reject", "drop_oldest_batch"]


def _names(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@attrs.frozen(kw_only=True)
class PoolPolicy:
    """The limits of one pool (AH-1006).

    Args:
        routing: Chooses among the replicas that can take a job.
        breaker: When a replica gets no jobs, and for how long.
        max_queue: The maximum number of jobs that wait for a replica; 0 for no waiting. Jobs that
            come before the first health check of any replica are not counted, nor are retries.
        queue_full: What a full queue does: "reject" the new job, or "drop_oldest_batch" to make
            room for it.
        batch_share: The share of starts that waiting batch jobs get while interactive ones wait,
            too; 0: batch jobs wait until no interactive one does.
        max_in_flight: The maximum number of streams of a replica whose own limit is unknown.
        ready_wait_s: How long a job waits, in seconds, if no replica is ready but one is loading or
            not yet checked, or if the pool has none.
        probe_interval_s: Seconds between two health checks of a replica (±10 %).
        probe_timeout_s: The maximum duration of a health check, in seconds.
        retry_ratio: Attempts beyond the first, as a share of the submitted jobs.
        retry_floor_per_s: Such attempts per second that are always granted.
        max_attempts: The maximum number of attempts of one job.
        refuse_mixed_versions: Whether a replica gets no work while its engine version differs from
            the pool's (ORCH-3046).
        deadline_s: The deadline of tasks that have none.
        first_token_timeout_s: How long an attempt may take to its first token before the job moves
            on, in seconds. The adapter's own limit applies, too.
        fallback: Pools that get the jobs this pool cannot serve, before their first token.

    Raises:
        ValueError: If a value is out of its range.
    """

    routing: RoutingPolicy = attrs.field(factory=DefaultPolicy)
    breaker: BreakerPolicy = attrs.field(factory=BreakerPolicy)
    max_queue: int = attrs.field(default=100, validator=integer(0))
    queue_full: QueueFull = attrs.field(
        default="reject", validator=one_of("reject", "drop_oldest_batch")
    )
    batch_share: float = attrs.field(default=0.1, validator=number(0, maximum=1))
    max_in_flight: int | None = attrs.field(default=None, validator=integer(1, optional=True))
    ready_wait_s: float = attrs.field(default=10.0, validator=number(0))
    probe_interval_s: float = attrs.field(default=5.0, validator=seconds)
    probe_timeout_s: float = attrs.field(default=5.0, validator=seconds)
    retry_ratio: float = attrs.field(default=0.2, validator=number(0))
    retry_floor_per_s: float = attrs.field(default=1.0, validator=number(0))
    max_attempts: int = attrs.field(default=3, validator=integer(1))
    refuse_mixed_versions: bool = False
    deadline_s: float | None = attrs.field(default=None, validator=seconds_or_none)
    first_token_timeout_s: float | None = attrs.field(default=None, validator=seconds_or_none)
    fallback: tuple[str, ...] = attrs.field(default=(), converter=_names)


class Verdict(StrEnum):
    """The cause of a failed attempt: the replica, its load, its refusal, or the request."""

    BROKEN = "broken"
    """The replica failed: counts for its breaker."""
    BUSY = "busy"
    """The replica has no room: it rests briefly and gets fewer jobs."""
    ELSEWHERE = "elsewhere"
    """The replica refuses a job that another one may accept, because of its key, its quota, its
    model, its address or its adapter."""
    JOB = "job"
    """The request is at fault, or the cause is unknown: does not count against the replica."""


_BROKEN = frozenset(
    {
        ErrorCode.POOL_UNAVAILABLE,  # no connection, no answer, 502 to 504
        ErrorCode.WORKER_RESET,  # a reset connection, 500
        ErrorCode.DECODE_TIMEOUT,  # a stall
        ErrorCode.STREAM_TRUNCATED,
        ErrorCode.UPSTREAM_PROTOCOL,
    }
)
_ELSEWHERE = frozenset(
    {
        ErrorCode.UPSTREAM_AUTH,
        ErrorCode.UPSTREAM_NOT_FOUND,
        ErrorCode.QUOTA_EXHAUSTED,  # of the replica's own account
        ErrorCode.INTERNAL,  # a defect of its adapter
    }
)
_MISPLACED = frozenset({301, 302, 303, 307, 308, 405, 407, 410, 421, 426})
"""Statuses which mean that the endpoint is not at the replica's address, whatever the request."""

_FAILED = frozenset({424, 499})
"""Statuses below 500 with which a server reports its own failure: a failed generation, or a
connection that was lost between a proxy and its engine."""

_BUSY_WORDS = re.compile(
    r"\b(busy|overloaded|queue|capacity|too many|no (?:available |free )?slots?|rate limit)", re.I
)
_REFUSAL_WORDS = re.compile(
    r"not supported|unsupported|not implemented|validation error|invalid request|failed to parse"
    r"|bad request|must be provided|does not support|unrecognized|malformed"
    r"|jinja|chat.template|must alternate",
    re.I,
)
_ANONYMOUS = re.compile(r"internal (server )?error\W*$|^\W*$", re.I)


def verdict_on(error: WorkerError) -> Verdict:
    """Return the cause of a failure.

    Connect failures, resets, 5xx, stalls and cut answers count against the replica. A busy engine,
    local saturation, 4xx other than 424 and 499, cancels and deadlines do not; nor does a failure
    whose text refuses the request.
    """
    status = error.status
    if error.code is ErrorCode.ADMISSION_REJECT:
        return Verdict.BUSY
    if status == 503 and _BUSY_WORDS.search(error.message):
        return Verdict.BUSY
    if error.code in _ELSEWHERE or status in _MISPLACED:
        return Verdict.ELSEWHERE
    if status is not None and 400 <= status < 500 and status not in _FAILED:
        return Verdict.JOB
    if status is not None and _REFUSAL_WORDS.search(error.message):
        return Verdict.JOB
    return Verdict.BROKEN if error.code in _BROKEN else Verdict.JOB


def refusal_of(error: WorkerError) -> tuple[int, str] | None:
    """Return a key for an engine's own words in a 424, 500 or 501; None for any other failure.

    The same words from two replicas are about the request, whatever the status claims.
    """
    if error.status not in (424, 500, 501) or _ANONYMOUS.search(error.message):
        return None
    return error.status, error.message


WINDOW_S = 10
"""The window in seconds over which jobs and attempts are compared. When a replica breaks, all of
its jobs fail at once, and the budget of the preceding seconds allows moving them."""


class FailoverBudget:
    """Limits attempts beyond the first to a share of the jobs, plus a few per second.

    Args:
        ratio: The attempts that each job of the last WINDOW_S adds.
        floor_per_s: The attempts that each second adds.
    """

    def __init__(self, ratio: float, floor_per_s: float) -> None:
        self._ratio = ratio
        self._reserve = floor_per_s * WINDOW_S
        self._seconds: deque[list[int]] = deque()  # second, jobs, granted attempts
        self._jobs = self._granted = 0

    def deposit(self, now: float) -> None:
        """Count a job."""
        seconds = self._seconds
        second = seconds[-1] if seconds and seconds[-1][0] == int(now) else self._second(now)
        second[1] += 1
        self._jobs += 1

    def withdraw(self, now: float) -> bool:
        """Take one attempt; False if none is left."""
        second = self._second(now)
        if self._granted + 1 > self._ratio * self._jobs + self._reserve:
            return False
        second[2] += 1
        self._granted += 1
        return True

    def _second(self, now: float) -> list[int]:
        """Return the counts of the present second; forget those out of the window."""
        seconds = self._seconds
        while seconds and seconds[0][0] <= now - WINDOW_S - 1:
            _, jobs, granted = seconds.popleft()
            self._jobs -= jobs
            self._granted -= granted
        if not seconds or seconds[-1][0] < int(now):
            seconds.append([int(now), 0, 0])
        return seconds[-1]
