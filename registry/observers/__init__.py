"""Observers: notified of jobs, attempts, replicas and breakers; they change nothing.

Every name loads on first use: an adapter that is used alone needs no metrics.
"""

from typing import TYPE_CHECKING

from adapter_api.lazy import lazy_exports

if TYPE_CHECKING:
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

__getattr__ = lazy_exports(__name__)
