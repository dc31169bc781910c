"""Calls, reasoning and structured output of a real engine: llama.cpp's server with a model that
answers a few messages by heart, so that the engine's own parsers work on real decoding."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapter_api import Answer, Reasoning, TaskRequest, Token, Tool, ToolCallDelta
from adapters.openai_http import OpenAIHttpAdapter
from tests.engines.conftest import ACTOR, ROOT

pytestmark = pytest.mark.engine

CITY = {"type": "string", "enum": ["Oslo", "Paris"]}
UNIT = {"type": "string", "enum": ["C", "F"]}
WEATHER = Tool(
    "get_weather",
    "Weather of a city",
    {"type": "object", "properties": {"city": CITY, "unit": UNIT}, "required": ["city", "unit"]},
)
TIME = Tool(
    "get_time",
    "Time in a zone",
    {"type": "object", "properties": {"zone": {"type": "string", "enum": ["UTC", "CET"]}}},
)
TOOLS = (WEATHER, TIME, Tool("ping", "Ping"))
OSLO = {"city": "Oslo", "unit": "C"}


@pytest.fixture(scope="module")
def actor_url() -> Iterator[str]:
    """The address of a server with the model."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.engines.server", str(ACTOR), "0", "--slots", "2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield next(line.strip() for line in process.stdout if line.startswith("http"))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
async def adapter(actor_url: str) -> AsyncIterator[OpenAIHttpAdapter]:
    """An adapter for it."""
    async with OpenAIHttpAdapter(actor_url) as made:
        yield made


def _task(text: str, **more: Any) -> TaskRequest:
    fields: dict[str, Any] = {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 120,
        "temperature": 0.0,
        "seed": 42,
    }
    return TaskRequest(**fields | more)


async def _ask(adapter: OpenAIHttpAdapter, text: str, **more: Any) -> Answer:
    return await adapter.submit(_task(text, **{"tools": TOOLS, **more})).answer()


def _calls(answer: Answer) -> list[tuple[str, Any]]:
    return [(call.name, call.json()) for call in answer.tool_calls]


async def test_the_model_calls_a_tool_and_uses_its_result(adapter: OpenAIHttpAdapter) -> None:
    """The second turn has the call and its result."""
    question = {"role": "user", "content": "@weather"}
    answer = await _ask(adapter, "@weather")
    assert _calls(answer) == [("get_weather", OSLO)]
    results = [call.result("21") for call in answer.tool_calls]
    messages = [question, answer.message(), *results]
    second = await _ask(adapter, "", messages=messages)
    assert second.text == "It is 21 degrees in Oslo."


@pytest.mark.parametrize(
    "choice", ["auto", "required", {"type": "function", "function": {"name": "get_weather"}}]
)
async def test_every_tool_choice_ends_in_the_call(adapter: OpenAIHttpAdapter, choice: Any) -> None:
    """auto, required and a named tool."""
    assert _calls(await _ask(adapter, "@weather", tool_choice=choice)) == [("get_weather", OSLO)]


async def test_parallel_calls_are_distinguished(adapter: OpenAIHttpAdapter) -> None:
    """Two calls with ids of their own."""
    answer = await _ask(adapter, "@parallel", parallel_tool_calls=True)
    assert _calls(answer) == [("get_weather", OSLO), ("get_time", {"zone": "UTC"})]
    assert len({call.id for call in answer.tool_calls}) == 2


async def test_a_call_without_arguments(adapter: OpenAIHttpAdapter) -> None:
    """Its arguments are the empty object."""
    assert _calls(await _ask(adapter, "@ping")) == [("ping", {})]


async def test_text_before_a_call_is_the_text(adapter: OpenAIHttpAdapter) -> None:
    """The preamble and the call both count."""
    answer = await _ask(adapter, "@say_weather")
    assert answer.text.strip() == "Let me look."
    assert _calls(answer) == [("get_weather", OSLO)]


async def test_reasoning_before_a_call(adapter: OpenAIHttpAdapter) -> None:
    """Delivered if asked for, and kept for the next turn in any case."""
    for asked in (True, False):
        task = _task("@think_weather", tools=TOOLS, include_reasoning=asked)
        events = [event async for event in adapter.submit(task)]
        assert any(isinstance(event, Reasoning) for event in events) is asked
        answer = Answer.of(events)
        assert answer.reasoning.strip() == "I need the weather."
        assert answer.message().to_wire()["reasoning_content"] == answer.reasoning
        assert _calls(answer) == [("get_weather", OSLO)]


async def test_a_call_cut_by_max_tokens_is_never_run(adapter: OpenAIHttpAdapter) -> None:
    """It is listed apart, and is not part of the history."""
    answer = await _ask(adapter, "@weather", max_tokens=14)
    assert answer.finish_reason == "length"
    assert answer.tool_calls == ()
    assert [call.reason for call in answer.invalid_tool_calls] == ["cut"]
    assert "tool_calls" not in answer.message().to_wire()


async def test_the_deltas_are_the_calls(adapter: OpenAIHttpAdapter) -> None:
    """Their arguments together are what End lists."""
    events = [event async for event in adapter.submit(_task("@parallel", tools=TOOLS))]
    tokens = [event for event in events if isinstance(event, Token)]
    assert [token.index for token in tokens] == list(range(len(tokens)))
    arguments: dict[int, str] = {}
    for token in tokens:
        if isinstance(token, ToolCallDelta):
            arguments[token.call] = arguments.get(token.call, "") + token.arguments
    end = events[-1]
    assert list(arguments.values()) == [call.arguments for call in end.tool_calls]
    assert end.metrics.time_to_first_token_ms is not None


async def test_structured_output_is_json_of_the_schema(adapter: OpenAIHttpAdapter) -> None:
    """response_format reaches the engine, and the answer parses."""
    schema = {**WEATHER.parameters, "additionalProperties": False}
    format_ = {"type": "json_schema", "json_schema": {"name": "weather", "schema": schema}}
    answer = await _ask(adapter, "@hello", tools=(), response_format=format_)
    assert set(answer.json()) == {"city", "unit"}
    assert json.loads(answer.text) == answer.json()


async def test_log_probabilities_have_alternatives(adapter: OpenAIHttpAdapter) -> None:
    """On both endpoints."""
    for more in ({}, {"messages": None, "prompt": "@hello"}):
        answer = await _ask(adapter, "@hello", tools=(), logprobs=2, max_tokens=4, **more)
        assert len(answer.logprobs) == 4
        assert all(len(score.top) == 2 for score in answer.logprobs)


def test_the_agent_loop_of_the_how_to_runs(actor_url: str, tmp_path: Path) -> None:
    """The page's program calls the tool and prints what the model makes of its result."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "agent-loop.md").read_text()
    program = page.partition("```python\n")[2].partition("```")[0]
    script = tmp_path / "agent.py"
    assert "What is the weather in Oslo?" in program
    program = program.replace("What is the weather in Oslo?", "@weather")
    script.write_text(program.replace("http://localhost:8000", actor_url))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "It is 21 degrees in Oslo.", done.stderr
