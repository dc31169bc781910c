"""Reports: they notify observers of jobs, attempts, health and lifecycle.

A job has one owner, the outermost: a bound adapter that is used alone, or a host. The owner makes
a JobReport and lets it watch the stream that the caller reads, so each job has one outcome. Below
a host each replica's stream is watched by an AttemptReport of the same job. A lone adapter's job
is its own first attempt; further ones are known from `StreamClock.note_retry`.
"""

import asyncio
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from adapter_api.errors import Cancelled, ErrorCode, WorkerError
from adapter_api.events import End, Started
from adapter_api.health import HealthState, HealthStatus
from adapter_api.notices import AdapterNotice, AttemptNotice, HealthNotice, JobNotice
from adapter_api.stream import TokenStream
from adapter_api.task import TaskRequest
from adapter_api.version import __version__
from registry.observers.notify import Hook, Observers


@lru_cache(maxsize=256)
def host_notice(pool_id: str) -> AdapterNotice:
    """Return the owner of a pool's jobs."""
    return AdapterNotice("host", "worker-adapters", __version__, pool_id)


class AdapterReport:
    """Notifies observers of one adapter, its health, and its jobs or attempts.

    Args:
        observers: The observers of the adapter's registry.
        notice: The adapter.
    """

    def __init__(self, observers: Observers, notice: AdapterNotice) -> None:
        self._observers = observers
        self.notice = notice
        self._is_placed = False
        self._health: HealthStatus | None = None

    def place(self, pool_id: str, replica_id: str, observers: Observers) -> None:
        """Use a host's names for the adapter, and make its observers the host's."""
        self.notice = self.notice._replace(pool_id=pool_id, replica_id=replica_id)
        self._is_placed = True
        if observers is not self._observers:
            observers.include(self._observers)
            self._observers = observers

    def started(self) -> None:
        """Report that the adapter started."""
        self._observers.notify("adapter_started", self.notice)

    def closed(self) -> None:
        """Report that the adapter was closed."""
        self._observers.notify("adapter_closed", self.notice)

    def job(self, task: TaskRequest) -> "JobReport":
        """Return the report of a job that the adapter owns."""
        return JobReport(self._observers, task, self.notice, lone=True, placed=self._is_placed)

    def attempt(self, job: "JobReport") -> "AttemptReport | None":
        """Note an attempt that the adapter makes for a host's job; return its report if an observer
        wants one."""
        return job.begin_attempt(self._observers, self.notice)

    def health(self, status: HealthStatus) -> None:
        """Report a health check if it differs in more than its message from the one before."""
        before, self._health = self._health, status
        if before is None or _kind(before) != _kind(status):
            was = None if before is None else before.state
            self._observers.notify("health_changed", HealthNotice(self.notice, was, *_kind(status)))


def _kind(status: HealthStatus) -> tuple[HealthState, bool, bool]:
    return status.state, status.live, status.ready


class JobReport:
    """Watches the stream of one job for its owner, and notifies observers.

    It holds no reference to the stream. Pass it to `TokenStream.watch`.

    Args:
        observers: The owner's observers.
        task: The job.
        owner: The lone adapter, or the host's pool.
        lone: Whether the owner makes the attempts itself.
        placed: Whether the owner's replica_id counts, whatever the answers name.
        correlation_id: The correlation_id that the owner made, if the task has none.

    Attributes:
        engine: The engine's facts from the latest answer.
    """

    __slots__ = (
        "_attempt",
        "_began_at",
        "_correlation_id",
        "_first_token_at",
        "_lone",
        "_loop",
        "_observers",
        "_placed",
        "_replica_id",
        "_task",
        "attempts",
        "engine",
        "owner",
    )

    def __init__(
        self,
        observers: Observers,
        task: TaskRequest,
        owner: AdapterNotice,
        *,
        lone: bool = False,
        placed: bool = True,
        correlation_id: str | None = None,
    ) -> None:
        self._observers = observers
        self._task = task
        self.owner = owner
        self._lone = lone
        self._placed = placed
        self._correlation_id = correlation_id
        self.engine: Started | None = None
        self._replica_id = owner.replica_id
        self._began_at = 0.0
        self._first_token_at: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._attempt: AttemptReport | None = None
        self.attempts = 0

    # A TokenStream's watcher

    def opened(self) -> None:
        """Report the submission; the first attempt of a lone adapter begins with it."""
        self._loop = asyncio.get_running_loop()
        self._began_at = self._loop.time()
        if wanting := self._observers.wanting("job_submitted"):
            self._notify("job_submitted", wanting)
        if self._lone:
            self._begin_own()

    def started(self, event: Started) -> None:
        """Note the facts that the engine reports about itself."""
        if self._attempt is not None:
            self._attempt.started(event)
        else:
            self.note_engine(event)

    def first_token(self) -> None:
        """Report the first Token."""
        assert self._loop is not None
        self._first_token_at = self._loop.time()
        if wanting := self._observers.wanting("job_first_token"):
            self._notify("job_first_token", wanting, elapsed_ms=self._ms(self._first_token_at))

    def ended(self, end: End | None, error: WorkerError | None, delivered: int) -> None:
        """Report the outcome. A dropped stream has neither `end` nor `error`."""
        if self._attempt is not None:
            self._attempt.ended(end, error, delivered)
        if end is not None:
            hook = "job_ended"
        else:
            cancelled = error is None or isinstance(error, Cancelled)
            hook = "job_cancelled" if cancelled else "job_failed"
        wanting = self._observers.wanting(hook)
        if not wanting:
            return
        assert self._loop is not None
        elapsed_ms = self._ms(self._loop.time())
        facts: dict[str, Any] = {"tokens_out": delivered, "elapsed_ms": elapsed_ms}
        if self._first_token_at is not None:
            facts["decode_time_ms"] = round(elapsed_ms - self._ms(self._first_token_at), 3)
        if end is not None:
            self.attempts = max(self.attempts, end.metrics.attempts)
            facts |= {
                "tokens_in": end.metrics.prompt_tokens,
                "tokens_out": end.metrics.tokens_generated,
                "tool_calls": len(end.tool_calls),
                "invalid_tool_calls": len(end.invalid_tool_calls),
                "cached_tokens": end.metrics.cached_tokens,
                "reasoning_tokens": end.metrics.reasoning_tokens,
                "finish_reason": end.finish_reason,
                "usage_source": end.metrics.usage_source,
            }
            self._notify(hook, wanting, **facts)
        elif error is None:
            facts |= {"code": str(ErrorCode.CANCELLED), "retriable": False}
            self.later(partial(self._notify, hook, wanting, **facts))
        else:
            code = str(error.code)
            self._notify(hook, wanting, code=code, retriable=error.retriable, **facts)

    # Attempts

    def follow(self, events: object) -> None:
        """Count the retries that a lone adapter makes within its own stream."""
        if self._lone and isinstance(events, TokenStream):
            events.clock.on_retry = self._retried

    def note_engine(self, event: Started) -> None:
        """Use the engine's facts from an answer in all later notices."""
        self.engine = event
        if not self._placed:
            self._replica_id = event.replica_id or self._replica_id

    def begin_attempt(self, observers: Observers, adapter: AdapterNotice) -> "AttemptReport | None":
        """Note an attempt by `adapter`; return its report if one of `observers` wants it."""
        self.attempts += 1
        self._replica_id = adapter.replica_id
        if observers.wanting("attempt_ended") or observers.wanting("attempt_started"):
            return AttemptReport(self, observers, adapter, self.attempts)
        return None

    def _begin_own(self) -> None:
        self._attempt = self.begin_attempt(self._observers, self.owner)
        if self._attempt is not None:
            self._attempt.opened()

    def _retried(self, error: WorkerError) -> None:
        if self._attempt is not None:
            self._attempt.ended(None, error, 0)
        self._begin_own()

    @property
    def known(self) -> dict[str, Any]:
        """The facts that notices of the job and of its attempts share."""
        task, engine = self._task, self.engine
        return {
            "job_id": task.job_id,
            "session_id": task.session_id,
            "correlation_id": self._correlation_id or task.correlation_id,
            "model": task.model if engine is None else engine.model or task.model,
        }

    def _notify(self, hook: str, wanting: list[Hook], **facts: Any) -> None:
        if self._first_token_at is not None:
            facts["time_to_first_token_ms"] = self._ms(self._first_token_at)
        if self.engine is not None:
            facts["engine"] = self.engine.engine
            facts["engine_version"] = self.engine.engine_version
        notice = JobNotice(
            **self.known,
            adapter=self.owner,
            operation="text_completion" if self._task.messages is None else "chat",
            pool_id=self.owner.pool_id,
            replica_id=self._replica_id,
            attempts=self.attempts,
            **facts,
        )
        for each in wanting:
            each.call(hook, notice)

    def later(self, report: Callable[[], None]) -> None:
        """Notify from the event loop. A destructor runs at any point, even where an observer holds
        a lock of its own, for which it would wait forever."""
        try:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(report)
        except RuntimeError:  # the loop is closed
            report()

    def _ms(self, when: float) -> float:
        """Return the milliseconds from the submission to `when`."""
        return round((when - self._began_at) * 1000, 3)


class AttemptReport:
    """Watches one attempt's stream, and notifies observers of it.

    Args:
        job: The job it belongs to.
        observers: The host's observers, or the lone adapter's.
        adapter: The adapter that makes the attempt.
        number: The attempt's number within the job, from 1.
    """

    __slots__ = ("_adapter", "_began_at", "_engine", "_job", "_number", "_observers")

    def __init__(
        self, job: JobReport, observers: Observers, adapter: AdapterNotice, number: int
    ) -> None:
        self._job = job
        self._observers = observers
        self._adapter = adapter
        self._number = number
        self._began_at = 0.0
        self._engine: Started | None = None

    def opened(self) -> None:
        """Report the start of the attempt."""
        self._began_at = asyncio.get_running_loop().time()
        if wanting := self._observers.wanting("attempt_started"):
            self._notify("attempt_started", wanting)

    def started(self, event: Started) -> None:
        """Note the facts that the engine reports about itself."""
        self._engine = event
        self._job.note_engine(event)

    def first_token(self) -> None:
        """Do nothing: the job reports its first Token."""

    def ended(self, end: End | None, error: WorkerError | None, delivered: int) -> None:
        """Report the outcome of the attempt."""
        wanting = self._observers.wanting("attempt_ended")
        if not wanting:
            return
        facts: dict[str, Any] = {"tokens_out": delivered}
        if end is None and error is None:
            facts |= {"code": str(ErrorCode.CANCELLED), "retriable": False}
            self._job.later(partial(self._notify, "attempt_ended", wanting, **facts))
            return
        if error is not None:
            facts |= {
                "code": str(error.code),
                "retriable": error.retriable,
                "status": error.status,
                "retry_after_ms": error.retry_after_ms,
            }
        self._notify("attempt_ended", wanting, **facts)

    def _notify(self, hook: str, wanting: list[Hook], **facts: Any) -> None:
        engine = self._engine
        if engine is not None:
            facts |= {"engine": engine.engine, "engine_version": engine.engine_version}
        loop = self._job._loop
        elapsed_ms = 0.0 if loop is None else round((loop.time() - self._began_at) * 1000, 3)
        notice = AttemptNotice(
            **self._job.known,
            adapter=self._adapter,
            owner=self._job.owner,
            number=self._number,
            elapsed_ms=elapsed_ms,
            **facts,
        )
        for each in wanting:
            each.call(hook, notice)
