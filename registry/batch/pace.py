"""How fast rows are sent: as many at once as the engines can take, within the limits given."""

import asyncio
import contextlib
from collections import deque

import attrs

from registry.host import AdapterHost

WINDOW_S = 60.0

LOOK_S = 0.5
"""How often the capacity of the pool is looked at."""

DEFAULT_AT_ONCE = 16
"""Jobs at once on a replica that says nothing of its limit: engines batch about as many."""

_AHEAD = 1.25
"""More jobs than the replicas take at once, so that none waits for the next row."""


@attrs.frozen(kw_only=True)
class Limits:
    """What a run may use.

    Args:
        max_in_flight: The most rows at once; None: what the pool's replicas can take.
        requests_per_minute: None for no limit.
        tokens_per_minute: Tokens of prompts and answers; None for no limit.
        max_tokens: The most tokens of the whole run, prompts and answers; None for no limit.
        max_failures: How many rows may fail before the run stops; None for no limit.
        max_attempts: How often a row is asked when the engine failed at it.
        outage_s: Seconds without any answer from the engines after which the run stops.
    """

    max_in_flight: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_tokens: int | None = None
    max_failures: int | None = None
    max_attempts: int = 4
    outage_s: float = 300.0


class Pace:
    """The gate that each row passes: how many rows are in flight, and what they have used.

    Args:
        host: Its pool's capacity decides how many rows run at once.
        pool_id: The pool.
        limits: What the run may use.
    """

    def __init__(self, host: AdapterHost, pool_id: str, limits: Limits) -> None:
        self._host = host
        self._pool_id = pool_id
        self._limits = limits
        self._requests: deque[float] = deque()
        self._tokens: deque[tuple[float, int]] = deque()
        self._tokens_sum = 0
        self._target = 1
        self._looked_at = float("-inf")
        self._freed = asyncio.Event()
        self._closed = False
        self.in_flight = 0

    async def enter(self) -> bool:
        """Wait until one more row may be sent, and count it.

        Returns:
            False if the pace was closed: no further row may be sent.
        """
        loop = asyncio.get_running_loop()
        while not self._closed:
            now = loop.time()
            wait_s = self._wait_s(now)
            if wait_s <= 0.0:
                self.in_flight += 1
                if self._limits.requests_per_minute is not None:
                    self._requests.append(now)
                return True
            self._freed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait_s, LOOK_S)):
                    await self._freed.wait()
        return False

    def close(self) -> None:
        """Let no further row in."""
        self._closed = True
        self._freed.set()

    def leave(self, tokens: int) -> None:
        """Count a row that has ended.

        Args:
            tokens: The tokens of its prompt and its answer.
        """
        self.in_flight -= 1
        if self._limits.tokens_per_minute is not None and tokens:
            self._tokens.append((asyncio.get_running_loop().time(), tokens))
            self._tokens_sum += tokens
        self._freed.set()

    def _wait_s(self, now: float) -> float:
        if self.in_flight >= self._at_once(now):
            return LOOK_S
        limit = self._limits.requests_per_minute
        if limit is not None:
            while self._requests and self._requests[0] <= now - WINDOW_S:
                self._requests.popleft()
            if len(self._requests) >= limit:
                return self._requests[0] + WINDOW_S - now
        limit = self._limits.tokens_per_minute
        if limit is not None:
            while self._tokens and self._tokens[0][0] <= now - WINDOW_S:
                self._tokens_sum -= self._tokens.popleft()[1]
            if self._tokens_sum >= limit:
                return self._tokens[0][0] + WINDOW_S - now
        return 0.0

    def _at_once(self, now: float) -> int:
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._target = self._capacity()
        return self._target

    def _capacity(self) -> int:
        most = self._limits.max_in_flight
        for pool in self._host.snapshot().pools:
            if pool.pool_id == self._pool_id:
                able = [r for r in pool.replicas if r.state in ("ready", "busy")]
                at_once = sum(DEFAULT_AT_ONCE if r.limit is None else r.limit for r in able)
                wanted = max(1, round(at_once * _AHEAD))
                return wanted if most is None else min(most, wanted)
        return 1
