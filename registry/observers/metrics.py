"""Counts of jobs and attempts in this process (ORCH-3028)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from operator import add
from threading import RLock
from typing import Any

import attrs

from adapter_api.hookspecs import hookimpl
from adapter_api.notices import AdapterNotice, AttemptNotice, JobNotice


@attrs.frozen
class Summary:
    """Count, sum and bounds of a measured quantity. Summaries add up.

    Args:
        count: How often it was measured.
        total: The sum.
        min: The smallest value; 0 if there is none.
        max: The largest value; 0 if there is none.
    """

    count: int = 0
    total: float = 0.0
    min: float = 0.0
    max: float = 0.0

    @classmethod
    def of(cls, value: float | None) -> "Summary":
        """Return the summary of one value; for None, of no value."""
        return cls() if value is None else cls(1, value, value, value)

    def __add__(self, other: "Summary") -> "Summary":
        if not self.count or not other.count:
            return self if self.count else other
        return Summary(
            self.count + other.count,
            self.total + other.total,
            min(self.min, other.min),
            max(self.max, other.max),
        )


@attrs.frozen
class JobMetrics:
    """Counts of jobs (ORCH-3028). Metrics add up.

    Args:
        dispatches: Submitted jobs.
        ended: Jobs whose answer was whole.
        cancels: Cancelled jobs.
        failures: Failed jobs by error code.
        retries: Requests beyond the first of each job.
        tokens_in: Tokens of prompts, where the engine reports them.
        tokens_out: Tokens of answers, whatever their outcome.
        tool_calls: Complete tool calls.
        latency_first_token_ms: Time until the first Token.
        latency_decode_ms: Time from the first Token to the end.
    """

    dispatches: int = 0
    ended: int = 0
    cancels: int = 0
    failures: Counter[str] = attrs.field(factory=Counter)
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tool_calls: int = 0
    latency_first_token_ms: Summary = Summary()
    latency_decode_ms: Summary = Summary()

    @property
    def running(self) -> int:
        """The number of jobs that are not over, including those that wait for a replica."""
        return self.dispatches - self.ended - self.cancels - self.failures.total()

    def __add__(self, other: "JobMetrics") -> "JobMetrics":
        return JobMetrics(*_added(self, other))


@attrs.frozen
class AttemptMetrics:
    """Counts of the attempts of one adapter. Metrics add up.

    Args:
        started: Requests sent.
        ended: Requests whose answer was whole.
        failures: Requests that failed or were cancelled, by error code.
    """

    started: int = 0
    ended: int = 0
    failures: Counter[str] = attrs.field(factory=Counter)

    @property
    def in_flight(self) -> int:
        """The number of requests that are not over."""
        return self.started - self.ended - self.failures.total()

    def __add__(self, other: "AttemptMetrics") -> "AttemptMetrics":
        return AttemptMetrics(*_added(self, other))


def _added(one: Any, other: Any) -> Iterator[Any]:
    ours, theirs = (attrs.astuple(metrics, recurse=False) for metrics in (one, other))
    return map(add, ours, theirs)


@attrs.frozen
class MetricsSnapshot:
    """The numbers at one moment.

    Args:
        adapters: Jobs by their owner: a lone adapter, or a pool of a host (named "host").
        attempts: Requests by adapter; a host's replicas have its pool_id and replica_id.
    """

    adapters: Mapping[AdapterNotice, JobMetrics]
    attempts: Mapping[AdapterNotice, AttemptMetrics] = attrs.field(factory=dict)

    @property
    def total(self) -> JobMetrics:
        """The sum over all owners. Each job counts once."""
        return sum(self.adapters.values(), JobMetrics())


@attrs.define(eq=False)
class MetricsObserver:
    """Counts jobs and attempts in this process. Thread-safe."""

    _jobs: dict[AdapterNotice, JobMetrics] = attrs.field(factory=dict, init=False)
    _attempts: dict[AdapterNotice, AttemptMetrics] = attrs.field(factory=dict, init=False)
    # A destructor may notify while this thread holds the lock.
    _lock: RLock = attrs.field(factory=RLock, init=False, repr=False)

    def snapshot(self) -> MetricsSnapshot:
        """Return the numbers at this moment; they do not change afterwards."""
        with self._lock:
            return MetricsSnapshot(dict(self._jobs), dict(self._attempts))

    @hookimpl
    def job_submitted(self, job: JobNotice) -> None:
        """Count a dispatch."""
        self._add(job, JobMetrics(dispatches=1))

    @hookimpl
    def job_first_token(self, job: JobNotice) -> None:
        """Measure the first token."""
        latency = Summary.of(job.time_to_first_token_ms)
        self._add(job, JobMetrics(latency_first_token_ms=latency))

    @hookimpl
    def job_ended(self, job: JobNotice) -> None:
        """Count a whole answer."""
        self._add(job, JobMetrics(ended=1, **_answer(job)))

    @hookimpl
    def job_failed(self, job: JobNotice) -> None:
        """Count a failure by its code."""
        self._add(job, JobMetrics(failures=Counter([job.code or "unknown"]), **_answer(job)))

    @hookimpl
    def job_cancelled(self, job: JobNotice) -> None:
        """Count a cancel."""
        self._add(job, JobMetrics(cancels=1, **_answer(job)))

    @hookimpl
    def attempt_started(self, attempt: AttemptNotice) -> None:
        """Count a request."""
        self._add_attempt(attempt, AttemptMetrics(started=1))

    @hookimpl
    def attempt_ended(self, attempt: AttemptNotice) -> None:
        """Count how a request ended."""
        if attempt.code is None:
            self._add_attempt(attempt, AttemptMetrics(ended=1))
        else:
            self._add_attempt(attempt, AttemptMetrics(failures=Counter([attempt.code])))

    def _add(self, job: JobNotice, more: JobMetrics) -> None:
        with self._lock:
            known = self._jobs.get(job.adapter)
            self._jobs[job.adapter] = more if known is None else known + more

    def _add_attempt(self, attempt: AttemptNotice, more: AttemptMetrics) -> None:
        with self._lock:
            known = self._attempts.get(attempt.adapter)
            self._attempts[attempt.adapter] = more if known is None else known + more


def _answer(job: JobNotice) -> dict[str, Any]:
    return {
        "retries": max(0, job.attempts - 1),
        "tokens_in": job.tokens_in or 0,
        "tokens_out": job.tokens_out,
        "tool_calls": job.tool_calls,
        "latency_decode_ms": Summary.of(job.decode_time_ms),
    }
