"""The cost of reading, as ratios of one run."""

import contextlib
import json
import tracemalloc
from collections.abc import Callable
from math import inf
from time import thread_time
from timeit import timeit
from typing import Any

import pytest

from adapter_api import WorkerError
from adapters.openai_http.answer import AnswerReader
from adapters.openai_http.outcome import Wanted
from tests.adapters.openai_http.reading import body_of, read
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
        for kind, reading in kinds.items():
            best[kind] = min(best[kind], timeit(reading, number=3))
    assert best["with tools"] < 1.15 * best["plain"]
    assert best["arguments"] < 3 * best["plain"]


SIZE = 4 << 20
"""Of a large answer: enough to measure, and the bounds hold for any size."""

LISTS = "[" + "[]," * (SIZE // 3) + "[]]"


def _document(message: str, more: str = '""') -> bytes:
    return f'{{"choices":[{{"message":{message},"finish_reason":"stop"}}],"x":{more}}}'.encode()


def _with_call(arguments: str) -> str:
    function = {"name": "f", "arguments": arguments}
    return json.dumps({"tool_calls": [{"id": "a", "function": function}]})


HOSTILE = {
    "lists beside the answer": _document('{"content":"a"}', LISTS),
    "lists as arguments": _document(_with_call(LISTS)),
    "a list of lists": LISTS.encode(),
    "lists in an event": b"data: %b\n\n" % _document('{"content":"a"}', LISTS[:999_999] + "[]]"),
    "many calls": _document(json.dumps({"tool_calls": [{"id": "a"}] * 200_000})),
}  # fmt: skip


def _try(body: bytes) -> None:
    with contextlib.suppress(WorkerError):
        read([body])


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_answer_costs_little_more_than_a_long_one(kind: str) -> None:
    """It builds no object for each of its values: time and memory are those of a long text."""
    plain = _document(json.dumps({"content": "a" * SIZE}))
    usual = min(timeit(lambda: _try(plain), timer=thread_time, number=1) for _ in range(5))
    taken = min(timeit(lambda: _try(HOSTILE[kind]), timer=thread_time, number=1) for _ in range(5))
    assert taken < 20 * usual  # with an object for each value it would be 100 times and more
    tracemalloc.start()
    try:
        _try(HOSTILE[kind])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * SIZE
