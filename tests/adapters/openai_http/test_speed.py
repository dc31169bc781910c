"""What reading costs, as ratios of one run."""

import json
from timeit import repeat
from typing import Any

import pytest

from adapters.openai_http.answer import AnswerReader
from adapters.openai_http.outcome import Wanted
from tests.adapters.openai_http.reading import body_of
from tests.openai_chunks import delta

pytestmark = pytest.mark.timing

CHUNKS = 50
"""Chunks of one read."""


def _chunk(content: dict[str, Any]) -> bytes:
    return body_of([json.dumps(delta(content))])


def _call(arguments: str, **more: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "function": {"arguments": arguments, **more}}]}


def _cost_s(first: dict[str, Any], chunk: dict[str, Any], wanted: Wanted) -> float:
    """Return the least time that many reads of such chunks took."""
    reader = AnswerReader(wanted)
    reader.feed(_chunk(first))
    read = _chunk(chunk) * CHUNKS
    assert len(reader.feed(read)) == CHUNKS
    return min(repeat(lambda: reader.feed(read), number=20, repeat=15))


def test_a_job_with_tools_reads_text_at_the_price_of_a_plain_one() -> None:
    """At most 1.15 times; pieces of arguments at most 3 times."""
    role = {"role": "assistant", "content": ""}
    plain = _cost_s(role, {"content": " word"}, Wanted())
    with_tools = _cost_s(role, {"content": " word"}, Wanted(history=True))
    arguments = _cost_s(_call("[1", name="f"), _call(", 1"), Wanted(history=True))
    assert with_tools < 1.15 * plain
    assert arguments < 3 * plain
