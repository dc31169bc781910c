"""Events as JSON-able frames and back, strictly typed (WA-INT-3008)."""

from typing import Any

from cattrs import ClassValidationError, Converter, transform_error
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from adapter_api.errors import ErrorCode, WorkerError
from adapter_api.events import End, Error, Metrics, MetricsFrame, Started, Token, TokenEvent

Frame = dict[str, Any]

_TYPES: dict[str, Any] = {
    "started": Started,
    "token": Token,
    "metrics": MetricsFrame,
    "end": End,
    "error": Error,
}
_NAMES = {cls: name for name, cls in _TYPES.items()}


def _exactly(kind: type, *, admit: tuple[type, ...] = ()) -> Any:
    """A structure hook that refuses to coerce: cattrs would make '1' of 1 and 1 of True."""

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


def _make_converter() -> Converter:
    converter = Converter(forbid_extra_keys=True)
    for kind in (str, int, bool):
        converter.register_structure_hook(kind, _exactly(kind))
    converter.register_structure_hook(float, _exactly(float, admit=(int,)))
    for cls in (Metrics, Started, Token, MetricsFrame, End):
        converter.register_structure_hook(
            cls, make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True)
        )
    unset = override(omit_if_default=True)
    converter.register_unstructure_hook(
        Started, make_dict_unstructure_fn(Started, converter, replica_id=unset)
    )
    converter.register_unstructure_hook(
        Metrics, make_dict_unstructure_fn(Metrics, converter, ledger=unset)
    )
    converter.register_unstructure_hook(
        Token, make_dict_unstructure_fn(Token, converter, logprob=unset)
    )
    converter.register_structure_hook(Error, _structure_error)
    converter.register_unstructure_hook(Error, _unstructure_error)
    return converter


_converter = _make_converter()


def to_frame(event: TokenEvent) -> Frame:
    """The event as a JSON-able dict whose "type" is started, token, metrics, end or error.

    An error frame holds code, message, retriable and retry_after_ms (null if unknown).
    """
    return {"type": _NAMES[type(event)], **_converter.unstructure(event)}


def from_frame(frame: Frame) -> TokenEvent:
    """The event of a frame.

    Raises:
        ValueError: If the frame is not one; the message gives the path of each problem.
    """
    kind = frame.get("type") if isinstance(frame, dict) else None
    if not isinstance(kind, str) or kind not in _TYPES:
        raise ValueError(f'a frame is a dict whose "type" is one of {", ".join(_TYPES)}')
    if not all(isinstance(key, str) for key in frame):
        raise ValueError("the keys of a frame are strings @ $")
    body = {key: value for key, value in frame.items() if key != "type"}
    try:
        event: TokenEvent = _converter.structure(body, _TYPES[kind])
    except ClassValidationError as error:
        raise ValueError("; ".join(transform_error(error))) from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{error} @ $") from error
    return event
