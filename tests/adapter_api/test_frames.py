"""Frames are JSON and come back as the same events (WA-INT-3008)."""

import json
from typing import Any

import attrs
import pytest
from hypothesis import given

from adapter_api import Error, ErrorCode, Token, TokenEvent, WorkerError
from adapter_api.frames import from_frame, to_frame
from tests.strategies import events


@given(events)
def test_any_event_survives_the_round_trip(event: TokenEvent) -> None:
    """event -> frame -> JSON -> frame -> event changes nothing."""
    back = from_frame(json.loads(json.dumps(to_frame(event))))
    if isinstance(event, Error):
        assert isinstance(back, Error)
        assert to_frame(back) == to_frame(event)
        assert type(back.error) is type(event.error)
    else:
        assert attrs.asdict(back) == attrs.asdict(event)


def test_the_shapes_of_the_contract() -> None:
    """A token and an error frame have exactly the keys of the contract."""
    assert to_frame(Token("hello", 0)) == {"type": "token", "text": "hello", "index": 0}
    error = WorkerError.of(ErrorCode.ADMISSION_REJECT, "busy", retry_after_ms=100, status=429)
    assert to_frame(Error(error)) == {
        "type": "error",
        "code": "ADMISSION_REJECT",
        "message": "busy",
        "retriable": True,
        "retry_after_ms": 100,
    }


@pytest.mark.parametrize(
    ("frame", "path"),
    [
        ({"type": "token", "text": 1, "index": 0}, r"\$\.text"),
        ({"type": "token", "text": "a", "index": "0"}, r"\$\.index"),
        ({"type": "token", "text": "a", "index": True}, r"\$\.index"),
        ({"type": "token", "text": "a"}, r"\$\.index"),
        ({"type": "token", "text": "a", "index": 0, "more": 1}, "more"),
        ({"type": "end", "metrics": {"tokens_generated": 7.9}, "finish_reason": None,
          "proof": "done"}, r"\$\.metrics\.tokens_generated"),
        ({"type": "end", "metrics": {"tokens_generated": 7}, "finish_reason": None,
          "proof": "hope"}, r"\$\.proof"),
        ({"type": "started"}, r"\$\.job_id"),
        ({"type": "error", "code": "NO", "message": "", "retriable": True}, "NO"),
        ({"type": "error", "code": "INTERNAL", "message": 5, "retriable": True}, "message"),
        ({"type": "error", "code": "INTERNAL", "message": "", "retriable": True,
          "retry_after_ms": "5"}, "retry_after_ms"),
        ({"type": "error"}, "error frame"),
        ({"type": "metrics", "data": 5}, "data"),
        ({"type": "other"}, "type"),
        ([], "type"),
    ],
)  # fmt: skip
def test_what_is_not_a_frame_is_refused_with_its_path(frame: Any, path: str) -> None:
    """Nothing is coerced; the message leads to the problem."""
    with pytest.raises(ValueError, match=path):
        from_frame(frame)
