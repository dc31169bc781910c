"""Recordings are read as they were written; an invalid file is refused with the line."""

import errno
import io
import json
import logging
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.http_util import read_recording
from adapters.http_util.recording.exchange import FORMAT, Chunk, Exchange, RecordingError, Writer


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=20), max_size=10),
    body=st.binary(max_size=40),
)
def test_any_bytes_survive(
    chunks: list[bytes], body: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Chunk boundaries, and bytes that are not text, survive the round trip (HTU-1003)."""
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


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    """An existing recording is not overwritten."""
    path = tmp_path / "r.jsonl"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        Writer(path)
    assert path.read_text() == "mine"


def test_a_recording_is_for_its_owner(tmp_path: Path) -> None:
    """The file holds prompts, so other users of the machine cannot read it."""
    path = tmp_path / "r.jsonl"
    Writer(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_line_is_there_at_once(tmp_path: Path) -> None:
    """A process that dies leaves what it has recorded."""
    path = tmp_path / "r.jsonl"
    writer = Writer(path)
    exchange = writer.request("GET", "/", {}, b"")
    writer.response(exchange, 1.0, 200, [])
    writer.chunks(exchange, [Chunk(2.0, b"\xe2\x80\xa8 \xc2\x85")])  # line ends elsewhere
    assert read_recording(path)[0].chunks == [Chunk(2.0, b"\xe2\x80\xa8 \xc2\x85")]
    writer.close()


def test_what_the_system_said_may_be_no_text(tmp_path: Path) -> None:
    """A message with bytes that are not UTF-8 is written, too."""
    path = tmp_path / "r.jsonl"
    writer = Writer(path)
    said = b"no file \xff".decode("utf-8", "surrogateescape")
    writer.end(writer.request("GET", "/", {}, b""), 1.0, "broken", "ReadError", said)
    writer.close()
    assert read_recording(path)[0].message == said


class _FullDisk(io.StringIO):
    name = "r.jsonl"

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_ends_the_recording_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The job that is recorded continues; the log says once that its recording does not."""
    writer = Writer(tmp_path / "r.jsonl")
    writer.close()
    hurt: Any = writer
    hurt._file = _FullDisk()
    with caplog.at_level(logging.WARNING, "worker_adapters.http"):
        exchange = writer.request("GET", "/", {}, b"")
        writer.end(exchange, 1.0, "complete")
    assert [record.getMessage() for record in caplog.records] == [
        "r.jsonl: the recording ends here: No space left on device"
    ]


HEAD = json.dumps({"type": "recording", "format": FORMAT, "version": 1})
REQUEST = '{"type":"request","id":1,"method":"GET","path":"/","headers":{},"body":""}'
RESPONSE = '{"type":"response","id":1,"at_ms":1,"status":200,"headers":[["a","ü"]]}'
CHUNK = '{"type":"chunk","id":1,"at_ms":1,"text":"é"}'
END = '{"type":"end","id":1,"at_ms":2,"how":"complete"}'
WHOLE = [HEAD, REQUEST, RESPONSE, CHUNK, END]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "has no whole line"),
        (["{}"], "line 1: not a recording"),
        (['{"type":"recording"}'], "not a recording"),
        (["hello", HEAD], "line 1: not JSON"),
        (["[]", HEAD], "line 1: not a JSON object"),
        ([HEAD.replace("1}", "2}")], "reads up to 1: upgrade worker-adapters"),
        ([HEAD.replace("1}", '"1"}')], "version must be a whole number from 1 on, got '1'"),
        ([HEAD.replace("1}", "true}")], "version must be a whole number"),
        ([HEAD, "{", REQUEST], "line 2: not JSON"),
        ([HEAD, "[" * 100_000, REQUEST], "line 2: not JSON"),
        ([HEAD, HEAD], "line 2: 'id' is missing"),
        ([HEAD, '{"id":1}'], "line 2: 'type' is missing"),
        ([HEAD, REQUEST.replace('"GET"', "5")], "line 2: method must be a string, got 5"),
        ([HEAD, REQUEST.replace("{}", '{"a":1}')], "headers must be an object of strings"),
        ([HEAD, REQUEST.replace('"body":""', '"x":""')], "'body' and 'body_base64' are missing"),
        ([HEAD, REQUEST.replace('"id":1', '"id":[1]')], "line 2: id must be a whole number"),
        ([HEAD, REQUEST, REQUEST], "line 3: request 1 exists already"),
        ([HEAD, CHUNK], "line 2: request 1 does not come before it"),
        ([HEAD, REQUEST, CHUNK], "line 3: exchange 1 has no response yet"),
        ([HEAD, REQUEST, END], "line 3: exchange 1 has no response, so it is not complete"),
        ([HEAD, REQUEST, RESPONSE, RESPONSE], "line 4: exchange 1 has a response already"),
        ([HEAD, REQUEST, RESPONSE.replace("200", "20")], "status must be a whole number from 100"),
        ([HEAD, REQUEST, RESPONSE.replace('["a","ü"]', '"ab"')], "a list of pairs of strings"),
        ([HEAD, REQUEST, RESPONSE, CHUNK.replace("1,", '"soon",', 2)], "line 4"),
        ([HEAD, REQUEST, RESPONSE, CHUNK.replace('ms":1', 'ms":NaN')], "at_ms must be a number"),
        ([HEAD, REQUEST, RESPONSE, CHUNK.replace('ms":1', 'ms":1e999')], "at_ms must be a number"),
        ([HEAD, REQUEST, RESPONSE, CHUNK.replace("é", "\\ud800")], "line 4"),
        ([HEAD, REQUEST, RESPONSE, CHUNK.replace('"text":"é"', '"text_base64":"?"')], "line 4"),
        ([*WHOLE, END], "line 6: exchange 1 has ended already"),
        ([HEAD, REQUEST, END.replace("complete", "badly")], "how must be complete, left or broken"),
        ([HEAD, REQUEST, '{"type":"note","id":1}'], "line 3: unknown type 'note'"),
    ],
)
def test_a_file_that_is_not_a_recording(lines: list[str], problem: str, tmp_path: Path) -> None:
    """The error names the file, the line, and what is wrong with it."""
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join(lines) + "\n" * bool(lines), encoding="utf-8")
    with pytest.raises(RecordingError) as caught:
        read_recording(path)
    assert str(path) in str(caught.value)
    assert problem in str(caught.value)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """It might never have an end, and reading it would block the event loop."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RecordingError, match="pipe is not a regular file"):
        read_recording(tmp_path / "pipe")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """One that is not there, or is a folder."""
    with pytest.raises(RecordingError, match="cannot be read: No such file"):
        read_recording(tmp_path / "missing.jsonl")
    with pytest.raises(RecordingError, match="cannot be read: Is a directory"):
        read_recording(tmp_path)


def test_blank_lines_and_those_of_windows_are_taken(tmp_path: Path) -> None:
    """An editor may have added what means nothing."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(WHOLE).encode())
    assert read_recording(path)[0].end == "complete"


@given(cut=st.integers(0, len("\n".join(WHOLE).encode()) - len(HEAD) - len(REQUEST) - 1))
def test_a_recording_that_was_cut_off_is_read_to_there(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A process was killed while it wrote, in a character perhaps: what is whole can be used."""
    path = tmp_path_factory.mktemp("recording") / "r.jsonl"
    whole = "\n".join(WHOLE).encode()
    path.write_bytes(whole[: len(whole) - cut])
    [exchange] = read_recording(path)
    assert (exchange.end == "complete") is (cut == 0)
    assert len(exchange.chunks) <= 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(number=st.integers(0, 4), data=st.data(), value=JSON)
def test_any_value_in_any_place_is_taken_or_refused(
    number: int, data: st.DataObject, value: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A hostile file causes nothing but a RecordingError."""
    path = tmp_path_factory.mktemp("recording") / "r.jsonl"
    lines = [json.loads(line) for line in WHOLE]
    lines[number][data.draw(st.sampled_from(sorted(lines[number])))] = value
    path.write_text("\n".join(json.dumps(line) for line in lines))
    with suppress(RecordingError):
        read_recording(path)
