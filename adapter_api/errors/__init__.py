"""The one error taxonomy of adapters, hosts and registries (ORCH-3058, ADAPT-3002).

    WorkerAdaptersError            everything that this package raises on purpose
      WorkerError                  a job failed, or an engine cannot serve it
        InvalidRequest             (ValueError) the task cannot be served as written
        AuthenticationFailed       the engine refuses the credentials
        NotFound                   (LookupError) the engine has no such model, deployment or path
        CapacityExceeded           the engine is busy or a quota is used up
        EngineUnavailable          (ConnectionError) no engine could be reached
        WorkerReset                (ConnectionError) the engine failed or broke the connection
        WorkerTimeout              (TimeoutError) a time limit passed
        StreamingError             the answer is cut off or is not an answer
        ContentFiltered            a content filter withheld all or part of the answer
        Cancelled                  the job was cancelled
        EgressDenied               the allow-list forbids the host
        InternalError              an adapter broke its contract
      RegistryError                an adapter cannot be found, loaded or configured
        AdapterNotFound            (LookupError)
        AmbiguousAdapter           (LookupError)
        AdapterLoadError
        ContractError
        ConfigError                (ValueError)
      JsonError                    (ValueError) an answer or a call is not the JSON it should be

Every error keeps its data in attributes, survives pickling and holds no secret.
"""

from adapter_api.errors.base import WorkerAdaptersError
from adapter_api.errors.jobs import (
    CODES,
    AuthenticationFailed,
    Cancelled,
    CapacityExceeded,
    CodeFacts,
    ContentFiltered,
    EgressDenied,
    EngineUnavailable,
    ErrorCode,
    InternalError,
    InvalidRequest,
    JsonError,
    JsonReason,
    NotFound,
    StreamingError,
    WorkerError,
    WorkerReset,
    WorkerTimeout,
)
from adapter_api.errors.registry import (
    AdapterLoadError,
    AdapterNotFound,
    AmbiguousAdapter,
    ConfigError,
    ContractError,
    Problem,
    ProblemKind,
    RegistryError,
)

__all__ = [
    "CODES",
    "AdapterLoadError",
    "AdapterNotFound",
    "AmbiguousAdapter",
    "AuthenticationFailed",
    "Cancelled",
    "CapacityExceeded",
    "CodeFacts",
    "ConfigError",
    "ContentFiltered",
    "ContractError",
    "EgressDenied",
    "EngineUnavailable",
    "ErrorCode",
    "InternalError",
    "InvalidRequest",
    "JsonError",
    "JsonReason",
    "NotFound",
    "Problem",
    "ProblemKind",
    "RegistryError",
    "StreamingError",
    "WorkerAdaptersError",
    "WorkerError",
    "WorkerReset",
    "WorkerTimeout",
]
