"""The template of an answer's chunks gives what the lane gives, for any bytes."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.openai_http.lanes import chat_texts, completion_texts
from adapters.openai_http.template import MAX_MISSES, Lane, Template
from tests.openai_chunks import delta, piece

_TEXTS = st.text(st.characters(codec="utf-8"))


class _CountingLane:
    """A lane that counts its calls."""

    def __init__(self, lane: Lane = chat_texts) -> None:
        self.calls = 0
        self._lane = lane

    def __call__(self, lines: bytes) -> list[str] | None:
        self.calls += 1
        return self._lane(lines)


def _chat(text: str) -> bytes:
    return json.dumps(delta({"content": text})).encode()


def _completion(text: str) -> bytes:
    return json.dumps(piece(text), ensure_ascii=False, separators=(",", ":")).encode()


def _learned(lane: Lane, chunk: Callable[[str], bytes]) -> Template:
    template = Template()
    assert template.texts(chunk("a"), lane) == ["a"]
    return template


@pytest.mark.parametrize("chunk", [_chat, _completion])
@given(texts=st.lists(_TEXTS, min_size=1))
def test_texts_are_those_of_the_lane(chunk: Callable[[str], bytes], texts: list[str]) -> None:
    """Any text, empty ones included, in either endpoint's chunks and either way of escaping."""
    lane = chat_texts if chunk is _chat else completion_texts
    lines = b"\n".join(map(chunk, texts))
    assert _learned(lane, chunk).texts(lines, lane) == lane(lines)


@given(st.lists(st.sampled_from([b"\\", b'"', b",", b"a", b"\n", b'","', b"\xff", b"\x00"])))
def test_broken_texts_are_refused_as_by_the_lane(parts: list[bytes]) -> None:
    """What is not one JSON string may look like one, or like two, between the right bytes."""
    before, after = _chat("TEXT").split(b"TEXT")
    broken = before + b"".join(parts) + after
    template = _learned(chat_texts, _chat)
    for lines in (broken, b"\n".join([broken, _chat("b")]), b"\n".join([_chat("b"), broken])):
        assert template.texts(lines, chat_texts) == chat_texts(lines)


@given(st.data())
def test_changed_bytes_are_read_as_by_the_lane(data: st.DataObject) -> None:
    """A chunk that differs in any byte is not taken for one with other text."""
    chunks = [_chat(text) for text in ("a", "b", "c")]
    number = data.draw(st.integers(0, 2))
    at = data.draw(st.integers(0, len(chunks[number]) - 1))
    byte = data.draw(st.binary(max_size=2))
    chunks[number] = chunks[number][:at] + byte + chunks[number][at + 1 :]
    lines = b"\n".join(chunks)
    assert _learned(chat_texts, _chat).texts(lines, chat_texts) == chat_texts(lines)


def test_two_broken_texts_do_not_make_two_whole_ones() -> None:
    """An escaped quote at the end of one text would join it to the next."""
    before, after = _chat("TEXT").split(b"TEXT")
    lines = b"%b\n%b" % (before + b"a\\" + after, before + b',"b' + after)
    assert _learned(chat_texts, _chat).texts(lines, chat_texts) is None


def test_one_broken_text_does_not_make_two_whole_ones() -> None:
    """A quote that the server forgot to escape."""
    lines = _chat("TEXT").replace(b"TEXT", b'a","b')
    assert _learned(chat_texts, _chat).texts(lines, chat_texts) is None


def test_a_known_template_needs_no_lane() -> None:
    """The reason for the template: the lane is asked once, and once to try the template."""
    lane = _CountingLane()
    template = _learned(lane, _chat)
    before = lane.calls
    for _ in range(10):
        assert template.texts(b"\n".join([_chat("a"), _chat("\\ \u20ac")]), lane) is not None
    assert lane.calls == before


def test_a_template_follows_the_answer() -> None:
    """Some servers write the current second into each chunk."""
    lane = _CountingLane()
    template = Template()
    for second in range(3 * MAX_MISSES):
        lines = json.dumps(delta({"content": "a"}) | {"created": second}).encode()
        assert template.texts(lines, lane) == ["a"]
        before = lane.calls
        assert template.texts(lines, lane) == ["a"]
        assert lane.calls == before


def test_an_answer_without_a_template_is_searched_only_for_a_while() -> None:
    """Random padding differs in each chunk; from then on each read costs one call of the lane."""
    lane = _CountingLane()
    template = Template()
    for number in range(20):
        before = lane.calls
        padded = json.dumps(delta({"content": "a"}) | {"obfuscation": "x" * number}).encode()
        assert template.texts(padded, lane) == ["a"]
    assert lane.calls == before + 1


def test_a_name_that_is_also_a_text_is_not_a_place_for_it() -> None:
    """A model may generate its own name, or any other string of its chunk."""
    chunk = delta({"content": "gpt"}) | {"model": "gpt", "id": "gpt"}
    template = Template()
    lines = json.dumps(chunk).encode()
    assert template.texts(lines, chat_texts) == ["gpt"]
    other = lines.replace(b'"content": "gpt"', b'"content": "b"')
    assert other != lines
    assert template.texts(other, chat_texts) == ["b"]
    renamed = lines.replace(b'"model": "gpt"', b'"model": "b"')
    assert template.texts(renamed, chat_texts) == ["gpt"]
