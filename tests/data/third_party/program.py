"""A third party's adapter and program."""

import asyncio
from collections.abc import AsyncIterator

import attrs

import registry
from adapter_api import (
    Adapter,
    End,
    HealthState,
    HealthStatus,
    Metrics,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    WorkerAdapter,
    hookimpl,
)
from registry import AdapterHost, BoundAdapter, PoolPolicy


@attrs.frozen
class Config:
    url: str = "x"


@attrs.define(eq=False)
class Mine:
    config: Config

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(task.job_id, "mine", "1")
        yield Token("a", 0)
        yield End(Metrics(1), "stop", "finish_reason")

    @hookimpl
    async def health(self) -> HealthStatus:
        return HealthStatus(HealthState.HEALTHY)


def as_plugin(adapter: WorkerAdapter) -> WorkerAdapter:
    return adapter


def as_caller(adapter: Adapter) -> Adapter:
    return adapter


async def main() -> None:
    as_plugin(Mine(Config()))
    bound: BoundAdapter[Config] = registry.get("mine", Config())
    print(bound.config.url)
    as_caller(bound)
    as_caller(registry.get("openai-http", base_url="http://x"))
    async with AdapterHost(defaults=PoolPolicy()) as host:
        as_caller(host.pool("chat"))
        stream = host.pool("chat").submit(TaskRequest(prompt="x"))
        async for token in stream.tokens():
            print(token.text)


with registry.sync.get("mine", Config()) as blocking:
    as_caller(blocking.adapter)
    text: str = blocking.submit(TaskRequest(prompt="x")).text()
asyncio.run(main())
