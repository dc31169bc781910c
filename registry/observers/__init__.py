"""Observers: notified of jobs, attempts, replicas and breakers; they change nothing."""

from registry.observers.logging import LoggingObserver
from registry.observers.metrics import (
    AttemptMetrics,
    JobMetrics,
    MetricsObserver,
    MetricsSnapshot,
    Summary,
)
from registry.observers.notify import Observers
from registry.observers.reports import AdapterReport, AttemptReport, JobReport

__all__ = [
    "AdapterReport",
    "AttemptMetrics",
    "AttemptReport",
    "JobMetrics",
    "JobReport",
    "LoggingObserver",
    "MetricsObserver",
    "MetricsSnapshot",
    "Observers",
    "Summary",
]
