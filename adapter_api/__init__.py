"""The contract between orchestrators and engine adapters. No I/O happens here.

The stream's classes load on first use: they need asyncio, which takes longer to import than
everything else here together.
"""

from typing import TYPE_CHECKING

from adapter_api.errors import (
    AdapterLoadError,
    AdapterNotFound,
    AmbiguousAdapter,
    AuthenticationFailed,
    Cancelled,
    CapacityExceeded,
    ConfigError,
    ContentFiltered,
    ContractError,
    EgressDenied,
    EngineUnavailable,
    ErrorCode,
    InternalError,
    InvalidRequest,
    NotFound,
    RegistryError,
    StreamingError,
    WorkerError,
    WorkerReset,
    WorkerTimeout,
)
from adapter_api.events import End, Error, Metrics, MetricsFrame, Started, Token, TokenEvent
from adapter_api.health import EngineProps, HealthState, HealthStatus
from adapter_api.hookspecs import API_VERSION, PROJECT, WorkerAdapter, hookimpl, hookspec
from adapter_api.task import Message, TaskRequest

if TYPE_CHECKING:
    from adapter_api.clock import StreamClock
    from adapter_api.stream import StreamTable, TokenStream

__all__ = [
    "API_VERSION",
    "PROJECT",
    "AdapterLoadError",
    "AdapterNotFound",
    "AmbiguousAdapter",
    "AuthenticationFailed",
    "Cancelled",
    "CapacityExceeded",
    "ConfigError",
    "ContentFiltered",
    "ContractError",
    "EgressDenied",
    "End",
    "EngineProps",
    "EngineUnavailable",
    "Error",
    "ErrorCode",
    "HealthState",
    "HealthStatus",
    "InternalError",
    "InvalidRequest",
    "Message",
    "Metrics",
    "MetricsFrame",
    "NotFound",
    "RegistryError",
    "Started",
    "StreamClock",
    "StreamTable",
    "StreamingError",
    "TaskRequest",
    "Token",
    "TokenEvent",
    "TokenStream",
    "WorkerAdapter",
    "WorkerError",
    "WorkerReset",
    "WorkerTimeout",
    "hookimpl",
    "hookspec",
]


def __getattr__(name: str) -> object:
    if name == "StreamClock":
        from adapter_api import clock

        return clock.StreamClock
    if name in ("StreamTable", "TokenStream"):
        from adapter_api import stream

        return getattr(stream, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
