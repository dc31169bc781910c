"""TaskRequest and Message check every field when they are made."""

import math
import pickle
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import ErrorCode, InvalidRequest, Message, TaskRequest

REFUSED: list[tuple[str, Any, str]] = [
    ("model", "", "non-empty string"),
    ("model", 5, "non-empty string"),
    ("prompt", b"bytes", "a string"),
    ("messages", [], "non-empty list"),
    ("messages", "hello", "non-empty list"),
    ("messages", [{"role": "user"}], "role and content"),
    ("messages", [{"role": "user", "content": 5}], "string or a list of content parts"),
    ("messages", [{"role": "", "content": "x"}], "non-empty string"),
    ("messages", [{"role": "user", "content": "x", "tool": 1}], "only the keys"),
    ("messages", ["hello"], "mapping"),
    ("max_tokens", 0, "at least 1"),
    ("max_tokens", True, "at least 1"),
    ("max_tokens", 2.0, "at least 1"),
    ("job_id", "", "printable ASCII"),
    ("job_id", "a\nb", "printable ASCII"),
    ("job_id", "x" * 257, "256"),
    ("temperature", -0.1, "at least 0"),
    ("temperature", math.nan, "finite"),
    ("temperature", "hot", "finite"),
    ("top_p", 1.1, "0 to 1"),
    ("seed", 1.5, "integer"),
    ("seed", True, "integer"),
    ("stop", "", "non-empty string"),
    ("stop", [""], "non-empty string"),
    ("stop", 5, "non-empty string"),
    ("session_id", "\u00e9", "printable ASCII"),
    ("correlation_id", "a\r\nX: y", "printable ASCII"),
    ("deadline_s", 0, "above 0"),
    ("deadline_s", math.inf, "finite"),
    ("extra", [1], "mapping"),
    ("extra", {1: 2}, "string keys"),
]


@pytest.mark.parametrize(("field", "value", "allowed"), REFUSED)
def test_a_wrong_field_is_named_with_what_is_allowed(field: str, value: Any, allowed: str) -> None:
    """Every refusal is INVALID_PARAMS, names the field and says what it may be."""
    fields = {"prompt": "x"} if field != "messages" else {}
    with pytest.raises(InvalidRequest) as caught:
        TaskRequest(**{**fields, field: value})
    assert caught.value.code is ErrorCode.INVALID_PARAMS
    assert field in caught.value.message
    assert allowed in caught.value.message


@pytest.mark.parametrize(
    "fields", [{}, {"prompt": "x", "messages": [{"role": "u", "content": "c"}]}]
)
def test_exactly_one_of_prompt_and_messages(fields: dict[str, Any]) -> None:
    """Neither and both are refused."""
    with pytest.raises(InvalidRequest, match="exactly one of prompt and messages"):
        TaskRequest(**fields)


def test_defaults_are_those_of_the_contract() -> None:
    """max_tokens is 256, job_id a fresh UUID, everything else left to the engine (ORCH-3024)."""
    task, other = TaskRequest(prompt=""), TaskRequest(prompt="")
    assert task.max_tokens == 256
    assert UUID(task.job_id) != UUID(other.job_id)
    assert (task.temperature, task.seed, task.stop, task.extra) == (None, None, (), {})


def test_messages_may_be_mappings_or_objects() -> None:
    """Both forms give the same Message objects; content parts are kept."""
    parts = [{"type": "text", "text": "hi"}]
    task = TaskRequest(messages=[{"role": "user", "content": "hi"}, Message("user", parts, "ann")])
    assert task.messages == (Message("user", "hi"), Message("user", tuple(parts), "ann"))


def test_a_task_is_immutable_and_picklable() -> None:
    """Nothing changes a task after it was checked; it travels between processes."""
    task = TaskRequest(prompt="x", extra={"k": [1]}, stop="END")
    with pytest.raises(AttributeError):
        task.prompt = "y"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(task)) == task
    assert task.stop == ("END",)


def test_a_long_value_does_not_flood_the_error() -> None:
    """A prompt in the wrong field is not repeated in full."""
    with pytest.raises(InvalidRequest) as caught:
        TaskRequest(prompt="x", seed="secret " * 1000)  # type: ignore[arg-type]
    assert len(caught.value.message) < 150


@given(st.floats() | st.integers())
def test_any_number_is_taken_or_refused_clearly(number: float) -> None:
    """temperature takes finite numbers of at least 0, and nothing else raises another error."""
    good = math.isfinite(number) and number >= 0
    try:
        task = TaskRequest(prompt="x", temperature=number)
    except InvalidRequest:
        assert not good
    else:
        assert good
        assert task.temperature == number
