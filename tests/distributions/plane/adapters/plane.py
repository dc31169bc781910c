"""An adapter in the namespace package `adapters`."""

from collections.abc import AsyncIterator

import attrs

from adapter_api import (
    End,
    HealthState,
    HealthStatus,
    Metrics,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    hookimpl,
)


@attrs.frozen
class PlaneConfig:
    """It has no options."""


@attrs.define(eq=False)
class PlaneAdapter:
    """The adapter."""

    config: PlaneConfig

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(task.job_id, "plane", "0.3")
        yield Token("plane", 0)
        yield End(Metrics(1), "stop", "finish_reason")

    @hookimpl
    async def health(self) -> HealthStatus:
        return HealthStatus(HealthState.HEALTHY)
