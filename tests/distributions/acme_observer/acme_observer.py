"""An adapter whose distribution has an observer and a middleware beside it."""

from typing import Any

import attrs

from adapter_api import End, HealthState, HealthStatus, JobNotice, Metrics, Started, hookimpl

TOLD: list[JobNotice] = []


@attrs.frozen
class Config:
    """No options."""


@attrs.define(eq=False)
class Adapter:
    """Answers nothing."""

    config: Config

    @hookimpl
    async def submit(self, task: Any) -> Any:
        """End at once."""
        yield Started(task.job_id, "acme", "1")
        yield End(Metrics(0), "stop", "finish_reason")

    @hookimpl
    async def health(self) -> HealthStatus:
        """Always well."""
        return HealthStatus(HealthState.HEALTHY)


class Middleware:
    """Would end every job if it were activated by installation."""

    @hookimpl(wrapper=True)
    def submit(self) -> Any:
        """Fail."""
        yield
        raise RuntimeError("installed, and active")


class Observer:
    """Records notices if it were activated by installation."""

    @hookimpl
    def job_submitted(self, job: JobNotice) -> None:
        """Remember."""
        TOLD.append(job)
