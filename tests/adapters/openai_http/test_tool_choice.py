"""Servers that ignore a request's choice of tools."""

from typing import Any

import pytest

from adapter_api import TaskRequest, ToolCall
from adapters.openai_http.tool_choice import ignored_choice

F, G = ToolCall("a", "f"), ToolCall("b", "g")
NAMED = {"type": "function", "function": {"name": "f"}}


def _allowed(mode: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [NAMED]}}


@pytest.mark.parametrize(
    ("choice", "calls", "words"),
    [
        (None, [], None),
        ("auto", [F, G], None),
        ("none", [], None),
        ("none", [F], "is 'none'"),
        ("required", [F], None),
        ("required", [], "did not call"),
        (NAMED, [F, F], None),
        (NAMED, [], "did not call"),
        (NAMED, [G, F], "called 'g', which"),
        ({"type": "custom", "custom": {"name": "f"}}, [G], "called 'g', which"),
        ({"type": "function", "name": "f"}, [G], "called 'g', which"),
        (_allowed("auto"), [], None),
        (_allowed("auto"), [F], None),
        (_allowed("auto"), [G], "called 'g', which"),
        (_allowed("required"), [], "did not call"),
        ({"type": "allowed_tools"}, [], "did not call"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": 1, "tools": [1]}}, [G], None),
    ],
)
def test_the_calls_are_compared_with_the_choice(
    choice: Any, calls: list[ToolCall], words: str | None
) -> None:
    """No call where one is demanded, one where none may be, and tools that were not chosen."""
    found = ignored_choice(TaskRequest(prompt="x", tool_choice=choice), calls)
    assert (found is None) == (words is None)
    assert words is None or words in (found or "")


@pytest.mark.parametrize(("parallel", "noted"), [(None, False), (True, False), (False, True)])
def test_parallel_calls_that_were_not_wanted_are_noted(
    *, parallel: bool | None, noted: bool
) -> None:
    """Several calls with parallel_tool_calls=False; one is fine."""
    task = TaskRequest(prompt="x", parallel_tool_calls=parallel)
    assert (ignored_choice(task, [F, G]) is not None) == noted
    assert ignored_choice(task, [F]) is None
