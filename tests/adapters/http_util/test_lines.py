"""The decoder of newline-delimited JSON: any split, bounds, and time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.http_util import MAX_LINE_BYTES, DecodeLimitError, LineDecoder
from tests.adapters.http_util.test_sse import cut, places
from tests.timing import assert_linear

streams = st.lists(
    st.sampled_from([b"{}", b'{"a": 1}', b"\n", b"\n\n", b"\r\n", b" ", "é\u2028".encode()])
    | st.binary(max_size=9)
).map(b"".join)


@settings(max_examples=300)
@given(streams, places)
def test_any_split_gives_the_same_lines(stream: bytes, cuts: list[int]) -> None:
    """Only line feeds end lines; blank ones are left out, and a last one needs no end."""
    decoder = LineDecoder()
    lines = [line for piece in cut(stream, cuts) for line in decoder.feed(piece)]
    lines += decoder.finish()
    assert lines == [line.strip() for line in stream.split(b"\n") if line.strip()]
    assert decoder.finish() == []


@pytest.mark.parametrize("before", [b"", b"x\n"])
@pytest.mark.parametrize("piece", [b"x", b"x" * 9, b"x" * 1000, b"x" * 99 + b"yy\n"])
def test_a_line_that_is_too_long_is_refused(before: bytes, piece: bytes) -> None:
    """The bound holds for lines with and without an end, however they arrive."""
    decoder = LineDecoder(max_line_bytes=100)
    decoder.feed(before + b"x" * 100)
    with pytest.raises(DecodeLimitError, match="a line is longer than 100 bytes"):
        for _ in range(200):
            decoder.feed(piece)


def test_the_default_bound_is_exact() -> None:
    """A line may have 8 MiB."""
    assert LineDecoder().feed(b"x" * MAX_LINE_BYTES + b"\n")
    with pytest.raises(DecodeLimitError):
        LineDecoder().feed(b"x" * (MAX_LINE_BYTES + 1))


@pytest.mark.timing
@pytest.mark.parametrize("piece", [b"xxxxxxxxxx", b"x\n", b"\n"])
def test_small_pieces_take_linear_time(piece: bytes) -> None:
    """A piece is not copied again with each one that follows it."""

    def feed(count: int) -> None:
        decoder = LineDecoder()
        for _ in range(count):
            decoder.feed(piece)

    assert_linear(feed, 500)
