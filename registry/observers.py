"""Observers: told of what happens, each in a guard of its own."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Any

import attrs
import pluggy

from adapter_api.errors import Cancelled, ContractError, ErrorCode, WorkerError
from adapter_api.events import End, Started
from adapter_api.health import HealthState
from adapter_api.hookspecs import PROJECT, ObserverHooks, hookimpl
from adapter_api.notices import (
    AdapterNotice,
    BreakerNotice,
    HealthNotice,
    JobNotice,
    ReplicaNotice,
)
from adapter_api.task import TaskRequest
from registry.extensions import NOTICES, observer_problems

logger = logging.getLogger("worker_adapters.observers")


class Observers:
    """Tells observers, in the order in which they were given.

    One that raises is logged and harms nobody: neither the job nor the other observers.
    KeyboardInterrupt and its kind go on.

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
                raise ContractError("observers", type(plugin).__qualname__, problems)
            manager.register(plugin, name=str(place))
        self._impls: dict[str, list[pluggy.HookImpl]] = {
            name: getattr(manager.hook, name).get_hookimpls() for name in NOTICES
        }

    def __bool__(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._plugins)

    def tell(self, hook: str, notice: object) -> None:
        """Call one hook of every observer that has it.

        Args:
            hook: The hook's name.
            notice: Its argument.
        """
        for impl in self._impls[hook]:
            try:
                impl.function(*[notice][: len(impl.argnames)])  # a hook may leave it out
            except Exception as error:
                # Foreign texts may hold a key: they are for the one who asks to debug.
                logger.warning(
                    "observer %s failed in %s with %s",
                    type(impl.plugin).__qualname__,
                    hook,
                    type(error).__name__,
                    exc_info=error if logger.isEnabledFor(logging.DEBUG) else None,
                )

    def watch(self, task: TaskRequest, adapter: AdapterNotice) -> "JobWatch":
        """What tells of one job. A TokenStream takes it as its watcher."""
        return JobWatch(self, task, adapter)


class JobWatch:
    """Tells observers what becomes of one job.

    Args:
        observers: Whom.
        task: The job.
        adapter: What runs it.
    """

    __slots__ = ("_began", "_first_token_ms", "_notice", "_observers")

    def __init__(self, observers: Observers, task: TaskRequest, adapter: AdapterNotice) -> None:
        self._observers = observers
        self._began = monotonic()
        self._first_token_ms: float | None = None
        self._notice = JobNotice(
            task.job_id, task.session_id, task.correlation_id, adapter, model=task.model
        )

    def opened(self) -> None:
        """The job is being sent."""
        self._began = monotonic()
        self._tell("job_submitted")

    def started(self, event: Started) -> None:
        """The engine accepted it. What it says of itself is in all later notices."""
        self._notice = attrs.evolve(
            self._notice,
            engine=event.engine,
            engine_version=event.engine_version,
            model=event.model or self._notice.model,
            replica_id=event.replica_id,
        )

    def first_token(self) -> None:
        """The first Token is about to be delivered."""
        self._first_token_ms = self._elapsed_ms()
        self._notice = attrs.evolve(self._notice, time_to_first_token_ms=self._first_token_ms)
        self._tell("job_first_token")

    def ended(self, end: End | None, error: WorkerError | None, delivered: int) -> None:
        """It is over; a stream that was dropped has neither end nor error, and is cancelled."""
        decode_ms = (
            None if self._first_token_ms is None else self._elapsed_ms() - self._first_token_ms
        )
        if end is not None:
            self._tell(
                "job_ended",
                tokens_in=end.metrics.prompt_tokens,
                tokens_out=end.metrics.tokens_generated,
                decode_time_ms=decode_ms,
                attempts=end.metrics.attempts,
                finish_reason=end.finish_reason,
            )
            return
        cancelled = error is None or isinstance(error, Cancelled)
        self._tell(
            "job_cancelled" if cancelled else "job_failed",
            tokens_out=delivered,
            decode_time_ms=decode_ms,
            code=str(ErrorCode.CANCELLED if error is None else error.code),
            retriable=False if error is None else error.retriable,
        )

    def _tell(self, hook: str, **facts: Any) -> None:
        notice = attrs.evolve(self._notice, elapsed_ms=self._elapsed_ms(), **facts)
        self._observers.tell(hook, notice)

    def _elapsed_ms(self) -> float:
        return round((monotonic() - self._began) * 1000, 3)


@attrs.define(eq=False)
class LoggingObserver:
    """Writes a log record for each notice: a sentence without ids, the facts as attributes
    (ORCH-3027, ORCH-3300).

    openai-http logs its own jobs already; this is for every adapter, in one form.

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
        facts = {**adapter, **{key: value for key, value in facts.items() if value is not None}}
    return {_NAMES_IN_LOGS.get(key, key): value for key, value in facts.items()}


@attrs.frozen
class Summary:
    """What is known of a measured quantity.

    Args:
        count: How often it was measured.
        total: The sum.
        least: The smallest value; 0 if there is none.
        most: The largest value.
    """

    count: int = 0
    total: float = 0.0
    least: float = 0.0
    most: float = 0.0

    def with_(self, value: float) -> "Summary":
        """The same with one more value."""
        least = min(self.least, value) if self.count else value
        return Summary(self.count + 1, self.total + value, least, max(self.most, value))


@attrs.frozen
class JobMetrics:
    """The jobs of one adapter so far (ORCH-3028).

    Args:
        dispatches: Jobs that were sent.
        ended: Those whose answer was whole.
        cancels: Those that were cancelled.
        failures: Those that failed, by error code.
        retries: Requests beyond the first, of jobs that ended.
        tokens_in: Tokens of prompts, where the engine told.
        tokens_out: Tokens of answers, of whatever became of them.
        latency_first_token_ms: Until the first Token.
        latency_decode_ms: From the first Token to the end.
    """

    dispatches: int = 0
    ended: int = 0
    cancels: int = 0
    failures: Mapping[str, int] = attrs.field(factory=dict)
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    latency_first_token_ms: Summary = Summary()
    latency_decode_ms: Summary = Summary()

    @property
    def running(self) -> int:
        """Jobs that were sent and have not ended."""
        return self.dispatches - self.ended - self.cancels - sum(self.failures.values())


@attrs.define(eq=False)
class MetricsObserver:
    """Counts jobs in this process (ORCH-3028). For Prometheus see registry.prometheus."""

    _jobs: dict[AdapterNotice, JobMetrics] = attrs.field(factory=dict, init=False)

    def snapshot(self) -> dict[AdapterNotice, JobMetrics]:
        """The numbers of each adapter at this moment."""
        return dict(self._jobs)

    def total(self) -> JobMetrics:
        """The numbers of all adapters together, without the summaries."""
        failures: Counter[str] = Counter()
        for metrics in self._jobs.values():
            failures.update(metrics.failures)
        sums: dict[str, Any] = {
            name: sum(getattr(metrics, name) for metrics in self._jobs.values())
            for name in _COUNTS
        }
        return JobMetrics(**sums, failures=dict(failures))

    @hookimpl
    def job_submitted(self, job: JobNotice) -> None:
        """One more dispatch."""
        self._add(job, dispatches=1)

    @hookimpl
    def job_first_token(self, job: JobNotice) -> None:
        """How long it took."""
        metrics = self._jobs.get(job.adapter, JobMetrics())
        latency = metrics.latency_first_token_ms.with_(job.time_to_first_token_ms or 0.0)
        self._jobs[job.adapter] = attrs.evolve(metrics, latency_first_token_ms=latency)

    @hookimpl
    def job_ended(self, job: JobNotice) -> None:
        """One whole answer."""
        self._add(job, ended=1, retries=(job.attempts or 1) - 1)
        self._add_answer(job)

    @hookimpl
    def job_failed(self, job: JobNotice) -> None:
        """One failure."""
        metrics = self._jobs.get(job.adapter, JobMetrics())
        code = job.code or "unknown"
        failures = {**metrics.failures, code: metrics.failures.get(code, 0) + 1}
        self._jobs[job.adapter] = attrs.evolve(metrics, failures=failures)
        self._add_answer(job)

    @hookimpl
    def job_cancelled(self, job: JobNotice) -> None:
        """One cancel."""
        self._add(job, cancels=1)
        self._add_answer(job)

    def _add_answer(self, job: JobNotice) -> None:
        self._add(job, tokens_in=job.tokens_in or 0, tokens_out=job.tokens_out)
        if job.decode_time_ms is not None:
            metrics = self._jobs[job.adapter]
            latency = metrics.latency_decode_ms.with_(job.decode_time_ms)
            self._jobs[job.adapter] = attrs.evolve(metrics, latency_decode_ms=latency)

    def _add(self, job: JobNotice, **more: int) -> None:
        metrics = self._jobs.get(job.adapter, JobMetrics())
        sums = {name: getattr(metrics, name) + n for name, n in more.items()}
        self._jobs[job.adapter] = attrs.evolve(metrics, **sums)


_COUNTS = ("dispatches", "ended", "cancels", "retries", "tokens_in", "tokens_out")
