"""Metrics for Prometheus, by its own client library (extra `[metrics]`)."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from adapter_api.hookspecs import hookimpl
from adapter_api.notices import BreakerNotice, JobNotice, ReplicaNotice

_LABELS = ("adapter", "pool_id", "replica_id")
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class PrometheusObserver:
    """Counts jobs, tokens, times, and breakers (ORCH-3028, ORCH-3310).

    Args:
        registry: Where the metrics are registered; by default the library's own registry. A
            second observer needs another one.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def counter(name: str, text: str, *more: str) -> Counter:
            return Counter(f"worker_adapters_{name}", text, (*_LABELS, *more), registry=registry)

        def histogram(name: str, text: str) -> Histogram:
            name = f"worker_adapters_{name}"
            return Histogram(name, text, _LABELS, buckets=_SECONDS, registry=registry)

        self._dispatches = counter("dispatches", "Jobs that were sent")
        self._outcomes = counter("outcomes", "What became of jobs", "outcome")
        self._retries = counter("retries", "Requests beyond a job's first")
        self._tokens_in = counter("tokens_in", "Tokens of prompts")
        self._tokens_out = counter("tokens_out", "Tokens of answers")
        self._first_token = histogram("first_token_seconds", "Until the first token")
        self._decode = histogram("decode_seconds", "From the first token to the end")
        self._breakers = Counter(
            "worker_adapters_breaker_transitions",
            "Changes of circuit breakers",
            ("pool_id", "replica_id", "state"),
            registry=registry,
        )
        self._ready = Gauge(
            "worker_adapters_replica_ready",
            "Whether a replica accepts work",
            ("pool_id", "replica_id"),
            registry=registry,
        )

    @hookimpl
    def job_submitted(self, job: JobNotice) -> None:
        """One more dispatch."""
        self._dispatches.labels(*_labels(job)).inc()

    @hookimpl
    def job_first_token(self, job: JobNotice) -> None:
        """How long it took."""
        self._first_token.labels(*_labels(job)).observe((job.time_to_first_token_ms or 0) / 1000)

    @hookimpl
    def job_ended(self, job: JobNotice) -> None:
        """One whole answer."""
        self._end(job, "ended")
        self._retries.labels(*_labels(job)).inc((job.attempts or 1) - 1)

    @hookimpl
    def job_failed(self, job: JobNotice) -> None:
        """One failure; its code is the outcome."""
        self._end(job, job.code or "unknown")

    @hookimpl
    def job_cancelled(self, job: JobNotice) -> None:
        """One cancel."""
        self._end(job, "cancelled")

    @hookimpl
    def replica_changed(self, change: ReplicaNotice) -> None:
        """Whether it accepts work."""
        if change.after is None:
            self._ready.remove(change.pool_id, change.replica_id)
        else:
            ready = change.after == "ready"
            self._ready.labels(change.pool_id, change.replica_id).set(ready)

    @hookimpl
    def breaker_changed(self, change: BreakerNotice) -> None:
        """One transition."""
        self._breakers.labels(change.pool_id, change.replica_id, change.after).inc()

    def _end(self, job: JobNotice, outcome: str) -> None:
        labels = _labels(job)
        self._outcomes.labels(*labels, outcome).inc()
        self._tokens_in.labels(*labels).inc(job.tokens_in or 0)
        self._tokens_out.labels(*labels).inc(job.tokens_out)
        if job.decode_time_ms is not None:
            self._decode.labels(*labels).observe(job.decode_time_ms / 1000)


def _labels(job: JobNotice) -> tuple[str, str, str]:
    return job.adapter.name, job.adapter.pool_id or "", job.adapter.replica_id or ""
