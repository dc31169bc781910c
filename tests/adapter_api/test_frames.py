"""Frames are JSON and come back as the same events (WA-INT-3008)."""

import json
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_api import (
    End,
    Error,
    ErrorCode,
    Metrics,
    MetricsFrame,
    Started,
    Token,
    TokenEvent,
    WorkerError,
)
from adapter_api.frames import from_frame, to_frame
from tests.strategies import anything, events


@given(events)
def test_any_event_survives_the_round_trip(event: TokenEvent) -> None:
    """event -> frame -> JSON -> frame -> event changes nothing."""
    back = from_frame(json.loads(json.dumps(to_frame(event), allow_nan=False)))
    assert type(back) is type(event)
    if isinstance(event, Error):
        assert isinstance(back, Error)
        assert to_frame(back) == to_frame(event)
        assert type(back.error) is type(event.error)
    else:
        assert back == event


def test_the_shapes_of_the_contract() -> None:
    """Each frame has exactly the keys of the contract; logprob and replica_id where known."""
    assert to_frame(Started("j", "vllm", "1")) == {
        "type": "started",
        "job_id": "j",
        "engine": "vllm",
        "engine_version": "1",
        "model": None,
        "seed": None,
    }
    assert to_frame(Started("j", "e", "1", "m", 3, "r0"))["replica_id"] == "r0"
    assert to_frame(Token("hello", 0)) == {"type": "token", "text": "hello", "index": 0}
    assert to_frame(Token("hello", 0, -0.5))["logprob"] == -0.5
    assert to_frame(MetricsFrame(MappingProxyType({"a": [1]}))) == {
        "type": "metrics",
        "data": {"a": [1]},
    }
    assert to_frame(End(Metrics(2, 1, 3.5, 4.5, "engine", 2), "stop", "done")) == {
        "type": "end",
        "metrics": {
            "tokens_generated": 2,
            "prompt_tokens": 1,
            "time_to_first_token_ms": 3.5,
            "decode_time_ms": 4.5,
            "usage_source": "engine",
            "attempts": 2,
        },
        "finish_reason": "stop",
        "proof": "done",
    }
    error = WorkerError.of(ErrorCode.ADMISSION_REJECT, "busy", retry_after_ms=100, status=429)
    frame = to_frame(Error(error))
    assert frame == {
        "type": "error",
        "code": "ADMISSION_REJECT",
        "message": "busy",
        "retriable": True,
        "retry_after_ms": 100,
    }
    assert type(frame["code"]) is str


def test_an_error_frame_may_lack_what_is_not_known() -> None:
    """WA-INT-3008: `{code, message, retriable, retry_after_ms?}`; the class follows the code."""
    for frame in (
        {"type": "error", "code": "WORKER_RESET", "message": "m", "retriable": False},
        {
            "type": "error",
            "code": "WORKER_RESET",
            "message": "m",
            "retriable": False,
            "retry_after_ms": None,
        },
    ):
        event = from_frame(frame)
        assert isinstance(event, Error)
        assert type(event.error).__name__ == "WorkerReset"
        assert (event.error.retriable, event.error.retry_after_ms) == (False, None)


def test_defaults_may_be_left_out() -> None:
    """A frame from elsewhere needs only what an event needs; whole numbers may stand for floats."""
    assert from_frame({"type": "token", "text": "a", "index": 0}) == Token("a", 0)
    started = {"type": "started", "job_id": "j", "engine": "e", "engine_version": "1"}
    assert from_frame(started) == Started("j", "e", "1")
    metrics = {"tokens_generated": 1, "decode_time_ms": 2}
    end = {"type": "end", "metrics": metrics, "finish_reason": None, "proof": "done"}
    assert from_frame(end) == End(Metrics(1, decode_time_ms=2), None, "done")


_END = {"type": "end", "metrics": {"tokens_generated": 7}, "finish_reason": None, "proof": "done"}
_ERROR = {"type": "error", "code": "INTERNAL", "message": "", "retriable": True}
_TOKEN: dict[Any, Any] = {"type": "token", "text": "a", "index": 0}


@pytest.mark.parametrize(
    ("frame", "path"),
    [
        ({**_TOKEN, "text": 1}, r"\$\.text"),
        ({**_TOKEN, "text": None}, r"\$\.text"),
        ({**_TOKEN, "index": "0"}, r"\$\.index"),
        ({**_TOKEN, "index": True}, r"\$\.index"),
        ({**_TOKEN, "index": 0.0}, r"\$\.index"),
        ({**_TOKEN, "logprob": "0"}, r"\$\.logprob"),
        ({"type": "token", "text": "a"}, r"\$\.index"),
        ({**_TOKEN, "more": 1}, "more"),
        ({**_TOKEN, 5: 1}, "keys of a frame are strings"),
        ({**_END, "metrics": {"tokens_generated": 7.9}}, r"\$\.metrics\.tokens_generated"),
        ({**_END, "metrics": {"tokens_generated": 7, "x": 1}}, r"\$\.metrics"),
        ({**_END, "metrics": 5}, r"\$\.metrics"),
        ({**_END, "proof": "hope"}, r"\$\.proof"),
        ({**_END, "finish_reason": 5}, r"\$\.finish_reason"),
        ({"type": "started"}, r"\$\.job_id"),
        ({**_ERROR, "code": "NO"}, "NO"),
        ({**_ERROR, "code": []}, "ErrorCode"),
        ({**_ERROR, "message": 5}, "message"),
        ({**_ERROR, "retriable": 1}, "retriable"),
        ({**_ERROR, "retry_after_ms": "5"}, "retry_after_ms"),
        ({**_ERROR, "retry_after_ms": True}, "retry_after_ms"),
        ({**_ERROR, "more": 1}, "error frame"),
        ({"type": "error"}, "error frame"),
        ({"type": "metrics", "data": 5}, "data"),
        ({"type": "other"}, "type"),
        ({"type": []}, "type"),
        ({"type": None}, "type"),
        ({}, "started, token, metrics, end, error"),
        ([], "type"),
        (None, "type"),
    ],
)
def test_what_is_not_a_frame_is_refused_with_its_path(frame: Any, path: str) -> None:
    """Nothing is coerced; the message leads to the problem."""
    with pytest.raises(ValueError, match=path):
        from_frame(frame)


_KEYS = sorted(
    {"type", "code", "message", "retriable", "retry_after_ms"}
    | {f.name for cls in (Started, Token, MetricsFrame, End) for f in attrs.fields(cls)}
)


@settings(max_examples=300)
@given(events, st.sampled_from(_KEYS), anything)
def test_a_damaged_frame_is_an_event_or_a_value_error(
    event: TokenEvent, key: str, value: Any
) -> None:
    """Whatever stands in a field: an event that has just that, or one kind of exception."""
    frame = to_frame(event) | {key: value}
    try:
        back = from_frame(frame)
    except ValueError:
        return
    assert repr(to_frame(back).get(key, value)) == repr(value)
