"""A result as a row of a table."""

import json
from typing import Any

import pytest

from registry.batch.results import COLUMNS, flat


def _call(arguments: str) -> dict[str, Any]:
    return {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}


def _flat(message: dict[str, Any], finish_reason: str) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    body = {"choices": [choice], "usage": usage}
    row = flat({"custom_id": "r", "response": {"body": body}}, ok=True)
    assert set(row) <= set(COLUMNS)
    assert json.loads(row["body"]) == body
    return row


CUSTOM = {"id": "c", "type": "custom", "custom": {"name": "g", "input": "free"}}


@pytest.mark.parametrize(
    ("calls", "finish_reason", "kept"),
    [
        ([_call("{}"), _call("[]")], "tool_calls", [0, 1]),
        ([_call("{}"), _call('{"a')], "length", [0]),
        ([_call("{}"), _call("{}")], "length", [0]),
        ([_call("{a}"), CUSTOM], "tool_calls", [1]),
        ([_call('{"a')], "length", []),
    ],
)
def test_the_column_of_calls_has_those_that_may_be_run(
    calls: list[dict[str, Any]], finish_reason: str, kept: list[int]
) -> None:
    """A call that was cut or is not JSON is in the body only."""
    row = _flat({"content": None, "tool_calls": calls}, finish_reason)
    found = [] if row["tool_calls"] is None else json.loads(row["tool_calls"])
    assert found == [calls[number] for number in kept]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "a", "refusal": None}, "a"),
        ({"content": None, "refusal": "No."}, "No."),
        ({"content": None}, None),
        ({"content": ""}, ""),
    ],
)
def test_a_refusal_is_the_text(message: dict[str, Any], text: str | None) -> None:
    """As in a stream: a column of texts without it would look like an empty answer."""
    assert _flat(message, "stop")["text"] == text
