"""The fast lanes read what the slow one reads, or leave it to it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import Reasoning, ScoredToken, Token, ToolCallDelta, WorkerError
from adapters.http_util import ServerSentEvent, SSEDecoder
from adapters.openai_http.answer import AnswerReader
from adapters.openai_http.lanes import call_arguments, chat_texts, completion_texts
from adapters.openai_http.outcome import Phase, Wanted
from tests.adapters.openai_http.reading import EVERYTHING
from tests.openai_chunks import delta, piece
from tests.strategies import json_values


def _line(chunk: dict[str, Any]) -> bytes:
    return json.dumps(chunk).encode()


def _read(line: bytes, reader: AnswerReader) -> list[Token]:
    """Return the Tokens of one event, read the slow way."""
    tokens: list[Token] = []
    reader.read(ServerSentEvent(line), tokens)
    return tokens


def _answer(*, chat: bool) -> AnswerReader:
    """Return a reader whose first chunk was read."""
    reader = AnswerReader()
    _read(_line(delta({"content": ""}) if chat else piece("")), reader)
    return reader


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1), st.booleans())
def test_plain_chunks_are_read_at_once(texts: list[str], chat: bool) -> None:
    """HTU-1003: completions and chats, with indexes that continue."""
    lines = b"\n".join(_line(delta({"content": text}) if chat else piece(text)) for text in texts)
    answer = _answer(chat=chat)
    expected = [Token(text, index) for index, text in enumerate(texts)]
    assert answer.read_plain(lines) == expected
    assert answer.tokens == len(texts)


UNUSUAL = [
    {"choices": []},
    {"choices": [{"index": 0, "text": ""}]},
    {"choices": [{"index": 1, "text": "a"}]},
    {"choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]},
    {"choices": [{"index": 0, "text": "a", "logprobs": {"token_logprobs": [-1.0]}}]},
    {"choices": [{"index": 0, "text": "a"}, {"index": 0, "text": "b"}]},
    {"choices": [{"index": 0, "text": "a"}], "usage": {"completion_tokens": 1}},
    {"choices": [{"index": 0, "text": "a"}], "errorMessage": "x"},
    {"choices": [{"index": 0, "text": "a"}], "exception": "x"},
    {"choices": [{"index": 0, "text": "a"}], "detail": "x"},
    {"choices": [{"index": 0, "text": "a"}], "type": "error"},
    {"choices": [{"index": 0, "text": "a"}], "success": False},
    {"choices": [{"index": 0, "text": "a"}], "error": {"message": "x"}},
    {"choices": [{"index": 0, "text": "a", "error": {"message": "x"}}]},
    {"choices": [{"index": 0, "text": "a", "delta": {"error": "x"}}]},
    {"choices": [{"index": 0, "text": "a", "message": {"error": "x"}}]},
    {"choices": [{"index": 0, "text": 1}]},
    {"choices": [{"index": 0, "text": None}]},
    {"choices": [{"index": 0}]},
    {"choices": {"index": 0}},
    {"error": "x"},
    {},
    [],
    1,
]


@pytest.mark.parametrize("unusual", UNUSUAL, ids=json.dumps)
def test_one_unusual_chunk_leaves_all_to_the_slow_lane(unusual: Any) -> None:
    """No Token of such a read is made, and none is counted."""
    lines = b"\n".join([_line(piece("a")), json.dumps(unusual).encode(), _line(piece("b"))])
    answer = _answer(chat=False)
    assert answer.read_plain(lines) is None
    assert answer.tokens == 0


@pytest.mark.parametrize("data", [b"[DONE]", b"{", b"\xff", b'{"choices":[{"text":"\xff"}]}'])
def test_what_is_not_json_is_left_to_the_slow_lane(data: bytes) -> None:
    """[DONE] is among it."""
    assert completion_texts(data) is None
    assert chat_texts(data) is None


def test_a_chunk_with_text_and_delta_is_left_to_the_slow_lane() -> None:
    """There the text goes first, and an error in the delta is found."""
    chunk = {"choices": [{"index": 0, "text": "a", "delta": {"content": "b"}}]}
    assert completion_texts(_line(chunk)) is None
    assert chat_texts(_line(chunk)) is None


@pytest.mark.parametrize("choice", [{"error": "x"}, {"message": {"error": "x"}}])
def test_a_chat_choice_with_an_error_is_left_to_the_slow_lane(choice: dict[str, Any]) -> None:
    """Return whether the error is in the choice, or in its message or delta."""
    plain = {"index": 0, "delta": {"content": "a"}}
    assert chat_texts(_line({"choices": [plain]})) == (None, ["a"])
    assert chat_texts(_line({"choices": [plain | choice]})) is None
    assert chat_texts(_line({"choices": [{"delta": {"content": "a", "error": "x"}}]})) is None


_TEXTS = st.sampled_from(["", "a", None, 1])
_NOTHINGS = st.sampled_from([None, {}, [], "", "x", 0, False])
_CHOICES = st.fixed_dictionaries(
    {"index": st.sampled_from([0, 0, 0, None, 1])},
    optional={
        "text": _TEXTS,
        "delta": st.fixed_dictionaries(
            {}, optional={"content": _TEXTS, "refusal": _TEXTS, "error": _NOTHINGS}
        ),
        "error": _NOTHINGS,
        "finish_reason": _NOTHINGS,
        "logprobs": _NOTHINGS,
    },
)
_CHUNKS = st.fixed_dictionaries(
    {"choices": st.lists(_CHOICES, min_size=1, max_size=2)},
    optional={"usage": _NOTHINGS, "error": _NOTHINGS, "id": st.just("x")},
)


@given(_CHUNKS | json_values)
def test_any_chunk_gives_the_same_in_both_lanes(chunk: Any) -> None:
    """The slow lane reads the same text as the fast one."""
    data = json.dumps(chunk).encode()
    for texts in (completion_texts, chat_texts):
        found = texts(data)
        if found is not None:
            (token,) = _read(data, AnswerReader())
            assert found == [token.text]


_NAMES = st.sampled_from([None, "", "a", 1])
_USAGES = st.dictionaries(
    st.sampled_from(["prompt_tokens", "completion_tokens", "CompletionTokens", "x"]),
    st.integers(-1, 3) | _NOTHINGS,
)
_ORDINARY = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.fixed_dictionaries(
                {"index": st.just(0)},
                optional={
                    "text": _TEXTS,
                    "delta": st.fixed_dictionaries(
                        {},
                        optional={"role": _NAMES, "content": _TEXTS, "tool_calls": _NOTHINGS}
                        | {"refusal": _TEXTS, "reasoning": _TEXTS, "reasoning_content": _TEXTS}
                        | {"other": _NOTHINGS},
                    ),
                    "finish_reason": st.sampled_from([None, "", "stop", "length", "error", "odd"]),
                    "stop_reason": _NOTHINGS,
                    "logprobs": _NOTHINGS,
                    "other": _NOTHINGS,
                },
            ),
            max_size=2,
        )
    },
    optional={"id": _NAMES, "model": _NAMES, "system_fingerprint": _NAMES, "created": _NAMES}
    | {"object": _NAMES | st.just("text_completion"), "usage": _NOTHINGS | _USAGES}
    | {"other": _NOTHINGS},
)


@given(st.lists(_ORDINARY, min_size=1, max_size=6), st.sampled_from([1, 2, 9]), st.booleans())
def test_a_line_gives_what_its_event_gives(chunks: list[Any], at_once: int, wanted: bool) -> None:
    """Chunks whose types are declared are read as any others would be, alone and together."""
    lines = [*map(_line, chunks), b"[DONE]"]
    by_line, by_event = (AnswerReader(EVERYTHING if wanted else None) for _ in range(2))
    found = [_read_both(by_line, by_event, lines[at : at + at_once]) for at in range(0, 7, at_once)]
    assert all(as_lines == as_events for as_lines, as_events in found)
    assert _verdict(by_line) == _verdict(by_event)


def _read_both(
    by_line: AnswerReader, by_event: AnswerReader, lines: list[bytes]
) -> tuple[list[Token], list[Token]]:
    if by_line.phase is Phase.CLOSED or not lines:
        return [], []
    as_events = by_event.feed(b"".join(b"event: message\ndata: %s\n\n" % line for line in lines))
    return by_line.feed(b"".join(b"data: %s\n\n" % line for line in lines)), as_events


def _verdict(answer: AnswerReader) -> tuple[object, ...]:
    facts = answer.facts
    known = (answer.phase, answer.pieces, answer.begun, answer.finish_reason, facts.model)
    known += (facts.completion_id, facts.fingerprint, facts.usage, facts.own_numbers())
    try:
        return (*known, answer.finish())
    except WorkerError as error:
        return (*known, str(error))


def test_before_the_first_chunk_there_is_no_fast_lane() -> None:
    """The first one shows which server answers."""
    assert AnswerReader().read_plain(_line(piece("a"))) is None


def test_failures_that_come_as_text_are_looked_for() -> None:
    """A dialect with such failures has no fast lane."""
    reader = AnswerReader(error_text="Internal error: ")
    _read(_line(piece("a")), reader)
    assert reader.read_plain(_line(piece("b"))) is None


@pytest.mark.parametrize(
    "more",
    [
        {"tool_calls": [{"index": 0, "function": {"arguments": "x"}}]},
        {"reasoning_content": "x"},
        {"reasoning": "x"},
        {"thinking": "x"},
        {"reasoning_text": "x"},
        {"refusal": "x"},
        {"reasoning_details": [{}]},
        {"function_call": {"name": "x"}},
        {"audio": {"data": "x"}},
        {"extra_content": {"x": 1}},
    ],
    ids=lambda more: next(iter(more)),
)
def test_text_with_anything_else_that_counts_leaves_the_fast_lane(more: dict[str, Any]) -> None:
    """Nothing beside the text gets lost; what says nothing stays in the lane."""
    assert chat_texts(_line(delta({"content": "a", **more}))) is None
    nothing = {"tool_calls": [], "reasoning_content": None, "reasoning": "", "role": None}
    assert chat_texts(_line(delta({"content": "a", **nothing}))) == (None, ["a"])


# Arguments


def _call(arguments: str, index: int = 0, **more: Any) -> dict[str, Any]:
    call = {"index": index, "function": {"arguments": arguments}, **more}
    return delta({"tool_calls": [call]})


def _calling() -> AnswerReader:
    """Return a reader in the middle of a call."""
    start = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}
    reader = AnswerReader()
    _read(_line(delta({"tool_calls": [start]})), reader)
    return reader


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1))
def test_pieces_of_arguments_are_read_at_once(pieces: list[str]) -> None:
    """The same Tokens as one by one, with indexes that continue."""
    lines = [_line(_call(text)) for text in pieces]
    expected = [ToolCallDelta("", i, call=0, arguments=text) for i, text in enumerate(pieces, 1)]
    assert _calling().read_plain(b"\n".join(lines)) == expected
    slow = _calling()
    assert [token for line in lines for token in _read(line, slow)] == expected


@pytest.mark.parametrize(
    "unusual",
    [
        _call("x", 1),
        _call(""),
        _call("x", id="b"),
        _call("x", extra_content={"x": 1}),
        _call("x", function={"arguments": "x", "name": "g"}),
        delta({"tool_calls": [{"function": {"arguments": "x"}}]}),
        delta({"content": "x"}),
        delta({"content": "x", "tool_calls": [{"index": 0, "function": {"arguments": "x"}}]}),
        delta({}, "tool_calls"),
    ],
    ids=json.dumps,
)
def test_an_unusual_piece_of_a_call_leaves_all_to_the_slow_lane(unusual: Any) -> None:
    """Another call, an id, text, or the end."""
    lines = b"\n".join([_line(_call("a")), _line(unusual), _line(_call("b"))])
    assert call_arguments(lines) is None
    reader = _calling()
    assert reader.read_plain(lines) is None
    assert reader.tokens == 1


def test_a_call_that_is_not_open_has_no_fast_lane() -> None:
    """Its pieces may open another call."""
    assert _calling().read_plain(_line(_call("x", 1))) is None


def test_plain_reads_are_handed_on_as_lines() -> None:
    """SSEDecoder.feed_plain gives lines exactly where each event is one line of data."""
    decoder = SSEDecoder()
    assert decoder.feed_plain(b"data: a\n\n") == b"a"
    assert decoder.feed_plain(b"data: a\n\ndata: b\n\n") == b"a\nb"
    assert decoder.feed_plain(b"data: a\n\ndata: ") == b"a"
    assert decoder.feed_plain(b"b\n\n") == b"b"
    for other in (
        b"data:a\n\n",
        b"data: a\nid: 1\n\n",
        b": ping\n\n",
        b"data: a\n\ndata: b\ndata\n\n",
    ):
        assert isinstance(decoder.feed_plain(other), list)


@given(st.lists(st.sampled_from([b"data: a", b"data: ", b"data:b", b"id: 1", b": c", b"", b"{}"])))
def test_lines_are_the_events_that_feed_gives(lines: list[bytes]) -> None:
    """The same with any blank lines among plain and other lines."""
    data = b"".join(line + b"\n" for line in lines)
    one, other = SSEDecoder(), SSEDecoder()
    found = one.feed_plain(data)
    events = one.events_of(found) if isinstance(found, bytes) else found
    by_byte = [event for i in range(len(data)) for event in other.feed(data[i : i + 1])]
    assert [event for event in events if event.data] == [event for event in by_byte if event.data]


# Reasoning


def _thinking(name: str = "reasoning") -> AnswerReader:
    """Return a reader in the middle of reasoning."""
    reader = AnswerReader(EVERYTHING)
    _read(_line(delta({name: "hm"})), reader)
    return reader


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_is_read_at_once(name: str) -> None:
    """Most of what a thinking model sends; it is kept for the next turn under its name."""
    reader = _thinking(name)
    lines = b"\n".join(_line(delta({"content": "", name: word})) for word in ("so", "then"))
    assert reader.read_plain(lines) == [
        Reasoning("", 1, reasoning="so"),
        Reasoning("", 2, reasoning="then"),
    ]
    reader.feed(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n')
    assert reader.finish().message_extra == {name: "hmsothen"}


@pytest.mark.parametrize(
    "other", [{"content": "a"}, {"reasoning": "a", "content": "b"}, {"reasoning": ""}, {}]
)
def test_another_chunk_ends_the_lane_of_reasoning(other: dict[str, Any]) -> None:
    lines = b"\n".join(_line(delta(part)) for part in ({"reasoning": "a"}, other))
    assert _thinking().read_plain(lines) is None


def test_unwanted_reasoning_is_progress() -> None:
    reader = AnswerReader()
    _read(_line(delta({"reasoning": "hm"})), reader)
    assert reader.read_plain(_line(delta({"reasoning": "so"}))) == []
    assert (reader.pieces, reader.tokens) == (2, 0)


def test_scores_that_came_ahead_of_their_text_join_it() -> None:
    """An engine sends an empty text with its scores while a character is incomplete."""
    score = {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": None, "text_offset": [0]}
    ahead = {"choices": [{"index": 0, "text": "", "logprobs": score}]}
    reader = AnswerReader(Wanted(logprobs=True))
    tokens = [
        token
        for chunk in (piece("a"), ahead, piece("b"), piece("c"))
        for token in reader.feed(b"data: %s\n\n" % _line(chunk))
    ]
    assert [type(token) for token in tokens] == [Token, ScoredToken, Token]


# What a chunk says beside its text

_SIGNS: list[tuple[str, Any]] = [
    *[(name, "x") for name in ("err_msg", "Error", "errorMessage", "exception", "failure")],
    *[("state", "failed"), ("status", 500), ("ok", False), ("success", False), ("object", "error")],
    *[("type", "error"), ("event", "error"), ("native_finish_reason", "SAFETY")],
    *[("finish_details", {"type": "safety"}), ("stop_details", {"type": "refusal"})],
    *[("finish_reason", "error"), ("FinishReason", "SAFETY"), ("stop_reason", "content_filter")],
    *[("done_reason", "error"), ("incomplete_details", {"reason": "content_filter"})],
    *[("safety_ratings", [{"category": "HARM", "blocked": True}]), ("filtered", True)],
    *[("content_filter_results", {"hate": {"filtered": True}}), ("blocked", True)],
    *[("prompt_filter_results", [{"content_filter_results": {"hate": {"filtered": True}}}])],
    *[("thinking_blocks", [{"type": "thinking", "thinking": "hm"}]), ("thought", "hm")],
    *[("reasoning_summary", "hm"), ("refusal", "no"), ("toolCalls", [{"id": "1"}]), ("odd", 1)],
]


@pytest.mark.parametrize("where", ["chunk", "choice", "delta"])
@pytest.mark.parametrize(("name", "value"), _SIGNS)
def test_a_sign_beside_a_text_is_seen_wherever_it_comes(name: str, value: Any, where: str) -> None:
    """No lane overlooks what the slow reader reads: in the middle of many plain chunks, too."""
    chunk = delta({"content": "b"})
    places = {"chunk": chunk, "choice": chunk["choices"][0], "delta": chunk["choices"][0]["delta"]}
    places[where][name] = value
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    plain = [delta({"content": "a"})] * 3
    lines = [*map(_line, [*plain, chunk, *plain, end]), b"[DONE]"]
    by_line, by_event = AnswerReader(EVERYTHING), AnswerReader(EVERYTHING)
    for part in (lines[:1], lines[1:7], lines[7:]):
        as_lines, as_events = _read_both(by_line, by_event, part)
        assert as_lines == as_events
    assert _verdict(by_line) == _verdict(by_event)
