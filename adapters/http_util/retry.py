"""When to ask again, and how long to wait before (HTU-1002)."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import attrs
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from adapter_api import CapacityExceeded, EngineUnavailable, ErrorCode, StreamClock, WorkerError
from adapter_api.validators import integer, number

_T = TypeVar("_T")

REPEATABLE_STATUSES = frozenset({408, 425, 429, 502, 503, 504})
"""Answers that say the request was not worked on, or may be sent again."""

BUDGET_RESERVE = 100.0
"""Retries an adapter may make before its requests have earned any."""

BUDGET_PER_REQUEST = 0.2
"""What each request adds to the budget: in the long run at most one retry for five requests."""


@attrs.frozen
class RetryPolicy:
    """Full-jitter exponential backoff: delay n, from 0, is uniform in
    [0, min(cap, base * multiplier**n)].

    Args:
        attempts: Most requests for one job, the first included.
        base_s: Seconds.
        multiplier: Growth from one delay to the next.
        cap_s: Longest delay of our own, in seconds.
        retry_after_cap_s: Longest wait a server may ask for; a longer one fails at once.
        seed: Makes the delays repeatable, for tests. None: random.
    """

    attempts: int = attrs.field(default=4, validator=integer(1))
    base_s: float = attrs.field(default=0.1, validator=number(0))
    multiplier: float = attrs.field(default=2.0, validator=number(1))
    cap_s: float = attrs.field(default=2.0, validator=number(0))
    retry_after_cap_s: float = attrs.field(default=60.0, validator=number(0))
    seed: int | None = attrs.field(default=None, validator=integer(optional=True))

    def delay_s(self, n: int, rng: random.Random) -> float:
        """Delay number `n` (from 0), in seconds."""
        try:
            longest_s = min(self.cap_s, self.base_s * self.multiplier**n)
        except OverflowError:  # of the power
            longest_s = self.cap_s
        return rng.uniform(0.0, longest_s)

    def at_most(self, attempts: int | None) -> "RetryPolicy":
        """The same policy with no more than `attempts` requests; None: as it is."""
        if attempts is None or attempts >= self.attempts:
            return self
        return attrs.evolve(self, attempts=attempts)

    async def pause(self, wait_s: float) -> None:
        """Wait, before the next request."""
        await asyncio.sleep(wait_s)


@attrs.define(eq=False)
class RetryBudget:
    """Bounds how much an adapter's retries may multiply its requests.

    Args:
        tokens: Retries that may be made now.
        most: Retries that can be saved up.
    """

    tokens: float = BUDGET_RESERVE
    most: float = BUDGET_RESERVE

    def earn(self) -> None:
        """Count one job."""
        self.tokens = min(self.most, self.tokens + BUDGET_PER_REQUEST)

    def spend(self) -> bool:
        """Take one retry out of the budget; False if it is used up."""
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


class Unanswered(EngineUnavailable):
    """The request went out and no answer began in time. It may have been worked on, so that it is
    for the caller to say whether the same task may be sent twice."""


def may_repeat(error: BaseException) -> bool:
    """Whether the request behind `error` may be sent again: it was refused before any work, or
    the connection was never made."""
    if not isinstance(error, WorkerError) or error.code is ErrorCode.QUOTA_EXHAUSTED:
        return False
    if error.status is not None:
        return error.status in REPEATABLE_STATUSES and isinstance(
            error, CapacityExceeded | EngineUnavailable
        )
    never_sent = isinstance(error, EngineUnavailable) and not isinstance(error, Unanswered)
    return never_sent and error.retriable


def retry_after_ms(headers: Mapping[str, str], now: datetime | None = None) -> int | None:
    """The wait a server asks for, in milliseconds: `retry-after-ms`, or Retry-After in seconds or
    as a date. None if it asks for none, or not in a way that can be understood.

    Source: RFC 9110, 10.2.3; `retry-after-ms` as OpenAI and Azure send it.
    """
    exact = _number(headers.get("retry-after-ms"))
    if exact is not None:
        return int(exact)
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None:
        return int(seconds * 1000)
    if not value:
        return None
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0, int((date - (now or datetime.now(UTC))).total_seconds() * 1000))


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value else None
    except ValueError:
        return None
    # A wait of more than a year, or less than none, is not a wait.
    return number if number is not None and 0 <= number < 32_000_000_000 else None


def retrying(
    policy: RetryPolicy,
    clock: StreamClock,
    budget: RetryBudget,
    rng: random.Random,
    on_retry: Callable[[WorkerError, int, float], None],
) -> AsyncRetrying:
    """tenacity's loop with this house's rules. The last error is raised as it is, with
    `retry_after_ms` set to the wait that was not begun, where that is why it ended.

    Args:
        policy: How often and how long.
        clock: The job's clock; a wait that does not fit its deadline is not begun.
        budget: Shared by the jobs of one adapter.
        rng: Where jitter comes from.
        on_retry: Told the error, the number of the attempt that failed, and the wait in seconds.
    """

    def failure(state: RetryCallState) -> WorkerError:
        assert state.outcome is not None
        error = state.outcome.exception()
        assert isinstance(error, WorkerError)
        return error

    def wait(state: RetryCallState) -> float:
        asked_ms = failure(state).retry_after_ms
        if asked_ms is not None:
            return asked_ms / 1000
        return policy.delay_s(state.attempt_number - 1, rng)

    def stop(state: RetryCallState) -> bool:
        if state.attempt_number >= policy.attempts:
            return True
        error, wait_s = failure(state), state.upcoming_sleep
        too_long = error.retry_after_ms is not None and wait_s > policy.retry_after_cap_s
        if too_long or not clock.fits(wait_s):
            if error.retry_after_ms is None:
                error.retry_after_ms = int(wait_s * 1000)
            return True
        return not budget.spend()

    def before_sleep(state: RetryCallState) -> None:
        on_retry(failure(state), state.attempt_number, state.upcoming_sleep)

    return AsyncRetrying(
        retry=retry_if_exception(may_repeat),
        wait=wait,
        stop=stop,
        before_sleep=before_sleep,
        sleep=policy.pause,
        reraise=True,
    )


async def try_and_retry(
    attempt: Callable[[], Awaitable[_T]],
    policy: RetryPolicy,
    clock: StreamClock,
    budget: RetryBudget,
    rng: random.Random,
    on_retry: Callable[[WorkerError, int, float], None],
) -> _T:
    """What `attempt` gives, tried again as `retrying` with the same arguments does.

    Setting up tenacity takes longer than decoding a hundred tokens, so it is made only after
    something has failed, and hears of that failure as its own first attempt.
    """
    failures: list[WorkerError] = []
    try:
        return await attempt()
    except WorkerError as error:
        failures.append(error)

    async def again() -> _T:
        if failures:
            raise failures.pop()
        return await attempt()

    return await retrying(policy, clock, budget, rng, on_retry)(again)
