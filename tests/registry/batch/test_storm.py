"""Runs over servers that refuse a part of the requests: near the server's own rate, without floods.

Everything is in virtual time, so the figures are the same on every machine.
"""

import asyncio
import random
from collections.abc import AsyncIterator

import attrs
import pytest

from adapter_api import (
    End,
    ErrorCode,
    HealthState,
    HealthStatus,
    Metrics,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    WorkerError,
    hookimpl,
)
from registry import AdapterHost, BoundAdapter, PoolPolicy
from registry.batch import run
from tests.registry.batch.scripted_pool import tasks
from tests.virtual_time import in_virtual_time, now_s


@attrs.define(eq=False)
class Server:
    """A server that admits `rate` requests a second, and up to `burst` after a pause.

    Attributes:
        answer_s: The mean time of an answer.
        retry_after_ms: What a refusal says about the next try.
        share: The share that it refuses at random, whatever their rate.
        slots: How many requests it answers at once.
        asked: How many requests came.
        refused: How many of them it refused.
    """

    rate: float = 1e6
    burst: float = 1e6
    answer_s: float = 0.05
    retry_after_ms: int | None = None
    share: float = 0.0
    slots: int = 10**6
    asked: int = 0
    refused: int = 0
    _tokens: float = attrs.field(default=0.0, init=False)
    _at: float = attrs.field(default=0.0, init=False)
    _running: int = attrs.field(default=0, init=False)
    _rng: random.Random = attrs.field(factory=lambda: random.Random(1), init=False)

    def _admits(self) -> bool:
        now = now_s()
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens < 1 or self._running >= self.slots or self._rng.random() < self.share:
            return False
        self._tokens -= 1
        return True

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        self.asked += 1
        await asyncio.sleep(0.002)
        if not self._admits():
            self.refused += 1
            after_ms = self.retry_after_ms
            raise WorkerError.of(
                ErrorCode.ADMISSION_REJECT, "too many", status=429, retry_after_ms=after_ms
            )
        self._running += 1
        try:
            await asyncio.sleep(self._rng.uniform(0.5, 1.5) * self.answer_s)
            yield Started(task.job_id, "limited", "1")
            yield Token("x", 0)
            yield End(Metrics(1, prompt_tokens=1), "stop", "finish_reason")
        finally:
            self._running -= 1

    @hookimpl
    async def health(self) -> HealthStatus:
        return HealthStatus(HealthState.HEALTHY)


async def rows_per_s(server: Server, count: int) -> float:
    """Run that many rows; return how many were answered in a second."""
    async with AdapterHost(defaults=PoolPolicy(), rng=random.Random(1)) as host:
        host.bind("default", "r0", BoundAdapter(server, name="limited"))
        await host.check("default")
        began_s = now_s()
        summary = await run(tasks(count), host)
        assert summary.answered == count
        return count / (now_s() - began_s)


@pytest.mark.parametrize(
    ("server", "count", "rate"),
    [
        (Server(rate=20, burst=5), 200, 20),
        (Server(rate=20, burst=5, retry_after_ms=1000), 500, 20),
        (Server(rate=5, burst=5), 150, 5),
        (Server(rate=100, burst=20), 300, 100),
        (Server(rate=10, burst=10, answer_s=1.0), 200, 10),
        (Server(slots=8, answer_s=1.0), 200, 8),
        pytest.param(Server(slots=64, answer_s=1.0), 800, 64, marks=pytest.mark.exhaustive),
    ],
    ids=["fast", "told", "slow", "faster", "long", "slots", "many-slots"],
)
@in_virtual_time
async def test_a_server_with_a_limit_is_used_up_and_not_flooded(
    server: Server, count: int, rate: float
) -> None:
    """At least 70 percent of what it admits are answered, and at most a fifth is refused."""
    random.seed(1)
    assert await rows_per_s(server, count) > 0.7 * rate
    assert server.refused < 0.2 * server.asked


@pytest.mark.parametrize(("share", "rate"), [(0.3, 10.0), (0.7, 1.0)])
@in_virtual_time
async def test_random_refusals_do_not_bring_a_run_to_a_halt(share: float, rate: float) -> None:
    """Slowing down does not help against them, so the pace is held."""
    random.seed(1)
    server = Server(share=share)
    assert await rows_per_s(server, 150) > rate
