"""Whatever a server or connection answers instead of a stream, as a WorkerError (HTU-ERR-4002)."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import httpx
import msgspec

from adapter_api import (
    CapacityExceeded,
    EngineUnavailable,
    ErrorCode,
    InvalidRequest,
    StreamingError,
    WorkerError,
    WorkerReset,
    WorkerTimeout,
)
from adapters.http_util.retry import Unanswered, retry_after_ms
from adapters.http_util.secrets import redact

MAX_MESSAGE_CHARS = 500
"""Enough of an error's text to act on; servers put whole prompts and pages in there."""

MAX_SEARCHED_CHARS = 64 << 10
"""How much of an error's text is searched for credentials, and so at most shown."""

_CONTEXT_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_CONTEXT_WORDS = re.compile(
    r"maximum context length|context[ _](?:length|window|size)[^.]{0,40}exceed"
    r"|exceeds?[^.]{0,40}context[ _](?:length|window|size)|prompt is too long"
    r"|longer than the (?:maximum )?(?:model|context)|input is too long",
    re.IGNORECASE,
)
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_FILTER_CODES = frozenset(
    {"content_filter", "content_policy_violation", "responsibleaipolicyviolation"}
)
_BUSY_CODES = frozenset(
    {"rate_limit_exceeded", "rate_limit_error", "rate_limited", "overloaded", "overloaded_error"}
)
_INVALID_CODES = frozenset(
    {"invalid_request_error", "badrequesterror", "bad request", "bad_request"}
)


@attrs.frozen
class ErrorBody:
    """What an error body says, whatever its shape. The message is one line, bounded, without
    credentials."""

    message: str
    codes: frozenset[str] = frozenset()
    param: str | None = None
    status: int | None = None


def read_error_body(body: bytes, secrets: Iterable[str] = ()) -> ErrorBody:
    """Read an error body: an error object, a string, a `detail` as FastAPI sends it, text, HTML or
    nothing. Never raises.

    Args:
        body: What came.
        secrets: Credentials to keep out of the message.
    """
    try:
        payload = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return ErrorBody(_tidy(body.decode("utf-8", "replace"), secrets))
    return read_error_payload(payload, secrets)


def read_error_payload(payload: Any, secrets: Iterable[str] = ()) -> ErrorBody:
    """As read_error_body, of decoded JSON; also of the `error` value in a stream."""
    try:
        return _read_payload(payload, secrets)
    except RecursionError:
        return ErrorBody("an error that is nested too deeply to be read")


def _read_payload(payload: Any, secrets: Iterable[str]) -> ErrorBody:
    if isinstance(payload, dict):
        inner = payload.get("error")
        if isinstance(inner, dict):
            return _read_payload(inner, secrets)
        if isinstance(inner, str) and inner:
            return ErrorBody(_tidy(inner, secrets), _codes(payload), status=_status(payload))
        if "detail" in payload:
            return _read_detail(payload["detail"], secrets)
        message = payload.get("message")
        if not message and (several := payload.get("errors")):
            first = several[0] if isinstance(several, list) else several
            return _read_payload(first, secrets)
        if not isinstance(message, str):
            message = str(payload) if payload else ""
        param = payload.get("param")
        return ErrorBody(
            _tidy(message, secrets),
            _codes(payload),
            param if isinstance(param, str) else None,
            _status(payload),
        )
    if payload is None:
        return ErrorBody("")
    return ErrorBody(_tidy(payload if isinstance(payload, str) else str(payload), secrets))


def _read_detail(detail: Any, secrets: Iterable[str]) -> ErrorBody:
    if isinstance(detail, list):
        parts, fields = [], []
        for item in detail:
            if not isinstance(item, dict):
                parts.append(str(item))
                continue
            place = item.get("loc")
            steps = place if isinstance(place, list) else []
            where = [str(step) for step in steps if step != "body"]
            fields += where[:1]
            parts.append(f"{'.'.join(where)}: {item.get('msg') or item.get('type')}")
        param = fields[0] if len(fields) == 1 else None
        return ErrorBody(_tidy("; ".join(parts), secrets), param=param)
    return _read_payload(detail, secrets)


def _codes(payload: Mapping[str, Any]) -> frozenset[str]:
    values = [payload.get("code"), payload.get("type")]
    inner = payload.get("innererror")
    if isinstance(inner, dict):
        values.append(inner.get("code"))
    return frozenset(value.lower() for value in values if isinstance(value, str))


def _status(payload: Mapping[str, Any]) -> int | None:
    for key in ("code", "status"):
        value = payload.get(key)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
            value = int(value)
        if type(value) is int and 400 <= value <= 599:
            return value
    return None


def _tidy(text: str, secrets: Iterable[str]) -> str:
    """One printable line, without credentials (also none cut in half) and markup, of bounded
    length."""
    text = redact(text[:MAX_SEARCHED_CHARS], secrets)[: 8 * MAX_MESSAGE_CHARS]
    if text.lstrip().startswith("<"):
        text = re.sub(r"(?is)<(script|style)\b.*?</\1>|<[^>]*>", " ", text)
    text = "".join(char if char.isprintable() else " " for char in text)  # no terminal's commands
    text = " ".join(text.split())
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 3] + "..."


def code_for(status: int | None, body: ErrorBody) -> ErrorCode:
    """The taxonomy's code for an HTTP status and what the body adds to it."""
    if body.codes & _QUOTA_CODES:
        return ErrorCode.QUOTA_EXHAUSTED
    if body.codes & _FILTER_CODES:
        return ErrorCode.CONTENT_FILTER
    if body.codes & _CONTEXT_CODES or _CONTEXT_WORDS.search(body.message):
        return ErrorCode.CONTEXT_OVERFLOW
    if status is None:
        if body.codes & _BUSY_CODES:
            return ErrorCode.ADMISSION_REJECT
        if body.codes & _INVALID_CODES:
            return ErrorCode.INVALID_PARAMS
        return ErrorCode.WORKER_RESET
    if status in (401, 403):
        return ErrorCode.UPSTREAM_AUTH
    if status == 404:
        return ErrorCode.UPSTREAM_NOT_FOUND
    if status in (408, 409, 425, 429):
        return ErrorCode.ADMISSION_REJECT
    if 400 <= status < 500:
        return ErrorCode.INVALID_PARAMS
    if status == 500:
        return ErrorCode.WORKER_RESET
    if status > 500:
        return ErrorCode.POOL_UNAVAILABLE
    return ErrorCode.UPSTREAM_PROTOCOL


def error_from_response(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    secrets: Iterable[str] = (),
    hint: str = "",
) -> WorkerError:
    """The error for an answer with a status other than 200.

    Args:
        status: The HTTP status.
        headers: The answer's headers, names in lower case.
        body: What was read of the body.
        secrets: Credentials to keep out of the message.
        hint: What the caller can do, appended to the message.
    """
    read = read_error_body(body, secrets)
    said = f": {read.message}" if read.message else ""
    if 300 <= status < 400:
        said = " (redirects are not followed; set base_url to where it points)"
    return WorkerError.of(
        code_for(status, read),
        f"the server answered {status}{said}{hint and '. ' + hint}",
        status=status,
        retry_after_ms=retry_after_ms(headers),
        request_id=_request_id(headers, secrets),
    )


def _request_id(headers: Mapping[str, str], secrets: Iterable[str]) -> str | None:
    found = headers.get("x-request-id") or headers.get("apim-request-id")
    return _tidy(found, secrets) if found else None


def error_from_payload(payload: Any, *, secrets: Iterable[str] = ()) -> WorkerError:
    """The error for an error object, or string, inside a stream."""
    read = read_error_payload(payload, secrets)
    message = read.message or "no message"
    return WorkerError.of(
        code_for(read.status, read), f"the server broke off: {message}", status=read.status
    )


def error_from_exception(
    exc: Exception, *, answering: bool = False, secrets: Iterable[str] = ()
) -> WorkerError:
    """The error for what httpx, or the transport behind it, raised.

    Args:
        exc: Usually an httpx.TransportError.
        answering: Whether the answer had begun: what ends it then leaves it cut off. A timeout
            before that is Unanswered, which `may_repeat` does not repeat.
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
    if isinstance(exc, httpx.ConnectError | httpx.ProxyError | httpx.UnsupportedProtocol):
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


def _broke_off(exc: Exception) -> bool:
    # httpcore reports a connection that ends too early as a protocol error, in these words.
    return isinstance(exc, httpx.NetworkError) or (
        isinstance(exc, httpx.RemoteProtocolError) and "without sending" in str(exc)
    )
