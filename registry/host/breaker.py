"""Breakers and learnt limits, which keep failures from spreading (ORCH-3602).

Every `now` is in seconds of one monotonic clock.
"""

import math
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

import attrs

from adapter_api.notices import BreakerState
from adapter_api.validators import integer, seconds


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
        """The time at which an open breaker lets a probe through; None if it is not open."""
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
        """Begin an attempt as `begin` does, with an existing Trial. Does nothing if the breaker is
        closed."""
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
    """One attempt, from the breaker's point of view.

    An attempt that began before the breaker opened has no effect: only the probe decides.
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
        """Withdraw a failure that turned out to be the job's fault, unless it opened the
        breaker."""
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
"""How long a replica rests after several busy answers in a row; doubled with each further one."""

MAX_REST_S = 2.0
"""The longest such rest: an engine that works through its queue has room again within seconds."""

MAX_BUSY_IN_A_ROW = 3
"""Busy answers in a row before a replica rests; until then attempts only come more slowly."""

DECREASE = 0.8
"""The factor by which a learnt limit shrinks when the engine refuses a load within it."""

GROWTH_PER_S, CALM_S = 0.05, 5.0
"""The growth of a learnt limit per second, as a fraction of it. It doubles with each CALM_S without
a busy answer."""

PACED = 0.8
"""The pause between two attempts, as a share of the mean time between the ends of two answers."""

MAX_GAP_S, SLOWEST_GAP_S, SHED_GAP_S = 0.05, 2.0, 0.03
"""The longest pause between two attempts: of a replica with a limit of one or more, of any, and of
one whose busy answers do not depend on the pace."""

MAX_CALM = 10.0
"""The most doublings of the growth."""

OUTCOMES = 32
"""The number of requests whose order shows how a server refuses."""

LATE_S = 0.02
"""How late an attempt may be and still let the next one come early: timers are never exact."""

MAX_LEARNT = 64.0
"""A learnt limit above this, and far above the refused load, is dropped: it limits nothing."""


class Pace:
    """The number of streams that one replica may have, learnt from busy answers and recoveries.

    A busy answer sets the limit to the number of other streams, or lowers it if that number was
    allowed already. Whole answers at the limit raise it. Attempts are spread over the duration of
    answers, and a limit below one means longer pauses. So a server that admits a fixed number of
    requests per second gets hardly more than that. If busy answers do not depend on the pace, as
    from a server that sheds the load of many clients, the pace does not slow down any further.

    A replica that was away begins with one stream, and one more for each first token (slow start).
    """

    __slots__ = (
        "_cut_at",
        "_in_a_row",
        "_is_on_trial",
        "_outcomes",
        "_sheds",
        "_threshold",
        "is_back",
        "limit",
        "next_at",
        "took_s",
    )

    def __init__(self) -> None:
        self.limit: float | None = None
        """The learnt maximum of concurrent streams; None: nothing is known, and neither first
        tokens nor whole answers change that."""
        self.is_back = False
        """True before the first attempt after the replica was away."""
        self.next_at = -math.inf
        """The time from which the next attempt may begin."""
        self.took_s = FIRST_REST_S
        """The recent duration of an answer, in seconds."""
        self._threshold = math.inf  # up to here the limit grows quickly
        self._cut_at = -math.inf
        self._in_a_row = 0  # busy answers; those to attempts that were sent together are one
        self._outcomes: list[bool] = []  # whether each of the latest was admitted
        self._is_on_trial = False  # the pace is held, to see whether they depend on it
        self._sheds = False  # they do not

    @property
    def room(self) -> int:
        """The maximum of concurrent streams, if there is a limit."""
        return max(1, int((self.limit or 0.0) + 0.5))

    def busy(self, others: int, began_at: float, now: float) -> float:
        """Learn from a busy answer.

        Args:
            others: How many other attempts ran at that moment.
            began_at: When that one began.
            now: The time.

        Returns:
            How long the replica rests, in seconds.
        """
        limit = others + 1.0 if self.limit is None else self.limit
        is_new = began_at > self._cut_at
        if is_new:
            self._cut_at = now
            self._in_a_row += 1
            self._note(is_admitted=False)
        if 1 <= others < limit:
            limit = float(others)
        elif is_new and self._in_a_row == 1 and not self._is_on_trial:
            limit *= DECREASE
        if self._sheds:
            limit = max(limit, min(2.0, self.took_s / SHED_GAP_S))
        self.limit = self._threshold = max(limit, min(1.0, self.took_s / SLOWEST_GAP_S))
        self._wait(now)
        over = self._in_a_row - MAX_BUSY_IN_A_ROW
        if self._sheds or over < 0:
            return min(self.took_s / max(1, others), FIRST_REST_S)  # until one of them ends
        return min(FIRST_REST_S * 2.0**over, MAX_REST_S)

    def begin(self, others: int, now: float) -> bool:
        """Note an attempt in addition to `others`, which may be from before the replica was away.

        Returns:
            Whether the next one has to wait.
        """
        if self.is_back:
            self.limit, self.is_back = others + 1.0, False
        return self._wait(now)

    def _wait(self, now: float) -> bool:
        """Let the next attempt begin after a pause; return whether there is one."""
        if self.limit is None or self.limit < self._threshold:
            return False
        gap_s = self.took_s / self.limit
        if self.limit >= 1.0:
            gap_s = min(PACED * gap_s, MAX_GAP_S)
        self.next_at = max(self.next_at, now - LATE_S) + gap_s
        return self.next_at > now

    def answered(self, hard_limit: int | None) -> None:
        """Note a first token: slow start continues, and the next busy answer is first in a row."""
        self._in_a_row = 0
        self._note(is_admitted=True)
        if self.limit is not None and self.limit < self._threshold:
            self._raise_by(1.0, hard_limit)

    def whole(self, load: int, now: float, hard_limit: int | None) -> None:
        """Note a whole answer.

        Args:
            load: How many attempts run, this one among them.
            now: The time.
            hard_limit: The maximum value of the limit; None for no maximum.
        """
        if self.limit is not None and self._threshold <= self.limit <= load + 1:
            calm = 2.0 ** min((now - self._cut_at) / CALM_S, MAX_CALM)
            self._raise_by(min(GROWTH_PER_S * self.took_s, 1.0 / self.limit) * calm, hard_limit)

    def _raise_by(self, more: float, hard_limit: int | None) -> None:
        assert self.limit is not None
        limit = self.limit + min(more, 1.0)
        if hard_limit is None:
            seen = 0.0 if self._threshold == math.inf else self._threshold
            drops = limit > max(MAX_LEARNT, 4 * seen)
        else:
            drops = limit > hard_limit
        self.limit = None if drops else limit
        if drops:
            self._in_a_row = 0
            self._forget()

    def _note(self, *, is_admitted: bool) -> None:
        """Note an outcome, and find out from many whether busy answers depend on the pace. The pace
        is held in the meantime: otherwise its own changes would look random."""
        seen = self._outcomes
        seen.append(is_admitted)
        if len(seen) < (2 if self._sheds else 1) * OUTCOMES:
            return
        is_mixed = OUTCOMES / 8 < sum(seen) < OUTCOMES * 7 / 8
        tried, shed = self._is_on_trial, self._sheds
        self._sheds = (tried or shed) and at_random(seen)
        self._is_on_trial = not self._sheds and (shed or (is_mixed and not tried))
        seen.clear()

    def recover(self) -> None:
        """Begin slowly with the next attempt, because the replica was away."""
        if not self.is_back:
            self._threshold = math.inf if self.limit is None else self.limit
        self.limit, self._in_a_row, self.is_back = None, 0, True
        self._forget()

    def _forget(self) -> None:
        self.next_at = -math.inf
        self._outcomes.clear()
        self._is_on_trial = self._sheds = False


def at_random(outcomes: Sequence[bool]) -> bool:
    """Return whether a server refuses at random, and not by the rate of the requests.

    A server that limits the rate rarely refuses two requests in a row, or rarely admits two in a
    row. One that counts them in long windows seldom changes between refusing and admitting.

    Args:
        outcomes: The latest, each true if the request was admitted.
    """
    total, admitted = len(outcomes), sum(outcomes)
    refused, pairs = total - admitted, Counter(pairwise(outcomes))
    return (
        pairs[True, True] > max(1, 0.3 * admitted**2 / total)
        and pairs[False, False] > 0.3 * refused**2 / total
        and pairs[True, False] > 0.5 * admitted * refused / total
    )
