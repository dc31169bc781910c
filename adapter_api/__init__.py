"""The contract between orchestrators and engine adapters. No I/O happens here.

Every name loads on first use: attrs, pluggy and asyncio each take longer to import than all of this
package.
"""

from typing import TYPE_CHECKING

from adapter_api.lazy import lazy_exports

if TYPE_CHECKING:
    from adapter_api.adapter import Adapter
    from adapter_api.answer import Answer
    from adapter_api.errors import (
        CODES,
        AdapterLoadError,
        AdapterNotFound,
        AmbiguousAdapter,
        AuthenticationFailed,
        Cancelled,
        CapacityExceeded,
        CodeFacts,
        ConfigError,
        ContentFiltered,
        ContractError,
        EgressDenied,
        EngineUnavailable,
        ErrorCode,
        InternalError,
        InvalidRequest,
        JsonError,
        NotFound,
        Problem,
        RegistryError,
        StreamingError,
        WorkerAdaptersError,
        WorkerError,
        WorkerReset,
        WorkerTimeout,
    )
    from adapter_api.events import (
        End,
        Error,
        Metrics,
        MetricsFrame,
        Reasoning,
        Refusal,
        ScoredToken,
        Started,
        Token,
        TokenEvent,
        TokenLogprob,
        ToolCallDelta,
    )
    from adapter_api.health import EngineProps, HealthState, HealthStatus
    from adapter_api.hookspecs import (
        API_VERSION,
        PROJECT,
        CancelHook,
        LifecycleHooks,
        ObserverHooks,
        PropertyHooks,
        WorkerAdapter,
        hookimpl,
        hookspec,
    )
    from adapter_api.ledger import Explanation, Step
    from adapter_api.limits import StreamClock
    from adapter_api.messages import InvalidToolCall, Message, Tool, ToolCall
    from adapter_api.notices import (
        AdapterNotice,
        AttemptNotice,
        BreakerNotice,
        HealthNotice,
        JobNotice,
        ReplicaNotice,
    )
    from adapter_api.stream import TokenStream
    from adapter_api.table import StreamTable
    from adapter_api.task import TaskRequest
    from adapter_api.version import __version__

__all__ = [
    "API_VERSION",
    "CODES",
    "PROJECT",
    "Adapter",
    "AdapterLoadError",
    "AdapterNotFound",
    "AdapterNotice",
    "AmbiguousAdapter",
    "Answer",
    "AttemptNotice",
    "AuthenticationFailed",
    "BreakerNotice",
    "CancelHook",
    "Cancelled",
    "CapacityExceeded",
    "CodeFacts",
    "ConfigError",
    "ContentFiltered",
    "ContractError",
    "EgressDenied",
    "End",
    "EngineProps",
    "EngineUnavailable",
    "Error",
    "ErrorCode",
    "Explanation",
    "HealthNotice",
    "HealthState",
    "HealthStatus",
    "InternalError",
    "InvalidRequest",
    "InvalidToolCall",
    "JobNotice",
    "JsonError",
    "LifecycleHooks",
    "Message",
    "Metrics",
    "MetricsFrame",
    "NotFound",
    "ObserverHooks",
    "Problem",
    "PropertyHooks",
    "Reasoning",
    "Refusal",
    "RegistryError",
    "ReplicaNotice",
    "ScoredToken",
    "Started",
    "Step",
    "StreamClock",
    "StreamTable",
    "StreamingError",
    "TaskRequest",
    "Token",
    "TokenEvent",
    "TokenLogprob",
    "TokenStream",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "WorkerAdapter",
    "WorkerAdaptersError",
    "WorkerError",
    "WorkerReset",
    "WorkerTimeout",
    "__version__",
    "hookimpl",
    "hookspec",
]

__getattr__ = lazy_exports(__name__)
