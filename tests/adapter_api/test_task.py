"""TaskRequest and Message check every field when they are made."""

import math
import pickle
import sys
from collections.abc import Callable
from types import MappingProxyType
from typing import Any
from uuid import UUID

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_api import ErrorCode, InvalidRequest, Message, TaskRequest
from adapter_api.task import new_id
from tests.strategies import anything, message_mappings, tasks

_ID = "1 to 256 printable ASCII characters"
_HUGE = 10**400  # more than any float
_LONGEST = 10**5000  # more digits than Python writes

REFUSED: list[tuple[str, Any, str]] = [
    ("model", "", "a non-empty string (or None)"),
    ("model", " ", "a non-empty string (or None)"),
    ("model", 5, "a non-empty string (or None)"),
    ("prompt", b"bytes", "a string (or None)"),
    ("prompt", ["a"], "a string (or None)"),
    ("messages", [], "a non-empty list of messages"),
    ("messages", "hello", "a non-empty list of messages"),
    ("messages", b"hello", "a non-empty list of messages"),
    ("messages", {"role": "user", "content": "x"}, "a non-empty list of messages"),
    ("messages", iter([Message("user", "x")]), "a non-empty list of messages"),
    ("messages", ["hello"], 'messages[0] must be a Message or a {"role", "content"} mapping'),
    ("messages", [{"role": "user"}], "messages[0].content must be a string or a list"),
    ("messages", [{"content": "x"}], "messages[0] must be a mapping with role and content"),
    (
        "messages",
        [Message("user", "x"), {"role": "user", "content": "x", "tool": 1}],
        "messages[1] must be a mapping with role, content, name, tool_calls, tool_call_id; ",
    ),
    (
        "messages",
        [{"role": "user", "content": 5}],
        "messages[0].content must be a string or a list of content parts",
    ),
    (
        "messages",
        [{"role": "user", "content": []}],
        "messages[0].content must be a string or a list of content parts",
    ),
    (
        "messages",
        [{"role": "user", "content": ["x"]}],
        "messages[0].content must be a string or a list of content parts",
    ),
    (
        "messages",
        [{"role": "user", "content": None}],
        "messages[0].content must be a string or a list of content parts",
    ),
    ("messages", [{"role": "", "content": "x"}], "messages[0].role must be a non-empty string"),
    ("messages", [{"role": 5, "content": "x"}], "messages[0].role must be a non-empty string"),
    (
        "messages",
        [{"role": "user", "content": "x", "name": ""}],
        "messages[0].name must be a non-empty string (or None)",
    ),
    ("max_tokens", 0, "an integer of at least 1"),
    ("max_tokens", True, "an integer of at least 1"),
    ("max_tokens", 2.0, "an integer of at least 1"),
    ("max_tokens", "5", "an integer of at least 1 (or None)"),
    ("max_tokens", -_LONGEST, "an integer of at least 1 (or None), got a value of type int"),
    ("job_id", "", _ID),
    ("job_id", None, _ID),
    ("job_id", "a\nb", _ID),
    ("job_id", " a", _ID),
    ("job_id", "x" * 257, _ID),
    ("temperature", -0.1, "a finite number of at least 0 (or None)"),
    ("temperature", math.nan, "a finite number of at least 0 (or None)"),
    ("temperature", math.inf, "a finite number of at least 0 (or None)"),
    ("temperature", True, "a finite number of at least 0 (or None)"),
    ("temperature", "hot", "a finite number of at least 0 (or None)"),
    ("temperature", _HUGE, "a finite number of at least 0 (or None)"),
    ("top_p", 1.1, "a number from 0 to 1 (or None)"),
    ("top_p", -0.1, "a number from 0 to 1 (or None)"),
    ("top_p", math.nan, "a number from 0 to 1 (or None)"),
    ("top_p", _LONGEST, "a number from 0 to 1 (or None), got a value of type int"),
    ("seed", 1.5, "an integer (or None)"),
    ("seed", True, "an integer (or None)"),
    ("seed", "1", "an integer (or None)"),
    ("stop", "", "a non-empty string or a list of them (or None)"),
    ("stop", [""], "a non-empty string or a list of them (or None)"),
    ("stop", ["a", 5], "a non-empty string or a list of them (or None)"),
    ("stop", 5, "a non-empty string or a list of them (or None)"),
    ("stop", b"", "a non-empty string or a list of them (or None)"),
    ("stop", b"a", "a non-empty string or a list of them (or None)"),
    ("stop", {"a"}, "a non-empty string or a list of them (or None)"),
    ("session_id", "\u00e9", f"{_ID} (or None)"),
    ("correlation_id", "a\r\nX: y", f"{_ID} (or None)"),
    ("correlation_id", "", f"{_ID} (or None)"),
    ("max_attempts", 0, "an integer of at least 1 (or None)"),
    ("max_attempts", True, "an integer of at least 1 (or None)"),
    ("deadline_s", 0, "a finite number of seconds above 0 (or None)"),
    ("deadline_s", -1, "a finite number of seconds above 0 (or None)"),
    ("deadline_s", math.inf, "a finite number of seconds above 0 (or None)"),
    ("deadline_s", _HUGE, "a finite number of seconds above 0 (or None)"),
    ("extra", [1], "a mapping with string keys"),
    ("extra", {1: 2}, "a mapping with string keys"),
    ("extra", None, "a mapping with string keys"),
]


def _task(field: str, value: Any) -> TaskRequest:
    fields = {} if field in ("messages", "prompt") else {"prompt": "x"}
    return TaskRequest(**{**fields, field: value})


@pytest.mark.parametrize(
    ("field", "value", "allowed"), REFUSED, ids=[f"{i}-{case[0]}" for i, case in enumerate(REFUSED)]
)
def test_a_wrong_field_is_named_with_what_is_allowed(field: str, value: Any, allowed: str) -> None:
    """Every refusal is INVALID_PARAMS, names the field and says what it may be."""
    with pytest.raises(InvalidRequest) as caught:
        _task(field, value)
    assert caught.value.code is ErrorCode.INVALID_PARAMS
    assert not caught.value.retriable
    assert caught.value.message.startswith(field)
    assert allowed in caught.value.message
    assert len(caught.value.message) < 190


TAKEN: list[tuple[str, Any]] = [
    ("prompt", ""),
    ("prompt", "\ud800"),  # whether it can be sent is the adapter's word
    ("max_tokens", 1),
    ("job_id", "x"),
    ("job_id", "x" * 256),
    ("job_id", "a b/c:d"),
    ("temperature", 0),
    ("temperature", 2),
    ("temperature", 1e300),
    ("top_p", 0),
    ("top_p", 1.0),
    ("seed", -1),
    ("seed", 2**70),
    ("session_id", "s"),
    ("deadline_s", 1e-9),
    ("deadline_s", 5),
]


@pytest.mark.parametrize(("field", "value"), TAKEN)
def test_the_bounds_are_taken(field: str, value: Any) -> None:
    """Values at the limits are accepted and kept unchanged."""
    assert getattr(_task(field, value), field) == value


@pytest.mark.parametrize(
    ("fields", "got"),
    [({}, "neither"), ({"prompt": "x", "messages": [{"role": "u", "content": "c"}]}, "both")],
)
def test_exactly_one_of_prompt_and_messages(fields: dict[str, Any], got: str) -> None:
    """A task with neither prompt nor messages, or with both, is refused."""
    with pytest.raises(
        InvalidRequest, match=f"exactly one of prompt and messages must be given, got {got}"
    ):
        TaskRequest(**fields)


def test_fields_are_given_by_name() -> None:
    """Fields are keyword-only, and a misspelt one fails."""
    with pytest.raises(TypeError, match="positional"):
        TaskRequest("m", "prompt")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="temprature"):
        TaskRequest(prompt="x", temprature=1)  # type: ignore[call-arg]


def test_new_ids_are_random_uuids() -> None:
    """Of version 4 and its variant, in the usual spelling, all different (ORCH-3024, AH-1003)."""
    ids = [new_id() for _ in range(500)]
    for text in ids:
        uuid = UUID(text)
        assert (uuid.version, str(uuid)) == (4, text)  # version is None for another variant
    assert len(set(ids)) == len(ids)
    changing = [len({text[place] for text in ids}) for place in range(36)]
    assert sorted(changing) == [1] * 5 + [4] + [16] * 30  # dashes, version; variant; all digits


def test_defaults_are_those_of_the_contract() -> None:
    """job_id is a new UUID; everything else is left to the engine (ORCH-3024)."""
    task, other = TaskRequest(prompt=""), TaskRequest(prompt="")
    assert UUID(task.job_id).version == 4
    assert task.job_id != other.job_id
    given = attrs.asdict(task, filter=lambda field, _: field.name != "job_id")
    assert {name: value for name, value in given.items() if value is not None} == {
        "prompt": "",
        "stop": (),
        "tools": (),
        "include_reasoning": False,
        "extra": {},
    }


def test_messages_may_be_mappings_or_objects() -> None:
    """Both forms give the same Message objects; content parts are kept."""
    parts = [{"type": "text", "text": "hi"}]
    mapping = MappingProxyType({"role": "user", "content": "hi"})
    task = TaskRequest(messages=(mapping, Message("user", parts, "ann")))
    assert task.messages == (Message("user", "hi"), Message("user", tuple(parts), "ann"))


def test_a_message_checks_itself() -> None:
    """The same outside of a task."""
    with pytest.raises(InvalidRequest, match="role must be a non-empty string, got ''"):
        Message("", "x")


def test_stop_may_be_a_text_several_or_none() -> None:
    """It is a tuple in any case."""
    stops = [TaskRequest(prompt="x", stop=stop).stop for stop in ("END", ["a", "b"], (), None)]
    assert stops == [("END",), ("a", "b"), (), ()]


def test_a_task_keeps_what_it_was_made_from_apart() -> None:
    """Changing the caller's list or dict afterwards does not change the task."""
    extra, messages = {"k": 1}, [{"role": "user", "content": "x"}]
    task = TaskRequest(messages=messages, extra=extra)
    extra["k2"] = 2
    messages.clear()
    assert task.extra == {"k": 1}
    assert task.messages == (Message("user", "x"),)


@given(tasks)
def test_a_task_is_immutable_and_picklable(task: TaskRequest) -> None:
    """Nothing changes a task after it was checked; it travels between processes."""
    for field in attrs.fields(TaskRequest):
        with pytest.raises(AttributeError):
            setattr(task, field.name, getattr(task, field.name))
    assert pickle.loads(pickle.dumps(task)) == task
    assert attrs.evolve(task) == task


def test_a_long_value_does_not_flood_the_error() -> None:
    """A prompt in the wrong field is not repeated in full; a value without a repr is named."""

    class Mute:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(InvalidRequest) as caught:
        TaskRequest(prompt="x", seed="secret " * 1000)  # type: ignore[arg-type]
    assert len(caught.value.message) < 150
    with pytest.raises(InvalidRequest, match="seed must be an integer .*, got a value of type Mu"):
        TaskRequest(prompt="x", seed=Mute())  # type: ignore[arg-type]


def _number(value: object) -> bool:
    return type(value) in (int, float) and -math.inf < value < math.inf  # type: ignore[operator]


def _whole(value: object) -> bool:
    return type(value) is int


_ALLOWED: dict[str, Callable[[Any], bool]] = {
    "max_tokens": lambda v: v is None or (_whole(v) and v >= 1),
    "temperature": lambda v: v is None or (_number(v) and 0 <= v <= sys.float_info.max),
    "top_p": lambda v: v is None or (_number(v) and 0 <= v <= 1),
    "seed": lambda v: v is None or _whole(v),
    "deadline_s": lambda v: v is None or (_number(v) and 0 < v <= sys.float_info.max),
}


@settings(max_examples=300)
@given(st.sampled_from(sorted(_ALLOWED)), anything)
def test_any_value_of_a_number_is_taken_or_refused_clearly(field: str, value: Any) -> None:
    """Exactly the allowed numbers are taken, unchanged; nothing raises any other error."""
    try:
        task = TaskRequest(**{"prompt": "x", field: value})
    except InvalidRequest as error:
        assert not _ALLOWED[field](value)
        assert error.message.startswith(f"{field} must be ")
    else:
        assert _ALLOWED[field](value)
        assert getattr(task, field) is value


@settings(max_examples=300)
@given(st.sampled_from([f.name for f in attrs.fields(TaskRequest)]), anything)
def test_no_value_of_any_field_raises_another_error(field: str, value: Any) -> None:
    """Whatever is put into a field, the answer is a task or an InvalidRequest that names it."""
    try:
        _task(field, value)
    except InvalidRequest as error:
        assert error.message.startswith((field, "exactly one of prompt and messages"))


@given(st.lists(message_mappings, min_size=1, max_size=4))
def test_any_conversation_is_taken(messages: list[dict[str, Any]]) -> None:
    """Roles, texts, names and parts come through as they are."""
    task = TaskRequest(messages=messages)
    assert task.messages is not None
    for message, mapping in zip(task.messages, messages, strict=True):
        content = mapping["content"]
        assert message.role == mapping["role"]
        assert message.name == mapping.get("name")
        assert message.content == (content if isinstance(content, str) else tuple(content))
