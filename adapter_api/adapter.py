"""Adapter: the caller's interface to one adapter, a pool of replicas, or a host's pool."""

from typing import TYPE_CHECKING, Protocol

from adapter_api.health import EngineProps, HealthStatus
from adapter_api.task import TaskRequest

if TYPE_CHECKING:
    from adapter_api.stream import TokenStream


class Adapter(Protocol):
    """The caller's view of one adapter, of a pool of replicas, or of a host's pool.

    A plugin implements WorkerAdapter instead; the registry makes an Adapter of it.
    """

    def submit(self, task: TaskRequest) -> "TokenStream":
        """Return the job's events. Nothing is sent before the stream is read, awaited or entered.

        Args:
            task: The job.
        """
        ...

    async def cancel(self, job_id: str) -> bool:
        """Stop a job. No Token comes after this returns; idempotent.

        Args:
            job_id: The task's job_id.

        Returns:
            True if a running job was stopped; False for an unknown id.
        """
        ...

    async def health(self) -> HealthStatus:
        """Return the engine's state. An unreachable engine is unhealthy, not an exception."""
        ...

    async def props(self) -> EngineProps:
        """Return the engine's properties; unknown facts are None."""
        ...

    async def engine_version(self) -> str:
        """Return the engine's version, "unknown" if the engine does not report it."""
        ...

    async def start(self) -> None:
        """Acquire resources. Idempotent; the first call that needs the engine does so, too."""
        ...

    async def aclose(self) -> None:
        """Cancel the running jobs and release everything. Idempotent, and final."""
        ...
