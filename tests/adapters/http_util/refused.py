"""The codes of errors by short names, and the error of a refusal, for the tests of meanings."""

import json
from typing import Any

from adapter_api import ErrorCode, WorkerError
from adapters.http_util import error_from_response

OVERFLOW, QUOTA, FILTER, AUTH, MISSING, BUSY, AWAY, INVALID, RESET = (
    ErrorCode.CONTEXT_OVERFLOW,
    ErrorCode.QUOTA_EXHAUSTED,
    ErrorCode.CONTENT_FILTER,
    ErrorCode.UPSTREAM_AUTH,
    ErrorCode.UPSTREAM_NOT_FOUND,
    ErrorCode.ADMISSION_REJECT,
    ErrorCode.POOL_UNAVAILABLE,
    ErrorCode.INVALID_PARAMS,
    ErrorCode.WORKER_RESET,
)


def refused(status: int, error: Any) -> WorkerError:
    return error_from_response(status, {}, json.dumps(error).encode())
