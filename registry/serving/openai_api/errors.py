"""Failures in the shape that OpenAI's clients read."""

import math
import re
from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from adapter_api import ErrorCode, WorkerError
from adapter_api.errors import CODES

Headers = list[tuple[bytes, bytes]]

_TYPE_OF_STATUS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    431: "invalid_request_error",
    429: "rate_limit_error",
}
"""OpenAI's `type` by status; every other failure is a `server_error`."""

_OPENAI_CODE = {
    ErrorCode.INVALID_PARAMS: "invalid_value",
    ErrorCode.CONTEXT_OVERFLOW: "context_length_exceeded",
    ErrorCode.QUOTA_EXHAUSTED: "insufficient_quota",
    ErrorCode.UPSTREAM_NOT_FOUND: "model_not_found",
    ErrorCode.CONTENT_FILTER: "content_filter",
}
"""Codes with an equivalent in OpenAI's API; the others are this package's in lower case."""

_OWN_CODES = frozenset(
    {
        ErrorCode.ADMISSION_REJECT,
        ErrorCode.LOCAL_SATURATED,
        ErrorCode.CIRCUIT_OPEN,
        ErrorCode.DEADLINE_UNMET,
        ErrorCode.CANCELLED,
        ErrorCode.EGRESS_DENIED,
        ErrorCode.INTERNAL,
    }
)
"""Codes that the gateway and its host give themselves, unless an HTTP status came with them."""

_LASTING = frozenset({ErrorCode.QUOTA_EXHAUSTED, ErrorCode.UPSTREAM_AUTH, ErrorCode.EGRESS_DENIED})
"""Permanent errors: OpenAI's clients would otherwise repeat every 429 and 5xx."""


@attrs.frozen
class ApiError(Exception):
    """A request that is answered with an error.

    Args:
        status: The HTTP status.
        message: The problem and the advice, for people.
        code: The code, for programs.
        param: The request's field that is wrong, where one is.
        source: "gateway" if the request was refused here, "engine" if an engine refused it.
        retry_after_ms: How long to wait before the next try, in milliseconds.
        headers: Further headers of the answer.
    """

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    source: str = "gateway"
    retry_after_ms: int | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)

    def __str__(self) -> str:
        return self.message

    def body(self) -> bytes:
        """Return the error as a JSON object."""
        return msgspec.json.encode({"error": self._fields()})

    def event(self) -> bytes:
        """Return the error as a server-sent event; the last one of its stream."""
        return b"data: " + self.body() + b"\n\n"

    def wire_headers(self) -> Headers:
        """Return the headers that belong to this error."""
        found = dict(self.headers)
        if self.retry_after_ms is not None:
            found["retry-after"] = str(math.ceil(self.retry_after_ms / 1000))
            found["retry-after-ms"] = str(self.retry_after_ms)
        return [(name.encode("ascii"), value.encode("latin-1")) for name, value in found.items()]

    def _fields(self) -> dict[str, Any]:
        return {
            "message": self.message,
            "type": _TYPE_OF_STATUS.get(self.status, "server_error"),
            "param": self.param,
            "code": self.code,
            "source": self.source,
        }


def from_worker_error(error: WorkerError) -> ApiError:
    """Return the answer to a job that failed."""
    code = error.code
    own = code in _OWN_CODES and error.status is None
    return ApiError(
        CODES[code].http_status,
        error.message,
        code=_OPENAI_CODE.get(code, code.lower()),
        param=error.field,
        source="gateway" if own else "engine",
        retry_after_ms=error.retry_after_ms,
        headers={"x-should-retry": "false"} if code in _LASTING else {},
    )


def shutting_down() -> ApiError:
    """Return the answer to requests that arrive or are cut off during shutdown."""
    return ApiError(
        503,
        "The gateway is shutting down.",
        code="shutting_down",
        headers={"connection": "close"},
    )


def broken(error: Exception) -> ApiError:
    """Return the answer to a request at which the gateway itself failed; its log has the cause."""
    message = f"The gateway failed ({type(error).__name__}). Its log has the cause."
    return ApiError(500, message, code="internal")


def not_found(path: str, served: list[str]) -> ApiError:
    """Return the answer to a path that is not served; the dashboard's own files are not listed."""
    served = [each for each in served if not each.startswith("/dashboard/")]
    meant = _meant(path, served)
    advice = f"Did you mean {meant}?" if meant else f"This gateway serves {', '.join(served)}."
    return ApiError(404, f"{path[:200]} is not served here. {advice}", code="unknown_url")


def _meant(path: str, served: list[str]) -> str | None:
    """Return the served path that this one resembles, with another base or extra slashes."""
    tidy = re.sub("/+", "/", path).rstrip("/")
    found = [each for each in served if len(each) > 1 and tidy.endswith(each.removeprefix("/v1"))]
    return max(found, key=len, default=None)


def model_not_found(model: str, known: list[str]) -> ApiError:
    """Return the answer to a request for a model that no pool serves."""
    names = ", ".join(known[:20]) or "none"
    return ApiError(
        404,
        f"The model {model[:200]!r} does not exist here. Models: {names}.",
        code="model_not_found",
        param="model",
    )
