"""A pool with one replica that fails and answers as a test says, and shorthands for runs."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
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
from registry import AdapterHost, BoundAdapter, PoolPolicy
from registry.host import BreakerPolicy

Fail = Callable[[str, int], WorkerError | None]


@attrs.define(eq=False)
class ScriptedEngine:
    """An engine that answers each prompt with the prompt.

    Attributes:
        fail: Returns the error of a request, by its prompt and how often the prompt has come.
        answer_s: How long an answer takes.
        slots: How many jobs it says that it takes at once.
        batches: How many it works on at once; the others wait in it.
        asked: How often each prompt has come.
        times: When requests came, in seconds of the loop.
        running: How many jobs run now.
        peak: The highest number of jobs at once.
    """

    fail: Fail = lambda prompt, nth: None
    answer_s: float = 0.01
    slots: int | None = 8
    batches: int = 10**6
    asked: Counter[str] = attrs.field(factory=Counter)
    times: list[float] = attrs.field(factory=list)
    running: int = 0
    peak: int = 0
    _gate: asyncio.Semaphore = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._gate = asyncio.Semaphore(self.batches)

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        prompt = task.prompt or ""
        self.asked[prompt] += 1
        self.times.append(asyncio.get_running_loop().time())
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            async with self._gate:
                await asyncio.sleep(self.answer_s)
            if (error := self.fail(prompt, self.asked[prompt])) is not None:
                raise error
            yield Started(task.job_id, "scripted", "1")
            yield Token(prompt, 0)
            yield End(Metrics(1, prompt_tokens=9), "stop", "finish_reason")
        finally:
            self.running -= 1

    @hookimpl
    async def health(self) -> HealthStatus:
        return HealthStatus(HealthState.HEALTHY, "ready")

    @hookimpl
    async def props(self) -> EngineProps:
        return EngineProps("scripted", "1", slots_total=self.slots)


def tasks(count: int) -> list[TaskRequest]:
    """Return tasks whose prompts and ids are their numbers."""
    return [TaskRequest(prompt=str(n), job_id=str(n), model="m") for n in range(count)]


@asynccontextmanager
async def pool(engine: Any, **policy: Any) -> AsyncIterator[AdapterHost]:
    """Run a host whose pool "default" has the engine; breakers stay closed unless `policy` says."""
    options = {"max_attempts": 1, "breaker": BreakerPolicy(failures=10**6), **policy}
    async with AdapterHost(defaults=PoolPolicy(**options)) as host:
        host.bind("default", "r0", BoundAdapter(engine, name="scripted"))
        await host.check("default")
        yield host


def ids(path: Path) -> list[str]:
    """Return the custom_ids of a result file, in order."""
    return [json.loads(line)["custom_id"] for line in path.read_text().splitlines()]
