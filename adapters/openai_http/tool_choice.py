"""Detects, from the calls of an answer, that a server ignored the request's choice of tools."""

from collections.abc import Mapping, Sequence
from typing import Any

from adapter_api import TaskRequest, ToolCall


def ignored_choice(task: TaskRequest, calls: Sequence[ToolCall]) -> str | None:
    """Return a sentence about what the server ignored; None if the calls fit the request.

    Args:
        task: The job.
        calls: All calls of the answer, also those that must not be run.
    """
    mode, names = _wish(task.tool_choice)
    if mode == "required" and not calls:
        return "the server did not call a tool although tool_choice demands it"
    if mode == "none" and calls:
        return "the server called a tool although tool_choice is 'none'"
    if other := sorted({call.name for call in calls} - names) if names else []:
        return f"the server called {', '.join(map(repr, other))}, which tool_choice does not allow"
    if task.parallel_tool_calls is False and len(calls) > 1:
        return f"the server made {len(calls)} calls although parallel_tool_calls is False"
    return None


def _wish(choice: str | Mapping[str, Any] | None) -> tuple[str | None, set[str]]:
    """Return the mode of a tool_choice, and the only names that it allows; none for any name."""
    if choice is None or not isinstance(choice, Mapping):
        return choice, set()
    allowed = choice.get("allowed_tools")
    if choice.get("type") != "allowed_tools" or not isinstance(allowed, Mapping):
        name = _name(choice)
        return "required", {name} if name else set()
    tools = allowed.get("tools")
    names = [_name(tool) for tool in tools] if isinstance(tools, list | tuple) else []
    mode = allowed.get("mode")
    return (mode if isinstance(mode, str) else None), {name for name in names if name}


def _name(tool: object) -> str | None:
    """Return the name in a tool's mapping: of the chat form, a custom tool's, or the flat form."""
    if not isinstance(tool, Mapping):
        return None
    for holder in (tool.get("function"), tool.get("custom"), tool):
        if isinstance(holder, Mapping) and isinstance(name := holder.get("name"), str):
            return name
    return None
