"""Answers with a status other than 200."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from adapter_api.faults.scenario import (
    LIMIT_S,
    Expect,
    Scenario,
    collect,
    fails,
    scenario,
    whole,
)
from adapter_api.faults.wire import Wire, to_json

ATTEMPTS = 4
"""The maximum number of requests of a job when each is refused temporarily. Source: HTU-1002."""

REPEATED = frozenset({408, 425, 429, 498, 502, 503, 504, 522, 529})
"""Temporary refusals, after which the same request is sent again."""

CODES = {
    400: "INVALID_PARAMS",
    401: "UPSTREAM_AUTH",
    402: "QUOTA_EXHAUSTED",
    403: "UPSTREAM_AUTH",
    404: "UPSTREAM_NOT_FOUND",
    405: "INVALID_PARAMS",
    407: "UPSTREAM_AUTH",
    408: "ADMISSION_REJECT",
    409: "ADMISSION_REJECT",
    410: "UPSTREAM_NOT_FOUND",
    413: "INVALID_PARAMS",
    415: "INVALID_PARAMS",
    422: "INVALID_PARAMS",
    424: "WORKER_RESET",
    425: "ADMISSION_REJECT",
    429: "ADMISSION_REJECT",
    451: "INVALID_PARAMS",
    498: "ADMISSION_REJECT",
    499: "WORKER_RESET",
    500: "WORKER_RESET",
    501: "INVALID_PARAMS",
    502: "POOL_UNAVAILABLE",
    503: "POOL_UNAVAILABLE",
    504: "POOL_UNAVAILABLE",
    505: "INVALID_PARAMS",
    520: "WORKER_RESET",
    522: "POOL_UNAVAILABLE",
    529: "ADMISSION_REJECT",
}
"""Source: HTU-ERR-4002."""


def _expect(status: int) -> Expect:
    repeated = status in REPEATED
    return fails(CODES[status], requests=ATTEMPTS if repeated else 1, within_s=0.3)


# Every status


async def _refuses(status: int, wire: Wire) -> None:
    await wire.answer_json(status, wire.complaint("no", type=None, code=None))


def _statuses() -> Iterable[Scenario]:
    for status in CODES:
        summary = f"answers {status} with an error object"
        yield Scenario(f"status-{status}", summary, partial(_refuses, status), _expect(status))


# Every shape of a body

_Body = Callable[[Wire], bytes]

_SHAPES: tuple[tuple[str, str, _Body], ...] = (
    ("object", "an error object", lambda wire: to_json(wire.complaint())),
    ("string", '`{"error": "text"}`', lambda wire: to_json({"error": _said(wire)})),
    ("detail", '`{"detail": "text"}`', lambda wire: to_json({"detail": _said(wire)})),
    ("detail-list", '`{"detail": [...]}`',
     lambda wire: to_json({"detail": [{"loc": ["body", "x"], "msg": _said(wire), "type": "x"}]})),
    ("detail-odd", '`{"detail": [...]}` with an unusual `loc`',
     lambda wire: to_json({"detail": [{"loc": 5, "msg": _said(wire)}, {"loc": {}}, None, "x"]})),
    ("detail-object", '`{"detail": {...}}`',
     lambda wire: to_json({"detail": {"error": {"message": _said(wire)}}})),
    ("object-error", '`{"object": "error"}` (older vLLM)',
     lambda wire: to_json({"object": "error", "message": _said(wire), "code": 40001})),
    ("list", "a list", lambda wire: to_json([wire.complaint()])),
    ("number", "a number", lambda wire: b"5"),
    ("null", "`null`", lambda wire: b"null"),
    ("odd-object", "an error object with wrong types everywhere",
     lambda wire: to_json({"error": {"message": [_said(wire)], "code": {}, "param": 1}})),
    ("deep", "an error 900 objects deep",
     lambda wire: b'{"error":' * 900 + b'"deep"' + b"}" * 900),
    ("text", "text", lambda wire: _said(wire).encode()),
    ("html", "a page of HTML", lambda wire: f"<html><h1>{_said(wire)}</h1></html>".encode()),
    ("not-utf-8", "bytes that are not UTF-8", lambda wire: b"\xff\xfe\x00broken"),
    ("empty", "nothing", lambda wire: b""),
)  # fmt: skip


def _said(wire: Wire) -> str:
    return f"this is not for {wire.request.credential}"


async def _refuses_with(status: int, body: _Body, wire: Wire) -> None:
    await wire.answer(status, body(wire))


def _shapes() -> Iterable[Scenario]:
    for status in (400, 500, 503):
        for name, what, body in _SHAPES:
            script = partial(_refuses_with, status, body)
            summary = f"answers {status} with {what}"
            yield Scenario(f"body-{status}-{name}", summary, script, _expect(status))


# Meaning in the message's words

_MEANINGS: tuple[tuple[str, str, int, str, dict[str, Any]], ...] = (
    ("context-code", "CONTEXT_OVERFLOW", 400, "too much", {"code": "context_length_exceeded"}),
    ("context-type", "CONTEXT_OVERFLOW", 400, "too much", {"type": "exceed_context_size_error"}),
    ("context-openai", "CONTEXT_OVERFLOW", 400,
     "This model's maximum context length is 4097 tokens. However, you requested 5000 tokens", {}),
    ("context-llama", "CONTEXT_OVERFLOW", 400,
     "the request exceeds the available context size. try increasing the context size", {}),
    ("context-vllm", "CONTEXT_OVERFLOW", 400,
     "The decoder prompt (length 5000) is longer than the maximum model length of 4096", {}),
    ("context-500", "CONTEXT_OVERFLOW", 500,
     "Requested tokens (600) exceed context window of 512", {}),
    ("quota", "QUOTA_EXHAUSTED", 429, "You exceeded your current quota",
     {"type": "insufficient_quota", "code": "insufficient_quota"}),
    ("billing", "QUOTA_EXHAUSTED", 400, "Billing hard limit has been reached",
     {"code": "billing_hard_limit_reached"}),
    ("filtered-prompt", "CONTENT_FILTER", 400, "The response was filtered",
     {"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}),
)  # fmt: skip


async def _means(status: int, message: str, more: dict[str, Any], wire: Wire) -> None:
    await wire.answer_json(status, wire.complaint(message, **more))


def _meanings() -> Iterable[Scenario]:
    for name, code, status, message, more in _MEANINGS:
        said = ", ".join(str(value) for value in more.values() if isinstance(value, str)) or message
        yield Scenario(
            f"says-{name}",
            f"answers {status}: {said}",
            partial(_means, status, message, more),
            fails(code),
        )


# Misbehaving bodies


@scenario(
    "answers 400 with a body that has no end",
    fails("INVALID_PARAMS", within_s=LIMIT_S, closes=True),
)
async def refusal_endless(wire: Wire) -> None:
    await wire.head(status=400, kind="text/plain")
    while True:
        await wire.chunk(b"x" * 8192)


@scenario("answers 400 and breaks the connection in the body", fails("INVALID_PARAMS"))
async def refusal_rst(wire: Wire) -> None:
    await wire.head(status=400, framing=1000)
    await wire.chunk(b'{"error": {"message": "')
    await wire.reset()


@scenario("answers 400 with a body longer than its Content-Length", fails("INVALID_PARAMS"))
async def refusal_long(wire: Wire) -> None:
    await wire.head(status=400, framing=10)
    await wire.chunk(b'{"error": "this is longer"}')
    await wire.sleep(0.05)


# Other statuses without an answer


@scenario("answers 204", fails("UPSTREAM_PROTOCOL"))
async def status_204(wire: Wire) -> None:
    await wire.raw(b"HTTP/1.1 204 No Content\r\n\r\n")
    wire.keep_alive = True


async def _answers_with(status: int, wire: Wire) -> None:
    await wire.answer(status, wire.stream())


def _successes() -> Iterable[Scenario]:
    for status in (201, 202, 203, 206, 207, 226):
        summary = f"answers {status} with a whole stream"
        yield Scenario(f"status-{status}", summary, partial(_answers_with, status), whole())


@scenario("answers 999", fails("POOL_UNAVAILABLE"))
async def status_999(wire: Wire) -> None:
    await wire.answer(999, b"")


async def _redirects(status: int, location: str, wire: Wire) -> None:
    target = location.replace("HOST", wire.request.headers["host"])
    await wire.answer(status, b"", f"Location: {target}")


def _redirections() -> Iterable[Scenario]:
    for status in (301, 302, 303, 307, 308):
        script = partial(_redirects, status, "http://HOST/ordinary/v1/completions")
        yield Scenario(
            f"redirect-{status}",
            f"redirects with {status} to a place that would answer",
            script,
            fails("UPSTREAM_PROTOCOL"),
        )
    for name, location in (("nowhere", "http://[nowhere"), ("scheme", "gopher://x"), ("loop", "")):
        yield Scenario(
            f"redirect-{name}",
            f"redirects with 302 to `{location}`",
            partial(_redirects, 302, location),
            fails("UPSTREAM_PROTOCOL"),
        )


SCENARIOS = [
    *_statuses(),
    *_shapes(),
    *_meanings(),
    *_redirections(),
    *_successes(),
    *collect(vars()),
]
