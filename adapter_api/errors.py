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

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, ClassVar, Literal, Self, TypeVar

import attrs


class ErrorCode(StrEnum):
    """The kinds of failure, in the words of the wire contract. Source: HTU-ERR-4002."""

    INVALID_PARAMS = "INVALID_PARAMS"
    CONTEXT_OVERFLOW = "CONTEXT_OVERFLOW"
    UPSTREAM_AUTH = "UPSTREAM_AUTH"
    UPSTREAM_NOT_FOUND = "UPSTREAM_NOT_FOUND"
    ADMISSION_REJECT = "ADMISSION_REJECT"
    QUOTA_EXHAUSTED = "QUOTA_EXHAUSTED"
    LOCAL_SATURATED = "LOCAL_SATURATED"
    POOL_UNAVAILABLE = "POOL_UNAVAILABLE"
    CIRCUIT_OPEN = "CIRCUIT_OPEN"
    WORKER_RESET = "WORKER_RESET"
    DECODE_TIMEOUT = "DECODE_TIMEOUT"
    DEADLINE_UNMET = "DEADLINE_UNMET"
    STREAM_TRUNCATED = "STREAM_TRUNCATED"
    UPSTREAM_PROTOCOL = "UPSTREAM_PROTOCOL"
    CONTENT_FILTER = "CONTENT_FILTER"
    CANCELLED = "CANCELLED"
    EGRESS_DENIED = "EGRESS_DENIED"
    INTERNAL = "INTERNAL"


_E = TypeVar("_E", bound=Exception)


def _revive(cls: type[_E], args: tuple[Any, ...], state: dict[str, Any]) -> _E:
    """Return an unpickled error with its notes, whatever its constructor takes."""
    error = cls.__new__(cls, *args)
    error.args = args  # built-in bases such as TimeoutError set them in __init__ only
    error.__dict__.update(state)
    return error


class WorkerAdaptersError(Exception):
    """The root of all errors that this package raises on purpose."""

    def __reduce__(self) -> tuple[Callable[..., "WorkerAdaptersError"], tuple[Any, ...]]:
        return _revive, (type(self), self.args, dict(vars(self)))


_FIELDS = (
    "code",
    "message",
    "retriable",
    "retry_after_ms",
    "status",
    "request_id",
    "job_id",
    "tokens_emitted",
    "field",
)


class WorkerError(WorkerAdaptersError):
    """A job failed, or an engine cannot serve it.

    Args:
        code: What went wrong; each subclass admits its own codes only.
        message: One sentence for a person, with what to do where that is known.
        retriable: Whether the same task may succeed when it is sent again, here or
            elsewhere. By default the code decides.
        retry_after_ms: How long the engine asks to wait first, in milliseconds.
        status: The HTTP status behind the error.
        request_id: The engine's own id of the request.
        job_id: The task's job_id.
        tokens_emitted: How many Token events were delivered before the error.
        field: The task's field that is wrong, as a path such as `messages[0].role`.

    Attributes:
        ledger: What a host did with the job, as in Metrics. Empty without a host.
    """

    codes: ClassVar[frozenset[ErrorCode]] = frozenset(ErrorCode)
    ledger: tuple[Mapping[str, Any], ...] = ()

    def __init__(
        self,
        code: ErrorCode | str,
        message: str,
        retriable: bool | None = None,
        retry_after_ms: int | None = None,
        status: int | None = None,
        request_id: str | None = None,
        job_id: str | None = None,
        tokens_emitted: int = 0,
        field: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code if type(code) is ErrorCode else ErrorCode(code)
        if self.code not in self.codes:
            allowed = ", ".join(sorted(self.codes))
            raise ValueError(f"{type(self).__name__} has no code {self.code}; it has {allowed}")
        self.message = message
        self.retriable = CODES[self.code].retriable if retriable is None else retriable
        self.retry_after_ms = retry_after_ms
        self.status = status
        self.request_id = request_id
        self.job_id = job_id
        self.tokens_emitted = tokens_emitted
        self.field = field

    @staticmethod
    def of(code: ErrorCode | str, message: str, **fields: Any) -> "WorkerError":
        """Build the error of the subclass that owns `code`; `fields` as for WorkerError."""
        return CODES[ErrorCode(code)].error(code, message, **fields)

    def fields(self) -> dict[str, Any]:
        """Return the constructor's arguments, by name."""
        return {name: getattr(self, name) for name in _FIELDS}

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.code)!r}, {self.message!r})"


class InvalidRequest(WorkerError, ValueError):
    """The task cannot be served as written; sending it again will not help."""

    codes = frozenset({ErrorCode.INVALID_PARAMS, ErrorCode.CONTEXT_OVERFLOW})


class AuthenticationFailed(WorkerError):
    """The engine refuses the credentials, or requires some."""

    codes = frozenset({ErrorCode.UPSTREAM_AUTH})


class NotFound(WorkerError, LookupError):
    """The model, the deployment or the path does not exist on this engine."""

    codes = frozenset({ErrorCode.UPSTREAM_NOT_FOUND})


class CapacityExceeded(WorkerError):
    """The engine, a quota, or our own queue has no room for the job."""

    codes = frozenset(
        {ErrorCode.ADMISSION_REJECT, ErrorCode.QUOTA_EXHAUSTED, ErrorCode.LOCAL_SATURATED}
    )


class EngineUnavailable(WorkerError, ConnectionError):
    """No engine could be reached."""

    codes = frozenset({ErrorCode.POOL_UNAVAILABLE, ErrorCode.CIRCUIT_OPEN})


class WorkerReset(WorkerError, ConnectionError):
    """The engine failed or broke the connection."""

    codes = frozenset({ErrorCode.WORKER_RESET})


class WorkerTimeout(WorkerError, TimeoutError):
    """A time limit passed: no token came, or the deadline is over."""

    codes = frozenset({ErrorCode.DECODE_TIMEOUT, ErrorCode.DEADLINE_UNMET})


class StreamingError(WorkerError):
    """The answer ended without proof that it is whole, or is not an answer at all."""

    codes = frozenset({ErrorCode.STREAM_TRUNCATED, ErrorCode.UPSTREAM_PROTOCOL})


class ContentFiltered(WorkerError):
    """A content filter withheld the answer or the rest of it."""

    codes = frozenset({ErrorCode.CONTENT_FILTER})


class Cancelled(WorkerError):
    """The job was cancelled. Not asyncio.CancelledError, which is never replaced by this."""

    codes = frozenset({ErrorCode.CANCELLED})


class EgressDenied(WorkerError):
    """The egress allow-list forbids this host (ORCH-3080)."""

    codes = frozenset({ErrorCode.EGRESS_DENIED})


class InternalError(WorkerError):
    """An adapter broke its contract or failed unexpectedly; `__cause__` is the reason."""

    codes = frozenset({ErrorCode.INTERNAL})


@attrs.frozen
class CodeFacts:
    """The meaning of an error code to a program.

    Args:
        error: The class that carries it.
        retriable: Whether the same task may succeed when it is sent again.
        http_status: The status with which an HTTP front door reports it.
    """

    error: type[WorkerError]
    retriable: bool
    http_status: int


CODES: dict[ErrorCode, CodeFacts] = {
    ErrorCode.INVALID_PARAMS: CodeFacts(InvalidRequest, False, 400),
    ErrorCode.CONTEXT_OVERFLOW: CodeFacts(InvalidRequest, False, 400),
    # The client's own key was accepted: the operator's key for the engine is at fault.
    ErrorCode.UPSTREAM_AUTH: CodeFacts(AuthenticationFailed, False, 502),
    ErrorCode.UPSTREAM_NOT_FOUND: CodeFacts(NotFound, False, 404),
    ErrorCode.ADMISSION_REJECT: CodeFacts(CapacityExceeded, True, 429),
    ErrorCode.QUOTA_EXHAUSTED: CodeFacts(CapacityExceeded, False, 429),
    ErrorCode.LOCAL_SATURATED: CodeFacts(CapacityExceeded, True, 429),
    ErrorCode.POOL_UNAVAILABLE: CodeFacts(EngineUnavailable, True, 503),
    ErrorCode.CIRCUIT_OPEN: CodeFacts(EngineUnavailable, True, 503),
    ErrorCode.WORKER_RESET: CodeFacts(WorkerReset, True, 502),
    ErrorCode.DECODE_TIMEOUT: CodeFacts(WorkerTimeout, True, 504),
    ErrorCode.DEADLINE_UNMET: CodeFacts(WorkerTimeout, False, 504),
    ErrorCode.STREAM_TRUNCATED: CodeFacts(StreamingError, True, 502),
    ErrorCode.UPSTREAM_PROTOCOL: CodeFacts(StreamingError, False, 502),
    ErrorCode.CONTENT_FILTER: CodeFacts(ContentFiltered, False, 400),
    ErrorCode.CANCELLED: CodeFacts(
        Cancelled, False, 499
    ),  # nginx's status for a client that closed the request
    ErrorCode.EGRESS_DENIED: CodeFacts(EgressDenied, False, 502),
    ErrorCode.INTERNAL: CodeFacts(InternalError, False, 500),
}
"""The meaning of each code: its class, whether it is retriable, its HTTP status."""


JsonReason = Literal["refused", "cut", "not_json"]


class JsonError(WorkerAdaptersError, ValueError):
    """An answer, or the arguments of a tool call, cannot be used as JSON.

    Args:
        reason: "refused" if the model refused, "cut" if the answer ended at its token limit,
            "not_json" otherwise.
        message: One or two sentences for a person.
    """

    def __init__(self, reason: JsonReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


class RegistryError(WorkerAdaptersError):
    """An adapter cannot be found, loaded or configured. `name` is the adapter's name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class AdapterNotFound(RegistryError, LookupError):
    """No installed distribution offers an adapter of this name, or the name is blocked."""

    def __init__(
        self,
        name: str,
        installed: Iterable[str],
        nearest: str | None,
        blocked: bool = False,
        cause: str = "",
    ) -> None:
        super().__init__(name)
        self.installed = tuple(installed)
        self.nearest = nearest
        self.blocked = blocked
        self.cause = cause

    def __str__(self) -> str:
        if self.blocked:
            return (
                f"adapter {self.name!r} is blocked: take it out of WORKER_ADAPTERS_BLOCKED "
                "(or the registry's blocked names) to use it"
            )
        hint = f"did you mean {self.nearest!r}? " if self.nearest else ""
        names = ", ".join(self.installed) or "none"
        text = (
            f"no adapter named {self.name!r}: {hint}installed: {names}. Install the "
            "distribution that offers it; in a running process call registry.refresh() after that"
        )
        return f"{text}. {self.cause}" if self.cause else text


class AmbiguousAdapter(RegistryError, LookupError):
    """Several distributions offer an adapter of this name."""

    def __init__(self, name: str, distributions: Iterable[str]) -> None:
        super().__init__(name)
        self.distributions = tuple(distributions)

    def __str__(self) -> str:
        return (
            f"adapter {self.name!r} is offered by {' and '.join(self.distributions)}: "
            f"ask for one of them, as in registry.get('{self.distributions[0]}:{self.name}'), "
            "or uninstall the other"
        )


class AdapterLoadError(RegistryError):
    """The adapter's code could not be imported or its object not built."""

    def __init__(
        self, name: str, distribution: str, version: str, target: str, reason: str
    ) -> None:
        super().__init__(name)
        self.distribution = distribution
        self.version = version
        self.target = target
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"adapter {self.name!r} ({self.target}, from {self.distribution} {self.version}) "
            f"cannot be loaded: {self.reason}"
        )


class ContractError(RegistryError):
    """The adapter does not fulfil the contract; `problems` lists everything found.

    Args:
        name: The adapter's name; "middleware" or "observers" for what an application gives.
        target: Where the class is, as "module:attribute".
        problems: One sentence each.
        distribution: The distribution that the adapter comes from, where it comes from one.
        version: That distribution's version.
        kind: What it is: "adapter", or for what an application gives, its name again.
    """

    def __init__(
        self,
        name: str,
        target: str,
        problems: Iterable[str],
        distribution: str | None = None,
        version: str | None = None,
        kind: str = "adapter",
    ) -> None:
        super().__init__(name)
        self.target = target
        self.problems = tuple(problems)
        self.distribution = distribution
        self.version = version
        self.kind = kind

    def __str__(self) -> str:
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        if self.kind != "adapter":
            return f"{self.kind}: {self.target} does not fulfil the contract:{lines}"
        origin = f", from {self.distribution} {self.version}" if self.distribution else ""
        return f"adapter {self.name!r} ({self.target}{origin}) does not fulfil the contract:{lines}"


ProblemKind = Literal["unknown", "missing", "type", "value"]


@attrs.frozen
class Problem:
    """One thing that is wrong with given options.

    Args:
        path: The option, as `$.retry.attempts` or `workers.toml: $.replicas[2].options.api_key`;
            empty for the options as a whole.
        message: What is wrong and what to do, without the path.
        kind: "unknown" for an option that does not exist, "missing" for one that has to be given,
            "type" for a value of another type, "value" for everything else.
    """

    path: str
    message: str
    kind: ProblemKind = "value"

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(RegistryError, ValueError):
    """The adapter's options are wrong; `problems` has the path and the message of each."""

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        super().__init__(name)
        self.problems = tuple(problems)

    @classmethod
    def single(cls, name: str, message: str, path: str = "") -> Self:
        """Return a ConfigError with one problem."""
        return cls(name, (Problem(path, message),))

    def __str__(self) -> str:
        heading = f"configuration of {self.name!r}:"
        if len(self.problems) == 1:
            return f"{heading} {self.problems[0]}"
        return heading + "".join(f"\n  - {problem}" for problem in self.problems)
