"""Errors of the taxonomy for refusals, error events and broken connections.

    answer with another status      error_from_response     HTU-ERR-4002
    error inside an answer          error_from_payload
    failure of the connection       error_from_exception

error_body.py reads the server's error, meaning.py decides what it means.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from adapter_api import (
    AuthenticationFailed,
    CapacityExceeded,
    EngineUnavailable,
    ErrorCode,
    InvalidRequest,
    StreamingError,
    WorkerError,
    WorkerReset,
    WorkerTimeout,
)
from adapters.http_util.delays import retry_after_ms
from adapters.http_util.error_body import ErrorBody, read_error_body, read_error_payload, tidy
from adapters.http_util.meaning import code_for
from adapters.http_util.retry import Unanswered
from adapters.http_util.secrets import redact
from adapters.http_util.transport.connecting import NoTls, UntrustedCertificate

PROXY_ADVICE = "The proxy requires credentials: write them into proxy, as http://user:password@host"
"""Advice for a proxy's 407."""

MAX_LOCATION_CHARS = 200
"""The maximum shown of a redirect's target: enough for the server and the path."""


def error_from_response(
    status: int,
    headers: Mapping[str, str],
    body: bytes | ErrorBody,
    *,
    secrets: Iterable[str] = (),
    hint: str = "",
) -> WorkerError:
    """Return the error for an answer that is not a success.

    Args:
        status: The HTTP status.
        headers: The answer's headers, names in lower case.
        body: The part of the body that was read, or the result of read_error_body.
        secrets: Credentials to keep out of the message.
        hint: Advice for the caller, appended to the message.
    """
    read = read_error_body(body, secrets) if isinstance(body, bytes) else body
    said = f": {read.message}" if read.message else ""
    if 300 <= status < 400:
        said = _redirection(headers.get("location"), secrets)
    if hint:
        said = f"{said.rstrip('.')}. {hint}"
    told_ms = retry_after_ms(headers)
    error = WorkerError.of(
        code_for(status, read, delayed=told_ms is not None),
        f"the server answered {status}{said}",
        status=status,
        request_id=_request_id(headers, secrets),
    )
    if error.retriable or error.code is ErrorCode.QUOTA_EXHAUSTED:
        error.retry_after_ms = read.retry_after_ms if told_ms is None else told_ms
    return error


def _redirection(location: str | None, secrets: Iterable[str]) -> str:
    """Return a text about a redirect and its target, without credentials and query."""
    if not location:
        return ", a redirect without a target"
    target = tidy(location.partition("?")[0], secrets)[:MAX_LOCATION_CHARS]
    return f", a redirect to {target}. Redirects are not followed: set base_url to where the API is"


def _request_id(headers: Mapping[str, str], secrets: Iterable[str]) -> str | None:
    found = headers.get("x-request-id") or headers.get("apim-request-id")
    return tidy(found, secrets) if found else None


def error_from_payload(payload: Any, *, secrets: Iterable[str] = ()) -> WorkerError:
    """Return the error for an error inside an answer: an object of any shape, a string, a list.

    Args:
        payload: The decoded JSON, or the text as it came.
        secrets: Credentials to keep out of the message.
    """
    read = read_error_payload(payload, secrets)
    error = WorkerError.of(
        code_for(read.status, read),
        f"the server reported an error: {read.message or 'it gave no reason'}",
        status=read.status,
    )
    if error.retriable:
        error.retry_after_ms = read.retry_after_ms
    return error


def error_from_exception(
    exc: Exception, *, answering: bool = False, secrets: Iterable[str] = ()
) -> WorkerError:
    """Return the error for an exception of httpx, or of the transport behind it.

    Args:
        exc: Usually an httpx.TransportError.
        answering: Whether the answer had begun: a failure then cuts it off. A timeout before that
            is Unanswered, which `may_repeat` does not repeat.
        secrets: Credentials to keep out of the message.
    """
    said = redact(str(exc), secrets) or type(exc).__name__
    if isinstance(exc, httpx.PoolTimeout):
        return CapacityExceeded(
            ErrorCode.LOCAL_SATURATED,
            "all connections are in use; raise max_connections or send fewer jobs at once",
        )
    if isinstance(exc, httpx.ConnectTimeout):
        return EngineUnavailable(ErrorCode.POOL_UNAVAILABLE, f"connecting took too long: {said}")
    if isinstance(exc, UntrustedCertificate | NoTls):
        return EngineUnavailable(
            ErrorCode.POOL_UNAVAILABLE, f"cannot connect: {said}", retriable=False
        )
    if isinstance(exc, httpx.ProxyError):
        return _refused_by_proxy(said)
    if isinstance(exc, httpx.ConnectError | httpx.UnsupportedProtocol):
        return EngineUnavailable(ErrorCode.POOL_UNAVAILABLE, f"cannot connect: {said}")
    if isinstance(exc, httpx.TimeoutException):
        if answering:
            return WorkerTimeout(ErrorCode.DECODE_TIMEOUT, f"the server went silent: {said}")
        return Unanswered(ErrorCode.POOL_UNAVAILABLE, f"the server did not answer: {said}")
    if isinstance(exc, httpx.LocalProtocolError):
        return InvalidRequest(ErrorCode.INVALID_PARAMS, f"the request cannot be sent: {said}")
    if not _broke_off(exc):
        return StreamingError(ErrorCode.UPSTREAM_PROTOCOL, f"not a valid HTTP answer: {said}")
    if answering:
        return StreamingError(ErrorCode.STREAM_TRUNCATED, f"the answer is cut off: {said}")
    return WorkerReset(ErrorCode.WORKER_RESET, f"the connection broke: {said}")


def _refused_by_proxy(said: str) -> WorkerError:
    """Return the error for a proxy that opens no tunnel; its answer begins with the status."""
    if said.startswith("407"):
        return AuthenticationFailed(
            ErrorCode.UPSTREAM_AUTH, f"the proxy answered {said}. {PROXY_ADVICE}"
        )
    return EngineUnavailable(
        ErrorCode.POOL_UNAVAILABLE,
        f"cannot connect: the proxy answered {said}",
        retriable=not said.startswith("403"),  # it forbids this server
    )


def _broke_off(exc: Exception) -> bool:
    # httpcore reports a connection that ends too early as a protocol error, in these words.
    return isinstance(exc, httpx.NetworkError) or (
        isinstance(exc, httpx.RemoteProtocolError) and "without sending" in str(exc)
    )
