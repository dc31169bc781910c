"""Recordings: what is written is what is read, and no key is in it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.http_util.recording import (
    FORMAT,
    Chunk,
    Exchange,
    Mask,
    RecordingError,
    Writer,
    masked,
    read_recording,
)

KEY = b"correct-horse-battery-staple"


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=20), max_size=10),
    body=st.binary(max_size=40),
)
def test_any_bytes_survive(
    chunks: list[bytes], body: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Chunk boundaries and bytes that are no text are as they were (HTU-1003)."""
    path = tmp_path_factory.mktemp("recording") / "r.jsonl"
    writer = Writer(path)
    exchange = writer.request("POST", "/v1/completions?x=1", {"accept": "*/*"}, body)
    writer.response(exchange, 1.5, 200, [("content-type", "text/event-stream"), ("a", "b")])
    writer.chunks(exchange, [Chunk(float(n), data) for n, data in enumerate(chunks)])
    writer.end(exchange, 9.0, "broken", "ReadError", "peer")
    writer.close()
    assert read_recording(path) == [
        Exchange(
            "POST",
            "/v1/completions?x=1",
            {"accept": "*/*"},
            body,
            200,
            [("content-type", "text/event-stream"), ("a", "b")],
            1.5,
            [Chunk(float(n), data) for n, data in enumerate(chunks)],
            "broken",
            9.0,
            "ReadError",
            "peer",
        )
    ]


@given(st.data())
def test_a_key_is_masked_however_it_is_split(data: st.DataObject) -> None:
    """A careless server repeats the key in pieces; no byte of it is written (HTU-1004)."""
    parts = data.draw(st.lists(st.sampled_from([KEY, KEY[:9], b"x", b" and "]), max_size=6))
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[i:j] for i, j in zip([0, *cuts], [*cuts, len(whole)], strict=True) if i < j]
    mask = Mask([KEY])
    out = [chunk for n, piece in enumerate(pieces) for chunk in mask.feed(Chunk(n, piece))]
    out += mask.finish()
    assert [len(chunk.data) for chunk in out] == [len(piece) for piece in pieces]
    assert [chunk.at_ms for chunk in out] == list(range(len(pieces)))
    assert b"".join(chunk.data for chunk in out) == whole.replace(KEY, b"x" * len(KEY))


def test_what_is_no_secret_stays() -> None:
    """Without credentials nothing is held back; a very short one tears no words apart."""
    mask = Mask([b"abc"])
    assert mask.feed(Chunk(1.0, b"abcabc")) == [Chunk(1.0, b"abcabc")]
    assert masked(b"abc", []) == b"abc"


def test_headers_lose_their_credentials(tmp_path: Path) -> None:
    """Authorization, keys and cookies are redacted (HTU-1004)."""
    path = tmp_path / "r.jsonl"
    writer = Writer(path)
    sent = {"authorization": "Bearer abcdefgh", "api-key": "abcdefgh", "x": "sk-abcdefghij"}
    writer.response(writer.request("GET", "/", sent, b""), 0.0, 200, [("set-cookie", "abcdefgh")])
    writer.close()
    assert "abcdefgh" not in path.read_text()


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    """Nobody's recording is overwritten."""
    path = tmp_path / "r.jsonl"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        Writer(path)
    assert path.read_text() == "mine"


HEAD = json.dumps({"type": "recording", "format": FORMAT, "version": 1})
REQUEST = '{"type":"request","id":1,"method":"GET","path":"/","headers":{},"body":""}'


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "is empty"),
        (["{}"], "line 1: there is no 'type'"),
        (['{"type":"recording"}'], "this is no recording"),
        (["hello", HEAD], "line 1: not JSON"),
        (["[]", HEAD], "line 1: not a JSON object"),
        ([HEAD.replace("1}", "2}")], "upgrade worker-adapters"),
        ([HEAD.replace("1}", '"1"}')], "a whole number"),
        ([HEAD, "{", REQUEST], "line 2: not JSON"),
        ([HEAD, '{"type":"chunk","id":7,"at_ms":1,"text":"x"}'], "line 2: there is no 7"),
        ([HEAD, REQUEST, '{"type":"chunk","id":1,"at_ms":"soon","text":"x"}'], "line 3"),
        ([HEAD, REQUEST, '{"type":"chunk","id":1,"at_ms":1,"text_base64":"?"}'], "line 3"),
        ([HEAD, REQUEST, '{"type":"end","id":1,"at_ms":1,"how":"badly"}'], "how is 'badly'"),
        ([HEAD, '{"type":"note"}'], "no type 'note'"),
    ],
)
def test_a_file_that_is_no_recording(lines: list[str], problem: str, tmp_path: Path) -> None:
    """The error names the file, the line, and what is wrong with it."""
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join(lines) + "\n" * bool(lines))
    with pytest.raises(RecordingError) as caught:
        read_recording(path)
    assert str(path) in str(caught.value)
    assert problem in str(caught.value)


@given(cut=st.integers(0, 130))
def test_a_recording_that_was_cut_off_is_read_to_there(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A process was killed while it wrote: what is whole can be used."""
    path = tmp_path_factory.mktemp("recording") / "r.jsonl"
    chunk = '{"type":"chunk","id":1,"at_ms":1,"text":"x"}'
    whole = "\n".join([HEAD, REQUEST, *[chunk] * 3]) + "\n"
    path.write_text(whole[: len(whole) - cut])
    [exchange] = read_recording(path)
    assert exchange.end is None
    assert len(exchange.chunks) <= 3
