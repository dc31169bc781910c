"""Answers whose parts have other names, stand in other places, or belong to another API."""

import json
from collections.abc import Iterable
from functools import partial
from typing import Any

from adapter_api.faults.scenario import Scenario, collect, fails, scenario, whole
from adapter_api.faults.wire import PIECES, TEXT, USAGE, Wire, to_event, to_json

_CHAT = {"messages": [{"role": "user", "content": "hi"}]}


# Names and places


@scenario("names the fields `finishReason` and `reasoningContent`", whole(), task=_CHAT)
async def camel_case(wire: Wire) -> None:
    await wire.head()
    await wire.event(wire.with_choice(delta={"reasoningContent": "hm"}))
    await wire.text(*PIECES)
    choice = {"index": 0, "delta": {}, "finishReason": "stop"}
    await wire.event(wire.payload(choices=[choice], usage=USAGE))
    await wire.end()


@scenario(
    "sends `finishReason: SAFETY` with the last text, then `[DONE]`",
    fails("CONTENT_FILTER", text=TEXT),
)
async def camel_case_filter(wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    payload = wire.payload(PIECES[2])
    del payload["choices"][0]["finish_reason"]
    payload["choices"][0]["finishReason"] = "SAFETY"
    await wire.event(payload)
    await wire.done()


@scenario("names every field as in `Choices` and `FinishReason`", whole())
async def pascal_case(wire: Wire) -> None:
    await wire.head()
    for piece in PIECES:
        await wire.event({"Choices": [{"Delta": {"Content": piece}, "FinishReason": ""}]})
    usage = {"PromptTokens": USAGE["prompt_tokens"], "CompletionTokens": USAGE["completion_tokens"]}
    end = {"Delta": {"Content": ""}, "FinishReason": "stop"}
    await wire.event({"Choices": [end], "Usage": usage})
    await wire.end()


@scenario("sends content as a list of strings and parts", whole(), task=_CHAT)
async def content_strings(wire: Wire) -> None:
    await wire.head()
    await wire.event(wire.with_choice(delta={"content": [PIECES[0], PIECES[1]]}))
    part = {"type": "text", "text": PIECES[2]}
    await wire.event(wire.with_choice(delta={"content": [None, part, ""]}))
    await wire.rest()


@scenario("names the text of a delta `text`", whole(), task=_CHAT)
async def delta_text(wire: Wire) -> None:
    await wire.head()
    for piece in PIECES:
        await wire.event(wire.with_choice(delta={"text": piece}))
    await wire.rest()


# A filter, a failure, and parts that no event holds


def _results(*, filtered: bool) -> dict[str, Any]:
    return {"hate": {"filtered": filtered, "severity": "high" if filtered else "safe"}}


async def _azure(at: int, wire: Wire) -> None:
    """Send a whole answer whose piece number `at` was filtered; -1: none."""
    await wire.head()
    for number, piece in enumerate(PIECES):
        payload = wire.payload(piece)
        results = _results(filtered=number == at)
        payload["choices"][0]["content_filter_results"] = results
        await wire.event(payload)
    await wire.rest()


def _filters() -> Iterable[Scenario]:
    for at, name, what, expect in (
        (-1, "passed", "no piece was filtered", whole()),
        (1, "middle", "the second piece was filtered", fails("CONTENT_FILTER", text=TEXT)),
        (2, "last", "the last piece was filtered", fails("CONTENT_FILTER", text=TEXT)),
    ):
        yield Scenario(
            f"filter-results-{name}",
            f"says in `content_filter_results` that {what}, and ends with `stop` (Azure)",
            partial(_azure, at),
            expect,
            task=_CHAT,
        )


_ENDS: tuple[tuple[str, Any, str], ...] = (
    ("finish-reason", {"finish_reason": "error"}, "WORKER_RESET"),
    ("filter", {"finishReason": "SAFETY"}, "CONTENT_FILTER"),
    ("status", {"status": "failed"}, "WORKER_RESET"),
    ("type", {"type": "error"}, "WORKER_RESET"),
    ("object", {"object": "error"}, "WORKER_RESET"),
    ("event", {"event": "error"}, "WORKER_RESET"),
)


async def _ends_with(event: Any, wire: Wire) -> None:
    await wire.begin(*PIECES)
    await wire.event(event)
    await wire.rest()


def _ends() -> Iterable[Scenario]:
    for name, event, code in _ENDS:
        shown = json.dumps(event)
        yield Scenario(
            f"alone-{name}",
            f"sends all text, then `{shown}` and nothing else in that event, then the usual end",
            partial(_ends_with, event),
            fails(code, text=TEXT),
        )


@scenario("sends an image and no text", fails("UPSTREAM_PROTOCOL"), task=_CHAT)
async def only_an_image(wire: Wire) -> None:
    await wire.head()
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    await wire.event(wire.with_choice(delta={"content": "", "images": [image]}))
    await wire.rest()


# Other APIs

_GEMINI = {"candidates": [{"content": {"parts": [{"text": "Hello"}], "role": "model"}, "index": 0}]}
_MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "m"}
_OLLAMA = {"model": "m", "created_at": "2026-11-27T12:00:00Z", "done": False}
_OLLAMA_CHAT = {**_OLLAMA, "message": {"role": "assistant", "content": "Hello"}}
_RESPONSE = {"id": "resp_1", "object": "response", "status": "in_progress", "error": None}
_FOREIGN: tuple[tuple[str, str, bytes], ...] = (
    ("gemini", "Google's Gemini API", to_event(_GEMINI)),
    ("gemini-array", "Google's Gemini API, as an array", to_json([_GEMINI, _GEMINI])),
    ("anthropic", "Anthropic's Messages API", b"event: message_start\n"
     + to_event({"type": "message_start", "message": _MESSAGE})),
    ("anthropic-json", "Anthropic's Messages API, as one document", to_json(_MESSAGE)),
    ("ollama-generate", "Ollama's `/api/generate`", to_json({**_OLLAMA, "response": "Hi"}) + b"\n"),
    ("ollama-chat", "Ollama's `/api/chat`", to_json(_OLLAMA_CHAT) + b"\n"),
    ("responses", "OpenAI's Responses API", b"event: response.created\n"
     + to_event({"type": "response.created", "response": _RESPONSE})),
    ("tgi", "TGI's `/generate_stream`",
     to_event({"index": 1, "token": {"id": 1, "text": "Hi"}, "generated_text": None})),
    ("llama-cpp", "llama.cpp's `/completion`", to_event({"content": "Hi", "stop": False})),
)  # fmt: skip


async def _answers_with(body: bytes, wire: Wire) -> None:
    await wire.head()
    await wire.chunk(body)
    await wire.end()


def _foreign() -> Iterable[Scenario]:
    for name, what, body in _FOREIGN:
        yield Scenario(
            f"foreign-{name}",
            f"answers with {what}",
            partial(_answers_with, body),
            fails("UPSTREAM_PROTOCOL"),
        )


SCENARIOS = [*_filters(), *_ends(), *_foreign(), *collect(vars())]
