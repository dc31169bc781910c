"""Metrics for Prometheus, through its own client library (extra `[metrics]`)."""

from typing import Generic, TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from adapter_api.hookspecs import hookimpl
from adapter_api.notices import (
    AdapterNotice,
    AttemptNotice,
    BreakerNotice,
    JobNotice,
    ReplicaNotice,
)

_OWNER = ("adapter", "pool_id")
_REPLICA = ("pool_id", "replica_id")
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

_ACCEPTING = ("ready", "busy")
_BREAKER_VALUES = {"closed": 0, "half_open": 1, "open": 2}


_M = TypeVar("_M", Counter, Gauge, Histogram)


class _Labelled(Generic[_M]):
    """A metric whose series are looked up once: the library checks the labels each time."""

    __slots__ = ("_series", "metric")

    def __init__(self, metric: _M) -> None:
        self.metric: _M = metric
        self._series: dict[tuple[str, ...], _M] = {}

    def __call__(self, *labels: str) -> _M:
        """Return the series with these labels."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = self.metric.labels(*labels)
        return series

    def remove(self, *labels: str) -> None:
        """Forget a series, if it was set."""
        if self._series.pop(labels, None) is not None:
            self.metric.remove(*labels)


class PrometheusObserver:
    """Exports jobs, attempts, tokens, times, replicas and breakers (ORCH-3028, ORCH-3310).

    The names and labels are listed in docs/reference/metrics.md.

    Args:
        registry: The registry of the metrics; by default the library's own. A second observer
            needs another one.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def counter(name: str, text: str, *labels: str) -> _Labelled[Counter]:
            return _Labelled(Counter(f"worker_adapters_{name}", text, labels, registry=registry))

        def gauge(name: str, text: str, *labels: str) -> _Labelled[Gauge]:
            return _Labelled(Gauge(f"worker_adapters_{name}", text, labels, registry=registry))

        def histogram(name: str, text: str) -> _Labelled[Histogram]:
            name = f"worker_adapters_{name}"
            made = Histogram(name, text, _OWNER, buckets=_SECONDS, registry=registry)
            return _Labelled(made)

        self._dispatches = counter("dispatches", "Submitted jobs", *_OWNER)
        self._outcomes = counter("outcomes", "Ended jobs by outcome", *_OWNER, "outcome")
        self._retries = counter("retries", "Requests beyond the first of each job", *_OWNER)
        self._tokens_in = counter("tokens_in", "Tokens of prompts", *_OWNER)
        self._tokens_out = counter("tokens_out", "Tokens of answers", *_OWNER)
        self._tool_calls = counter("tool_calls", "Complete tool calls of answers", *_OWNER)
        self._first_token = histogram("first_token_seconds", "Time until the first token")
        self._decode = histogram("decode_seconds", "Time from the first token to the end")
        self._waiting = gauge("jobs_waiting", "Jobs that wait for their first replica", *_OWNER)
        self._attempts = counter(
            "attempts", "Ended requests by outcome", "adapter", *_REPLICA, "outcome"
        )
        self._in_flight = gauge("in_flight", "Requests under way", "adapter", *_REPLICA)
        self._ready = gauge("replica_ready", "1 if a replica accepts work, else 0", *_REPLICA)
        self._breaker = gauge("breaker_state", "0 closed, 1 half open, 2 open", *_REPLICA)
        self._transitions = counter(
            "breaker_transitions", "Changes of circuit breakers", *_REPLICA, "state"
        )

    @hookimpl
    def job_submitted(self, job: JobNotice) -> None:
        """Count a dispatch; the job waits."""
        self._dispatches(*_owner(job)).inc()
        self._waiting(*_owner(job)).inc()

    @hookimpl
    def job_first_token(self, job: JobNotice) -> None:
        """Measure the first token."""
        self._first_token(*_owner(job)).observe((job.time_to_first_token_ms or 0) / 1000)

    @hookimpl
    def job_ended(self, job: JobNotice) -> None:
        """Count a whole answer."""
        self._end(job, "ended")

    @hookimpl
    def job_failed(self, job: JobNotice) -> None:
        """Count a failure; its code is the outcome."""
        self._end(job, job.code or "unknown")

    @hookimpl
    def job_cancelled(self, job: JobNotice) -> None:
        """Count a cancel."""
        self._end(job, "cancelled")

    @hookimpl
    def attempt_started(self, attempt: AttemptNotice) -> None:
        """Count a request in flight; with the first one the job no longer waits."""
        self._in_flight(*_replica(attempt.adapter)).inc()
        if attempt.number == 1:
            self._waiting(attempt.owner.name, attempt.owner.pool_id or "").dec()

    @hookimpl
    def attempt_ended(self, attempt: AttemptNotice) -> None:
        """Count the outcome of a request."""
        self._in_flight(*_replica(attempt.adapter)).dec()
        self._attempts(*_replica(attempt.adapter), attempt.code or "ended").inc()

    @hookimpl
    def replica_changed(self, change: ReplicaNotice) -> None:
        """Show whether a replica accepts work; a busy one does."""
        place = (change.pool_id, change.replica_id)
        if change.after is None:
            self._ready.remove(*place)
            self._breaker.remove(*place)
            return
        self._ready(*place).set(change.after in _ACCEPTING)
        if change.before is None:
            self._breaker(*place).set(0)

    @hookimpl
    def breaker_changed(self, change: BreakerNotice) -> None:
        """Show a breaker's state, and count the transition."""
        place = (change.pool_id, change.replica_id)
        self._breaker(*place).set(_BREAKER_VALUES[change.after])
        self._transitions(*place, change.after).inc()

    def _end(self, job: JobNotice, outcome: str) -> None:
        owner = _owner(job)
        self._outcomes(*owner, outcome).inc()
        for counter, count in (
            (self._retries, max(0, job.attempts - 1)),
            (self._tokens_in, job.tokens_in),
            (self._tokens_out, job.tokens_out),
            (self._tool_calls, job.tool_calls),
        ):
            series = counter(*owner)  # created even if it counts 0
            if count:
                series.inc(count)
        if job.attempts == 0:
            self._waiting(*owner).dec()
        if job.decode_time_ms is not None:
            self._decode(*owner).observe(job.decode_time_ms / 1000)


def _owner(job: JobNotice) -> tuple[str, str]:
    return job.adapter.name, job.adapter.pool_id or ""


def _replica(adapter: AdapterNotice) -> tuple[str, str, str]:
    return adapter.name, adapter.pool_id or "", adapter.replica_id or ""
