"""Answers of other APIs, which name what answers and what to set."""

import json
from typing import Any

import pytest

from adapter_api import ErrorCode, WorkerError
from tests.adapters.openai_http.reading import body_of, pieces_of, read, whole

RESPONSE = {"id": "r", "object": "response", "status": "in_progress", "error": None, "output": []}
OLLAMA = {"model": "m", "created_at": "2026-11-27T12:00:00Z", "done": False}
APIS: list[tuple[str, dict[str, Any]]] = [
    ("Gemini", {"candidates": [{"content": {"parts": [{"text": "x"}]}}], "modelVersion": "g"}),
    ("Anthropic", {"type": "message_start", "message": {"id": "m", "content": []}}),
    ("Anthropic", {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}}),
    ("Anthropic", {"id": "m", "type": "message", "content": [{"type": "text", "text": "x"}]}),
    ("Responses", {"type": "response.created", "response": RESPONSE}),
    ("Responses", {"type": "response.output_text.delta", "delta": "x"}),
    ("Responses", {**RESPONSE, "status": "completed"}),
    ("embeddings", {"object": "list", "data": [{"object": "embedding", "embedding": [0.1]}]}),
    ("images", {"created": 1, "data": [{"b64_json": "AA"}]}),
    ("Assistants", {"object": "thread.message.delta", "delta": {}}),
    ("Ollama", {**OLLAMA, "response": "x"}),
    ("Ollama", {**OLLAMA, "message": {"role": "assistant", "content": "x"}}),
    ("Ollama", {**OLLAMA, "response": "", "done": True, "done_reason": "stop"}),
    ("Cohere", {"type": "message-start", "delta": {"message": {}}}),
    ("Cohere", {"event_type": "stream-start", "is_finished": False}),
    ("DashScope", {"output": {"text": "x", "finish_reason": "null"}, "request_id": "r"}),
    ("Converse", {"contentBlockDelta": {"delta": {"text": "x"}}}),
    ("TGI", {"index": 1, "token": {"id": 1, "text": "x"}, "generated_text": None}),
    ("KoboldCpp", {"token": "x", "finish_reason": None}),
    ("llama.cpp", {"index": 0, "content": "x", "tokens": [1], "stop": False}),
    ("SGLang", {"text": "x", "meta_info": {"finish_reason": None}}),
    ("Triton", {"model_name": "m", "model_version": "1", "text_output": "x"}),
    ("vLLM", {"text": ["x"]}),
    ("Workers AI", {"response": "x", "p": "abc"}),
    ("Dify", {"event": "message", "conversation_id": "c", "answer": "x"}),
]


def _error(body: bytes, size: int | None = None) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        read(pieces_of(body, size))
    return caught.value


@pytest.mark.parametrize(("name", "event"), APIS, ids=[f"{n}-{str(e)[:30]}" for n, e in APIS])
def test_the_answer_of_another_api_is_named(name: str, event: dict[str, Any]) -> None:
    """As events, as lines of JSON, as one document, and as an array."""
    line = json.dumps(event).encode()
    for body in (body_of([event]), line + b"\n" + line + b"\n", line, b"[" + line + b"]"):
        for size in (None, 7):
            error = _error(body, size)
            assert (error.code, error.retriable) == (ErrorCode.UPSTREAM_PROTOCOL, False)
            assert name in error.message
            assert "set base_url" in error.message


def test_the_error_of_another_api_is_that_error() -> None:
    """Its words say more."""
    for event in (
        {"type": "response.failed", "response": {**RESPONSE, "error": {"message": "boom"}}},
        {"type": "error", "error": {"type": "overloaded_error", "message": "boom"}},
        {"error": "boom"},
    ):
        assert "boom" in _error(body_of([event])).message


def test_events_like_those_beside_an_answer_do_no_harm() -> None:
    """A gateway may add its own once the answer has begun."""
    chunk = {"choices": [{"index": 0, "delta": {"content": "a"}}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    beside = [{"done": True, "message": {}}, {"type": "message_stop"}, {"event": "x"}]
    assert whole([chunk, *beside, end]).text == "a"
    assert whole([{"type": "ping"}, {"status": "queued", "message": "3rd"}, chunk, end]).text == "a"


def test_an_answer_without_a_choice_names_what_came() -> None:
    """Of an API that is not known here."""
    error = _error(body_of([{"id": "1", "utterance": "hi"}, {"id": "2", "utterance": "ho"}]))
    assert error.code is ErrorCode.STREAM_TRUNCATED
    assert "utterance" in error.message
