"""Tests that need a process of their own: signals, pipes, terminals, and a missing extra."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.word_server import WordServer

Start = Callable[..., "subprocess.Popen[str]"]
Serve = Callable[..., WordServer]
Until = Callable[[Callable[[], bool]], None]

STUBBORN = """
import asyncio
import pathlib

@attrs.define(eq=False)
class Stubborn(Adapter):
    config: Config

    @hookimpl
    async def submit(self, task):
        yield Started(task.job_id, "made", "1")
        try:
            await asyncio.sleep(60)
        finally:
            pathlib.Path(task.prompt).touch()
            await asyncio.sleep(60)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_the_job(
    start: Start, serve: Serve, until: Until, number: signal.Signals, code: int
) -> None:
    """Ctrl-C or SIGTERM in the middle: an error frame, one line, the engine stops (WA-INT-3002)."""
    server = serve(delay_s=0.02)
    process = start("submit", "hi", "--base-url", server.base_url, "--frames", fresh=True)
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert process.returncode == code
    assert json.loads(out.splitlines()[-1])["code"] == "CANCELLED"
    assert err == "error: cancelled; what was printed is not the whole answer\n"
    until(lambda: server.running == 0)


def test_the_second_signal_does_not_wait(
    start: Start, until: Until, site: Any, adapter_source: str, tmp_path: Path
) -> None:
    """While an adapter cleans up and does not come to an end, Ctrl-C ends the command."""
    site.install(
        "made", "stubborn = made_stubborn:Stubborn", {"made_stubborn.py": adapter_source + STUBBORN}
    )
    reached = tmp_path / "reached"
    process = start("submit", str(reached), "--adapter", "stubborn", "--frames", path=site.folder)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    until(reached.exists)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert process.stderr is not None
    assert process.stderr.read() == "error: cancelled\n"


def test_signals_end_it_without_a_reader(
    start: Start, engine: Callable[..., Any], until: Until
) -> None:
    """The second signal ends a command whose reader has stopped reading."""
    process = start("submit", "hi", "--base-url", engine("word " * 60_000).base_url)
    assert process.stdout is not None
    pipe = process.stdout.fileno()

    def filled() -> int:
        return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0])

    until(lambda: filled() > 0)  # the rest of the text does not fit
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    # Two signals that arrive at once are one, so it is sent again if it did not end the process.
    until(lambda: _ended_by(process, signal.SIGINT, within_s=3))
    assert process.returncode == 130


def _ended_by(process: "subprocess.Popen[str]", number: signal.Signals, *, within_s: float) -> bool:
    process.send_signal(number)
    with suppress(subprocess.TimeoutExpired):
        process.wait(within_s)
    return process.returncode is not None


def test_a_reader_that_leaves_ends_it_quietly(start: Start, serve: Serve, until: Until) -> None:
    """`| head -1` cancels the job: no word on standard error, and the engine stops."""
    server = serve(delay_s=0.01)
    process = start("submit", "hi", "--base-url", server.base_url, "--frames")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(10) == 141
    assert process.stderr is not None
    assert process.stderr.read() == ""
    until(lambda: server.running == 0)


@pytest.mark.parametrize("command", [["list"], ["describe", "openai-http"], ["demo"]])
def test_a_closed_pipe_causes_no_other_error(start: Start, command: list[str]) -> None:
    """Every command ends quietly when the reader of its output goes away."""
    process = start(*command)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(20) == 141
    assert process.stderr is not None
    assert process.stderr.read() == ""


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra(missing: str) -> None:
    """Where typer or rich is not installed, the command says what to install; status 2."""
    code = f"import sys; sys.modules[{missing!r}] = None; from registry.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "demo"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install 'worker-adapters[cli]'" in done.stderr
    assert done.stderr.count("\n") == 1


# Terminals


@pytest.fixture
def terminal(start: Start) -> Callable[..., tuple[int, str]]:
    """Runs a command on a terminal of its own; returns its status and what was shown."""

    def run(*arguments: str, typed: str = "") -> tuple[int, str]:
        ours, theirs = pty.openpty()
        os.write(ours, typed.encode())
        process = start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown = bytearray()
        try:
            while data := os.read(ours, 4096):
                shown += data
        except OSError:  # how Linux tells the end of a terminal
            pass
        os.close(ours)
        return process.wait(20), shown.decode().replace("\r\n", "\n")

    return run


@pytest.fixture(autouse=True)
def _a_good_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def test_tables_on_a_terminal(terminal: Callable[..., tuple[int, str]]) -> None:
    """On a terminal there are columns and colours, and types are not taken for markup."""
    code, shown = terminal("list")
    assert code == 0
    assert "distribution" in shown
    assert "\x1b[32minstalled" in shown
    _, shown = terminal("describe", "openai-http")
    assert "tuple[str, ...]" in shown
    assert "Mapping[str, str]" in shown


def test_submit_on_a_terminal(
    terminal: Callable[..., tuple[int, str]], engine: Callable[..., Any]
) -> None:
    """The text is shown, without what would steer the terminal, and a dim line of numbers."""
    url = engine("one", " \x1b[31mtwo", " three").base_url
    code, shown = terminal("submit", "hi", "--base-url", url)
    text, summary, rest = shown.split("\n")
    assert (code, text, rest) == (0, "one \ufffd[31mtwo three", "")
    assert summary.startswith("\x1b[2m3 tokens (counted) · first after ")
    assert "tokens/s · finish_reason stop" in summary


def test_health_on_a_terminal(terminal: Callable[..., tuple[int, str]], serve: Serve) -> None:
    """Health is a small table."""
    code, shown = terminal("health", "--base-url", serve().base_url)
    assert code == 0
    assert "\x1b[32mhealthy" in shown
    assert "ready" in shown


def test_help_on_a_terminal(terminal: Callable[..., tuple[int, str]]) -> None:
    """Help is the same on a terminal as in a pipe: nothing boxed, nothing cut off."""
    code, shown = terminal("submit", "--help")
    assert code == 0
    assert "--json-schema FILE " in shown
    assert "╭" not in shown


def test_serve_says_what_it_waits_for(
    terminal: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """On a terminal nothing would show that tasks are to be typed."""
    workers = tmp_path / "workers.toml"
    workers.write_text('[[replicas]]\npool = "p"\nreplica = "r0"\nadapter = "mock"\n')
    options = ("--workers", str(workers), "--state", str(tmp_path / "state"))
    code, shown = terminal("serve", *options, typed="\x04")
    assert code == 0
    assert "note: type tasks, each a line of JSON; Ctrl-D ends the input" in shown
