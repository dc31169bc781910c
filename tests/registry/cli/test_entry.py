"""The entry point: help, and the exit statuses that do not come from a job."""

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.cli import main
from registry.cli.entry import run

Cli = Callable[..., Any]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["submit", "--help"], ["health", "--help"]])
def test_help_is_plain_in_a_pipe(cli: Cli, arguments: list[str]) -> None:
    """Help names the exit statuses and has no boxes in a pipe; without arguments it is shown."""
    done = cli(*arguments)
    assert (done.code, done.err) == (0, "")
    assert "Exit status" in done.out
    assert done.out.isascii()


def test_help_shows_where_keys_come_from(cli: Cli) -> None:
    """An API key comes from the environment only, and the help says so."""
    assert "ORCHD_OPENAI_API_KEY" in cli("submit", "--help").out


def test_an_unknown_command(cli: Cli) -> None:
    """One line; status 2."""
    done = cli("nonsense")
    assert done.code == 2
    assert done.err == "error: no such command 'nonsense'; see worker-adapters --help\n"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Undo what `main` does to SIGINT: its process ends with it, this one does not."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_main_exits_with_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """The console script's function exits as the command ended."""
    monkeypatch.setattr(sys, "argv", ["worker-adapters", "describe", "nonsense"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 3


def test_python_m_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m registry.cli` is the command."""
    monkeypatch.setattr(sys, "argv", ["-", "--version"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("registry.cli", run_name="__main__")
    assert caught.value.code == 0


def test_interrupted_while_it_waits_for_the_prompt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C outside of a job is one line and status 130, no traceback."""

    class Interrupted:
        def read(self) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Interrupted())
    assert run(["submit", "-"]) == 130
    assert capsys.readouterr() == ("", "error: cancelled\n")


def test_output_without_a_reader(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A closed pipe gives no error message, and is not written to again at exit."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert run(["list"]) == 141
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("descriptor", [0, 1, 2])
def test_a_standard_stream_that_is_closed(descriptor: int) -> None:
    """Without standard output nothing is done and the status says so; the others may be closed.

    Complaints never go to standard output in the place of standard error.
    """
    command = [sys.executable, "-m", "registry.cli", "submit", "-", "--adapter", "mock"]
    closing = f'"$@" {descriptor}{"<" if descriptor == 0 else ">"}&-'
    done = subprocess.run(
        ["sh", "-c", closing, "sh", *command], capture_output=True, text=True, input="hi"
    )
    if descriptor == 1:
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "error: standard output is closed: there is nowhere to print to\n"
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "Once upon a time there was a test.\n"


def test_an_interruption_before_anything_is_imported() -> None:
    """Ctrl-C while the command is imported ends the process without a traceback."""
    program = (
        "import builtins, os, signal\n"
        "from registry.cli import main\n"
        "real = builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name == 'registry.cli.entry':\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = interrupted\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


if Path("/dev/full").exists():  # elsewhere no disk is full on demand

    def test_a_full_disk(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Output that cannot be written is an error in one line."""
        with open("/dev/full", "w") as out:
            monkeypatch.setattr(sys, "stdout", out)
            assert run(["list"]) == 1
        assert capsys.readouterr().err == "error: No space left on device\n"


def test_other_missing_modules_are_defects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the extra's absence is explained; what else cannot be imported shows its traceback."""
    monkeypatch.setitem(sys.modules, "registry.cli.app", None)
    with pytest.raises(ModuleNotFoundError):
        run(["list"])
