"""The errors of jobs, and the one table of their codes."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, ClassVar, Literal, NamedTuple

from adapter_api.errors.base import WorkerAdaptersError


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
        code: The kind of failure; each subclass accepts only its own codes.
        message: One sentence for a person, with what to do where that is known.
        retriable: Whether the same task may succeed when it is sent again, here or
            elsewhere. By default the code decides.
        retry_after_ms: The delay that the engine requests before a retry, in milliseconds.
        status: The HTTP status behind the error.
        request_id: The engine's own id of the request.
        job_id: The task's job_id.
        tokens_emitted: How many Token events were delivered before the error.
        field: The task's field that is wrong, as a path such as `messages[0].role`.

    Attributes:
        steps: Returns the steps of the job through a host; None without a host.
    """

    codes: ClassVar[frozenset[ErrorCode]] = frozenset(ErrorCode)
    steps: Callable[[], tuple[Mapping[str, Any], ...]] | None = None

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

    @property
    def ledger(self) -> tuple[Mapping[str, Any], ...]:
        """The steps of the job through a host, as in Metrics. Empty without a host."""
        return () if self.steps is None else self.steps()

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


class CodeFacts(NamedTuple):
    """The meaning of an error code to a program. A NamedTuple, because programs that only list
    names import the errors, too, and attrs takes longer to import than all the rest of that.

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
