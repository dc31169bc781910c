"""Engines in process that do what a test says, for tests of the host."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs

from adapter_api import (
    End,
    EngineProps,
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
from registry import AdapterHost, BoundAdapter

READY = HealthStatus(HealthState.HEALTHY, "ready")
BUSY = HealthStatus(HealthState.DEGRADED, "busy")
LOADING = HealthStatus(HealthState.UNHEALTHY, "loading", live=True, ready=False)
DOWN = HealthStatus(HealthState.UNHEALTHY, "connection refused", live=False, ready=False)


@attrs.define(eq=False)
class Engine:
    """An adapter that answers "a0 a1 a2" (for the name "a") by default.

    Attributes:
        failure: What each job fails with, after `fail_after` tokens; -1 for before Started.
        gate: Jobs wait for it before each token; None for no waiting.
        silent: They wait for it before Started, too.
        status: What health says; `hung` keeps it from saying anything.
        streams: How many jobs it runs now.
        tasks: The tasks it was given.
        checks: How often it was asked for its health.
        closed: How often it was closed.
        cut: Whether it was closed under a running job.
    """

    name: str = "a"
    count: int = 3
    version: str = "1"
    slots: int | None = None
    failure: WorkerError | None = None
    fail_after: int = -1
    gate: asyncio.Event | None = None
    silent: bool = False
    status: HealthStatus = READY
    hung: bool = False
    start_failure: Exception | None = None
    close_failure: Exception | None = None
    streams: int = attrs.field(default=0, init=False)
    tasks: list[TaskRequest] = attrs.field(factory=list, init=False)
    cancelled: list[str] = attrs.field(factory=list, init=False)
    checks: int = attrs.field(default=0, init=False)
    closed: int = attrs.field(default=0, init=False)
    cut: bool = attrs.field(default=False, init=False)

    @hookimpl
    async def start(self) -> None:
        if self.start_failure is not None:
            raise self.start_failure

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        self.tasks.append(task)
        self.streams += 1
        try:
            if self.silent and self.gate is not None:
                await self.gate.wait()
            self._fail(-1)
            yield Started(task.job_id, "toy", self.version)
            for index in range(min(self.count, task.max_tokens or self.count)):
                self._fail(index)
                if self.gate is not None:
                    await self.gate.wait()
                yield Token(f"{self.name}{index} ", index)
            self._fail(self.count)
            yield End(Metrics(self.count, time_to_first_token_ms=1.0), "stop", "finish_reason")
        finally:
            try:
                await asyncio.sleep(0)
            finally:
                self.streams -= 1
                self.cut |= self.closed > 0

    def _fail(self, index: int) -> None:
        if self.failure is not None and index == self.fail_after:
            raise self.failure.of(**self.failure.fields())

    @hookimpl
    async def health(self) -> HealthStatus:
        self.checks += 1
        if self.hung:
            await asyncio.Event().wait()
        return self.status

    @hookimpl
    async def props(self) -> EngineProps:
        return EngineProps("toy", self.version, slots_total=self.slots)

    @hookimpl
    async def cancel(self, job_id: str) -> bool:
        self.cancelled.append(job_id)
        return False

    @hookimpl
    async def aclose(self) -> None:
        self.closed += 1
        if self.close_failure is not None:
            raise self.close_failure

    def bound(self) -> BoundAdapter:
        """The front a host is given."""
        return BoundAdapter(self, name=f"toy-{self.name}")


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def task(job_id: str = "job", **fields: Any) -> TaskRequest:
    """A job that fails rather than hangs the test."""
    return TaskRequest(prompt="x", job_id=job_id, **{"deadline_s": 10.0, **fields})


async def bound(host: AdapterHost, *engines: Engine, **options: object) -> None:
    """Bind the engines to pool "p" by their names, and check them."""
    for engine in engines:
        host.bind("p", engine.name, engine.bound(), **options)  # type: ignore[arg-type]
    await host.check("p")


async def answered_by(host: AdapterHost, count: int, **fields: object) -> Counter[str]:
    """The engines that answer `count` jobs, one after another."""
    texts = [await host.submit("p", task(str(n), **fields)).text() for n in range(count)]
    return Counter(text[0] for text in texts)


async def until(condition: Callable[[], object], limit_s: float = 10.0) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.001)


def states(host: AdapterHost, pool_id: str = "p") -> dict[str, str]:
    """The state of each replica of a pool."""
    (pool,) = [pool for pool in host.snapshot().pools if pool.pool_id == pool_id]
    return {replica.replica_id: replica.state for replica in pool.replicas}
