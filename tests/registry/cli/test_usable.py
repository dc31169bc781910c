"""The exit status of `submit`: whether the answer is of use to who asked for it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.registry.cli.conftest import Engine

Cli = Callable[..., Any]


@pytest.fixture
def chatting(request: pytest.FixtureRequest) -> Callable[..., str]:
    """Starts an engine that sends a delta and a finish_reason; returns its address."""

    def begin(delta: dict[str, Any], finish_reason: str) -> str:
        chunks = [
            {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]},
        ]
        events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        made = Engine((head + events + "data: [DONE]\n\n").encode())
        request.addfinalizer(made.close)
        return made.base_url

    return begin


@pytest.fixture
def asked(tmp_path: Path) -> list[str]:
    """The options that ask for JSON, and offer a tool."""
    schema, tools = tmp_path / "city.json", tmp_path / "tools.json"
    schema.write_text('{"type": "object"}')
    tools.write_text('[{"name": "get_time", "parameters": {"type": "object"}}]')
    return ["--json-schema", str(schema), "--tools", str(tools)]


def _call(arguments: str) -> dict[str, Any]:
    function = {"name": "get_time", "arguments": arguments}
    return {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": function}]}


@pytest.mark.parametrize("frames", [[], ["--frames"]])
@pytest.mark.parametrize(
    ("delta", "finish_reason", "said"),
    [
        (
            {"content": '{"city": "Os'},
            "length",
            "error: the JSON was cut off by the limit on tokens",
        ),
        ({"content": "Oslo, of course."}, "stop", "error: the answer is not JSON: "),
        ({"content": '{"degrees": NaN}'}, "stop", "error: the answer is not JSON: "),
        ({"content": ""}, "stop", "error: the answer has no text, and so no JSON"),
        ({"refusal": "I must not say."}, "stop", "error: the model refused to answer"),
        (
            _call('{"zo'),
            "length",
            'error: a call of get_time was cut off and must not be run: {"zo; it was the limit',
        ),
        (_call("zone"), "tool_calls", "error: a call of get_time is not JSON and must not be run"),
    ],
)
def test_what_no_program_can_use_is_a_failure(
    cli: Cli,
    chatting: Callable[..., str],
    asked: list[str],
    delta: dict[str, Any],
    finish_reason: str,
    said: str,
    frames: list[str],
) -> None:
    """JSON that was asked for, and tool calls, are whole and valid, or the status is 1."""
    done = cli("submit", "hi", chatting(delta, finish_reason), *asked, *frames)
    assert done.code == 1
    assert done.err.startswith(said)
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("delta", "finish_reason", "out"),
    [
        ({"content": '{"city": "Oslo"}'}, "stop", '{"city": "Oslo"}\n'),
        (_call("{}"), "tool_calls", "get_time({})\n"),
    ],
)
def test_what_a_program_can_use_is_a_success(
    cli: Cli,
    chatting: Callable[..., str],
    asked: list[str],
    delta: dict[str, Any],
    finish_reason: str,
    out: str,
) -> None:
    """JSON, and a call in its place."""
    done = cli("submit", "hi", chatting(delta, finish_reason), *asked)
    assert (done.code, done.out, done.err) == (0, out, "")


@pytest.mark.parametrize(
    ("delta", "finish_reason", "said"),
    [
        ({"content": "Once upon"}, "length", "note: the answer was cut off by the limit on tokens"),
        (
            {"reasoning_content": "Hm."},
            "stop",
            "note: the answer has no text, only reasoning; show it with --reasoning",
        ),
        ({"refusal": "I must not."}, "stop", "note: the model refused to answer"),
    ],
)
def test_text_is_of_use_in_any_case(
    cli: Cli, chatting: Callable[..., str], delta: dict[str, Any], finish_reason: str, said: str
) -> None:
    """Text that was cut at the limit on tokens, a refusal, and no text succeed, with a remark."""
    done = cli("submit", "hi", chatting(delta, finish_reason), "--chat")
    assert done.code == 0
    shown = [text for key, text in delta.items() if key != "reasoning_content"]
    assert done.out == "".join(f"{text}\n" for text in shown)
    assert done.err.startswith(said)
    assert done.err.count("\n") == 1
