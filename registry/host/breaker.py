"""Breakers, learnt limits and the failover budget: they keep failures from spreading (ORCH-3602).

Every `now` is in seconds of one monotonic clock.
"""

import math
import re
from collections import deque
from contextlib import suppress
from enum import StrEnum

import attrs

from adapter_api.errors import ErrorCode, WorkerError
from adapter_api.notices import BreakerState
from adapter_api.validators import integer, seconds


class Verdict(StrEnum):
    """The cause of a failed attempt: the replica, its load, its refusal, or the request."""

    BROKEN = "broken"
    """The replica failed: counts for its breaker."""
    BUSY = "busy"
    """The replica has no room: it rests briefly and is given less."""
    ELSEWHERE = "elsewhere"
    """The replica refuses what another one may accept: its key, its quota, the model; or its
    address or its adapter is at fault."""
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
"""Statuses that say that the endpoint is not where the replica's address points, whatever the
request asks for."""

_FAILED = frozenset({424, 499})
"""Statuses below 500 by which a server reports its own failure: a generation that failed, or a
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

    Connect failures, resets, 5xx, stalls and cut answers speak against the replica. A busy engine,
    saturation of our own, 4xx other than 424 and 499, cancels and deadlines do not; nor does a
    failure whose text refuses the request.
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
    """Return what identifies an engine's own words in a 424, 500 or 501; None for any other
    failure.

    The same words from two replicas are about the request, whatever the status claims.
    """
    if error.status not in (424, 500, 501) or _ANONYMOUS.search(error.message):
        return None
    return error.status, error.message


@attrs.frozen
class BreakerPolicy:
    """The policy of a breaker: when it opens, and for how long.

    Args:
        failures: How many failures within the window open it.
        window_s: The window, in seconds.
        open_s: How long it stays open before one attempt may probe the replica.
        max_open_s: The longest it stays open. The time doubles with each failed probe.

    Raises:
        ValueError: If a value is out of its range.
    """

    failures: int = attrs.field(default=5, validator=integer(1))
    window_s: float = attrs.field(default=30.0, validator=seconds)
    open_s: float = attrs.field(default=10.0, validator=seconds)
    max_open_s: float = attrs.field(default=60.0, validator=seconds)


class Breaker:
    """The circuit breaker of one replica.

        state        event                          next
        closed       `failures` within `window_s`   open, for `open_s`
        open         an attempt after `open_s`      half_open; this attempt is the only probe
        half_open    the probe's first token        half_open; other attempts are allowed, too
        half_open    an answer is whole             closed; the next opening lasts `open_s` again
        half_open    a failure                      open, for twice the time
        half_open    the probe ends undecided       half_open; another probe may begin

    Args:
        policy: When it opens.
    """

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.state = BreakerState.CLOSED
        self.retry_at: float | None = None
        """When an open breaker lets a probe through; None if it is not open."""
        self.openings = 0
        """How often it opened."""
        self._failures: deque[float] = deque(maxlen=policy.failures)
        self._probe: Trial | None = None
        self._is_lifted = False
        self._open_s = policy.open_s

    @property
    def is_probing(self) -> bool:
        """True while a probe is in flight that has not had its first token."""
        return self._probe is not None

    def allows(self, now: float) -> bool:
        """Return whether an attempt may begin now."""
        if self.state is BreakerState.OPEN:
            return self.retry_at is not None and now >= self.retry_at
        return self._probe is None

    def begin(self, now: float) -> "Trial":
        """Begin an attempt. The first one after the open time is the probe.

        Raises:
            RuntimeError: If none may begin.
        """
        trial = Trial(self, self.openings)
        self.admit(trial, now)
        return trial

    def admit(self, trial: "Trial", now: float) -> None:
        """Begin an attempt as `begin` does, with a Trial that was made for it. Where the breaker
        is closed there is nothing to do."""
        if not self.allows(now):
            raise RuntimeError(f"no attempt may begin: the breaker is {self.state}")
        if self.state is not BreakerState.CLOSED and not self._is_lifted:
            self.state, self.retry_at, self._probe = BreakerState.HALF_OPEN, None, trial

    def _on_answer(self) -> None:
        if self.state is BreakerState.HALF_OPEN:
            self._probe, self._is_lifted = None, True

    def _on_whole(self) -> None:
        if self.state is BreakerState.HALF_OPEN:
            self.state, self._probe, self._is_lifted = BreakerState.CLOSED, None, False
            self._open_s = self.policy.open_s
            self._failures.clear()

    def _on_failure(self, now: float) -> None:
        if self.state is BreakerState.HALF_OPEN:
            self._open_s = min(2 * self._open_s, self.policy.max_open_s)
            self._open(now)
        elif self.state is BreakerState.CLOSED:
            self._failures.append(now)
            full = len(self._failures) == self.policy.failures
            if full and now - self._failures[0] <= self.policy.window_s:
                self._open(now)

    def _open(self, now: float) -> None:
        self.state, self._probe, self._is_lifted = BreakerState.OPEN, None, False
        self.retry_at = now + min(self._open_s, self.policy.max_open_s)
        self._failures.clear()
        self.openings += 1


@attrs.define(eq=False)
class Trial:
    """One attempt, as its breaker sees it.

    An attempt that began before the breaker opened decides nothing: that is for the probe.
    """

    _breaker: Breaker
    _opening: int
    _failed_at: float | None = attrs.field(default=None, init=False)

    def answered(self) -> None:
        """Note the first token: a half open breaker lets others through, provisionally."""
        if self._counts:
            self._breaker._on_answer()

    def succeeded(self) -> None:
        """Note a whole answer: a half open breaker closes."""
        if self._counts:
            self._breaker._on_whole()

    def failed(self, now: float) -> None:
        """Note a failure that counts."""
        if self._counts:
            self._failed_at = now
            self._breaker._on_failure(now)

    def retract(self) -> None:
        """Withdraw a failure that turned out to be the job's, unless it opened the breaker."""
        if self._counts and self._failed_at is not None:
            with suppress(ValueError):  # it is out of the window
                self._breaker._failures.remove(self._failed_at)

    def end(self) -> None:
        """End the attempt. If it was the probe and had no verdict, another one may begin."""
        if self._breaker._probe is self:
            self._breaker._probe = None

    @property
    def _counts(self) -> bool:
        return self._opening == self._breaker.openings


FIRST_REST_S = 0.1
"""How long a replica rests after a busy answer without a time of its own; doubled in a row."""

MAX_REST_S = 2.0
"""The longest such rest: an engine that works off its queue has room again within seconds."""

DECREASE = 0.7
"""By what a learnt limit shrinks when the engine refuses less than it allowed."""

MAX_LEARNT = 64.0
"""A learnt limit that has grown beyond this is dropped: it limits nothing any more."""


class Pace:
    """The number of streams that one replica may have, learnt from busy answers and recoveries.

    A busy answer sets the limit to the number of other streams (multiplicative decrease if that
    was allowed already). Whole answers at the limit raise it by one for each round of answers. A
    replica that was away begins with one stream, and one more for each first token (slow start).
    """

    __slots__ = ("_cut_at", "_rest_s", "_threshold", "is_back", "limit")

    def __init__(self) -> None:
        self.limit: float | None = None
        """Streams at once that the replica is trusted with; None: nothing is known, and neither
        first tokens nor whole answers teach anything."""
        self.is_back = False
        """True before the first attempt after the replica was away."""
        self._threshold = math.inf  # up to here the limit grows quickly
        self._cut_at = -math.inf
        self._rest_s = FIRST_REST_S

    def busy(self, others: int, began_at: float, now: float) -> float:
        """Learn from a busy answer.

        Args:
            others: How many other attempts ran at that moment.
            began_at: When that one began.
            now: The time.

        Returns:
            How long the replica rests, in seconds.
        """
        limit = math.inf if self.limit is None else self.limit
        if others < limit:
            limit = float(others)
        elif began_at > self._cut_at:
            limit *= DECREASE
        if began_at > self._cut_at:  # attempts that were sent together count as one busy answer
            self._cut_at = now
            rest_s, self._rest_s = self._rest_s, min(2 * self._rest_s, MAX_REST_S)
        else:
            rest_s = self._rest_s / 2
        self.limit = self._threshold = max(1.0, limit)
        return rest_s

    def answered(self, hard_limit: int | None) -> None:
        """Note a first token: slow start continues, and the next busy answer is first in a row."""
        self._rest_s = FIRST_REST_S
        if self.limit is not None and self.limit < self._threshold:
            self._raise_to(self.limit + 1.0, hard_limit)

    def whole(self, load: int, hard_limit: int | None) -> None:
        """Note a whole answer, given while `load` attempts ran."""
        if self.limit is not None and self._threshold <= self.limit <= load + 1:
            self._raise_to(self.limit + 1.0 / self.limit, hard_limit)

    def _raise_to(self, limit: float, hard_limit: int | None) -> None:
        if limit > (MAX_LEARNT if hard_limit is None else hard_limit):
            self.limit, self._rest_s = None, FIRST_REST_S  # it limits nothing any more
        else:
            self.limit = limit

    def recover(self) -> None:
        """Begin slowly with the next attempt, because the replica was away."""
        if not self.is_back:
            self._threshold = math.inf if self.limit is None else self.limit
        self.limit, self._rest_s, self.is_back = None, FIRST_REST_S, True

    def begin(self, others: int) -> None:
        """Note an attempt beside `others`, which may be from before the replica was away."""
        if self.is_back:
            self.limit, self.is_back = others + 1.0, False


WINDOW_S = 10
"""Over how many seconds jobs and attempts are compared. When a replica breaks all of its jobs fail
at once, and the pool's jobs of the seconds before pay for moving them."""


class FailoverBudget:
    """Attempts beyond the first, as a share of the jobs, and a few per second in any case.

    In any ten seconds no more are granted than `ratio` of the jobs that came in them, and
    `floor_per_s` for each second.

    Args:
        ratio: What each job adds.
        floor_per_s: What each second adds.
    """

    def __init__(self, ratio: float = 0.2, floor_per_s: float = 1.0) -> None:
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
