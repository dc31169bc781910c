"""Keeps the content of users' tasks out of the state folder."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from adapter_api import TaskRequest
from adapter_api.ledger import Explanation

WINDOW_CHARS = 12
"""A detail that shares this many letters and digits in a row with the task repeats it. Shorter
runs are common words of any error message."""

MIN_CHARS = 4
"""Tasks shorter than the window are searched for as a whole, from this length."""

MAX_TASK_CHARS = 1 << 15
"""A longer task is not searched, which would block the event loop: its details are left out."""

LEFT_OUT = "(left out: it may repeat the task)"


def without_task(explanation: Explanation, task: TaskRequest) -> Explanation:
    """Return the explanation without details that repeat a part of the task.

    A server's refusal often quotes the prompt, in pieces, escaped or cut. Only letters and digits
    are compared, in lower case.
    """
    if not any(step.detail for step in explanation.steps):
        return explanation
    repeats = _finder(task)
    steps = tuple(
        attrs.evolve(step, detail=LEFT_OUT if repeats(step.detail) else step.detail)
        for step in explanation.steps
    )
    return attrs.evolve(explanation, steps=steps)


def _finder(task: TaskRequest) -> Callable[[str], bool]:
    """Return a function that finds parts of the task in a text."""
    said = [_bare(text) for text in _strings(attrs.asdict(task, filter=_is_written))]
    if sum(map(len, said)) > MAX_TASK_CHARS:
        return bool
    known = {window for text in said for window in _windows(text)}
    short = {text for text in said if MIN_CHARS <= len(text) < WINDOW_CHARS}

    def find(text: str) -> bool:
        bare = _bare(text)
        return any(each in bare for each in short) or not known.isdisjoint(_windows(bare))

    return find


def _is_written(field: "attrs.Attribute[Any]", value: object) -> bool:
    """Return whether a field holds users' text, unlike ids, roles and names of models."""
    return field.name not in _NAMES


_NAMES = {"job_id", "model", "session_id", "correlation_id", "role", "tool_call_id"}


def _strings(value: Any) -> Iterator[str]:
    """Yield the texts in nested data, without the keys and the kinds of content parts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key != "type":
                yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _windows(bare: str) -> Iterator[str]:
    for start in range(len(bare) - WINDOW_CHARS + 1):
        yield bare[start : start + WINDOW_CHARS]


# The escapes of URLs, of JSON and Python, and of HTML: servers quote in all of them.
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}|\\(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|[nrt])|&#?\w{1,8};")


def _bare(text: str) -> str:
    return "".join(filter(str.isalnum, _ESCAPE.sub("", text))).lower()
