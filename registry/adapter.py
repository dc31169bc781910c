"""BoundAdapter: the typed front over one adapter's hooks."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast
from weakref import ref

import pluggy

from adapter_api.errors import (
    ContractError,
    EngineUnavailable,
    ErrorCode,
    InternalError,
    WorkerError,
)
from adapter_api.events import TokenEvent
from adapter_api.health import EngineProps, HealthState, HealthStatus
from adapter_api.notices import AdapterNotice
from adapter_api.stream import TokenStream
from adapter_api.table import StreamTable
from adapter_api.task import TaskRequest, require_task
from adapter_api.watcher import StreamWatcher
from registry.hooks import (
    RaisedGeneratorExit,
    answer_of,
    failing,
    iterated,
    manager_of,
    submit_failure,
    watched,
)
from registry.middleware import Layered, close, drive
from registry.observers.notify import Observers
from registry.observers.reports import AdapterReport, JobReport
from registry.plugins.guard import Contained

logger = logging.getLogger("worker_adapters.registry")

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    _C = TypeVarWithDefault("_C", default=Any)
else:
    _C = TypeVar("_C")
_T = TypeVar("_T")


class BoundAdapter(Generic[_C]):
    """One adapter, ready to use (ORCH-3055, ORCH-3056). It satisfies `adapter_api.Adapter`.

    pluggy calls all plugins that have a hook, but a job is for one adapter. So each BoundAdapter
    has its own plugin manager with just the adapter and the application's middleware.

    Use it with `async with`, or call `start` and `aclose`. It starts by itself before the first
    call that needs the engine. It is used in one running event loop at a time; after that loop has
    ended it can be used in another one.

    Args:
        adapter: The object with the hooks.
        name: The adapter's name in the registry.
        distribution: The distribution it comes from.
        version: That distribution's version.
        config: The config it was built from.
        middleware: Objects with `@hookimpl(wrapper=True)` methods; the first is the outermost.
        observers: The observers of its lifecycle, its jobs and its health.

    Raises:
        ContractError: If pluggy refuses the adapter or a middleware object.
    """

    def __init__(
        self,
        adapter: object,
        *,
        name: str,
        distribution: str = "unknown",
        version: str = "unknown",
        config: _C | None = None,
        middleware: Iterable[object] = (),
        observers: Observers | None = None,
    ) -> None:
        self.adapter = adapter
        self.name = name
        self.distribution = distribution
        self.version = version
        self.config = cast(_C, config)
        self._target = f"{type(adapter).__module__}:{type(adapter).__qualname__}"
        self._streams = StreamTable()
        self._lock = asyncio.Lock()
        self._loop: ref[asyncio.AbstractEventLoop] | None = None
        self._closed = self._close_called = False
        try:
            self._hooks: Any = manager_of(adapter, tuple(middleware)).hook
        except (pluggy.PluginValidationError, ValueError) as error:
            raise self._contract_error(str(error)) from error
        self._submit = self._hooks.submit.get_hookimpls()
        self._implemented = frozenset(
            name
            for name, hook in vars(self._hooks).items()
            for impl in hook.get_hookimpls()
            if impl.plugin is adapter
        )
        self._report = None if observers is None else AdapterReport(observers, self._notice())
        # Without a start hook and without observers there is nothing to start.
        self._started = not self._has("start") and self._report is None

    def _notice(self) -> AdapterNotice:
        places = [getattr(self.config, name, None) for name in ("pool_id", "replica_id")]
        known = [place if isinstance(place, str) else None for place in places]
        return AdapterNotice(self.name, self.distribution, self.version, *known)

    def _has(self, hook: str) -> bool:
        """Return whether the adapter implements this optional hook."""
        return hook in self._implemented

    def __repr__(self) -> str:
        return f"<BoundAdapter {self.name} ({self.distribution} {self.version})>"

    @classmethod
    def of(cls, adapter: object) -> "BoundAdapter[Any]":
        """Return the adapter itself if it is bound, else bind it under the name of its class.

        Raises:
            ContractError: If it is not an adapter.
        """
        if isinstance(adapter, BoundAdapter):
            return adapter
        name = type(adapter).__name__
        bound: BoundAdapter[Any] = BoundAdapter(
            adapter, name=name, config=getattr(adapter, "config", None)
        )
        missing = [hook for hook in ("submit", "health") if not bound._has(hook)]
        if missing:
            problems = [f"{hook} is missing: an adapter has it as a @hookimpl" for hook in missing]
            if isinstance(adapter, str):
                problems = [f"{adapter!r} is a name: pass registry.get({adapter!r}, ...)"]
            raise ContractError(name, bound._target, problems)
        return bound

    def place(self, pool_id: str, replica_id: str, observers: Observers) -> None:
        """Make the adapter a replica of a host.

        From now on, notices of the adapter name the host's pool and replica instead of those in its
        config. The adapter's observers become observers of the host.
        """
        if self._report is None:
            self._report = AdapterReport(observers, self._notice())
            if not self._has("start"):
                self._started = False  # the start is still to be reported
        self._report.place(pool_id, replica_id, observers)

    @property
    def stops_on_request(self) -> bool:
        """True if the engine is to be asked to stop a job whose stream was cancelled."""
        return "cancel" in self._implemented

    # Jobs

    def submit(self, task: TaskRequest) -> TokenStream:
        """Run `task`. Nothing is sent before the stream is awaited, entered or iterated.

        Args:
            task: The job.

        Returns:
            Its events; see TokenStream for what it raises and when. If the adapter is closed, the
            stream raises EngineUnavailable: POOL_UNAVAILABLE, not retriable.

        Raises:
            TypeError: If `task` is not a TaskRequest.
        """
        require_task(task)
        job = None if self._report is None else self._report.job(task)
        return self._run(task, job, job)

    def attempt(self, task: TaskRequest, job: JobReport) -> TokenStream:
        """Run `task` as one attempt of a host's job; observers see it as an attempt only.

        Args:
            task: The job, with its remaining deadline.
            job: The host's report of it.

        Returns:
            Its events, as from `submit`.
        """
        watcher = None if self._report is None else self._report.attempt(job)
        return self._run(task, job, watcher)

    def _run(
        self, task: TaskRequest, job: JobReport | None, watcher: StreamWatcher | None
    ) -> TokenStream:
        if self._closed:
            return TokenStream(failing(self._gone()), task)
        if not self._started and not self._has("start"):
            self._note_start()
        events = self._events(task, job) if self._started else self._events_after_start(task, job)
        stream = events if isinstance(events, TokenStream) else TokenStream(events, task)
        if watcher is not None:
            stream = watched(stream, task, watcher)
        return self._streams.add(stream)

    async def cancel(self, job_id: str) -> bool:
        """Stop a job. No Token comes after this returns; idempotent.

        Args:
            job_id: The task's job_id.

        Returns:
            True if a running job was stopped; False for an unknown id.
        """
        stopped = await self._streams.cancel(job_id)
        if self._closed or not self._started or not self._has("cancel"):
            return stopped
        known = await self._ask("cancel", bool, job_id=job_id)
        return stopped or known

    def _events(self, task: TaskRequest, job: JobReport | None) -> AsyncIterator[TokenEvent]:
        """Call the submit hook. Its failure belongs to the job, so the stream raises it."""
        outcome: tuple[Any, list[Any]] | None = None
        with Contained() as run:
            outcome = drive(self._submit, task)
        if outcome is None:
            assert run.error is not None
            return failing(submit_failure(run.error, shared=len(self._submit) > 1))
        events, received = outcome
        if job is not None:
            job.follow(received[0] if received else events)
        below = received and [stream for stream in received if stream is not events]
        if not isinstance(events, TokenStream):
            events = iterated(events, self.name)
        return Layered(events, below) if below else events

    async def _events_after_start(
        self, task: TaskRequest, job: JobReport | None
    ) -> AsyncIterator[TokenEvent]:
        await self._ensure_started()
        events = self._events(task, job)
        try:
            async for event in events:
                yield event
        finally:
            await close(events)

    # The engine

    async def health(self) -> HealthStatus:
        """Return the engine's health. A check that fails is an unhealthy engine, not an exception.

        Raises:
            ContractError: If the adapter's answer is not a HealthStatus.
        """
        status = await self._checked()
        if self._report is not None:
            self._report.health(status)
        return status

    async def _checked(self) -> HealthStatus:
        try:
            await self._ensure_started()
            return await self._ask("health", HealthStatus)
        except ContractError:
            raise
        except WorkerError as error:
            message = str(error)
        except Exception as error:
            # The exception's text may contain a key, so it is logged at DEBUG only.
            logger.debug("the health check of adapter %s failed", self.name, exc_info=True)
            message = f"the health check failed with {type(error).__name__}"
        return HealthStatus(HealthState.UNHEALTHY, message, live=False, ready=False)

    async def props(self) -> EngineProps:
        """Return the engine's properties; empty if the adapter does not implement the hook."""
        await self._ensure_started()
        return await self._ask("props", EngineProps) if self._has("props") else EngineProps()

    async def engine_version(self) -> str:
        """Return the engine's version; "unknown" if the adapter does not implement the hook."""
        await self._ensure_started()
        return await self._ask("engine_version", str) if self._has("engine_version") else "unknown"

    async def _ask(self, hook: str, expected: type[_T], **arguments: object) -> _T:
        answer = await self._call(hook, **arguments)
        if not isinstance(answer, expected):
            problem = f"{hook} returned a {type(answer).__name__}, expected {expected.__name__}"
            raise self._contract_error(problem)
        return answer

    async def _call(self, hook: str, **arguments: object) -> Any:
        """Return a hook's result. SystemExit would end the event loop, and GeneratorExit the
        caller: both become failures of the hook."""
        try:
            return await answer_of(partial(getattr(self._hooks, hook), **arguments))
        except (SystemExit, RaisedGeneratorExit) as exc:
            left = exc.__cause__ if isinstance(exc, RaisedGeneratorExit) else exc
            message = f"{hook} of adapter {self.name!r} raised {type(left).__name__}"
            raise InternalError(ErrorCode.INTERNAL, message) from left

    def _contract_error(self, problem: str) -> ContractError:
        return ContractError(self.name, self._target, [problem], self.distribution, self.version)

    # Lifecycle

    async def start(self) -> None:
        """Acquire the adapter's resources. A second call does nothing; a failed one may be
        repeated.

        Raises:
            EngineUnavailable: If the adapter is closed.
            RuntimeError: If it is in use in another running event loop.
        """
        await self._ensure_started()

    async def aclose(self) -> None:
        """Cancel the running jobs and release everything. Idempotent, and final."""
        self._closed = True
        await self._streams.aclose()  # before the lock: one of them may be starting the adapter
        async with self._lock_here():
            if self._close_called:
                return
            self._close_called = True
            try:
                if self._has("aclose"):
                    await self._call("aclose")
            finally:
                if self._report is not None and self._started:
                    self._report.closed()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            try:
                await self.aclose()
            except Exception:
                logger.warning("closing adapter %s failed", self.name, exc_info=True)
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def _ensure_started(self) -> None:
        if self._closed:
            raise self._gone()
        if self._started:
            return
        async with self._lock_here():
            if self._closed:
                raise self._gone()
            if self._started:
                return
            if self._has("start"):
                await self._call("start")
            self._note_start()

    def _lock_here(self) -> asyncio.Lock:
        """Return the lock of the running loop: a lock of a loop that has ended is useless."""
        loop = asyncio.get_running_loop()
        before = None if self._loop is None else self._loop()
        if loop is not before:
            if before is not None and before.is_running():
                raise RuntimeError(
                    f"adapter {self.name!r} is in use in another running event loop: "
                    "get an adapter for each loop"
                )
            self._loop, self._lock = ref(loop), asyncio.Lock()
        return self._lock

    def _note_start(self) -> None:
        self._started = True
        if self._report is not None:
            self._report.started()

    def _gone(self) -> EngineUnavailable:
        return EngineUnavailable(
            ErrorCode.POOL_UNAVAILABLE,
            f"adapter {self.name!r} is closed: get a new one with registry.get({self.name!r})",
            retriable=False,
        )
