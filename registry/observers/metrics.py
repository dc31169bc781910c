"""Counts of jobs and attempts in this process (ORCH-3028)."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from operator import add
from threading import RLock
from typing import Any

import attrs

from adapter_api.hookspecs import hookimpl
from adapter_api.notices import AdapterNotice, AttemptNotice, JobNotice


@attrs.define
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

    def note(self, value: float | None) -> None:
        """Count a value, if there is one."""
        if value is not None:
            self.min = min(self.min, value) if self.count else value
            self.max = max(self.max, value) if self.count else value
            self.count += 1
            self.total += value

    def __add__(self, other: "Summary") -> "Summary":
        if not self.count or not other.count:
            return attrs.evolve(self if self.count else other)
        return Summary(
            self.count + other.count,
            self.total + other.total,
            min(self.min, other.min),
            max(self.max, other.max),
        )


@attrs.define
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
    latency_first_token_ms: Summary = attrs.field(factory=Summary)
    latency_decode_ms: Summary = attrs.field(factory=Summary)

    @property
    def running(self) -> int:
        """The number of jobs that are not over, including those that wait for a replica."""
        return self.dispatches - self.ended - self.cancels - self.failures.total()

    def note_answer(self, job: JobNotice) -> None:
        """Count the tokens and calls of a job, whatever its outcome."""
        self.retries += max(0, job.attempts - 1)
        self.tokens_in += job.tokens_in or 0
        self.tokens_out += job.tokens_out
        self.tool_calls += job.tool_calls
        self.latency_decode_ms.note(job.decode_time_ms)

    def __add__(self, other: "JobMetrics") -> "JobMetrics":
        return JobMetrics(*_added(self, other))


@attrs.define
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

    _jobs: defaultdict[AdapterNotice, JobMetrics] = attrs.field(
        factory=lambda: defaultdict(JobMetrics), init=False
    )
    _attempts: defaultdict[AdapterNotice, AttemptMetrics] = attrs.field(
        factory=lambda: defaultdict(AttemptMetrics), init=False
    )
    # A destructor may notify while this thread holds the lock.
    _lock: RLock = attrs.field(factory=RLock, init=False, repr=False)

    def snapshot(self) -> MetricsSnapshot:
        """Return the numbers at this moment; they do not change afterwards."""
        with self._lock:
            return MetricsSnapshot(
                {adapter: JobMetrics() + jobs for adapter, jobs in self._jobs.items()},
                {adapter: AttemptMetrics() + each for adapter, each in self._attempts.items()},
            )

    @hookimpl
    def job_submitted(self, job: JobNotice) -> None:
        """Count a dispatch."""
        with self._lock:
            self._jobs[job.adapter].dispatches += 1

    @hookimpl
    def job_first_token(self, job: JobNotice) -> None:
        """Measure the first token."""
        with self._lock:
            self._jobs[job.adapter].latency_first_token_ms.note(job.time_to_first_token_ms)

    @hookimpl
    def job_ended(self, job: JobNotice) -> None:
        """Count a whole answer."""
        with self._lock:
            jobs = self._jobs[job.adapter]
            jobs.ended += 1
            jobs.note_answer(job)

    @hookimpl
    def job_failed(self, job: JobNotice) -> None:
        """Count a failure by its code."""
        with self._lock:
            jobs = self._jobs[job.adapter]
            jobs.failures[job.code or "unknown"] += 1
            jobs.note_answer(job)

    @hookimpl
    def job_cancelled(self, job: JobNotice) -> None:
        """Count a cancel."""
        with self._lock:
            jobs = self._jobs[job.adapter]
            jobs.cancels += 1
            jobs.note_answer(job)

    @hookimpl
    def attempt_started(self, attempt: AttemptNotice) -> None:
        """Count a request."""
        with self._lock:
            self._attempts[attempt.adapter].started += 1

    @hookimpl
    def attempt_ended(self, attempt: AttemptNotice) -> None:
        """Count the outcome of a request."""
        with self._lock:
            attempts = self._attempts[attempt.adapter]
            if attempt.code is None:
                attempts.ended += 1
            else:
                attempts.failures[attempt.code] += 1
