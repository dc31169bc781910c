"""The request side: a task becomes a body, per endpoint and dialect."""

import json
from typing import Any

import pytest

from adapter_api import InvalidRequest, Message, TaskRequest, Tool, ToolCall
from adapter_api.messages import DETAIL_KEYS, REASONING_KEYS
from adapters.openai_http.dialects import DIALECTS, UNKNOWN
from adapters.openai_http.history import short_id
from adapters.openai_http.request import DROPPABLE_FIELDS, OWNED_FIELDS, encode, request_fields
from tests.adapters.openai_http.reading import whole
from tests.openai_chunks import delta


def test_a_prompt_becomes_a_completions_body() -> None:
    """OC-ADAPT-OAI 6001: every field that was set, and nothing else."""
    task = TaskRequest(
        prompt="hi", max_tokens=5, temperature=0.5, top_p=0.9, seed=1, stop=["a", "b"],
        extra={"min_p": 0.1},
    )  # fmt: skip
    assert request_fields(task, chat=False, model="m") == {
        "model": "m", "prompt": "hi", "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "seed": 1,
        "stop": ["a", "b"], "stream": True, "stream_options": {"include_usage": True},
        "min_p": 0.1,
    }  # fmt: skip
    assert set(request_fields(TaskRequest(prompt=""), chat=False, model=None)) == {
        "prompt", "stream", "stream_options",
    }  # fmt: skip


def test_messages_become_a_chat_body() -> None:
    """Messages keep role, content parts and name; a prompt for a chat is one user message."""
    parts = [{"type": "text", "text": "x"}]
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": parts, "name": "n"}]
    task = TaskRequest(messages=messages)
    assert request_fields(task, chat=True, model="m")["messages"] == messages
    prompt = request_fields(TaskRequest(prompt="hi"), chat=True, model="m")
    assert prompt["messages"] == [{"role": "user", "content": "hi"}]
    assert "prompt" not in prompt


@pytest.mark.parametrize("field", OWNED_FIELDS)
def test_extra_must_not_have_what_the_adapter_owns(field: str) -> None:
    """The refusal names the key and where to set it instead."""
    with pytest.raises(InvalidRequest, match=f"extra must not have '{field}'") as caught:
        request_fields(TaskRequest(prompt="x", extra={field: 1}), chat=False, model="m")
    assert OWNED_FIELDS[field] in caught.value.message


def test_refused_fields_are_left_out_and_max_tokens_renamed() -> None:
    """For a chat, max_tokens goes by its newer name where the old one is refused."""
    task = TaskRequest(prompt="x", max_tokens=7, seed=1)
    fields = request_fields(
        task, chat=True, model="m", without=frozenset({"max_tokens", "seed", "stream_options"})
    )
    assert fields["max_completion_tokens"] == 7
    assert not {"max_tokens", "seed", "stream_options"} & set(fields)


@pytest.mark.parametrize("value", [object(), {1, 2}, "\ud800"])
def test_what_is_not_json_is_a_clear_error(value: object) -> None:
    """An extra that JSON cannot hold is INVALID_PARAMS (sets become lists and are fine)."""
    fields = {"x": value}
    if isinstance(value, set):
        assert json.loads(encode(fields)) == {"x": [1, 2]}
        return
    with pytest.raises(InvalidRequest, match="cannot be sent as JSON"):
        encode(fields)


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    "value", [NAN, INFINITY, -INFINITY, [1, NAN], {"a": {"b": (INFINITY,)}}, {1.0, NAN}]
)
def test_numbers_that_json_lacks_are_refused(value: object) -> None:
    """They would arrive as null; a null that is meant arrives."""
    with pytest.raises(InvalidRequest, match="'x' holds NaN or infinity, which JSON does not have"):
        encode({"prompt": "null", "x": value})
    assert encode({"x": None, "y": [None, 1.5]}) == b'{"x":null,"y":[null,1.5]}'


# Tools, calls and reasoning

WEATHER = Tool("get_weather", "Weather of a city", {"type": "object"})
CALL = ToolCall("call_1234567890", "get_weather", '{"city":"Oslo"}')
TURN: list[Any] = [
    {"role": "user", "content": "hi"},
    Message("assistant", tool_calls=(CALL,), extra={"reasoning_content": "Hm."}),
    CALL.result("21"),
]


def _messages(dialect: str | None, *messages: Any) -> list[dict[str, Any]]:
    task = TaskRequest(messages=messages or TURN)
    server = DIALECTS[dialect] if dialect else UNKNOWN
    found: list[dict[str, Any]] = request_fields(task, chat=True, model="m", dialect=server)[
        "messages"
    ]
    return found


def test_tools_and_constraints_are_sent_as_the_wire_has_them() -> None:
    """Tools, choice, format and effort; a mapping is sent unchanged."""
    custom = {"type": "custom", "custom": {"name": "shell"}}
    task = TaskRequest(
        prompt="x", tools=[WEATHER, custom], tool_choice="required", parallel_tool_calls=False,
        response_format={"type": "json_object"}, reasoning_effort="low", logprobs=2,
    )  # fmt: skip
    fields = request_fields(task, chat=True, model=None)
    assert fields["tools"] == [WEATHER.to_wire(), custom]
    assert fields["tool_choice"] == "required"
    assert fields["parallel_tool_calls"] is False
    assert fields["response_format"] == {"type": "json_object"}
    assert fields["reasoning_effort"] == "low"
    assert (fields["logprobs"], fields["top_logprobs"]) == (True, 2)


def test_logprobs_differ_between_the_endpoints() -> None:
    """Completions take a number; chats a flag and, above zero, a number."""
    task = TaskRequest(prompt="x", logprobs=0)
    assert request_fields(task, chat=False, model=None)["logprobs"] == 0
    fields = request_fields(task, chat=True, model=None)
    assert fields["logprobs"] is True
    assert "top_logprobs" not in fields


def test_no_field_that_constrains_the_answer_may_be_left_out() -> None:
    """A field that changes the meaning of the answer is never dropped."""
    kept = {
        "messages", "prompt", "model", "tools", "tool_choice", "parallel_tool_calls", "stop",
        "response_format", "structured_outputs", "grammar", "max_completion_tokens",
    }  # fmt: skip
    assert not kept & DROPPABLE_FIELDS


def test_a_key_of_extra_stays_whatever_was_refused() -> None:
    """The server's refusal of a field never removes a key of `extra`."""
    task = TaskRequest(prompt="x", extra={"grammar": "root ::= x"})
    fields = request_fields(task, chat=True, model=None, without=frozenset({"grammar", "seed"}))
    assert fields["grammar"] == "root ::= x"


@pytest.mark.parametrize("extra", [{"modalities": ["text", "audio"]}, {"audio": {"voice": "a"}}])
def test_audio_as_answer_is_refused_with_a_recipe(extra: dict[str, Any]) -> None:
    """No event of the contract holds audio."""
    with pytest.raises(InvalidRequest, match="speech endpoint"):
        request_fields(TaskRequest(prompt="x", extra=extra), chat=True, model=None)


def test_several_answers_are_refused_with_a_recipe() -> None:
    """Two answers have two ends and two proofs: n jobs instead."""
    with pytest.raises(InvalidRequest, match="Submit n jobs"):
        request_fields(TaskRequest(prompt="x", extra={"n": 2}), chat=True, model=None)


def test_images_and_audio_in_the_question_pass() -> None:
    """Content parts are sent unchanged."""
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]
    assert _messages(None, {"role": "user", "content": parts})[0]["content"] == parts


def test_content_is_null_beside_calls_and_present() -> None:
    """Some servers want the key, some refuse the empty string (vercel/ai#13538)."""
    message = _messages("vllm")[1]
    assert message["content"] is None
    assert message["tool_calls"][0]["function"]["arguments"] == '{"city":"Oslo"}'
    assert _messages("lm-studio")[1]["content"] == ""


@pytest.mark.parametrize(
    ("dialect", "name"),
    [
        (None, "reasoning_content"), ("vllm", "reasoning"), ("ollama", "reasoning"),
        ("llama-server", "reasoning_content"), ("sglang", "reasoning_content"),
        ("deepseek", "reasoning_content"), ("openrouter", "reasoning_content"),
    ],
)  # fmt: skip
def test_reasoning_goes_back_under_the_server_s_own_name(dialect: str | None, name: str) -> None:
    """The history may come from another server."""
    message = _messages(dialect)[1]
    names = {"reasoning", "reasoning_content"} & set(message)
    assert {key: message[key] for key in names} == {name: "Hm."}


@pytest.mark.parametrize("dialect", ["openai", "azure"])
def test_reasoning_is_not_sent_where_no_server_wants_it(dialect: str) -> None:
    """OpenAI shows no reasoning and takes none back."""
    said = {"reasoning": "a", "reasoning_details": [{"type": "reasoning.text"}]}
    message = _messages(dialect, Message("assistant", "x", extra=said))[0]
    assert message == {"role": "assistant", "content": "x"}


def test_deepseek_gets_reasoning_beside_calls_only() -> None:
    """Of other turns it ignores it, and R1 refused it."""
    plain = Message("assistant", "x", extra={"reasoning_content": "Hm."})
    assert "reasoning_content" not in _messages("deepseek", plain)[0]


def test_localai_gets_both_names() -> None:
    """It reads either, by version."""
    message = _messages("localai")[1]
    assert message["reasoning"] == message["reasoning_content"] == "Hm."


def test_mistral_gets_short_ids_thinking_parts_and_no_other_keys() -> None:
    """Ids of nine alphanumerics, the same in call and result; thinking as parts of the content."""
    _, call, result = _messages("mistral")
    call_id = call["tool_calls"][0]["id"]
    assert call_id == result["tool_call_id"] == short_id(CALL.id)
    assert len(call_id) == 9
    assert call_id.isalnum()
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    assert call["content"] == [thinking]
    assert set(call) == {"role", "content", "tool_calls"}
    assert short_id("D681PevKs") == "D681PevKs"


def test_opaque_parts_go_back_unchanged() -> None:
    """Signed or encrypted reasoning, in order, and the signature of a call."""
    details = [{"type": "reasoning.encrypted", "data": "AA", "id": "1", "index": 0}]
    signature = {"google": {"thought_signature": "sig"}}
    call = ToolCall("a", "f", extra={"extra_content": signature})
    message = Message("assistant", tool_calls=(call,), extra={"reasoning_details": details})
    sent = _messages("openrouter", message, call.result("x"))[0]
    assert sent["reasoning_details"] == details
    assert sent["tool_calls"][0]["extra_content"] == signature


@pytest.mark.parametrize("name", [*REASONING_KEYS, *DETAIL_KEYS])
def test_reasoning_under_every_name_that_is_read_goes_back(name: str) -> None:
    """From the answer over its wire form, as a program keeps it, to the server's own name."""
    part = [{"type": "thinking", "thinking": "Hm.", "signature": "s"}]
    said = {name: "Hm." if name in REASONING_KEYS else part}
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    answer = whole([delta({**said, "tool_calls": [call]}), delta({}, "tool_calls")])
    wire = answer.message().to_wire()
    assert wire[name] == said[name]
    assert not set(REASONING_KEYS) & set(answer.message(reasoning=False).to_wire())
    kept = answer.message(reasoning=False).to_wire()
    assert not set(REASONING_KEYS) & set(kept)
    [sent] = _messages("vllm", *(TaskRequest(messages=[wire]).messages or ()))
    assert sent["reasoning"] == "Hm."
