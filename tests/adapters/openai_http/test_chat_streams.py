"""Streams of many servers with calls, reasoning and refusals: each result is the honest one."""

import json
from typing import Any

import attrs
import pytest

from adapter_api import Answer, ToolCall, WorkerError
from tests.adapters.openai_http.reading import CHAT, EVERYTHING, whole

CASES = sorted(path.stem for path in CHAT.glob("*.json"))


def _case(name: str) -> dict[str, Any]:
    case: dict[str, Any] = json.loads((CHAT / f"{name}.json").read_text())
    return case


def _answer(case: dict[str, Any], size: int | None) -> Answer:
    request = case.get("request", {})
    wanted = EVERYTHING._replace(
        logprobs="logprobs" in request, max_tokens=request.get("max_tokens")
    )
    return whole(case["events"], wanted, size)


def _call(call: ToolCall, expected: dict[str, Any]) -> dict[str, Any]:
    """Return the call in the form of the expectation, with arguments compared by value."""
    found: dict[str, Any] = {"id": call.id, "name": call.name, "arguments": call.arguments}
    if expected["id"] == "*":
        found["id"] = "*"
    if not expected.get("complete", True):
        return found | {"complete": False}
    same = call.json() == json.loads(expected["arguments"])
    return found | ({"arguments": expected["arguments"]} if same else {})


@pytest.mark.parametrize("size", [None, 1, 7, 64])
@pytest.mark.parametrize("name", CASES)
def test_each_stream_has_its_honest_result(name: str, size: int | None) -> None:
    """Text, reasoning, calls and usage are what the server meant, however the bytes are split."""
    case = _case(name)
    expect = case["expect"]
    if name == "audio-output":  # one of the honest results: no event holds audio
        expect = {"error": "UPSTREAM_PROTOCOL"}
    if "error" in expect:
        with pytest.raises(WorkerError) as caught:
            _answer(case, size)
        assert expect["error"] in ("*", caught.value.code)
        return
    answer = _answer(case, size)
    assert answer.text == expect.get("refusal", expect["text"])
    assert answer.refused is ("refusal" in expect)
    assert answer.finish_reason == expect["finish_reason"]
    assert (answer.reasoning or None) == expect["reasoning"]
    calls = [*answer.tool_calls, *answer.invalid_tool_calls]
    expected = expect["tool_calls"]
    assert [_call(c, e) for c, e in zip(calls, expected, strict=True)] == expected
    assert len(answer.invalid_tool_calls) == sum(not e.get("complete", True) for e in expected)


@pytest.mark.parametrize("name", [name for name in CASES if "usage" in _case(name)["expect"]])
def test_the_engine_s_own_counts_are_used(name: str) -> None:
    """Usage wherever it comes, with cached and reasoning tokens under any name."""
    case = _case(name)
    metrics = _answer(case, None).metrics
    expected = dict(case["expect"]["usage"])
    assert metrics.tokens_generated == expected.pop("completion_tokens")
    assert {name: getattr(metrics, name) for name in expected} == expected


@pytest.mark.parametrize("name", [name for name in CASES if "next_message_has" in _case(name)])
def test_the_next_request_gets_what_the_server_wants_back(name: str) -> None:
    """Opaque reasoning, refusals and text are in the message, unchanged."""
    case = _case(name)
    message = _answer(case, None).message().to_wire()
    wanted = case["next_message_has"]
    assert {key: message.get(key) for key in wanted} == wanted


def test_logprobs_come_with_their_alternatives() -> None:
    """Two tokens in one chunk have two scores."""
    case = _case("logprobs")
    found = [attrs.asdict(score) for score in _answer(case, None).logprobs]
    assert found == case["expect"]["logprobs"]


def test_a_made_id_is_accepted_everywhere_and_repeatable() -> None:
    """Nine alphanumerics, different in each call, the same for the same job."""
    calls = _answer(_case("localai-one-id"), None).tool_calls
    ids = [call.id for call in calls]
    assert len(set(ids)) == 2
    assert ids[1].isalnum()
    assert len(ids[1]) == 9
    assert ids == [call.id for call in _answer(_case("localai-one-id"), 5).tool_calls]
