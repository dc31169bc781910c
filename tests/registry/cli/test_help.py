"""Help and shell completion: what users see before they know anything."""

import inspect
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.cli.app import MODULES, commands
from registry.cli.entry import run
from registry.cli.terminal import status

Cli = Callable[..., Any]
ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "cli.md").read_text()
COMMANDS = commands()
NAMES = [command.name for command in COMMANDS]


def _described(name: str) -> str:
    """Return the first line of a command's description."""
    (function,) = (command.function for command in COMMANDS if command.name == name)
    return (inspect.getdoc(function) or "").partition("\n")[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_whole_help(cli: Cli, name: str) -> None:
    """-h is --help; it has the whole description and an example of the command."""
    done = cli(name, "-h")
    assert (done.code, done.err) == (0, "")
    assert done.out == cli(name, "--help").out
    assert _described(name) in " ".join(done.out.split())
    examples = done.out.partition("Examples:\n")[2]
    assert f"worker-adapters {name}" in examples or "| worker-adapters" in examples


def test_the_list_of_commands_is_whole(cli: Cli) -> None:
    """No description is cut off in a pipe, and the order is ours, groups included."""
    shown = cli("-h").out.partition("Commands:\n")[2]
    assert re.findall(r"^  ([a-z-]+)  ", shown, re.MULTILINE) == NAMES
    listed = " ".join(shown.split())
    assert [name for name in NAMES if f"{name} {_described(name)}" not in listed] == []


@pytest.mark.parametrize("name", [*NAMES, "batch run", "batch retry-failed", "gateway key"])
def test_help_names_values_as_people_do(cli: Cli, name: str) -> None:
    """An option takes SECONDS or a FILE, never a type of Python such as <int range>."""
    shown = cli(*name.split(), "-h").out.partition("Examples:")[0]
    usage, _, rest = shown.partition("\n")
    assert re.findall(r"[{[][a-z][^A-Z]*[]}]", usage) == []
    options = rest.partition("Options:\n")[2]
    assert re.findall(r"^  -.*<[a-z].*>.*", options, re.MULTILINE) == []


def test_help_as_a_command(cli: Cli) -> None:
    """`help` and `help submit` are what people try first."""
    assert cli("help").out == cli("--help").out
    assert cli("help", "batch", "run").out == cli("batch", "run", "--help").out
    assert cli("help", "nonsense").code == 2


class _Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_help_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The help has every option's whole name, however narrow the terminal is."""
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setattr(sys, "stdout", _Terminal())
    assert run(["batch", "run", "--help"]) == 0
    shown = sys.stdout.getvalue()
    assert "--prompt-column COLUMN" in shown
    assert "…" not in shown
    assert "\x1b" not in shown


def test_a_command_imports_its_own_module_only() -> None:
    """The names of the modules' table are those of the commands, and one is found by its name."""
    assert list(MODULES) == NAMES
    assert [it.name for it in commands(["--log-json", "list", "chat"])] == ["list"]


def test_the_page_has_every_command_and_status() -> None:
    """docs/reference/cli.md names each command, its options, and each exit status."""
    for command in COMMANDS:
        assert f"`{command.name}" in PAGE, command.name
    for code, meaning in status.TABLE.items():
        assert f"| {code} | {meaning} |" in PAGE


@pytest.fixture
def complete(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], list[str]]:
    """Returns what the shell would offer after some words."""

    def call(words: str) -> list[str]:
        monkeypatch.setenv("_WORKER_ADAPTERS_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        out, err = start().communicate(timeout=60)
        assert err == ""
        return out.split("\n")

    return call


def test_completion(complete: Callable[[str], list[str]]) -> None:
    """Commands, options and names of adapters are completed."""
    assert complete("worker-adapters des")[0] == "describe"
    assert "--max-tokens" in complete("worker-adapters submit --max")
    assert "openai-http" in complete("worker-adapters describe open")
    assert "mock" in complete("worker-adapters submit --adapter mo")


def test_completion_can_be_installed(cli: Cli) -> None:
    """The help names the options that install completion."""
    assert "--install-completion" in cli("--help").out
