"""Traces and metrics for OpenTelemetry, by its conventions for generative AI (extra `[otel]`).

Only the API is used: the application sets up an SDK, and without one nothing is recorded.
"""

from registry.observers.otel.asgi import TraceContext
from registry.observers.otel.instruments import Conventions
from registry.observers.otel.middleware import ChunkTimes, ContentRecorder
from registry.observers.otel.spans import OpenTelemetryObserver

__all__ = [
    "ChunkTimes",
    "ContentRecorder",
    "Conventions",
    "OpenTelemetryObserver",
    "TraceContext",
]
