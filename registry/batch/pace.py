"""The pace of a run: as many rows at once as the engines can take, within the given limits."""

import asyncio

import attrs

from registry.host import AdapterHost

LOOK_S = 0.5
"""How often the capacity of the pool is read."""

DEFAULT_AT_ONCE = 16
"""The initial number of concurrent jobs on a replica whose limit is unknown."""

MAX_AT_ONCE = 256
"""The maximum of concurrent jobs on such a replica: vLLM batches as many by default."""

_GROWTH, _GAIN = 1.5, 1.05
"""The factor by which concurrency is raised, and the gain in rows per second that keeps it."""

_AHEAD = 1.25
"""The factor of jobs beyond the replicas' capacity, so that no replica waits for the next row."""


@attrs.frozen(kw_only=True)
class Limits:
    """The limits of one call of a run; they may change from call to call.

    Args:
        max_in_flight: Rows at once; None: as many as the pool's replicas can take.
        requests_per_minute: Requests are spread evenly; None for no limit.
        tokens_per_minute: Tokens of prompts and answers; None for no limit.
        max_tokens: Tokens of prompts and answers after which no row is sent; None for no limit.
        max_failures: Failed rows beyond which no row is sent; None for no limit.
        max_attempts: How often a row is sent if the engine fails at it.
        outage_s: Seconds in which every attempt failed, after which no row is sent.
    """

    max_in_flight: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_tokens: int | None = None
    max_failures: int | None = None
    max_attempts: int = 4
    outage_s: float = 300.0


class Pace:
    """The gate that each row passes.

    Args:
        host: Its pool's capacity decides how many rows are in flight.
        pool_id: The pool.
        limits: The limits of the run.
        share: The share of the pool's capacity to use; others use the rest.

    Attributes:
        turn: Held by the run whose rows enter. The rows of one run enter before those of the next,
            so that runs end one after the other.
        in_flight: How many rows have entered and not left.
    """

    def __init__(self, host: AdapterHost, pool_id: str, limits: Limits, share: float = 1.0) -> None:
        self._host = host
        self._pool_id = pool_id
        self._limits = limits
        self._share = share
        self.turn = asyncio.Lock()
        self._request_s = _seconds_each(limits.requests_per_minute)
        self._token_s = _seconds_each(limits.tokens_per_minute)
        self._requests_from = self._tokens_from = float("-inf")
        self._rows = self._tokens = 0
        self._target = 1
        self._read_at = float("-inf")
        self._each = self._best = float(DEFAULT_AT_ONCE)
        self._rate = 0.0
        self._growing, self._was_full = True, False
        self._ended = 0
        self._measured_from = float("-inf")
        self._waiter: asyncio.Future[None] | None = None
        self.in_flight = 0

    async def enter(self, stopped: asyncio.Event) -> float | None:
        """Wait until one more row may be sent, and count it.

        Args:
            stopped: Set when no further row is to be sent. Call `wake` after setting it.

        Returns:
            The tokens reserved for the row, for `leave`; None if stopped.
        """
        loop = asyncio.get_running_loop()
        while not stopped.is_set():
            now = loop.time()
            if (wait_s := self._wait_s(now)) <= 0:
                self.in_flight += 1
                self._requests_from = max(self._requests_from, now) + self._request_s
                return self._reserve(now)
            self._waiter = loop.create_future()
            timer = loop.call_later(wait_s, self.wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
        return None

    def repeat(self) -> float:
        """Count a further request of a row; return in how many seconds it may be sent."""
        now = asyncio.get_running_loop().time()
        begins = max(self._requests_from, now)
        self._requests_from = begins + self._request_s
        return begins - now

    def leave(self, reserved: float, tokens: int) -> None:
        """Count a row that has ended.

        Args:
            reserved: The result of `enter`.
            tokens: The tokens of its prompt and its answer.
        """
        self.in_flight -= 1
        self._ended += 1
        if tokens:
            self._rows += 1
            self._tokens += tokens
        self._tokens_from += (tokens - reserved) * self._token_s
        self.wake()

    def wake(self) -> None:
        """Check again whether a row may be sent."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _reserve(self, now: float) -> float:
        if not self._token_s:
            return 0.0
        reserved = self._tokens / self._rows if self._rows else 0.0
        self._tokens_from = max(self._tokens_from, now) + reserved * self._token_s
        return reserved

    def _wait_s(self, now: float) -> float:
        if now - self._read_at >= LOOK_S:
            self._read_at = now
            self._grow(now)
            self._target = self._capacity()
        if self.in_flight >= self._target:
            self._was_full = True
            return LOOK_S
        if self._token_s and not self._rows and self.in_flight:
            return LOOK_S  # the first row shows how many tokens a row takes
        return max(self._requests_from, self._tokens_from) - now

    def _grow(self, now: float) -> None:
        """Raise the concurrency on replicas with an unknown limit, as long as throughput grows."""
        if not (self._growing and self._was_full):
            self._ended, self._measured_from = 0, now  # rows do not wait for the engines
        elif self._ended >= 2 * self._target:
            rate = self._ended / (now - self._measured_from)
            if rate > self._rate * _GAIN:
                self._best, self._rate = self._each, rate
                self._each = min(self._each * _GROWTH, MAX_AT_ONCE)
            else:
                self._each, self._growing = self._best, False
            self._ended, self._measured_from = 0, now
        self._was_full = False

    def _capacity(self) -> int:
        maximum = self._limits.max_in_flight
        for pool in self._host.snapshot().pools:
            if pool.pool_id == self._pool_id:
                able = [r for r in pool.replicas if r.state in ("ready", "busy")]
                at_once = sum(self._each if r.limit is None else r.limit for r in able)
                wanted = max(1, round(at_once * _AHEAD * self._share))
                return wanted if maximum is None else min(maximum, wanted)
        return 1


def _seconds_each(per_minute: int | None) -> float:
    return 0.0 if per_minute is None else 60.0 / per_minute
