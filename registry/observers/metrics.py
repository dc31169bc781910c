"""Counts of jobs and attempts in this process (ORCH-3028)."""

from collections import Counter, defaultdict
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
class _Measure:
    """A Summary that grows."""

    count: int = 0
    total: float = 0.0
    min: float = 0.0
    max: float = 0.0

    def add(self, value: float | None) -> None:
        """Count a value, if there is one."""
        if value is None:
            return
        self.min = min(self.min, value) if self.count else value
        self.max = max(self.max, value) if self.count else value
        self.count += 1
        self.total += value

    def summary(self) -> Summary:
        """Return what was counted so far."""
        return Summary(self.count, self.total, self.min, self.max)


@attrs.define(eq=False)
class _Jobs:
    """A JobMetrics that grows."""

    dispatches: int = 0
    ended: int = 0
    cancels: int = 0
    failures: Counter[str] = attrs.field(factory=Counter)
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tool_calls: int = 0
    first_token: _Measure = attrs.field(factory=_Measure)
    decode: _Measure = attrs.field(factory=_Measure)

    def add_answer(self, job: JobNotice) -> None:
        """Count what a job brought, whatever its outcome."""
        self.retries += max(0, job.attempts - 1)
        self.tokens_in += job.tokens_in or 0
        self.tokens_out += job.tokens_out
        self.tool_calls += job.tool_calls
        self.decode.add(job.decode_time_ms)

    def metrics(self) -> JobMetrics:
        """Return what was counted so far."""
        return JobMetrics(
            dispatches=self.dispatches,
            ended=self.ended,
            cancels=self.cancels,
            failures=Counter(self.failures),
            retries=self.retries,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            tool_calls=self.tool_calls,
            latency_first_token_ms=self.first_token.summary(),
            latency_decode_ms=self.decode.summary(),
        )


@attrs.define(eq=False)
class _Attempts:
    """An AttemptMetrics that grows."""

    started: int = 0
    ended: int = 0
    failures: Counter[str] = attrs.field(factory=Counter)


@attrs.define(eq=False)
class MetricsObserver:
    """Counts jobs and attempts in this process. Thread-safe."""

    _jobs: defaultdict[AdapterNotice, _Jobs] = attrs.field(
        factory=lambda: defaultdict(_Jobs), init=False
    )
    _attempts: defaultdict[AdapterNotice, _Attempts] = attrs.field(
        factory=lambda: defaultdict(_Attempts), init=False
    )
    # A destructor may notify while this thread holds the lock.
    _lock: RLock = attrs.field(factory=RLock, init=False, repr=False)

    def snapshot(self) -> MetricsSnapshot:
        """Return the numbers at this moment; they do not change afterwards."""
        with self._lock:
            return MetricsSnapshot(
                {adapter: jobs.metrics() for adapter, jobs in self._jobs.items()},
                {
                    adapter: AttemptMetrics(each.started, each.ended, Counter(each.failures))
                    for adapter, each in self._attempts.items()
                },
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
            self._jobs[job.adapter].first_token.add(job.time_to_first_token_ms)

    @hookimpl
    def job_ended(self, job: JobNotice) -> None:
        """Count a whole answer."""
        with self._lock:
            jobs = self._jobs[job.adapter]
            jobs.ended += 1
            jobs.add_answer(job)

    @hookimpl
    def job_failed(self, job: JobNotice) -> None:
        """Count a failure by its code."""
        with self._lock:
            jobs = self._jobs[job.adapter]
            jobs.failures[job.code or "unknown"] += 1
            jobs.add_answer(job)

    @hookimpl
    def job_cancelled(self, job: JobNotice) -> None:
        """Count a cancel."""
        with self._lock:
            jobs = self._jobs[job.adapter]
            jobs.cancels += 1
            jobs.add_answer(job)

    @hookimpl
    def attempt_started(self, attempt: AttemptNotice) -> None:
        """Count a request."""
        with self._lock:
            self._attempts[attempt.adapter].started += 1

    @hookimpl
    def attempt_ended(self, attempt: AttemptNotice) -> None:
        """Count how a request ended."""
        with self._lock:
            attempts = self._attempts[attempt.adapter]
            if attempt.code is None:
                attempts.ended += 1
            else:
                attempts.failures[attempt.code] += 1
