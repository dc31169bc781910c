"""`worker-adapters record`, and what `replay` makes of it."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import registry
from adapter_api.conformance.lab import Lab
from registry.cli.commands.record import show_recording
from tests.word_server import WordServer

Cli = Callable[..., Any]


def test_a_server_is_recorded_and_replayed(
    cli: Cli, serve: Callable[..., WordServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replay gives the same answer without the server; no key is in the file (HTU-1004)."""
    monkeypatch.setenv("ORCHD_OPENAI_API_KEY", "correct-horse-battery")
    server = serve()
    path = tmp_path / "r.jsonl"
    done = cli("record", server.base_url, str(path), "--prompt", "hello", "--max-tokens", "4")
    assert done.code == 0, done.err
    assert "prompt: a whole answer" in done.out
    assert "messages: a whole answer" in done.out
    assert f"{path}: " in done.out
    assert "correct-horse-battery" not in path.read_text()
    monkeypatch.delenv("ORCHD_OPENAI_API_KEY")
    job = ("submit", "hello", "--max-tokens", "4", "--adapter", "replay")
    again = cli(*job, "--option", f"path={path}")
    assert again.code == 0, again.err
    assert cli(*job, "--option", f"path={path}").out == again.out
    words = again.out.split()
    assert len(words) == 4
    assert all(f'{word}\\"' in path.read_text() for word in words)


def test_nothing_but_failures(cli: Cli, tmp_path: Path) -> None:
    """Where no server answers at all, there is nothing to replay, and the status says so."""
    path = tmp_path / "r.jsonl"
    done = cli("record", "http://127.0.0.1:1", str(path))
    assert done.code == 1
    assert done.err == f"error: no server answered: {path} has no answer to replay\n"


def test_an_address_without_a_file(cli: Cli) -> None:
    """The address is not taken for the file."""
    done = cli("record", "http://127.0.0.1:1")
    assert (done.code, done.err.startswith("error: missing argument FILE")) == (2, True)


class _Refusing(BaseHTTPRequestHandler):
    """A gateway that knows no key, and repeats it."""

    def do_GET(self) -> None:
        said = f"no such key: {self.headers['x-litellm-api-key']}"
        body = json.dumps({"error": {"message": said}}).encode()
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(401)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-auth-token", "another-one")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing of it on standard error."""


@pytest.fixture
def refusing() -> Iterator[str]:
    """The address of such a gateway."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)


def test_a_key_in_a_header_of_a_gateway(cli: Cli, refusing: str, tmp_path: Path) -> None:
    """Whatever its header is called, it is in no file, no message and no repr, also where the
    server repeats it (HTU-1004)."""
    path = tmp_path / "r.jsonl"
    headers = {"X-LiteLLM-Api-Key": "correct-horse-battery"}
    done = cli("record", refusing, str(path), "--option", f"headers={json.dumps(headers)}")
    assert "UPSTREAM_AUTH" in done.out
    written = path.read_text()
    assert "no such key" in written
    assert '"x-litellm-api-key": "[redacted]"' in written
    config = registry.get("openai-http", base_url=refusing, headers=headers).config
    for text in (done.out, done.err, written, repr(config)):
        assert "correct-horse-battery" not in text
        assert "another-one" not in text


def test_a_failing_server_is_recorded_too(cli: Cli, tmp_path: Path) -> None:
    """A failed job is printed and recorded, and the status is 0."""
    path = tmp_path / "r.jsonl"
    with Lab() as lab:
        done = cli("record", lab.server.url("fin-after-tokens"), str(path))
    assert done.code == 0
    assert "prompt: STREAM_TRUNCATED" in done.out
    assert path.exists()


def test_a_file_that_exists(cli: Cli, serve: Callable[..., WordServer], tmp_path: Path) -> None:
    """It is overwritten with --force only."""
    path = tmp_path / "r.jsonl"
    path.write_text("mine")
    done = cli("record", serve().base_url, str(path))
    assert done.code == 2
    assert "--force" in done.err
    assert path.read_text() == "mine"
    assert cli("record", serve().base_url, str(path), "--force").code == 0


def test_wrong_usage(cli: Cli, tmp_path: Path) -> None:
    """An option that is not one, a task that is none, an adapter that cannot record."""
    path = str(tmp_path / "r.jsonl")
    assert cli("record", "http://127.0.0.1:1", path, "--max-tokens", "0").code == 2
    done = cli("record", "http://127.0.0.1:1", path, "--adapter", "mock")
    assert done.code == 2
    assert "--base-url" in done.err
    done = cli("record", "http://127.0.0.1:1", str(tmp_path / "missing" / "r.jsonl"))
    assert done.code == 2
    assert "there is no folder" in done.err
    for place in (str(tmp_path), "/dev/full"):
        done = cli("record", "http://127.0.0.1:1", place, "--force")
        assert done.code == 2
        assert f"{place} is not a regular file" in done.err
        assert "--force" not in done.err
    done = cli("submit", "hi", "--adapter", "replay", "--option", f"path={path}")
    assert done.code == 2
    assert "cannot be read" in done.err


def test_chat_only(cli: Cli, serve: Callable[..., WordServer], tmp_path: Path) -> None:
    """--chat asks as a chat message, each prompt once."""
    path = tmp_path / "r.jsonl"
    done = cli("record", serve().base_url, str(path), "--chat", "--prompt", "a", "--prompt", "b")
    assert done.code == 0, done.err
    assert done.out.count("messages: a whole answer") == 2
    assert "prompt: " not in done.out


def test_nothing_to_record(cli: Cli, tmp_path: Path) -> None:
    """Where no request may be sent there is nothing to record, and the status says so."""
    path = tmp_path / "r.jsonl"
    done = cli("record", "http://127.0.0.1:1", str(path), "--option", "egress_allow=example.com")
    assert done.code == 1
    assert "nothing was sent" in done.err


def test_a_recording_that_stopped_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk was full: the status says that the recording is not whole. Other line ends than
    those of JSON lines are text."""
    path = tmp_path / "r.jsonl"
    lines = ['{"type": "request"}', '{"type": "chunk", "text": "\u2028\x85"}', '{"type": "en']
    path.write_text("\n".join(lines))
    assert show_recording(path) == 1
    said = capsys.readouterr()
    assert "1 exchanges, 1 chunks" in said.out
    assert "could not be written to its end" in said.err
