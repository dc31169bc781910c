"""The JSON of one event: forgiving where nothing is lost by it, and bounded in time."""

import json
from typing import Any

import msgspec

from adapter_api import ErrorCode, StreamingError

MAX_UNTYPED_BYTES = 1 << 20
"""JSON above this is decoded into declared types only: building objects for a document of nested
lists blocks the event loop for a fifth of a second per MiB."""

NOT_JSON = (ValueError, RecursionError)  # msgspec's errors and UnicodeDecodeError are ValueErrors

_GOOD_CODES = (None, "", 0, "0", 200, "200")  # what gateways put beside `"message": "success"`


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


_decode_large = msgspec.json.Decoder(_Chunk).decode


def decode(data: bytes) -> Any:
    """Return the value of `data`, forgiving NaN, halves of surrogate pairs and invalid UTF-8.

    Raises:
        ValueError: If it is not JSON.
        RecursionError: If it is nested too deeply.
        StreamingError: UPSTREAM_PROTOCOL if it is too large for anything but a plain chunk.
    """
    if len(data) > MAX_UNTYPED_BYTES:
        return _decode_typed(data)
    try:
        return msgspec.json.decode(data)
    except NOT_JSON:
        return json.loads(data.decode("utf-8", "replace"))


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
    return msgspec.json.decode(msgspec.json.encode(chunk))


def is_error(payload: dict[str, Any]) -> bool:
    """Return whether an event is an error object, in any known shape."""
    if payload.get("error") or payload.get("object") == "error":
        return True
    if payload.get("choices"):
        return False
    bare = "choices" not in payload
    empty = bare and ("detail" in payload or payload.get("error") not in (None, False))
    failed = "error" in (payload.get("type"), payload.get("status"))
    reported = payload.get("message") and payload.get("code") not in _GOOD_CODES
    return bool(empty or failed or reported or payload.get("errors") or payload.get("detail"))
