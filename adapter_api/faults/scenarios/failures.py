"""Failures that a server reports inside an answer with status 200."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from adapter_api.faults.scenario import Scenario, collect, fails, scenario
from adapter_api.faults.wire import PIECES, TEXT, Wire, to_event

SAID = "".join(PIECES[:2])


# The reason says that it failed


async def _ends_with(reason: str, wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.finish(reason)
    await wire.usage()
    await wire.done()


def _reasons() -> Iterable[Scenario]:
    for reason, code in (
        ("abort", "WORKER_RESET"),
        ("error", "WORKER_RESET"),
        ("content_filter", "CONTENT_FILTER"),
    ):
        yield Scenario(
            f"finish-{reason.replace('_', '-')}",
            f"ends with finish_reason `{reason}`, usage and `[DONE]`",
            partial(_ends_with, reason),
            fails(code, text=SAID),
        )


# An error in the stream. Each form comes after two tokens, with and without [DONE] after it.

_FORMS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("object", "an error object", "WORKER_RESET", {"type": "InternalServerError"}),
    ("int-code", "an error object with the code 503", "POOL_UNAVAILABLE", {"code": 503}),
    ("string-code", 'an error object with the code "400"', "INVALID_PARAMS", {"code": "400"}),
    ("null-code", "an error object full of nulls", "WORKER_RESET", {"code": None, "type": None}),
    ("odd-code", "an error object with a list as its code", "WORKER_RESET", {"code": [400]}),
    ("busy", "an error object: rate limited", "ADMISSION_REJECT", {"code": "rate_limit_exceeded"}),
    ("quota", "an error object: no quota left", "QUOTA_EXHAUSTED", {"code": "insufficient_quota"}),
    ("context", "an error object: context exceeded", "CONTEXT_OVERFLOW",
     {"code": "context_length_exceeded"}),
    ("filtered", "an error object: content filter", "CONTENT_FILTER", {"code": "content_filter"}),
)  # fmt: skip


async def _sends_error(more: dict[str, Any], done: bool, wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.event(wire.complaint(**more))
    await (wire.done() if done else wire.end())


def _errors() -> Iterable[Scenario]:
    for name, what, code, more in _FORMS:
        expect = fails(code, text=SAID)
        script, script_done = (partial(_sends_error, more, done) for done in (False, True))
        yield Scenario(f"error-{name}", f"sends {what} after some tokens", script, expect)
        yield Scenario(f"error-{name}-done", f"sends {what}, then `[DONE]`", script_done, expect)


_DATA: tuple[tuple[str, str, bytes], ...] = (
    ("string", '`{"error": "text"}`', b'data: {"error": "CUDA out of memory for @"}\n\n'),
    ("nested", "an error object inside an error object",
     b'data: {"error": {"error": {"message": "broken for @", "code": null}}}\n\n'),
    ("empty", "an error object with nothing in it", b'data: {"error": {}}\n\n'),
    ("beside-choices", "an error object beside ordinary choices",
     b'data: {"choices": [{"index": 0, "text": ""}], "error": {"message": "broken for @"}}\n\n'),
    ("event-object", "`event: error` with an object", b'event: error\ndata: {"message": "@"}\n\n'),
    ("event-string", "`event: error` with a JSON string",
     b'event: error\ndata: "broken for @"\n\n'),
    ("event-text", "`event: error` with text that is not JSON",
     b"event: error\ndata: broken: @\n\n"),
    ("event-null", "`event: error` with null", b"event: error\ndata: null\n\n"),
    ("event-empty", "`event: error` with empty data", b"event: error\ndata:\n\n"),
    ("event-choices", "`event: error` with what looks like a token",
     b'event: error\ndata: {"choices": [{"index": 0, "text": "x"}]}\n\n'),
    ("object-error", '`{"object": "error"}` (older vLLM)',
     b'data: {"object": "error", "message": "broken for @", "code": 50000}\n\n'),
    ("detail-string", '`{"detail": "text"}`', b'data: {"detail": "broken for @"}\n\n'),
    ("detail-list", '`{"detail": [...]}`',
     b'data: {"detail": [{"loc": ["body", "x"], "msg": "broken for @"}]}\n\n'),
    ("detail-odd", '`{"detail": [...]}` with a number as its `loc`',
     b'data: {"detail": [{"loc": 5, "msg": "broken for @"}, "x", null]}\n\n'),
    ("in-choice", "an error object inside a choice that has text",
     b'data: {"choices": [{"index": 0, "text": "x", "error": {"message": "broken for @"}}]}\n\n'),
    ("in-delta", "an error object inside a delta that has content",
     b'data: {"choices": [{"index": 0, "delta": {"content": "x", "error": "broken for @"}}]}\n\n'),
    ("type-error", '`{"type": "error"}` with a message',
     b'data: {"type": "error", "message": "broken for @"}\n\n'),
    ("status-error", '`{"status": "error"}` beside an empty list of choices',
     b'data: {"choices": [], "status": "error", "message": "broken for @"}\n\n'),
    ("errors-list", '`{"errors": [...]}`', b'data: {"errors": [{"message": "broken for @"}]}\n\n'),
    ("message-code", "a message with a code, and no choices",
     b'data: {"message": "broken for @", "code": "worker_died"}\n\n'),
    ("list", "a list with an error object", b'data: [{"error": {"message": "broken for @"}}]\n\n'),
    ("bare-string", "a JSON string", b'data: "broken for @"\n\n'),
    ("event-bare", "`event: error` without data", b"event: error\n\n"),
    ("event-abort", "`event: aborted` with a reason",
     b'event: aborted\ndata: {"reason": "worker lost, @"}\n\n'),
    ("status-code", "`status_code` 500 beside choices that are null",
     b'data: {"choices": null, "status_code": 500, "message": "broken for @"}\n\n'),
    ("code-msg", "a gateway's `code`, `msg` and `data`",
     b'data: {"code": 500, "msg": "broken for @", "data": null}\n\n'),
    ("response-failed", "a `response.failed` of another API",
     b'data: {"type": "response.failed", "response": {"error": {"message": "@"}}}\n\n'),
    ("in-call", "an error object inside a call",
     b'data: {"choices": [{"index": 0, "delta": {"tool_calls": [{"id": "c", "function": '
     b'{"name": "f", "arguments": "{}"}, "error": {"message": "broken for @"}}]}}]}\n\n'),
    ("joined", "an error behind a token in one event",
     b'data: {"choices": [{"index": 0, "text": ""}]}\ndata: {"error": "broken for @"}\n\n'),
)  # fmt: skip


async def _sends_data(data: bytes, wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.chunk(data.replace(b"@", wire.request.credential.encode()))
    await wire.done()


def _data() -> Iterable[Scenario]:
    expect = fails("WORKER_RESET", text=SAID)
    for name, what, data in _DATA:
        summary = f"sends {what} after some tokens, then `[DONE]`"
        yield Scenario(f"error-{name}", summary, partial(_sends_data, data), expect)


@scenario(
    "sends an error object before any token, then `[DONE]` (vLLM with a dead engine)",
    fails("WORKER_RESET"),
)
async def error_first(wire: Wire) -> None:
    await wire.head()
    await wire.event(wire.complaint(type="InternalServerError", code=500))
    await wire.done()


@scenario("sends an error object after the finish_reason", fails("WORKER_RESET", text=TEXT))
async def error_after_finish(wire: Wire) -> None:
    await wire.begin(*PIECES)
    await wire.finish()
    await wire.event(wire.complaint())
    await wire.done()


@scenario(
    "sends an error object and leaves the connection open",
    fails("WORKER_RESET", text=SAID, closes=True),
)
async def error_then_silence(wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.event(wire.complaint())
    await wire.wait_closed()


@scenario(
    "sends an error object 900 objects deep", fails("WORKER_RESET", "UPSTREAM_PROTOCOL", text=SAID)
)
async def error_deep(wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.chunk(b"data: " + b'{"error":' * 900 + b'"deep"' + b"}" * 900 + b"\n\n")
    await wire.done()


@scenario(
    "is LocalAI, and sends an error as if it were the answer, with finish_reason `stop`",
    fails("WORKER_RESET", text=SAID),
    server="localai",
)
async def localai_error_text(wire: Wire) -> None:
    await wire.begin(*PIECES[:2], f"Internal error: broken for {wire.request.credential}")
    await wire.finish()
    await wire.done()


# Answers that are not streams


@scenario("answers 200 with a page of HTML", fails("UPSTREAM_PROTOCOL"))
async def html_200(wire: Wire) -> None:
    page = f"\n<!DOCTYPE html><title>Sign in</title><p>Hello {wire.request.credential}"
    await wire.answer(200, page.encode(), kind="text/html")


@scenario("answers 200 with an error object as JSON", fails("WORKER_RESET"))
async def json_error_200(wire: Wire) -> None:
    await wire.answer_json(200, wire.complaint())


@scenario('answers 200 with `{"detail": ...}` as JSON', fails("WORKER_RESET"))
async def json_detail_200(wire: Wire) -> None:
    await wire.answer_json(200, {"detail": f"not for {wire.request.credential}"})


@scenario("sends an event that is neither JSON nor `[DONE]`", fails("UPSTREAM_PROTOCOL", text=SAID))
async def not_json(wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.chunk(f"data: Traceback: {wire.request.credential}\n\n".encode())
    await wire.done()


@scenario("sends the JSON of an event broken in the middle", fails("UPSTREAM_PROTOCOL", text=SAID))
async def broken_json(wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.chunk(to_event(wire.payload(PIECES[2]))[:-30] + b"\n\n")
    await wire.rest()


SCENARIOS = [*_reasons(), *_errors(), *_data(), *collect(vars())]
