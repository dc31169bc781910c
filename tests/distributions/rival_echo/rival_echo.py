"""Another adapter under the name of acme-echo's."""

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
class RivalConfig:
    """It has no options."""


@attrs.define(eq=False)
class RivalAdapter:
    """The adapter."""

    config: RivalConfig

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(task.job_id, "rival", "0.9")
        yield Token("rival", 0)
        yield End(Metrics(1), "stop", "finish_reason")

    @hookimpl
    async def health(self) -> HealthStatus:
        return HealthStatus(HealthState.HEALTHY)
