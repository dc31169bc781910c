"""The decoder follows WHATWG to the letter, however the bytes are split (HTU-1003)."""

import re
import tracemalloc
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.http_util import MAX_EVENT_BYTES, MAX_LINE_BYTES, DecodeLimitError, SSEDecoder
from adapters.http_util.sse import MAX_EVENT_LINES, MAX_UNKNOWN_BYTES
from tests.openai_chunks import STREAMS, recorded
from tests.timing import assert_linear

BOM = b"\xef\xbb\xbf"


@attrs.define
class Decoded:
    """A stream's events as (data, type, id), and the decoder's state between them."""

    events: list[tuple[str, str, str]] = attrs.field(factory=list)
    last_event_id: str = ""
    retry_ms: int | None = None


def reference(stream: bytes) -> Decoded:
    """WHATWG HTML 9.2.6, read aloud: the whole stream at once, as text, no care for speed.

    One thing is ours: a `retry` of more than twelve digits, 30 years, is left aside.
    """
    text = stream.removeprefix(BOM).decode("utf-8", "replace")
    decoded = Decoded()
    data, event_type = "", ""
    for line in re.split("\r\n|\r|\n", text)[:-1]:  # the last one is not ended
        if line == "":
            if data == "":
                event_type = ""
                continue
            event = (data.removesuffix("\n"), event_type or "message", decoded.last_event_id)
            decoded.events.append(event)
            data, event_type = "", ""
        elif not line.startswith(":"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                event_type = value
            elif field == "data":
                data += value + "\n"
            elif field == "id" and "\0" not in value:
                decoded.last_event_id = value
            elif field == "retry" and re.fullmatch("[0-9]{1,12}", value):
                decoded.retry_ms = int(value)
    return decoded


def decode(pieces: Iterable[bytes], **limits: int) -> Decoded:
    """The same by the decoder, fed piece by piece."""
    decoder = SSEDecoder(**limits)
    events = [
        (event.data.decode("utf-8", "replace"), event.event, event.id)
        for piece in pieces
        for event in decoder.feed(piece)
    ]
    return Decoded(events, decoder.last_event_id, decoder.retry_ms)


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    """`stream` in pieces, some maybe empty."""
    bounds = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in pairwise(bounds)]


def one_by_one(stream: bytes) -> list[bytes]:
    """Each byte alone."""
    return [bytes([byte]) for byte in stream]


values = st.sampled_from(
    [b"", b" ", b"x", b" x", b"  two", b":", b"a:b", b'{"a": 1}', b"[DONE]", b"7", b"250", b"007",
     b"1000000000000", b"-1", b"\xb2", b"a\0b", b"\0", b"\xff\xfe", b"\xe2\x80", b"\xc3\xa9", BOM,
     "\u2028 \u0085 \u2029 \x0b \x0c \x1c é 😀".encode()]
)  # fmt: skip
names = st.sampled_from(
    [b"data", b"data", b"data", b"data", b"event", b"id", b"retry", b"", b"other", b"Data",
     b" data", b"data ", BOM + b"data", b"dat"]
)  # fmt: skip
fields = st.builds(lambda name, colon, value: name + colon + value, names,
                   st.sampled_from([b":", b":", b": ", b": ", b""]), values)  # fmt: skip
ends = st.sampled_from(
    [b"\n"] * 4 + [b"\n\n"] * 4 + [b"\r", b"\r\n", b"\r\n\r\n", b"\n\r", b"\r\r", b""]
)
streams = (
    st.builds(
        lambda bom, lines: bom + b"".join(line + end for line, end in lines),
        st.sampled_from([b"", b"", BOM, BOM + BOM, BOM[:2]]),
        st.lists(st.tuples(fields, ends), max_size=14),
    )
    | st.lists(
        st.sampled_from([b"data: x", b"\n", b"\r", b":", b" ", b"id", BOM]), max_size=20
    ).map(b"".join)
    | st.binary(max_size=60)
)
places = st.lists(st.integers(0, 10_000), max_size=8)


@settings(max_examples=100)
@given(streams, places)
def test_any_split_gives_what_the_standard_says(stream: bytes, cuts: list[int]) -> None:
    """For every split of the bytes, events, last id and retry equal those of the whole stream.

    Before the blank line that ends it, an event's id and retry may count already, or not yet.
    """
    for pieces in (cut(stream, cuts), [stream], one_by_one(stream)):
        assert decode(pieces).events == reference(stream).events
        assert decode([*pieces, b"\n\n"]) == reference(stream + b"\n\n")


@pytest.mark.parametrize("name", STREAMS)
def test_every_split_of_recorded_answers(name: str) -> None:
    """Real answers, cut in two at every place and into single bytes, with each kind of line end."""
    body = recorded(name)[2]
    expected = reference(body)
    assert len(expected.events) >= 2
    for place in range(len(body) + 1):
        assert decode([body[:place], body[place:]]) == expected
    assert decode(one_by_one(body)) == expected
    for end in (b"\r", b"\r\n"):
        other = BOM + body.replace(b"\n", end)
        assert decode([other]) == decode(one_by_one(other)) == expected
        for place in range(0, len(other), 5):
            assert decode([other[:place], other[place:]]) == expected


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", ["YHOO\n+2\n10"]),
        (b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third\n",
         ["first event", "second event"]),
        (b"data\n\ndata\ndata\n\ndata:", ["", "\n"]),
        (b"data:test\n\ndata: test\n\n", ["test", "test"]),
    ],
)  # fmt: skip
def test_the_examples_of_the_standard(stream: bytes, events: list[str]) -> None:
    """WHATWG HTML 9.2.6, at its end."""
    assert [data for data, _, _ in decode([stream]).events] == events
    assert [data for data, _, _ in reference(stream).events] == events


def test_only_cr_and_lf_end_lines() -> None:
    """U+2028, U+0085, form feeds and the like are text."""
    text = "a\u2028b\u2029c\u0085d\x0b\x0c\x1c\x1d\x1ee"
    for end in ("\n", "\r", "\r\n"):
        assert decode([f"data: {text}{end}{end}".encode()]).events == [(text, "message", "")]


# Limits

SMALL = {"max_line_bytes": 30, "max_event_bytes": 40}


def too_long(stream: bytes, max_line_bytes: int, max_event_bytes: int) -> bool:
    """Return whether a line, ended or not, or the data of an event exceeds its limit."""
    size = 0
    *lines, rest = re.split(b"\r\n|\r|\n", stream.removeprefix(BOM))
    for line in lines:
        if len(line) > max_line_bytes:
            return True
        field, _, value = line.partition(b":")
        if not line:
            size = 0
        elif field == b"data":
            size += len(value.removeprefix(b" ")) + 1
            if size > max_event_bytes:
                return True
    return len(rest) > max_line_bytes


long_lines = st.lists(
    st.tuples(
        st.sampled_from([b"data: ", b"data:", b": ", b"event: ", b"other", b""]),
        st.integers(0, 65).map(lambda size: b"x" * size),
        ends,
    ).map(b"".join),
    max_size=8,
).map(b"".join)


@settings(max_examples=100)
@given(long_lines, places, st.sampled_from([SMALL, {"max_line_bytes": 60, "max_event_bytes": 30}]))
def test_limits_hold_however_the_bytes_are_split(
    stream: bytes, cuts: list[int], limits: dict[str, int]
) -> None:
    """The error comes if and only if a limit is passed, to the byte."""
    for pieces in (cut(stream, cuts), [stream], one_by_one(stream)):
        if too_long(stream, **limits):
            with pytest.raises(DecodeLimitError, match=r"(longer|more) than \d+ bytes"):
                decode(pieces, **limits)
        else:
            assert decode(pieces, **limits).events == reference(stream).events


@pytest.mark.parametrize("before", [b"", b": hello\n", b": hello\r", b"data: x\n\n"])
@pytest.mark.parametrize("piece", [b"x", b"x" * 9, b"x" * 1000, b"data: xxxxxx"])
def test_a_line_that_never_ends_is_refused(before: bytes, piece: bytes) -> None:
    """The limit holds however the line arrives, in a bounded buffer."""
    decoder = SSEDecoder(max_line_bytes=100)
    decoder.feed(before)
    with pytest.raises(DecodeLimitError, match="a line is longer than 100 bytes"):
        for _ in range(200):
            decoder.feed(piece)


@pytest.mark.parametrize("line", [b"data: xxxxxxxxxx\n", b"data: xxxxxxxxxx\r\n", b"data\n"])
def test_an_event_that_never_ends_is_refused(line: bytes) -> None:
    """Data lines without end are as bad as a line without end."""
    decoder = SSEDecoder(max_event_bytes=1000)
    with pytest.raises(DecodeLimitError, match="an event has more than 1000 bytes"):
        for _ in range(5000):
            decoder.feed(line)


def test_the_default_limits_are_generous_and_exact() -> None:
    """8 MiB for a line and an event; many events in one piece may be longer than both."""
    assert decode([b"data:" + b"x" * (MAX_LINE_BYTES - 5) + b"\n\n"]).events
    with pytest.raises(DecodeLimitError):
        decode([b"data:" + b"x" * (MAX_LINE_BYTES - 4) + b"\n\n"])
    line = b"data:" + b"x" * (MAX_LINE_BYTES // 2 - 1) + b"\n"
    assert decode([line * (MAX_EVENT_BYTES // len(line[5:])), b"\n"]).events
    with pytest.raises(DecodeLimitError):
        decode([line * (MAX_EVENT_BYTES // len(line[5:])), b"data\n"])
    assert len(decode([(b"data: " + b"x" * 1000 + b"\n\n") * 17_000]).events) == 17_000


def test_comments_need_no_memory() -> None:
    """Pings are forgotten at once, with and without a blank line after each."""
    note = b": " + b"x" * 100
    for ping in (note + b"\n", note + b"\n\n", note + b"\r\n\r\n", b"event:" + note + b"\n\n"):
        decoder = SSEDecoder()
        decoder.feed(ping)
        tracemalloc.start()
        for _ in range(5_000):
            assert decoder.feed(ping) == []
        size, _peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert size < 100_000


def line_by_line() -> SSEDecoder:
    """Return a decoder that has met a CR, and so reads line by line."""
    decoder = SSEDecoder()
    decoder.feed(b":\r\n")
    return decoder


@pytest.mark.timing
@pytest.mark.parametrize(
    "piece",
    [
        b"xxxxxxxxxx",  # one line
        b": ping\n",  # lines without an event
        b"data: x\n",  # one event
        b"data: x\r",
        b"data: x\r\n\r\n",
    ],
)
def test_small_pieces_take_linear_time(piece: bytes) -> None:
    """No copying, with each piece, of all that came before. (Whole events are cut at their blank
    lines, up to a bound that makes more copies harmless.)"""

    def feed(count: int) -> None:
        decoder = line_by_line()
        for _ in range(count):
            decoder.feed(piece)

    assert_linear(feed, 200)


def test_a_long_event_of_short_lines_is_not_a_long_line() -> None:
    """Switching to lines in the middle of an event counts each line for itself."""
    decoder = SSEDecoder(max_line_bytes=100, max_event_bytes=10_000)
    for _ in range(50):
        decoder.feed(b"data: 1234567890\n")
        decoder.feed(b"data: 12345")
        assert decoder.feed(b"67890\n") == []
    (event,) = decoder.feed(b"\n")
    assert event.data == b"\n".join([b"1234567890"] * 100)


# Noise, and lines that are not SSE


@pytest.mark.parametrize(
    "noise", [b"\n", b"\r\n", b":\n", b": ping\n\n", b"id: 1\n", b"event: x\n\n", b"other\n", b"\r"]
)
def test_noise_without_end_is_refused(noise: bytes) -> None:
    """Blank lines, comments and other fields between two events are bounded."""
    decoder = SSEDecoder()
    with pytest.raises(DecodeLimitError, match="came between two events"):
        for _ in range(1000):
            decoder.feed(noise * 1000)


@pytest.mark.parametrize("event", [b"data: x\n\n", b"data: x\r\r", b"data: x\ndata: y\n\n"])
def test_noise_is_counted_from_the_last_event(event: bytes) -> None:
    """A stream of pings and events may be as long as it likes."""
    decoder = SSEDecoder()
    for _ in range(10):
        decoder.feed(b": ping\n\n" * 10_000)
        assert len(decoder.feed(event)) == 1


def test_an_event_of_countless_lines_is_refused() -> None:
    """Empty data lines take time, whatever few bytes they are."""
    decoder = SSEDecoder()
    decoder.feed(b"data\n" * MAX_EVENT_LINES)
    with pytest.raises(DecodeLimitError, match=f"more than {MAX_EVENT_LINES} lines"):
        decoder.feed(b"data\n")


unknown_lines = st.sampled_from(
    [b'{"error": "x"}', b"error: no", b"Data: x", b"<p>", b"dat: x", b" data: x"]
)
known_lines = st.sampled_from(
    [b"data: x", b"", b"", b"data: x\n", b": note", b"id: 1", b"event: e", b"retry: 1", b"data"]
)


@settings(max_examples=100)
@given(st.lists(unknown_lines | known_lines), st.sampled_from([b"\n", b"\r", b"\r\n"]), places,
       st.booleans())  # fmt: skip
def test_unknown_lines_are_reported(
    lines: list[bytes], end: bytes, cuts: list[int], ended: bool
) -> None:
    """Lines that are neither fields nor comments are kept, and so is a last one without its end."""
    stream = end.join([*lines, b""] if ended else lines)
    expected = [
        line
        for line in re.split(b"\r\n|\r|\n", stream)
        if line and line.split(b":")[0] not in (b"data", b"", b"id", b"event", b"retry")
    ]
    decoder = SSEDecoder()
    for piece in cut(stream, cuts):
        decoder.feed(piece)
    assert decoder.finish() == []
    assert decoder.unknown == expected


@pytest.mark.parametrize("rest", [b"d", b"data", b"eve", b"data: [DO", b":", b""])
def test_a_field_that_was_cut_is_not_unknown(rest: bytes) -> None:
    """The end of a connection may cut any field."""
    decoder = SSEDecoder()
    decoder.feed(b"data: x\n\n" + rest)
    assert decoder.finish() == []
    assert decoder.unknown == []


def test_unknown_lines_are_bounded() -> None:
    """Only as much of them is kept as a message needs."""
    decoder = SSEDecoder()
    decoder.feed(b"x" * 1_000_000 + b"\n" + b"y\n" * 1000)
    assert sum(map(len, decoder.unknown)) <= MAX_UNKNOWN_BYTES


@pytest.mark.timing
@pytest.mark.parametrize(
    "line", [b"\n", b":\n", b"x\n", b"data\n", b"data:x\n\n", b"\r", b"data\r"]
)
def test_one_read_of_anything_takes_linear_time(line: bytes) -> None:
    """Ten times the bytes take about ten times as long, so that the bounds bound the time."""

    def feed(size: int) -> None:
        with suppress(DecodeLimitError):
            line_by_line().feed(line * (size * 400 // len(line)))

    assert_linear(feed, 16)
