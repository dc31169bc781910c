"""HostPool: one pool of a host as an adapter."""

from typing import Protocol

from adapter_api.health import EngineProps, HealthState, HealthStatus
from adapter_api.stream import TokenStream
from adapter_api.table import StreamTable
from adapter_api.task import TaskRequest
from registry.host.jobs import Priority
from registry.host.snapshot import PoolHealth


class Host(Protocol):
    """The part of a host that a pool needs."""

    def submit(self, pool_id: str, task: TaskRequest, *, priority: Priority) -> TokenStream:
        """Run a task."""
        ...

    async def cancel(self, pool_id: str, job_id: str) -> bool:
        """Stop a job."""
        ...

    async def health(self, pool_id: str) -> PoolHealth:
        """Return a pool's health."""
        ...

    def pool_props(self, pool_id: str) -> EngineProps:
        """Return a pool's combined properties."""
        ...


class HostPool:
    """One pool of a host as an `adapter_api.Adapter`.

    Args:
        host: The host, which continues when this is closed.
        pool_id: The pool.
    """

    def __init__(self, host: Host, pool_id: str) -> None:
        self.host = host
        self.name = pool_id
        self._streams = StreamTable()

    def submit(self, task: TaskRequest, *, priority: Priority = "interactive") -> TokenStream:
        """Run `task` on a replica of the pool, as `AdapterHost.submit` does."""
        return self._streams.add(self.host.submit(self.name, task, priority=priority))

    async def cancel(self, job_id: str) -> bool:
        """Stop a job; False for an unknown id."""
        return await self.host.cancel(self.name, job_id)

    async def health(self) -> HealthStatus:
        """Return the pool's health as last checked, breakers included. It does not wait."""
        try:
            return await self.host.health(self.name)
        except LookupError as error:
            return HealthStatus(HealthState.UNHEALTHY, str(error), live=False, ready=False)

    async def props(self) -> EngineProps:
        """Return the combined properties of the replicas that accept work. It does not wait."""
        return self.host.pool_props(self.name)

    async def engine_version(self) -> str:
        """Return the version of the engines that accept work; "unknown" if they differ."""
        return self.host.pool_props(self.name).engine_version or "unknown"

    async def start(self) -> None:
        """Do nothing: the host starts its adapters."""

    async def aclose(self) -> None:
        """Cancel the jobs that were submitted here. The host and its pool continue."""
        await self._streams.aclose()
