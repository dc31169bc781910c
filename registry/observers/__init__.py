"""Observers: notified of jobs, attempts, replicas and breakers; they change nothing."""

from registry.observers.metrics import JobMetrics, MetricsObserver, MetricsSnapshot, Summary
from registry.observers.notify import AdapterWatch, JobWatch, LoggingObserver, Observers

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
