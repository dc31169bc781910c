"""Chunks inside an envelope, and text where no chunk of OpenAI's has it. No I/O.

A gateway may wrap each chunk, as in `{"code": 0, "data": {"choices": ...}}`: the chunk counts. Text
under a name that is not read would be lost, and the answer would seem to be empty.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_INNER = ("delta", "message")
_READ = ("content", "text", "refusal")
_NAMES = frozenset(
    {
        *("answer", "chunk", "completion", "content", "data", "delta", "generated_text", "message"),
        *("messages", "output", "output_text", "parts", "reply", "response", "result", "text"),
        *("token", "value"),
    }
)
"""Names under which other APIs have their text."""

MAX_DEPTH = 4
"""Levels of nesting that are searched for text, such as `output.choices[0].message.content`."""


def wrapped(payload: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the chunk that an event holds as its only object with choices; None if none."""
    if "choices" in payload:
        return None
    found = [
        value
        for value in payload.values()
        if isinstance(value, dict) and isinstance(value.get("choices"), list)
    ]
    return found[0] if len(found) == 1 else None


def misplaced_text(payload: Mapping[str, Any]) -> str:
    """Return the name under which an event has text that is not read; "" if it has none."""
    for part, read in _parts(payload):
        for name, value in part.items():
            if name in _NAMES and name not in read and _holds_text(value, MAX_DEPTH):
                return name
    return ""


def _parts(payload: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], tuple[str, ...]]]:
    """Yield the event, its choices and their deltas, each with the names that are read in it."""
    yield payload, ()
    choices = payload.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if not isinstance(choice, dict):
            continue
        yield choice, (*_INNER, *_READ)
        for name in _INNER:
            if isinstance(choice.get(name), dict):
                yield choice[name], _READ


def _holds_text(value: Any, depth: int) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    if not depth or not isinstance(value, list | dict):
        return False
    inner = value if isinstance(value, list) else [value[name] for name in _NAMES & value.keys()]
    return any(_holds_text(item, depth - 1) for item in inner)
