"""Counts of jobs in this process (ORCH-3028). For Prometheus see registry.observers.prometheus."""

from collections import Counter
from collections.abc import Mapping
from operator import add
from threading import RLock
from typing import Any

import attrs

from adapter_api.hookspecs import hookimpl
from adapter_api.notices import AdapterNotice, JobNotice


@attrs.frozen
class Summary:
    """What is known of a measured quantity. Summaries add up.

    Args:
        count: How often it was measured.
        total: The sum.
        least: The smallest value; 0 if there is none.
        most: The largest value; 0 if there is none.
    """

    count: int = 0
    total: float = 0.0
    least: float = 0.0
    most: float = 0.0

    @classmethod
    def of(cls, value: float | None) -> "Summary":
        """The summary of one value; without one, of none."""
        return cls() if value is None else cls(1, value, value, value)

    def __add__(self, other: "Summary") -> "Summary":
        if not self.count or not other.count:
            return self if self.count else other
        return Summary(
            self.count + other.count,
            self.total + other.total,
            min(self.least, other.least),
            max(self.most, other.most),
        )


@attrs.frozen
class JobMetrics:
    """Jobs, counted (ORCH-3028). Metrics add up.

    Args:
        dispatches: Jobs that were sent.
        ended: Those whose answer was whole.
        cancels: Those that were cancelled.
        failures: Those that failed, by error code.
        retries: Requests beyond the first, of jobs that ended.
        tokens_in: Tokens of prompts, where the engine told.
        tokens_out: Tokens of answers, whatever became of them.
        latency_first_token_ms: Until the first Token.
        latency_decode_ms: From the first Token to the end.
    """

    dispatches: int = 0
    ended: int = 0
    cancels: int = 0
    failures: Counter[str] = attrs.field(factory=Counter)
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    latency_first_token_ms: Summary = Summary()
    latency_decode_ms: Summary = Summary()

    @property
    def running(self) -> int:
        """Jobs that were sent and are not over."""
        return self.dispatches - self.ended - self.cancels - self.failures.total()

    def __add__(self, other: "JobMetrics") -> "JobMetrics":
        ours, theirs = (attrs.astuple(metrics, recurse=False) for metrics in (self, other))
        return JobMetrics(*map(add, ours, theirs))


@attrs.frozen
class MetricsSnapshot:
    """The numbers at one moment.

    Args:
        adapters: Those of each adapter.
    """

    adapters: Mapping[AdapterNotice, JobMetrics]

    @property
    def total(self) -> JobMetrics:
        """Those of all adapters together."""
        return sum(self.adapters.values(), JobMetrics())


@attrs.define(eq=False)
class MetricsObserver:
    """Counts jobs. It may be told, and asked, in several threads at once."""

    _jobs: dict[AdapterNotice, JobMetrics] = attrs.field(factory=dict, init=False)
    # A plain lock would wait forever for itself if a destructor that tells came in between.
    _lock: RLock = attrs.field(factory=RLock, init=False, repr=False)

    def snapshot(self) -> MetricsSnapshot:
        """The numbers at this moment; they do not change afterwards."""
        with self._lock:
            return MetricsSnapshot(dict(self._jobs))

    @hookimpl
    def job_submitted(self, job: JobNotice) -> None:
        """One more dispatch."""
        self._add(job, JobMetrics(dispatches=1))

    @hookimpl
    def job_first_token(self, job: JobNotice) -> None:
        """How long it took."""
        latency = Summary.of(job.time_to_first_token_ms)
        self._add(job, JobMetrics(latency_first_token_ms=latency))

    @hookimpl
    def job_ended(self, job: JobNotice) -> None:
        """One whole answer."""
        self._add(job, JobMetrics(ended=1, retries=(job.attempts or 1) - 1, **_answer(job)))

    @hookimpl
    def job_failed(self, job: JobNotice) -> None:
        """One failure."""
        self._add(job, JobMetrics(failures=Counter([job.code or "unknown"]), **_answer(job)))

    @hookimpl
    def job_cancelled(self, job: JobNotice) -> None:
        """One cancel."""
        self._add(job, JobMetrics(cancels=1, **_answer(job)))

    def _add(self, job: JobNotice, more: JobMetrics) -> None:
        with self._lock:
            known = self._jobs.get(job.adapter)
            self._jobs[job.adapter] = more if known is None else known + more


def _answer(job: JobNotice) -> dict[str, Any]:
    return {
        "tokens_in": job.tokens_in or 0,
        "tokens_out": job.tokens_out,
        "latency_decode_ms": Summary.of(job.decode_time_ms),
    }
