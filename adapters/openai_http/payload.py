"""The JSON of one event, decoded leniently where nothing is lost by it, and in bounded time."""

import json
from typing import Any

import msgspec

from adapter_api import ErrorCode, StreamingError

MAX_UNTYPED_BYTES = 1 << 20
"""JSON above this is decoded into declared types only, which builds few objects."""

MAX_UNTYPED_VALUES = 50_000
"""So is JSON with more commas and brackets than this: building its objects would block the event
loop for longer than 50 ms."""

_FEW_BYTES = MAX_UNTYPED_VALUES  # no more values than bytes

NOT_JSON = (ValueError, RecursionError)  # msgspec's errors and UnicodeDecodeError are ValueErrors

_GOOD_CODES = ("", 0, "0", 200, "200")  # what gateways put beside `"message": "success"`

_ERROR_KEYS = (
    *("errors", "err", "errmsg", "err_msg", "error_msg", "error_message", "errorMessage"),
    *("error_code", "errorCode", "exception", "fault", "traceback"),
)

_STATUS_KEYS = ("status", "status_code", "statusCode", "http_status", "httpStatus")

_SIGNS = frozenset(
    {"error", "object", "detail", "message", "msg", "type", "success", "base_resp"}
    | {"promptFeedback", *_ERROR_KEYS, *_STATUS_KEYS}
)
"""An event with none of these is not an error: nearly every one."""

_GOOD_SIGNS = frozenset({"code", "status", "id", "event", "progress"})
"""A message beside one of these may be a notice, such as a place in a queue."""

_FAILED = ("error", "failed", "failure", "fail")
_FAILED_KINDS = ("error", "exception", "failed", "failure")


class _Function(msgspec.Struct, omit_defaults=True):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct, omit_defaults=True):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Part(msgspec.Struct, omit_defaults=True):
    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[_Call] | None = None
    error: str | None = None


class _Choice(msgspec.Struct, omit_defaults=True):
    index: int | None = None
    text: str | None = None
    delta: _Part | None = None
    message: _Part | None = None
    finish_reason: str | None = None
    error: str | None = None


class _Usage(msgspec.Struct, omit_defaults=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Chunk(msgspec.Struct, omit_defaults=True):
    choices: tuple[_Choice]
    id: str | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    usage: _Usage | None = None
    error: str | None = None


_decode_any = msgspec.json.Decoder().decode
_decode_large = msgspec.json.Decoder(_Chunk).decode


def decode(data: bytes) -> Any:
    """Return the value of `data`; NaN, halves of surrogate pairs and invalid UTF-8 are accepted.

    Raises:
        ValueError: If it is not JSON.
        RecursionError: If it is nested too deeply.
        StreamingError: UPSTREAM_PROTOCOL if it is too large for anything but a plain chunk.
    """
    if len(data) > _FEW_BYTES and (len(data) > MAX_UNTYPED_BYTES or _is_dense(data)):
        return _decode_typed(data)
    try:
        return _decode_any(data)
    except NOT_JSON:
        return json.loads(data.decode("utf-8", "replace"))


def _is_dense(data: bytes) -> bool:
    return sum(map(data.count, (b",", b"[", b"{"))) > MAX_UNTYPED_VALUES


def _decode_typed(data: bytes) -> Any:
    """Return the fields of a large chunk that carry an answer; others, such as images, are skipped.

    One choice with one call at most: the number of objects is not up to the server.
    """
    try:
        chunk = _decode_large(data)
    except NOT_JSON as exc:
        raise StreamingError(
            ErrorCode.UPSTREAM_PROTOCOL,
            f"not an OpenAI stream: an event of {len(data)} bytes is not a plain chunk",
        ) from exc
    found: dict[str, Any] = msgspec.to_builtins(chunk)
    found["choices"] = [*found["choices"]]
    for name in ("delta", "message"):
        part = found["choices"][0].get(name)
        if part and part.get("tool_calls"):
            part["tool_calls"] = [*part["tool_calls"]]
    return found


def is_error(payload: dict[str, Any]) -> bool:
    """Return whether an event is an error object, in any known shape."""
    if _SIGNS.isdisjoint(payload):
        return False
    if payload.get("error") or payload.get("object") == "error":
        return True
    if payload.get("choices"):
        return False
    return _is_bare_error(payload) or _is_failed(payload)


def _is_bare_error(payload: dict[str, Any]) -> bool:
    """Return whether an event without choices holds an error and nothing else."""
    if "choices" in payload:
        return bool(payload.get("errors") or payload.get("detail"))
    words = isinstance(payload.get("message"), str) and payload["message"].strip()
    return bool(
        "detail" in payload
        or payload.get("error") not in (None, False)
        or any(payload.get(name) for name in _ERROR_KEYS)
        or (words and _GOOD_SIGNS.isdisjoint(payload) and not _is_good(words))
    )


def _is_failed(payload: dict[str, Any]) -> bool:
    """Return whether an event without an answer says that the request failed or was blocked."""
    kind, base = payload.get("type"), payload.get("base_resp")
    said = payload.get("message") or payload.get("msg")
    feedback = payload.get("promptFeedback")
    return bool(
        (isinstance(kind, str) and kind.lower().endswith(_FAILED_KINDS))
        or any(_is_failure(payload.get(name)) for name in _STATUS_KEYS)
        or payload.get("success") is False
        or (said and payload.get("code") not in (None, *_GOOD_CODES))
        or (isinstance(base, dict) and base.get("status_code") not in (None, *_GOOD_CODES))
        or (isinstance(feedback, dict) and feedback.get("blockReason"))
    )


def _is_failure(status: Any) -> bool:
    if isinstance(status, str):
        return status.lower() in _FAILED
    return type(status) is int and 400 <= status <= 599


def _is_good(words: str) -> bool:
    return words.strip(" .!").lower() in ("ok", "success", "succeeded", "ping", "keepalive")
