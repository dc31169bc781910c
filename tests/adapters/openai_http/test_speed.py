"""What reading costs, as ratios of one run."""

import json
from collections.abc import Callable
from math import inf
from timeit import timeit
from typing import Any

import pytest

from adapters.openai_http.answer import AnswerReader
from adapters.openai_http.outcome import Wanted
from tests.adapters.openai_http.reading import body_of
from tests.openai_chunks import delta

pytestmark = pytest.mark.timing

CHUNKS = 50
"""Chunks of one read."""

ROUNDS = 150
"""Enough for each kind to meet an undisturbed moment."""


def _chunk(content: dict[str, Any]) -> bytes:
    return body_of([json.dumps(delta(content))])


def _call(arguments: str, **more: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "function": {"arguments": arguments, **more}}]}


def _reading(first: dict[str, Any], chunk: dict[str, Any], wanted: Wanted) -> Callable[[], object]:
    """Return a function that reads CHUNKS such chunks at once, in the middle of an answer."""
    reader = AnswerReader(wanted)
    reader.feed(_chunk(first))
    read = _chunk(chunk) * CHUNKS
    assert len(reader.feed(read)) == CHUNKS
    return lambda: reader.feed(read)


def test_a_job_with_tools_reads_text_at_the_price_of_a_plain_one() -> None:
    """At most 1.15 times; pieces of arguments at most 3 times."""
    role = {"role": "assistant", "content": ""}
    kinds = {
        "plain": _reading(role, {"content": " word"}, Wanted()),
        "with tools": _reading(role, {"content": " word"}, Wanted(history=True)),
        "arguments": _reading(_call("[1", name="f"), _call(", 1"), Wanted(history=True)),
    }
    best = dict.fromkeys(kinds, inf)
    for _ in range(ROUNDS):  # interleaved, so that all of them meet the same machine
        for kind, read in kinds.items():
            best[kind] = min(best[kind], timeit(read, number=3))
    assert best["with tools"] < 1.15 * best["plain"]
    assert best["arguments"] < 3 * best["plain"]
