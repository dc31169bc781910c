"""The contract of an adapter. Type checkers and pluggy read the same definitions.

An adapter is a class whose methods carry `@hookimpl`; `submit` and `health` are required,
the others optional. pluggy calls the hooks with the arguments' names given here. Besides them
the class may have `API_VERSION`, and `ABSENT`: what it lacks of adapter_api.conformance's
CAPABILITIES, each with the reason.
"""

from collections.abc import AsyncIterator
from typing import Protocol

import pluggy

from adapter_api.events import TokenEvent
from adapter_api.health import EngineProps, HealthStatus
from adapter_api.task import TaskRequest

PROJECT = "worker_adapters"
"""The name pluggy's markers and the entry-point group share."""

API_VERSION = 1
"""The contract's version. An adapter may state the one it was written for as `API_VERSION`."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class WorkerAdapter(Protocol):
    """One adapter, bound to one engine endpoint (ADAPT-3000)."""

    @hookspec(firstresult=True)
    def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        """Run `task` and tell of it. Write it as an async generator.

        Args:
            task: The job.

        Yields:
            Started, then Token*, at most one MetricsFrame, and End or Error last.

        Raises:
            WorkerError: If the engine does not accept the job: before Started.

        Cancellation:
            The generator is closed (`aclose`) when the caller cancels or stops reading, and may
            be cancelled at any await: release the engine's resources in `finally`.
        """
        ...

    @hookspec(firstresult=True)
    async def health(self) -> HealthStatus:
        """Say how the engine is, without cost in tokens. An unreachable engine is an answer
        (unhealthy), not an exception."""
        ...

    @hookspec(firstresult=True)
    async def start(self) -> None:
        """Acquire what the adapter needs. Called once, before the first submit."""
        ...

    @hookspec(firstresult=True)
    async def aclose(self) -> None:
        """Release everything. Called once, after every stream has ended."""
        ...

    @hookspec(firstresult=True)
    async def cancel(self, job_id: str) -> bool:
        """Stop a job on the engine's side, where closing its stream does not.

        Args:
            job_id: The task's job_id.

        Returns:
            True if the adapter knew the job; False for an unknown id.
        """
        ...

    @hookspec(firstresult=True)
    async def props(self) -> EngineProps:
        """Say what the engine can do. Unknown facts are None, never an exception."""
        ...

    @hookspec(firstresult=True)
    async def engine_version(self) -> str:
        """The engine's version, "unknown" where it does not tell (OC-ADAPT-OAI 6010)."""
        ...
