"""The template of an answer's chunks gives what the lane gives, for any bytes."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.openai_http.lanes import (
    Lane,
    Read,
    call_arguments,
    chat_texts,
    completion_texts,
    thoughts,
)
from adapters.openai_http.template import MAX_MISSES, MIN_BYTES, Template, Templates
from tests.openai_chunks import delta, piece

_TEXTS = st.text(st.characters(codec="utf-8"))


class _CountingLane:
    """A lane that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, lines: bytes) -> Read[None] | None:
        self.calls += 1
        return chat_texts(lines)


def _chat(text: str) -> bytes:
    return json.dumps(delta({"content": text})).encode()


def _completion(text: str) -> bytes:
    return json.dumps(piece(text), ensure_ascii=False, separators=(",", ":")).encode()


def _thought(text: str) -> bytes:
    return json.dumps(delta({"content": None, "reasoning": text})).encode()


def _argument(text: str) -> bytes:
    call = {"index": 1, "function": {"arguments": text}}
    return json.dumps(delta({"tool_calls": [call]})).encode()


def _learned(lane: Lane[Any], chunk: Callable[[str], bytes]) -> Template[Any]:
    template = Template(lane)
    assert template.read(chunk("a")) == lane(chunk("a")) != None  # noqa: E711
    return template


_LANES = [
    (completion_texts, _completion),
    (chat_texts, _chat),
    (thoughts, _thought),
    (call_arguments, _argument),
]


@pytest.mark.parametrize(("lane", "chunk"), _LANES)
@given(texts=st.lists(_TEXTS, min_size=1))
def test_texts_are_those_of_the_lane(
    lane: Lane[Any], chunk: Callable[[str], bytes], texts: list[str]
) -> None:
    """Any text, empty ones included, whatever it is part of and however it is escaped."""
    lines = b"\n".join(map(chunk, texts))
    assert _learned(lane, chunk).read(lines) == lane(lines)


@given(st.lists(st.sampled_from([b"\\", b'"', b",", b"a", b"\n", b'","', b"\xff", b"\x00"])))
def test_broken_texts_are_refused_as_by_the_lane(parts: list[bytes]) -> None:
    """What is not one JSON string may look like one, or like two, between the right bytes."""
    before, after = _chat("TEXT").split(b"TEXT")
    broken = before + b"".join(parts) + after
    template = _learned(chat_texts, _chat)
    for lines in (broken, b"\n".join([broken, _chat("b")]), b"\n".join([_chat("b"), broken])):
        assert template.read(lines) == chat_texts(lines)


@given(st.data())
def test_changed_bytes_are_read_as_by_the_lane(data: st.DataObject) -> None:
    """A chunk that differs in any byte is not taken for one with other text."""
    chunks = [_chat(text) for text in ("a", "b", "c")]
    number = data.draw(st.integers(0, 2))
    at = data.draw(st.integers(0, len(chunks[number]) - 1))
    byte = data.draw(st.binary(max_size=2))
    chunks[number] = chunks[number][:at] + byte + chunks[number][at + 1 :]
    lines = b"\n".join(chunks)
    assert _learned(chat_texts, _chat).read(lines) == chat_texts(lines)


def test_two_broken_texts_do_not_make_two_whole_ones() -> None:
    """An escaped quote at the end of one text would join it to the next."""
    before, after = _chat("TEXT").split(b"TEXT")
    lines = b"%b\n%b" % (before + b"a\\" + after, before + b',"b' + after)
    assert _learned(chat_texts, _chat).read(lines) is None


def test_one_broken_text_does_not_make_two_whole_ones() -> None:
    """A quote that the server forgot to escape."""
    lines = _chat("TEXT").replace(b"TEXT", b'a","b')
    assert _learned(chat_texts, _chat).read(lines) is None


def test_a_known_template_needs_no_lane() -> None:
    """The reason for the template: the lane is asked once, and once to try the template."""
    lane = _CountingLane()
    template = _learned(lane, _chat)
    before = lane.calls
    for _ in range(10):
        lines = b"\n".join([_chat("a"), _chat("\\ \u20ac")])
        assert template.read(lines) == (None, ["a", "\\ \u20ac"])
    assert lane.calls == before


def test_a_template_follows_the_answer() -> None:
    """Some servers write the current second into each chunk."""
    lane = _CountingLane()
    template = Template(lane)
    for second in range(3 * MAX_MISSES):
        lines = json.dumps(delta({"content": "a"}) | {"created": second}).encode()
        assert template.read(lines) == (None, ["a"])
        before = lane.calls
        assert template.read(lines) == (None, ["a"])
        assert lane.calls == before


def test_an_answer_without_a_template_is_searched_only_for_a_while() -> None:
    """Random padding differs in each chunk; from then on each read costs one call of the lane."""
    lane = _CountingLane()
    template = Template(lane)
    for number in range(20):
        before = lane.calls
        padded = json.dumps(delta({"content": "a"}) | {"obfuscation": "x" * number}).encode()
        assert template.read(padded) == (None, ["a"])
    assert lane.calls == before + 1


def test_a_name_that_is_also_a_text_is_not_a_place_for_it() -> None:
    """A model may generate its own name, or any other string of its chunk."""
    chunk = delta({"content": "gpt"}) | {"model": "gpt", "id": "gpt"}
    template = Template(chat_texts)
    lines = json.dumps(chunk).encode()
    assert template.read(lines) == (None, ["gpt"])
    other = lines.replace(b'"content": "gpt"', b'"content": "b"')
    assert other != lines
    assert template.read(other) == (None, ["b"])
    renamed = lines.replace(b'"model": "gpt"', b'"model": "b"')
    assert template.read(renamed) == (None, ["gpt"])


def test_small_reads_need_no_template() -> None:
    """They go to the lane, which is as fast for a few chunks."""
    lane, templates = _CountingLane(), Templates()
    for _ in range(3):
        assert templates.read(_chat("a"), lane) == (None, ["a"])
    assert lane.calls == 3
    large = b"\n".join([_chat("a")] * (MIN_BYTES // len(_chat("a")) + 1))
    calls = []
    for _ in range(3):
        assert templates.read(large, lane) is not None
        calls.append(lane.calls)
    assert calls[0] == calls[1] == calls[2]


def test_a_large_read_of_nothing_teaches_nothing() -> None:
    """Events without data are empty lines."""
    lines = b"\n" * MIN_BYTES
    assert Template(chat_texts).read(lines) == chat_texts(lines)
