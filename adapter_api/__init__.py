"""The contract between orchestrators and engine adapters. No I/O happens here.

Only the errors load at once. attrs, pluggy and asyncio each take longer to import than all of
this package, so what is made with them loads on first use.
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

if TYPE_CHECKING:
    from adapter_api.events import End, Error, Metrics, MetricsFrame, Started, Token, TokenEvent
    from adapter_api.health import EngineProps, HealthState, HealthStatus
    from adapter_api.hookspecs import (
        API_VERSION,
        PROJECT,
        ObserverHooks,
        WorkerAdapter,
        hookimpl,
        hookspec,
    )
    from adapter_api.limits import StreamClock
    from adapter_api.notices import (
        AdapterNotice,
        AttemptNotice,
        BreakerNotice,
        HealthNotice,
        JobNotice,
        ReplicaNotice,
    )
    from adapter_api.stream import StreamTable, TokenStream
    from adapter_api.task import Message, TaskRequest

__all__ = [
    "API_VERSION",
    "PROJECT",
    "AdapterLoadError",
    "AdapterNotFound",
    "AdapterNotice",
    "AmbiguousAdapter",
    "AttemptNotice",
    "AuthenticationFailed",
    "BreakerNotice",
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
    "HealthNotice",
    "HealthState",
    "HealthStatus",
    "InternalError",
    "InvalidRequest",
    "JobNotice",
    "Message",
    "Metrics",
    "MetricsFrame",
    "NotFound",
    "ObserverHooks",
    "RegistryError",
    "ReplicaNotice",
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


_HOMES = {
    "API_VERSION": "hookspecs",
    "AdapterNotice": "notices",
    "AttemptNotice": "notices",
    "BreakerNotice": "notices",
    "End": "events",
    "EngineProps": "health",
    "Error": "events",
    "HealthNotice": "notices",
    "HealthState": "health",
    "HealthStatus": "health",
    "JobNotice": "notices",
    "Message": "task",
    "Metrics": "events",
    "MetricsFrame": "events",
    "ObserverHooks": "hookspecs",
    "PROJECT": "hookspecs",
    "ReplicaNotice": "notices",
    "Started": "events",
    "StreamClock": "limits",
    "StreamTable": "stream",
    "TaskRequest": "task",
    "Token": "events",
    "TokenEvent": "events",
    "TokenStream": "stream",
    "WorkerAdapter": "hookspecs",
    "hookimpl": "hookspecs",
    "hookspec": "hookspecs",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"adapter_api.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
