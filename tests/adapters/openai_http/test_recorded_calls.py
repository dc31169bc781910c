"""Recorded calls, reasoning and scores of real engines, however the bytes are split."""

from pathlib import Path
from typing import Any

import pytest

from adapter_api import Answer
from adapters.openai_http.outcome import Wanted
from tests.adapters.openai_http.reading import pieces_of, read

RECORDED = Path(__file__).parents[2] / "data" / "calls"
"""Answers of llama.cpp's server and vLLM 0.32.0, November 2026, both with one small model."""

OSLO = ("get_weather", {"city": "Oslo", "unit": "C"})
TIME = ("get_time", {"zone": "UTC"})


def _answer(name: str, size: int | None, **wanted: Any) -> Answer:
    raw = (RECORDED / f"{name}.txt").read_bytes().replace(b"\r\n", b"\n")
    body = raw.partition(b"\n\n")[2]
    asked = Wanted(reasoning=True, history=True, **wanted)
    return Answer.of(read(pieces_of(body, size), asked, always_finishes=True))


def _calls(answer: Answer) -> list[tuple[str, Any]]:
    return [(call.name, call.json()) for call in answer.tool_calls]


@pytest.mark.parametrize("size", [None, 1, 50])
@pytest.mark.parametrize("server", ["llama-server", "vllm"])
@pytest.mark.parametrize(
    ("case", "calls"),
    [
        ("tools_auto_call", [OSLO]),
        ("tools_auto_parallel", [OSLO, TIME]),
        ("tools_auto_think_then_call", [OSLO]),
        ("tools_auto_text_then_call", [OSLO]),
        ("tools_nonstream_auto", [OSLO, TIME]),
    ],
)
def test_calls_are_what_the_model_made(
    server: str, case: str, calls: list[Any], size: int | None
) -> None:
    """Streamed and as one document, with ids of their own and the engine's usage."""
    answer = _answer(f"{server}.{case}", size)
    assert _calls(answer) == calls
    assert answer.finish_reason == "tool_calls"
    assert answer.metrics.usage_source == "engine"
    assert len({call.id for call in answer.tool_calls}) == len(calls)


@pytest.mark.parametrize(
    ("server", "name", "text"),
    [("llama-server", "reasoning_content", ""), ("vllm", "reasoning", "")],
)
def test_reasoning_comes_under_the_server_s_name_and_goes_back_so(
    server: str, name: str, text: str
) -> None:
    """vLLM renamed it (vllm#27752)."""
    answer = _answer(f"{server}.tools_auto_think_then_call", 9)
    assert answer.text.strip() == text
    assert answer.reasoning.strip() == "I need the weather."
    assert answer.message().to_wire()[name] == answer.reasoning
    plain = _answer(f"{server}.think_nonstream", None)
    assert (plain.text.strip(), plain.reasoning.strip()) == (
        "The answer is 4.",
        "I add the two numbers.",
    )


@pytest.mark.parametrize("server", ["llama-server", "vllm"])
def test_a_cut_call_is_listed_apart(server: str) -> None:
    """14 tokens were allowed."""
    answer = _answer(f"{server}.tools_auto_cut_by_max_tokens", 9, max_tokens=14)
    assert answer.tool_calls == ()
    assert [call.reason for call in answer.invalid_tool_calls] == ["cut"]


def test_broken_arguments_are_listed_apart() -> None:
    """vLLM says `tool_calls` for a call whose JSON is broken; llama.cpp's grammar mends it."""
    answer = _answer("vllm.tools_auto_broken_json", 9)
    assert answer.tool_calls == ()
    assert [call.reason for call in answer.invalid_tool_calls] == ["not_json"]
    assert _calls(_answer("llama-server.tools_auto_broken_json", 9)) == [OSLO]


def test_stop_may_end_an_answer_with_calls() -> None:
    """vLLM with a named tool: the calls decide."""
    answer = _answer("vllm.tools_named", None)
    assert answer.finish_reason == "stop"
    assert [call.name for call in answer.tool_calls] == ["get_time"]


@pytest.mark.parametrize("server", ["llama-server", "vllm"])
@pytest.mark.parametrize("case", ["logprobs_chat", "logprobs_cmpl"])
def test_log_probabilities_of_both_endpoints(server: str, case: str) -> None:
    """Four tokens with three alternatives each, in either form."""
    answer = _answer(f"{server}.{case}", 9, logprobs=True)
    assert [len(score.top) for score in answer.logprobs] == [3] * 4
    assert all(score.logprob <= 0 for score in answer.logprobs)
    assert "".join(score.token for score in answer.logprobs) == answer.text
