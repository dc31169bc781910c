"""The contract of adapters and observers. Type checkers and pluggy read the same definitions.

An adapter is a class whose methods are decorated with `@hookimpl`. `submit` and `health` are
required (WorkerAdapter); the hooks of the other protocols are optional, each by itself. pluggy
calls the hooks with the arguments' names given here. The class may also have `API_VERSION`, and
`ABSENT`: a mapping of each capability that it lacks (see CAPABILITIES of adapter_api.conformance)
to the reason.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol

import pluggy

from adapter_api.events import TokenEvent
from adapter_api.health import EngineProps, HealthStatus
from adapter_api.task import TaskRequest

if TYPE_CHECKING:  # only observers need them, and most programs have none
    from adapter_api.notices import (
        AdapterNotice,
        AttemptNotice,
        BreakerNotice,
        HealthNotice,
        JobNotice,
        ReplicaNotice,
    )

PROJECT = "worker_adapters"
"""The name that pluggy's markers and the entry-point group share."""

API_VERSION = 1
"""The contract's version. An adapter may state the one it was written for as `API_VERSION`."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class WorkerAdapter(Protocol):
    """One adapter, bound to one engine endpoint: the hooks that every adapter has (ADAPT-3000)."""

    @hookspec(firstresult=True)
    def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        """Run `task` and report its events. Write it as an async generator.

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
        """Return the engine's state, at no cost in tokens. An unreachable engine is unhealthy, not
        an exception."""
        ...


class LifecycleHooks(Protocol):
    """Optional hooks of an adapter that holds resources."""

    @hookspec(firstresult=True)
    async def start(self) -> None:
        """Acquire the adapter's resources. Called once, before the first submit."""
        ...

    @hookspec(firstresult=True)
    async def aclose(self) -> None:
        """Release everything. Called once, after every stream has ended."""
        ...


class CancelHook(Protocol):
    """Optional hook of an adapter whose engine continues when a stream is closed."""

    @hookspec(firstresult=True)
    async def cancel(self, job_id: str) -> bool:
        """Stop a job on the engine's side, where closing its stream does not.

        Args:
            job_id: The task's job_id.

        Returns:
            True if the adapter knew the job; False for an unknown id.
        """
        ...


class PropertyHooks(Protocol):
    """Optional hooks of an adapter that can describe its engine."""

    @hookspec(firstresult=True)
    async def props(self) -> EngineProps:
        """Return the engine's properties. Unknown facts are None, never an exception."""
        ...

    @hookspec(firstresult=True)
    async def engine_version(self) -> str:
        """Return the engine's version, "unknown" if it does not report one (OC-ADAPT-OAI 6010)."""
        ...


ADAPTER_HOOKS: tuple[type, ...] = (WorkerAdapter, LifecycleHooks, CancelHook, PropertyHooks)
"""Every protocol with hooks that an adapter may implement."""


class ObserverHooks(Protocol):
    """Hooks of an observer, which is notified and changes nothing.

    The application gives observers to a Registry or a host; installing a distribution activates
    none. Observers run in the event loop: be quick, and do not block. One that raises is logged
    and affects neither the job nor the other observers.

    Each job is reported once, by its outermost owner: a bound adapter that is used alone, or the
    host. After `job_submitted` comes exactly one of `job_ended`, `job_failed` and `job_cancelled`.
    Attempts lie within a job and never overlap.
    """

    @hookspec
    def adapter_started(self, adapter: "AdapterNotice") -> None:
        """An adapter's start hook has returned; its first job or check follows."""

    @hookspec
    def adapter_closed(self, adapter: "AdapterNotice") -> None:
        """A started adapter was closed, after all its jobs."""

    @hookspec
    def job_submitted(self, job: "JobNotice") -> None:
        """A job's stream was opened."""

    @hookspec
    def attempt_started(self, attempt: "AttemptNotice") -> None:
        """A request for the job is about to be sent to a replica."""

    @hookspec
    def attempt_ended(self, attempt: "AttemptNotice") -> None:
        """A request is over; without `code` its answer is whole."""

    @hookspec
    def job_first_token(self, job: "JobNotice") -> None:
        """The job's first Token is about to be delivered."""

    @hookspec
    def job_ended(self, job: "JobNotice") -> None:
        """The job's answer is whole."""

    @hookspec
    def job_failed(self, job: "JobNotice") -> None:
        """The job failed with `code`."""

    @hookspec
    def job_cancelled(self, job: "JobNotice") -> None:
        """The job was cancelled by its id, or its stream was closed or dropped."""

    @hookspec
    def health_changed(self, change: "HealthNotice") -> None:
        """A health check found another state than the one before."""

    @hookspec
    def replica_changed(self, change: "ReplicaNotice") -> None:
        """A replica of a host was bound or removed, or changed its state."""

    @hookspec
    def breaker_changed(self, change: "BreakerNotice") -> None:
        """A replica's circuit breaker opened, half opened or closed."""
