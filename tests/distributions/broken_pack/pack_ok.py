"""The good adapter of a bad distribution."""

from collections.abc import AsyncIterator

import attrs

from adapter_api import (
    End,
    HealthState,
    HealthStatus,
    Metrics,
    Started,
    TaskRequest,
    TokenEvent,
    hookimpl,
)


@attrs.frozen
class OkConfig:
    """How to answer."""

    token: str = attrs.field(default="", metadata={"secret": True})


@attrs.define(eq=False)
class OkAdapter:
    """The adapter."""

    config: OkConfig

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(task.job_id, "ok", "2.0")
        yield End(Metrics(0), "stop", "finish_reason")

    @hookimpl
    async def health(self) -> HealthStatus:
        return HealthStatus(HealthState.HEALTHY)


@attrs.define(eq=False)
class RefusingAdapter(OkAdapter):
    """An adapter whose constructor fails, quoting its token."""

    def __attrs_post_init__(self) -> None:
        raise SystemExit(f"bad token {self.config.token}")
