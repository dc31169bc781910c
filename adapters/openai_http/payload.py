"""The JSON of one event, decoded leniently if nothing is lost by that, and in bounded time."""

import json
import re
from typing import Any

import msgspec

from adapter_api import ErrorCode, StreamingError

MAX_UNTYPED_BYTES = 1 << 20
"""Larger JSON is decoded into declared types only, which builds few objects."""

MAX_UNTYPED_VALUES = 50_000
"""JSON with more commas and brackets is decoded in the same way: building its objects would block
the event loop for longer than 50 ms."""

_FEW_BYTES = MAX_UNTYPED_VALUES  # no more values than bytes

_FILTERED = re.compile(rb'"filtered"\s{0,8}:\s{0,8}true')
"""Azure's sign that its filter withheld something. In a text the quotes are escaped."""

NOT_JSON = (ValueError, RecursionError)  # msgspec's errors and UnicodeDecodeError are ValueErrors


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
    images: msgspec.Raw = msgspec.Raw()
    audio: msgspec.Raw = msgspec.Raw()
    camel_calls: tuple[_Call] | None = msgspec.field(name="toolCalls", default=None)


class _Choice(msgspec.Struct, omit_defaults=True):
    index: int | None = None
    text: str | None = None
    delta: _Part | None = None
    message: _Part | None = None
    finish_reason: str | None = None
    camel_reason: str | None = msgspec.field(name="finishReason", default=None)
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
_check = msgspec.json.Decoder(msgspec.Raw).decode
"""Reads strict JSON without building any value: 4 MiB of empty lists take 20 ms instead of 2 s."""


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

    At most one choice with one call is decoded, so that the server cannot choose the number of
    objects.
    """
    try:
        chunk = _decode_large(data)
    except NOT_JSON as exc:
        raise StreamingError(
            ErrorCode.UPSTREAM_PROTOCOL,
            f"not an OpenAI stream: an event of {len(data)} bytes is not a plain chunk",
        ) from exc
    found: dict[str, Any] = msgspec.to_builtins(chunk, enc_hook=_marker)
    found["choices"] = [*found["choices"]]
    if _FILTERED.search(data):
        found["choices"][0]["content_filter_results"] = {"filtered": True}
    for name in ("delta", "message"):
        part = found["choices"][0].get(name)
        for calls in ("tool_calls", "toolCalls"):
            if part and part.get(calls):
                part[calls] = [*part[calls]]
    return found


def _marker(skipped: msgspec.Raw) -> list[str] | None:
    """Return a marker in place of a field that is not read."""
    return ["skipped"] if memoryview(skipped).nbytes > len(b"null") else None


def is_strict_json(text: str) -> bool:
    """Return whether `text` is JSON as in RFC 8259."""
    try:
        _check(text)
    except NOT_JSON:
        return False
    return True


def bytes_as_json(value: Any) -> int:
    """Return how many bytes `value` takes as JSON."""
    try:
        return len(msgspec.json.encode(value))
    except (TypeError, *NOT_JSON):  # half a surrogate pair
        return len(repr(value))
