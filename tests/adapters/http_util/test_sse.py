"""The decoder follows WHATWG to the letter, however the bytes are split (HTU-1003)."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.http_util import ServerSentEvent, SSEDecoder, SSELimitError
from tests.openai_chunks import STREAMS, recorded


def reference(stream: bytes) -> list[tuple[bytes, str, str]]:
    """WHATWG HTML 9.2.6, read aloud: the whole stream at once, no care for speed."""
    lines = re.split(rb"\r\n|\r|\n", stream.removeprefix(b"\xef\xbb\xbf"))[:-1]  # the rest is cut
    events, data, kind, last_id = [], [], "", ""
    for line in lines:
        if not line:
            if data:
                events.append((b"\n".join(data), kind or "message", last_id))
            data, kind = [], ""
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            kind = value.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in value:
            last_id = value.decode("utf-8", "replace")
    return events


def decode(*pieces: bytes) -> list[tuple[bytes, str, str]]:
    """The same by the decoder, fed piece by piece."""
    decoder = SSEDecoder()
    return [(e.data, e.event, e.id) for piece in pieces for e in decoder.feed(piece)]


fields = st.sampled_from(
    [b"data: x", b"data:y", b"data", b"data: ", b"data:  two", b": comment", b"event: ping",
     b"event", b"id: 7", b"id: a\0b", b"id", b"retry: 10", b"retry: x", b"other: z",
     b'data: {"a":1}', "data: \u2028 \u0085 \u00e9".encode(), b"data: \xff\xfe", b" data: no",
     b"\xef\xbb\xbfdata: n"]
)  # fmt: skip
ends = st.sampled_from([b"\n", b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n", b"\n\r", b""])
streams = st.builds(
    lambda bom, lines: bom + b"".join(field + end for field, end in lines),
    st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb"]),
    st.lists(st.tuples(fields, ends), max_size=12),
) | st.binary(max_size=60)


@settings(max_examples=600)
@given(streams, st.data())
def test_any_split_gives_what_the_standard_says(stream: bytes, data: st.DataObject) -> None:
    """However the bytes are split, the events are those of the whole stream."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decode(*pieces) == reference(stream)


@settings(max_examples=200)
@given(streams)
def test_one_byte_at_a_time(stream: bytes) -> None:
    """The smallest pieces there are."""
    assert decode(*(bytes([byte]) for byte in stream)) == reference(stream)


@pytest.mark.parametrize("name", STREAMS)
def test_every_split_of_recorded_answers(name: str) -> None:
    """Real answers, cut in two at every place and into single bytes."""
    body = recorded(name)[2]
    expected = reference(body)
    assert len(expected) >= 2
    for cut in range(0, len(body), 7):
        assert decode(body[:cut], body[cut:]) == expected
    assert decode(*(bytes([byte]) for byte in body)) == expected


def test_only_cr_and_lf_end_lines() -> None:
    """U+2028, U+0085, form feeds and the like are text."""
    text = "a\u2028b\u0085c\x0b\x0c\x1cd"
    assert decode(f"data: {text}\n\n".encode()) == [(text.encode(), "message", "")]


def test_id_and_retry_are_kept() -> None:
    """The last id holds for later events; retry must be digits."""
    decoder = SSEDecoder()
    decoder.feed(b"id: 1\ndata: a\n\nretry: 250\nretry: x\nretry: \xb2\n\n")
    assert decoder.feed(b"data: b\n\n") == [ServerSentEvent(b"b", "message", "1")]
    assert (decoder.last_event_id, decoder.retry_ms) == ("1", 250)


@pytest.mark.parametrize("separator", [b"\n", b"\r"])
@pytest.mark.parametrize("size", [1, 9, 1000])
def test_a_line_that_never_ends_is_refused(separator: bytes, size: int) -> None:
    """The limit holds however the line arrives, in a bounded buffer."""
    decoder = SSEDecoder(max_line_bytes=100)
    decoder.feed(b": hello" + separator)
    with pytest.raises(SSELimitError, match="longer than 100 bytes"):
        for _ in range(200):
            decoder.feed(b"x" * size)


def test_a_long_line_in_one_piece_is_refused_and_a_short_one_is_not() -> None:
    """The limit is exact."""
    assert decode_limited(b"data: " + b"x" * 94 + b"\n\n") == 1
    with pytest.raises(SSELimitError):
        decode_limited(b"data: " + b"x" * 95 + b"\n\n")


def decode_limited(stream: bytes) -> int:
    return len(SSEDecoder(max_line_bytes=100).feed(stream))


def test_many_events_in_one_piece_may_be_longer_than_a_line() -> None:
    """The limit is for one line, not for one read."""
    assert decode_limited(b"data: x\n\n" * 50) == 50


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_an_event_of_too_many_lines_is_refused(ending: bytes) -> None:
    """Data lines without end are as bad as a line without end."""
    decoder = SSEDecoder(max_event_bytes=1000)
    with pytest.raises(SSELimitError, match="more than 1000 bytes"):
        for _ in range(5000):
            decoder.feed(b"data: xxxxxxxxxx" + ending)


def test_a_line_in_small_pieces_takes_linear_time() -> None:
    """A million bytes, ten at a time: no copying of all that came before."""
    decoder = SSEDecoder()
    began = time.process_time()
    for _ in range(100_000):
        decoder.feed(b"xxxxxxxxxx")
    assert time.process_time() - began < 2.0


def test_a_long_event_of_short_lines_is_no_long_line() -> None:
    """Switching to lines in the middle of an event counts each line for itself."""
    decoder = SSEDecoder(max_line_bytes=100, max_event_bytes=10_000)
    for _ in range(50):
        decoder.feed(b"data: 1234567890\n")
        decoder.feed(b"data: 12345")
        assert decoder.feed(b"67890\n") == []
    (event,) = decoder.feed(b"\n")
    assert event.data == b"\n".join([b"1234567890"] * 100)
