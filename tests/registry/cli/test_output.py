"""The output of a job: text, reasoning, tool calls, and the words of any locale."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapter_api import (
    End,
    InvalidToolCall,
    Metrics,
    Reasoning,
    Started,
    Token,
    TokenEvent,
    ToolCall,
    ToolCallDelta,
)
from registry.cli.terminal.output import Output
from registry.cli.terminal.prompts import read_schema, read_tools
from registry.cli.terminal.text import degrade, harmless

Cli = Callable[..., Any]

EVENTS: list[TokenEvent] = [
    Started("j", "toy", "1"),
    Reasoning("", 0, reasoning="Need the weather."),
    Token("Checking.", 1),
    ToolCallDelta("", 2, call=0, id="a", name="get_weather"),
    ToolCallDelta("", 3, call=0, arguments='{"city": "Paris"}'),
    End(
        Metrics(4),
        "tool_calls",
        "finish_reason",
        tool_calls=(ToolCall("a", "get_weather", '{"city": "Paris"}'),),
        invalid_tool_calls=(InvalidToolCall("b", "get_time", '{"zo', reason="cut"),),
    ),
]


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def show(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, *, frames: bool = False) -> Output:
    monkeypatch.setattr(sys, "stdout", stream)
    output = Output(frames=frames)
    for event in EVENTS:
        output.show(event)
    return output


def test_calls_follow_the_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a pipe: reasoning, text, and each call on a line of its own, but none that is cut."""
    stream = io.StringIO()
    output = show(stream, monkeypatch)
    assert stream.getvalue() == ('Need the weather.\nChecking.\nget_weather({"city": "Paris"})\n')
    assert capsys.readouterr().err == ""
    assert output.tokens == 4
    assert output.answer is not None
    assert output.answer.text == "Checking."


def test_reasoning_is_dimmed_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dimming begins and ends around the reasoning."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    stream = Terminal()
    show(stream, monkeypatch)
    assert stream.getvalue().startswith("\x1b[2mNeed the weather.\x1b[0m\nChecking.\n")


def test_words_are_not_broken_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that reaches the edge is taken back; a terminal without escapes breaks it itself."""
    monkeypatch.setenv("COLUMNS", "12")
    text = ["Streams you ", "can tru", "st."]
    for kind, expected in (
        ("xterm", "Streams you\ncan trust.\n"),
        ("dumb", "Streams you can trust.\n"),
    ):
        monkeypatch.setenv("TERM", kind)
        stream = Terminal()
        monkeypatch.setattr(sys, "stdout", stream)
        output = Output()
        for index, piece in enumerate(text):
            output.show(Token(piece, index))
        output.show(End(Metrics(3), "stop", "finish_reason"))
        assert stream.getvalue() == expected


def test_frames_carry_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reasoning and pieces of calls are tokens with keys of their own."""
    stream = io.StringIO()
    show(stream, monkeypatch, frames=True)
    frames = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert frames[1]["reasoning"] == "Need the weather."
    assert frames[3]["tool_call"]["name"] == "get_weather"
    assert frames[-1]["tool_calls"][0]["id"] == "a"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize("command", ["list", "check", "describe openai-http", "--help"])
def test_any_locale_gets_an_answer(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, encoding: str, command: str
) -> None:
    """Characters that an encoding lacks are degraded; nothing ends in UnicodeEncodeError."""
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    fresh = (encoding, command) == ("ascii", "--help")
    process = start(*command.split(), encoding=encoding, fresh=fresh)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out


@pytest.mark.parametrize(
    ("text", "plain"),
    [("caf\u00e9", "cafe"), ("a \u00b7 b \u2026", "a - b ..."), ("\u6f22\u00fc", "?u")],
)
def test_characters_degrade(text: str, plain: str) -> None:
    """Accents go, common signs get their ASCII spelling, the rest is a question mark."""
    error = UnicodeEncodeError("ascii", text, 0, len(text), "")
    assert degrade(error) == (plain, len(text))


def test_text_cannot_steer_the_terminal() -> None:
    """Escapes and signs that reorder text on the screen become a mark."""
    assert harmless("a\x1b[2J\u202eb\tc\n\r") == "a\ufffd[2J\ufffdb\tc\n"


# The files of submit


def test_an_image_and_a_system_message(
    cli: Cli, engine: Callable[..., Any], tmp_path: Path
) -> None:
    """They become the messages of a chat."""
    server = engine("ok")
    image = tmp_path / "photo.png"
    image.write_bytes(b"\x89PNG")
    arguments = ["--base-url", server.base_url, "--system", "Be brief.", "--image", str(image)]
    cli("submit", "What is it?", *arguments)
    system, user = server.bodies[0]["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    text, part = user["content"]
    assert text == {"type": "text", "text": "What is it?"}
    assert part["image_url"]["url"] == "data:image/png;base64,iVBORw=="


def test_tools_and_a_schema(tmp_path: Path) -> None:
    """A file of functions becomes tools, a schema becomes the response_format."""
    tools, schema = tmp_path / "tools.json", tmp_path / "answer.schema.json"
    tools.write_text(json.dumps([{"name": "f", "parameters": {"type": "object"}}]))
    schema.write_text('{"type": "object"}')
    function = {"name": "f", "parameters": {"type": "object"}}
    assert read_tools(tools) == [{"type": "function", "function": function}]
    tools.write_text(json.dumps({"type": "function", "function": function}))
    assert read_tools(tools) == [{"type": "function", "function": function}]
    described = {"name": "answer", "schema": {"type": "object"}, "strict": True}
    assert read_schema(schema) == {"type": "json_schema", "json_schema": described}


@pytest.mark.parametrize(
    ("option", "content", "said"),
    [
        ("--tools", "[", "is not JSON"),
        ("--tools", "7", "must hold a list of tools"),
        ("--tools", "[]", "must hold a list of tools"),
        ("--json-schema", "[1]", "must hold a JSON object"),
        ("--json-schema", "[" * 100_000, "is not JSON"),
        ("--image", "x", "does not have the name of an image"),
        ("--tools", None, "No such file"),
    ],
)
def test_a_file_that_cannot_be_used(
    cli: Cli, tmp_path: Path, option: str, content: str | None, said: str
) -> None:
    """The message names the option and the file, and nothing is sent."""
    path = tmp_path / "file.json"
    if content is not None:
        path.write_text(content)
    done = cli("submit", "x", "--base-url", "http://127.0.0.1:1", option, str(path))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {option}: {path}")
    assert said in done.err
    assert done.err.count("\n") == 1
