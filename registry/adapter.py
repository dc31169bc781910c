"""BoundAdapter: the typed front over one adapter's hooks."""

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

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
from adapter_api.hookspecs import PROJECT, WorkerAdapter
from adapter_api.stream import StreamTable, StreamWatcher, TokenStream
from adapter_api.task import TaskRequest
from registry.middleware import Given, Layered, close, shared_failure, with_layers

if TYPE_CHECKING:
    from registry.observers import Observers

logger = logging.getLogger("worker_adapters.registry")

_T = TypeVar("_T")


class BoundAdapter:
    """One adapter, ready to use (ORCH-3055, ORCH-3056).

    pluggy broadcasts and an adapter is addressed, so each has a plugin manager of its own that
    holds the adapter and the application's middleware and nothing else.

    Use it with `async with`, or call `start` and `aclose`. It starts by itself before the first
    call that needs the engine. It belongs to the event loop it is first used in.

    Args:
        adapter: The object with the hooks.
        name: The adapter's name in the registry.
        distribution: The distribution it comes from.
        version: That distribution's version.
        config: The config it was built from.
        middleware: Objects with `@hookimpl(wrapper=True)` methods; the first is the outermost.
        observers: Who is told of its beginning and end, its jobs and its health.

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
        config: object = None,
        middleware: Iterable[object] = (),
        observers: "Observers | None" = None,
    ) -> None:
        self.adapter = adapter
        self.name = name
        self.distribution = distribution
        self.version = version
        self.config = config
        self._target = f"{type(adapter).__module__}:{type(adapter).__qualname__}"
        self._streams = StreamTable()
        self._lock = asyncio.Lock()
        self._closed = self._close_called = False
        self._given = Given()
        self._hooks: Any = self._register(tuple(middleware)).hook
        self._watch = observers.of_adapter(self) if observers else None
        # Without a start hook and without anybody to tell, there is nothing to be started.
        self._started = not self._has("start") and self._watch is None

    def _register(self, middleware: tuple[object, ...]) -> pluggy.PluginManager:
        manager = _Manager(PROJECT)
        manager.add_hookspecs(WorkerAdapter)
        plugins = [self.adapter, *with_layers(manager, middleware, self._given)]
        try:
            for place, plugin in enumerate(plugins):
                manager.register(plugin, name=str(place))
            manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            raise self._contract_error(str(error)) from error
        return manager

    def _has(self, hook: str) -> bool:
        """Whether the adapter has this optional hook."""
        return any(
            impl.plugin is self.adapter for impl in getattr(self._hooks, hook).get_hookimpls()
        )

    def __repr__(self) -> str:
        return f"<BoundAdapter {self.name} ({self.distribution} {self.version})>"

    @classmethod
    def of(cls, adapter: object) -> "BoundAdapter":
        """The adapter itself if it is bound already, else bound under the name of its class.

        Raises:
            ContractError: If it is no adapter.
        """
        if isinstance(adapter, BoundAdapter):
            return adapter
        name = type(adapter).__name__
        bound = cls(adapter, name=name, config=getattr(adapter, "config", None))
        missing = [hook for hook in ("submit", "health") if not bound._has(hook)]
        if missing:
            problems = [f"{hook} is missing: an adapter has it as a @hookimpl" for hook in missing]
            raise ContractError(name, bound._target, problems)
        return bound

    def place(self, pool_id: str, replica_id: str) -> None:
        """Where a host has put it; observers are told so from now on, whatever its config says."""
        if self._watch is not None:
            self._watch.place(pool_id, replica_id)

    # Jobs

    def submit(self, task: TaskRequest) -> TokenStream:
        """Run `task`. Nothing is sent before the stream is awaited, entered or iterated.

        Args:
            task: The job.

        Returns:
            Its events; see TokenStream for what it raises and when. If the adapter is closed, it
            raises EngineUnavailable: POOL_UNAVAILABLE, not retriable.
        """
        if self._closed:
            return TokenStream(_failing(self._gone()), task)
        if not self._started and not self._has("start"):
            self._note_start()
        events = self._events(task) if self._started else self._events_after_start(task)
        stream = events if isinstance(events, TokenStream) else TokenStream(events, task)
        if self._watch is not None:
            stream = _watched(stream, task, self._watch.job(task))
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

    def _events(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        """What the submit hook returns. Its failure belongs to the job, so the stream raises it."""
        before, self._given.streams = self._given.streams, []  # middleware may submit, too
        try:
            events = self._hooks.submit(task=task)
        except WorkerError as error:
            return _failing(error)
        except Exception as error:
            return _failing(shared_failure(error) if self._given.layered else error)
        finally:
            below, self._given.streams = self._given.streams, before
        below = [stream for stream in below if stream is not events]
        if not isinstance(events, TokenStream):
            events = self._iterated(events)
        return Layered(events, below) if below else events

    def _iterated(self, events: object) -> AsyncIterator[TokenEvent]:
        """What an adapter that makes no TokenStream gave, to be iterated."""
        if isinstance(events, AsyncIterable) and not isinstance(events, AsyncIterator):
            events = aiter(events)
        if isinstance(events, AsyncIterator):
            return events
        return _failing(
            InternalError(
                ErrorCode.INTERNAL,
                f"submit of adapter {self.name!r} gave a {_discarded(events)}, "
                "not an async iterator of events",
            )
        )

    async def _events_after_start(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        await self._ensure_started()
        events = self._events(task)
        try:
            async for event in events:
                yield event
        finally:
            await close(events)

    # The engine

    async def health(self) -> HealthStatus:
        """How the engine is. Never raises for an engine: a failing check is an unhealthy one.

        Raises:
            ContractError: If the adapter's answer is not a HealthStatus.
        """
        status = await self._checked()
        if self._watch is not None:
            self._watch.health(status)
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
            # Foreign texts may hold a key: they are for the one who asks to debug.
            logger.debug("the health check of adapter %s failed", self.name, exc_info=True)
            message = f"the health check failed with {type(error).__name__}"
        return HealthStatus(HealthState.UNHEALTHY, message, live=False, ready=False)

    async def props(self) -> EngineProps:
        """What the engine can do; empty where the adapter cannot tell."""
        await self._ensure_started()
        return await self._ask("props", EngineProps) if self._has("props") else EngineProps()

    async def engine_version(self) -> str:
        """The engine's version; "unknown" where the adapter cannot tell."""
        await self._ensure_started()
        return await self._ask("engine_version", str) if self._has("engine_version") else "unknown"

    async def _ask(self, hook: str, expected: type[_T], **arguments: object) -> _T:
        answer = getattr(self._hooks, hook)(**arguments)
        if isinstance(answer, Awaitable):
            answer = await answer
        if not isinstance(answer, expected):
            problem = f"{hook} gave a {type(answer).__name__}, expected {expected.__name__}"
            raise self._contract_error(problem)
        return answer

    def _contract_error(self, problem: str) -> ContractError:
        return ContractError(self.name, self._target, [problem], self.distribution, self.version)

    # Lifecycle

    async def start(self) -> None:
        """Acquire what the adapter needs. A second call does nothing; a failed one may be repeated.

        Raises:
            EngineUnavailable: If the adapter is closed.
        """
        await self._ensure_started()

    async def aclose(self) -> None:
        """Cancel the jobs that run and release everything. Idempotent, and final."""
        self._closed = True
        await self._streams.aclose()  # before the lock: one of them may be starting the adapter
        async with self._lock:
            if self._close_called:
                return
            self._close_called = True
            try:
                if self._has("aclose"):
                    await self._hooks.aclose()
            finally:
                if self._watch is not None and self._started:
                    self._watch.closed()

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

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _ensure_started(self) -> None:
        if self._closed:
            raise self._gone()
        if self._started:
            return
        async with self._lock:
            if self._closed:
                raise self._gone()
            if self._started:
                return
            if self._has("start"):
                await self._hooks.start()
            self._note_start()

    def _note_start(self) -> None:
        self._started = True
        if self._watch is not None:
            self._watch.started()

    def _gone(self) -> EngineUnavailable:
        return EngineUnavailable(
            ErrorCode.POOL_UNAVAILABLE,
            f"adapter {self.name!r} is closed: get a new one with registry.get({self.name!r})",
            retriable=False,
        )


def _watched(stream: TokenStream, task: TaskRequest, watch: StreamWatcher) -> TokenStream:
    try:
        return stream.watch(watch)
    except RuntimeError:  # a middleware's own stream, which it has begun to read
        return TokenStream(stream, task).watch(watch)


class _Manager(pluggy.PluginManager):
    """pluggy's, which does not search the two dozen special methods of each object for hooks."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        return None if name.startswith("__") else super().parse_hookimpl_opts(plugin, name)

    def parse_hookspec_opts(self, module_or_class: Any, name: str) -> Any:
        return None if name.startswith("__") else super().parse_hookspec_opts(module_or_class, name)


async def _failing(error: Exception) -> AsyncIterator[TokenEvent]:
    raise error
    yield  # what makes it a generator


def _discarded(value: object) -> str:
    """The type of a wrong answer; a coroutine among them would warn that nobody awaited it."""
    close = getattr(value, "close", None)
    if asyncio.iscoroutine(value) and close is not None:
        close()
    return type(value).__name__
