"""Events as JSON-able frames and back, strictly typed (WA-INT-3008)."""

import operator
from functools import partial
from typing import Any

import attrs
from cattrs import ClassValidationError, Converter, transform_error
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from adapter_api.errors import ErrorCode, WorkerError
from adapter_api.events import (
    End,
    Error,
    Metrics,
    MetricsFrame,
    Reasoning,
    Refusal,
    ScoredToken,
    Started,
    Token,
    TokenEvent,
    TokenLogprob,
    ToolCallDelta,
)
from adapter_api.messages import InvalidToolCall, ToolCall

Frame = dict[str, Any]

_TYPES: dict[str, Any] = {
    "started": Started,
    "token": Token,
    "metrics": MetricsFrame,
    "end": End,
    "error": Error,
}
_NAMES = {cls: name for name, cls in _TYPES.items()}
_NAMES |= dict.fromkeys((Reasoning, Refusal, ToolCallDelta, ScoredToken), "token")


def _exactly(kind: type, *, admit: tuple[type, ...] = ()) -> Any:
    """Return `value` uncoerced: cattrs would turn 1 into '1' and True into 1."""

    def structure(value: Any, _: Any) -> Any:
        if type(value) is kind or type(value) in admit:
            return value
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")

    return structure


def _structure_error(value: Any, _: Any) -> Error:
    expected = {"code", "message", "retriable", "retry_after_ms"}
    if (
        not isinstance(value, dict)
        or not {"code", "message", "retriable"} <= set(value) <= expected
    ):
        raise TypeError("an error frame has code, message, retriable and retry_after_ms")
    retry_after_ms = value.get("retry_after_ms")
    if not isinstance(value["message"], str) or not isinstance(value["retriable"], bool):
        raise TypeError("message must be a string and retriable a boolean")
    if retry_after_ms is not None and type(retry_after_ms) is not int:
        raise TypeError("retry_after_ms must be an integer or null")
    return Error(
        WorkerError.of(
            ErrorCode(value["code"]),
            value["message"],
            retriable=value["retriable"],
            retry_after_ms=retry_after_ms,
        )
    )


def _unstructure_error(event: Error) -> Frame:
    error = event.error
    return {
        "code": str(error.code),
        "message": error.message,
        "retriable": error.retriable,
        "retry_after_ms": error.retry_after_ms,
    }


@attrs.frozen
class _CallPiece:
    """The `tool_call` of a token frame."""

    call: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@attrs.frozen
class _CallFrame:
    """A token frame with a piece of a tool call."""

    text: str
    index: int
    tool_call: _CallPiece
    logprob: float | None = None

    def event(self) -> ToolCallDelta:
        piece = attrs.asdict(self.tool_call)
        return ToolCallDelta(self.text, self.index, self.logprob, **piece)


@attrs.frozen
class _RefusalFrame:
    """A token frame with a piece of a refusal."""

    text: str
    index: int
    refusal: bool
    logprob: float | None = None

    def event(self) -> Refusal:
        if not self.refusal:
            raise ValueError("refusal must be true or absent")
        return Refusal(self.text, self.index, self.logprob)


_TOKEN_KINDS: dict[str, type] = {
    "reasoning": Reasoning,
    "refusal": _RefusalFrame,
    "tool_call": _CallFrame,
    "logprobs": ScoredToken,
}
"""The key that identifies a kind of token frame."""


def _unstructure_call(event: ToolCallDelta) -> Frame:
    piece = _CallPiece(event.call, event.id, event.name, event.arguments)
    frame: Frame = _converter.unstructure(_CallFrame(event.text, event.index, piece, event.logprob))
    return frame


def _unstructure_refusal(event: Refusal) -> Frame:
    frame: Frame = _converter.unstructure(
        _RefusalFrame(event.text, event.index, refusal=True, logprob=event.logprob)
    )
    return frame


def _make_converter() -> Converter:
    converter = Converter(forbid_extra_keys=True)
    for kind in (str, int, bool):
        converter.register_structure_hook(kind, _exactly(kind))
    converter.register_structure_hook(float, _exactly(float, admit=(int,)))
    for cls, unset in _OPTIONAL_KEYS.items():
        converter.register_structure_hook(
            cls, make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True)
        )
        rules = {name: override(omit_if_default=True) for name in unset}
        # Match the exact class: a hook of Token must not apply to its subclasses.
        converter.register_unstructure_hook_func(
            partial(operator.is_, cls),
            make_dict_unstructure_fn(cls, converter, **rules),  # type: ignore[arg-type]
        )
    converter.register_structure_hook(Error, _structure_error)
    converter.register_unstructure_hook(Error, _unstructure_error)
    converter.register_unstructure_hook(ToolCallDelta, _unstructure_call)
    converter.register_unstructure_hook(Refusal, _unstructure_refusal)
    return converter


# The classes of frames, with the keys that are omitted at their defaults. Inner classes come
# first: cattrs uses the hooks that are registered when it builds another.
_OPTIONAL_KEYS: dict[type, tuple[str, ...]] = {
    Metrics: ("ledger", "cached_tokens", "reasoning_tokens"),
    ToolCall: ("extra",),
    InvalidToolCall: ("extra",),
    TokenLogprob: ("top",),
    _CallPiece: ("id", "name"),
    Started: ("replica_id",),
    Token: ("logprob",),
    Reasoning: ("logprob",),
    ScoredToken: ("logprob",),
    _CallFrame: ("logprob",),
    _RefusalFrame: ("logprob",),
    MetricsFrame: (),
    End: ("tool_calls", "invalid_tool_calls", "refused", "message_extra"),
}

_converter = _make_converter()


def to_frame(event: TokenEvent) -> Frame:
    """Return the event as a JSON-able dict whose "type" is started, token, metrics, end or error.

    An error frame holds code, message, retriable and retry_after_ms (null if unknown).
    """
    return {"type": _NAMES[type(event)], **_converter.unstructure(event)}


def from_frame(frame: Frame) -> TokenEvent:
    """Return the event of a frame.

    Raises:
        ValueError: If it is not a valid frame; the message gives the path of each problem.
    """
    kind = frame.get("type") if isinstance(frame, dict) else None
    if not isinstance(kind, str) or kind not in _TYPES:
        raise ValueError(f'a frame is a dict whose "type" is one of {", ".join(_TYPES)}')
    if not all(isinstance(key, str) for key in frame):
        raise ValueError("the keys of a frame are strings @ $")
    body = {key: value for key, value in frame.items() if key != "type"}
    cls = _TYPES[kind]
    if cls is Token:
        cls = next((kind for key, kind in _TOKEN_KINDS.items() if key in body), Token)
    try:
        event = _converter.structure(body, cls)
        return event.event() if isinstance(event, _CallFrame | _RefusalFrame) else event
    except ClassValidationError as error:
        raise ValueError("; ".join(transform_error(error))) from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{error} @ $") from error
