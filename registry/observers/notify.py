"""Observers: told of what happens, each in a guard of its own."""

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from adapter_api.errors import Cancelled, ContractError, ErrorCode, WorkerError
from adapter_api.events import End, Started
from adapter_api.health import HealthState, HealthStatus
from adapter_api.hookspecs import PROJECT, ObserverHooks, hookimpl
from adapter_api.notices import (
    AdapterNotice,
    BreakerNotice,
    HealthNotice,
    JobNotice,
    ReplicaNotice,
)
from adapter_api.task import TaskRequest
from registry.observers.metrics import JobMetrics, MetricsObserver, MetricsSnapshot, Summary
from registry.plugins.extensions import NOTICES, observer_problems

if TYPE_CHECKING:
    from registry.adapter import BoundAdapter

__all__ = [
    "AdapterWatch",
    "JobMetrics",
    "JobWatch",
    "LoggingObserver",
    "MetricsObserver",
    "MetricsSnapshot",
    "Observers",
    "Summary",
]

logger = logging.getLogger("worker_adapters.observers")


class Observers:
    """Tells observers, in the order in which they were given.

    One that raises is logged and harms nobody: neither the job nor the other observers.
    SystemExit and CancelledError are an observer's failures too: who is told in the middle of a job
    has no say in its end, or the program's. Only KeyboardInterrupt, which is the user's, goes on.

    Args:
        plugins: Objects with `@hookimpl` methods of ObserverHooks.

    Raises:
        ContractError: If one of them is no observer; with all its problems.
    """

    def __init__(self, plugins: Iterable[object] = ()) -> None:
        self._plugins = tuple(plugins)
        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(ObserverHooks)
        for place, plugin in enumerate(self._plugins):
            problems = observer_problems(plugin, self._plugins[:place])
            if problems:
                target = type(plugin).__qualname__
                raise ContractError("observers", target, problems, kind="observers")
            manager.register(plugin, name=str(place))
        self._impls: dict[str, list[pluggy.HookImpl]] = {
            name: getattr(manager.hook, name).get_hookimpls() for name in NOTICES
        }

    def __bool__(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._plugins)

    def has(self, hook: str) -> bool:
        """Whether an observer has this hook."""
        return bool(self._impls[hook])

    def tell(self, hook: str, notice: object) -> None:
        """Call one hook of every observer that has it.

        Args:
            hook: The hook's name.
            notice: Its argument.
        """
        for impl in self._impls[hook]:
            try:
                impl.function(*[notice][: len(impl.argnames)])  # a hook may leave it out
            except KeyboardInterrupt:
                raise
            # No task's own cancellation arrives in here: nothing is awaited.
            except BaseException as error:
                # Foreign texts may hold a key: they are for the one who asks to debug.
                logger.warning(
                    "observer %s failed in %s with %s",
                    type(impl.plugin).__qualname__,
                    hook,
                    type(error).__name__,
                    exc_info=error if logger.isEnabledFor(logging.DEBUG) else None,
                )

    def of_adapter(self, adapter: "BoundAdapter") -> "AdapterWatch":
        """What tells of one adapter, where its config puts it."""
        config = adapter.config
        places = [getattr(config, name, None) for name in ("pool_id", "replica_id")]
        known = [place if isinstance(place, str) else None for place in places]
        notice = AdapterNotice(adapter.name, adapter.distribution, adapter.version, *known)
        return AdapterWatch(self, notice)


class AdapterWatch:
    """Tells observers of one adapter, its jobs and its health.

    Args:
        observers: Whom.
        notice: The adapter.
    """

    def __init__(self, observers: Observers, notice: AdapterNotice) -> None:
        self._observers = observers
        self._notice = notice
        self._is_placed = False
        self._health: HealthStatus | None = None

    def place(self, pool_id: str, replica_id: str) -> None:
        """A host has put it there, whatever its config says."""
        self._notice = attrs.evolve(self._notice, pool_id=pool_id, replica_id=replica_id)
        self._is_placed = True

    def started(self) -> None:
        """It was started."""
        self._observers.tell("adapter_started", self._notice)

    def closed(self) -> None:
        """It was closed."""
        self._observers.tell("adapter_closed", self._notice)

    def job(self, task: TaskRequest) -> "JobWatch":
        """What tells of one job. A TokenStream takes it as its watcher."""
        return JobWatch(self._observers, task, self._notice, is_placed=self._is_placed)

    def health(self, status: HealthStatus) -> None:
        """A check said this. It is told where an orchestrator would treat it in another way."""
        before, self._health = self._health, status
        if before is None or _kind(before) != _kind(status):
            was = None if before is None else before.state
            notice = HealthNotice(self._notice, was, *_kind(status))
            self._observers.tell("health_changed", notice)


def _kind(status: HealthStatus) -> tuple[HealthState, bool, bool]:
    """What matters of it: messages and latencies differ always."""
    return status.state, status.live, status.ready


class JobWatch:
    """Tells observers what becomes of one job. It does not know the stream, nor keep it alive.

    Args:
        observers: Whom.
        task: The job.
        adapter: What runs it.
        is_placed: Whether a host has put it where the notice says, whatever its answers say.
    """

    __slots__ = ("_began", "_first_token_ms", "_is_placed", "_known", "_loop", "_observers")

    def __init__(
        self,
        observers: Observers,
        task: TaskRequest,
        adapter: AdapterNotice,
        *,
        is_placed: bool = False,
    ) -> None:
        self._observers = observers
        self._is_placed = is_placed
        self._began = monotonic()
        self._first_token_ms: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._known: dict[str, Any] = {
            "job_id": task.job_id,
            "session_id": task.session_id,
            "correlation_id": task.correlation_id,
            "adapter": adapter,
            "model": task.model,
            "pool_id": adapter.pool_id,
            "replica_id": adapter.replica_id,
        }

    def opened(self) -> None:
        """The job is being sent."""
        self._began = monotonic()
        self._loop = asyncio.get_running_loop()
        self._tell("job_submitted")

    def started(self, event: Started) -> None:
        """The engine accepted it. What it says of itself is in all later notices."""
        known = self._known
        known["engine"] = event.engine
        known["engine_version"] = event.engine_version
        known["model"] = event.model or known["model"]
        if not self._is_placed:
            known["replica_id"] = event.replica_id or known["replica_id"]

    def first_token(self) -> None:
        """The first Token is about to be delivered."""
        self._first_token_ms = elapsed_ms = self._elapsed_ms()
        self._known["time_to_first_token_ms"] = elapsed_ms
        self._tell("job_first_token", elapsed_ms=elapsed_ms)

    def ended(self, end: End | None, error: WorkerError | None, delivered: int) -> None:
        """It is over; a stream that was dropped has neither end nor error, and is cancelled."""
        elapsed_ms = self._elapsed_ms()
        facts: dict[str, Any] = {"tokens_out": delivered, "elapsed_ms": elapsed_ms}
        if self._first_token_ms is not None:
            facts["decode_time_ms"] = round(elapsed_ms - self._first_token_ms, 3)
        if end is not None:
            facts |= {
                "tokens_in": end.metrics.prompt_tokens,
                "tokens_out": end.metrics.tokens_generated,
                "attempts": end.metrics.attempts,
                "finish_reason": end.finish_reason,
            }
            self._tell("job_ended", **facts)
        elif error is None:
            code = str(ErrorCode.CANCELLED)
            self._tell_later("job_cancelled", code=code, retriable=False, **facts)
        else:
            hook = "job_cancelled" if isinstance(error, Cancelled) else "job_failed"
            self._tell(hook, code=str(error.code), retriable=error.retriable, **facts)

    def _tell(self, hook: str, **facts: Any) -> None:
        if self._observers.has(hook):
            self._observers.tell(hook, JobNotice(**self._known, **facts))

    def _tell_later(self, hook: str, **facts: Any) -> None:
        """Tell from the event loop. A destructor runs at any point, also where an observer holds a
        lock of its own, for which it would wait forever."""
        try:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(partial(self._tell, hook, **facts))
        except RuntimeError:  # the loop is closed
            self._tell(hook, **facts)

    def _elapsed_ms(self) -> float:
        return round((monotonic() - self._began) * 1000, 3)


@attrs.define(eq=False)
class LoggingObserver:
    """Writes a log record for each notice: a sentence without ids, the facts as attributes
    (ORCH-3027, ORCH-3300).

    openai-http logs how its jobs end by itself; this is for every adapter, in one form.

    Args:
        logger: Where to.
    """

    logger: logging.Logger = attrs.field(factory=lambda: logging.getLogger("worker_adapters.jobs"))

    @hookimpl
    def adapter_started(self, adapter: AdapterNotice) -> None:
        """At level INFO."""
        self._log(logging.INFO, "an adapter was started", adapter)

    @hookimpl
    def adapter_closed(self, adapter: AdapterNotice) -> None:
        """At level INFO."""
        self._log(logging.INFO, "an adapter was closed", adapter)

    @hookimpl
    def job_submitted(self, job: JobNotice) -> None:
        """At level DEBUG."""
        self._log(logging.DEBUG, "a job was sent", job)

    @hookimpl
    def job_first_token(self, job: JobNotice) -> None:
        """At level DEBUG."""
        self._log(logging.DEBUG, "the first token came", job)

    @hookimpl
    def job_ended(self, job: JobNotice) -> None:
        """At level INFO."""
        self._log(logging.INFO, "the answer is whole", job)

    @hookimpl
    def job_failed(self, job: JobNotice) -> None:
        """At level WARNING."""
        self._log(logging.WARNING, f"the job failed with {job.code}", job)

    @hookimpl
    def job_cancelled(self, job: JobNotice) -> None:
        """At level INFO."""
        self._log(logging.INFO, "the job was cancelled", job)

    @hookimpl
    def health_changed(self, change: HealthNotice) -> None:
        """At level WARNING if it got worse than healthy, else INFO."""
        level = logging.INFO if change.after is HealthState.HEALTHY else logging.WARNING
        self._log(level, f"the engine is {change.after}", change)

    @hookimpl
    def replica_changed(self, change: ReplicaNotice) -> None:
        """At level INFO."""
        self._log(logging.INFO, f"a replica is {change.after or 'gone'}", change)

    @hookimpl
    def breaker_changed(self, change: BreakerNotice) -> None:
        """At level WARNING if it opened, else INFO."""
        level = logging.WARNING if change.after == "open" else logging.INFO
        self._log(level, f"a circuit breaker is {change.after.replace('_', ' ')}", change)

    def _log(self, level: int, human: str, notice: Any) -> None:
        if self.logger.isEnabledFor(level):
            self.logger.log(level, human, extra={"human": human, **_facts(notice)})


_NAMES_IN_LOGS = {"time_to_first_token_ms": "latency_first_token_ms", "message": "reason"}


def _facts(notice: Any) -> dict[str, Any]:
    """What a notice says, flat, under names that a log record may have."""
    facts = attrs.asdict(notice)
    adapter = facts if isinstance(notice, AdapterNotice) else facts.pop("adapter", None)
    if adapter is not None:
        adapter["adapter"] = adapter.pop("name")
        facts = {**adapter, **facts}
    return {_NAMES_IN_LOGS.get(key, key): value for key, value in facts.items()}
