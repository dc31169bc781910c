"""The retry policy: which requests are repeated, and after which delay (HTU-1002)."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs

from adapter_api import CapacityExceeded, EngineUnavailable, StreamClock, WorkerError
from adapter_api.validators import integer, number

_T = TypeVar("_T")

REPEATABLE_STATUSES = frozenset({408, 425, 429, 449, 498, 502, 503, 504, 521, 522, 523, 529})
"""Statuses which mean that the request was not processed, or may be sent again. 498 is Groq's
exceeded flex capacity, 529 an overloaded site; 521 to 523 are Cloudflare's for an origin that it
could not reach."""

BUDGET_RESERVE = 100.0
"""Retries an adapter may make before its requests have earned any."""

BUDGET_PER_REQUEST = 0.2
"""The amount that each job adds to the budget: at most one retry for five jobs on average."""


@attrs.frozen
class RetryPolicy:
    """Full-jitter exponential backoff: delay n, from 0, is uniform in
    [0, min(cap, base * multiplier**n)].

    Args:
        attempts: The maximum number of requests for one job, the first included.
        base_s: Seconds.
        multiplier: Growth from one delay to the next.
        cap_s: The longest delay of our own, in seconds.
        retry_after_cap_s: The longest delay a server may request; a longer one fails at once.
        seed: Makes the delays repeatable, for tests. None: random.
    """

    attempts: int = attrs.field(default=4, validator=integer(1))
    base_s: float = attrs.field(default=0.1, validator=number(0))
    multiplier: float = attrs.field(default=2.0, validator=number(1))
    cap_s: float = attrs.field(default=2.0, validator=number(0))
    retry_after_cap_s: float = attrs.field(default=60.0, validator=number(0))
    seed: int | None = attrs.field(default=None, validator=integer(optional=True))

    def delay_s(self, n: int, rng: random.Random) -> float:
        """Return delay number `n` (from 0), in seconds."""
        try:
            longest_s = min(self.cap_s, self.base_s * self.multiplier**n)
        except OverflowError:  # of the power
            longest_s = self.cap_s
        return rng.uniform(0.0, longest_s)

    def limited_to(self, attempts: int | None) -> "RetryPolicy":
        """Return this policy with at most `attempts` requests; None changes nothing."""
        if attempts is None or attempts >= self.attempts:
            return self
        return attrs.evolve(self, attempts=attempts)

    async def pause(self, wait_s: float) -> None:
        """Wait before the next request."""
        await asyncio.sleep(wait_s)


@attrs.define(eq=False)
class RetryBudget:
    """Bounds how much an adapter's retries may multiply its requests.

    Args:
        tokens: Retries that may be made now.
        maximum: Retries that can be saved up.
    """

    tokens: float = BUDGET_RESERVE
    maximum: float = BUDGET_RESERVE

    def earn(self) -> None:
        """Count one job."""
        self.tokens = min(self.maximum, self.tokens + BUDGET_PER_REQUEST)

    def spend(self) -> bool:
        """Take one retry out of the budget; return False if it is used up."""
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


class Unanswered(EngineUnavailable):
    """The request went out and no answer began in time.

    The server may have processed it, so only the caller can decide whether to send it again.
    """


def may_repeat(error: BaseException) -> bool:
    """Return whether the request behind `error` may be sent again.

    This is the case if the server refused it before any work, or the connection was never made.
    """
    if not isinstance(error, WorkerError) or not error.retriable:
        return False
    if error.status is not None:
        return error.status in REPEATABLE_STATUSES and isinstance(
            error, CapacityExceeded | EngineUnavailable
        )
    return isinstance(error, EngineUnavailable) and not isinstance(error, Unanswered)


async def try_and_retry(
    attempt: Callable[[], Awaitable[_T]],
    policy: RetryPolicy,
    clock: StreamClock,
    budget: RetryBudget,
    rng: random.Random,
    on_retry: Callable[[WorkerError, int, float], None],
) -> _T:
    """Return the result of `attempt`, repeating it while `may_repeat` holds for its error.

    A delay that the server requests replaces the backoff. A delay that does not fit the deadline,
    or a requested one beyond `policy.retry_after_cap_s`, is not begun.

    Args:
        attempt: Sends the request once.
        policy: The maximum number of attempts, and their delays.
        clock: The job's clock.
        budget: Shared by the jobs of one adapter.
        rng: The source of jitter; with a seed the delays repeat.
        on_retry: Called before each delay with the error, the number of the failed attempt (from
            1) and the delay in seconds.

    Raises:
        WorkerError: The last attempt's error, unchanged. If the delay before the next attempt was
            too long to begin, `retry_after_ms` is that delay.

    Cancellation: Ends an attempt or a delay at once.
    """
    number = 1
    while True:
        try:
            return await attempt()
        except WorkerError as error:
            if not may_repeat(error) or number >= policy.attempts:
                raise
            wait_s = _wait_s(error, policy, number - 1, rng)
            if not _may_wait(error, wait_s, policy, clock):
                if error.retry_after_ms is None:
                    error.retry_after_ms = int(wait_s * 1000)
                raise
            if not budget.spend():
                raise
            on_retry(error, number, wait_s)
        await policy.pause(wait_s)
        number += 1


def _wait_s(error: WorkerError, policy: RetryPolicy, n: int, rng: random.Random) -> float:
    told_ms = error.retry_after_ms
    return policy.delay_s(n, rng) if told_ms is None else told_ms / 1000


def _may_wait(error: WorkerError, wait_s: float, policy: RetryPolicy, clock: StreamClock) -> bool:
    is_given = error.retry_after_ms is not None
    return not (is_given and wait_s > policy.retry_after_cap_s) and clock.fits(wait_s)
