"""A server repeats the key in every place and spelling; nothing that the adapter shows holds it."""

import base64
import html
import json
import logging
import re
import traceback
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest

import registry
from adapter_api import TaskRequest, WorkerError
from adapter_api.faults import Request, ScriptServer, Wire

KEY = "sk-Canary+/7Q9z&<x>=0123456789abcdefXYZ"
PIECE = 8
"""So much of a key is a leak."""

CODED = "".join(f"\\u{ord(char):04x}" for char in KEY)
SPELLINGS = {
    "plain": KEY,
    "url": quote(KEY, safe=""),
    "url-twice": quote(quote(KEY, safe=""), safe=""),
    "html": html.escape(KEY),
    "html-numbers": "".join(f"&#{ord(char)};" for char in KEY),
    "unicode": CODED,
    "unicode-twice": CODED.replace("\\", "\\\\"),
    "hex": KEY.encode().hex(),
    "hex-bytes": KEY.encode().hex(":"),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64-basic": base64.b64encode(f"user:{KEY}".encode()).decode(),
    "upper": KEY.upper(),
    "wrapped": f"{KEY[:12]}\r\n    {KEY[12:]}",
    "head-cut": KEY[5:],
    "tail-cut": KEY[:-6],
    "blank": " ".join(KEY),
    "zero-width": f"{KEY[:9]}\u200b{KEY[9:]}",
    "octal": "".join(f"\\{ord(char):03o}" for char in KEY),
    "braces": "".join(f"\\u{{{ord(char):x}}}" for char in KEY),
    "unicode-8": "".join(f"\\U{ord(char):08x}" for char in KEY),
    "percent-u": "".join(f"%u{ord(char):04x}" for char in KEY),
    "quoted-printable": "".join(f"={ord(char):02X}" for char in KEY),
    "hex-0x": ", ".join(f"0x{ord(char):02x}" for char in KEY),
}

ESCAPES = (
    (r"(?:\\+u|%u)\{?([0-9a-fA-F]{4}|[0-9a-fA-F]{1,6}(?=\}))\}?", 16),
    (r"\\+U([0-9a-fA-F]{8})", 16),
    (r"=([0-9a-fA-F]{2})", 16),
    (r"\\+([0-7]{3})", 8),
)
"""Patterns of escapes of one character, with the base of their digits."""


def _character(base: int, found: "re.Match[str]") -> str:
    code = int(found[1], base)
    return chr(code) if code <= 0x10FFFF else ""


def _readings(shown: str) -> Iterator[str]:
    """Yield `shown` and what is read after decoding it."""
    texts = [shown, unquote(unquote(shown)), html.unescape(shown)]
    for pattern, base in ESCAPES:
        texts.append(re.sub(pattern, partial(_character, base), shown))
    texts += [re.sub(r"[\s\u200b:]|\\[rn]|\\u200b|, 0x", "", text) for text in texts]
    yield from texts
    for text in texts:
        for found in re.finditer(r"[0-9a-fA-F]{16,}", text):
            for shift in range(2):
                digits = found[0][shift:]
                yield bytes.fromhex(digits[: len(digits) // 2 * 2]).decode("latin-1")
        for found in re.finditer(r"[A-Za-z0-9+/]{12,}", text):
            for shift in range(4):
                letters = found[0][shift:]
                whole = letters[: len(letters) // 4 * 4]
                yield base64.b64decode(whole).decode("latin-1")


def _leak(shown: str) -> str | None:
    """Return a piece of the key that `shown` gives away."""
    pieces = {KEY[at : at + PIECE].lower() for at in range(len(KEY) - PIECE + 1)}
    for text in map(str.lower, _readings(shown)):
        for piece in pieces:
            if piece in text:
                return f"{piece!r} in {shown!r}"
    return None


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_search_finds_each_spelling(spelling: str) -> None:
    """Otherwise the tests below would prove nothing."""
    assert _leak(f"before {SPELLINGS[spelling]} behind")


def _event(payload: Any) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def _line(text: str) -> bytes:
    return text.replace("\r", "").replace("\n", " ").encode()


def _header(text: str) -> str:
    return "".join(char for char in text if " " <= char <= "~")


def _error(text: str) -> dict[str, Any]:
    return {"error": {"message": f"bad {text}", "type": text, "code": text, "param": text}}


def _stream(where: str, text: str) -> bytes:
    """Return a stream that repeats `text` in one place."""
    names = {"id": "c", "model": "m", "system_fingerprint": "f"}
    if where == "names":
        names = dict.fromkeys(names, text)
    finish = {"finish_reason": text if where == "finish_reason" else "stop"}
    if where == "native_finish_reason":
        finish[where] = f"error {text}"
    odd = {
        "error event": _event(_error(text)),
        "odd line": _line(text) + b"\n\n",
        "not JSON": b"data: {" + _line(text) + b"\n\n",
    }.get(where, b"")
    numbers: dict[str, Any] = {}
    if where == "numbers":
        numbers = {"timings": {text: text}, "service_tier": text, "usage": {"cost": text}}
    first = {"index": 0, "delta": {"content": "hi"}}
    last = {"index": 0, "delta": {}, **finish}
    return b"".join(
        [
            _event({**names, "choices": [first]}),
            odd,
            _event({**names, "choices": [last], **numbers}),
            b"data: [DONE]\n\n",
        ]
    )


async def _answer(where: str, text: str, request: Request, wire: Wire) -> None:
    if request.method != "POST":
        status = 200 if where == "models" else 503
        listed = {"data": [{"id": text, "owned_by": text, "digest": text}], "version": text}
        body = {**listed, "message": text, "build_info": text, "error": None if status else text}
        await wire.answer(status, json.dumps(body).encode())
    elif where == "refusal":
        body = json.dumps(_error(text)).encode()
        await wire.answer(400, body, f"x-request-id: {_header(text)}")
    elif where == "page":
        await wire.answer(500, f"<html><title>{text}</title>{text}</html>".encode())
    elif where == "redirect":
        await wire.answer(302, b"", f"Location: http://x/{_header(text)}")
    else:
        await wire.answer(200, _stream(where, text), kind="text/event-stream")


PLACES = ["refusal", "page", "redirect", "error event", "odd line", "not JSON", "names",
          "finish_reason", "native_finish_reason", "numbers", "models", "health"]  # fmt: skip


async def _shown(recording: Path, caplog: pytest.LogCaptureFixture, **options: Any) -> list[str]:
    """Return everything that the adapter shows of a job and of probes."""
    caplog.clear()
    shown: list[str] = []
    adapter = registry.get("openai-http", **options, record=str(recording))
    try:
        shown += [repr(adapter), repr(await adapter.health()), repr(await adapter.props())]
        task = TaskRequest(messages=[{"role": "user", "content": "hi"}], max_attempts=1)
        try:
            async for event in adapter.submit(task):
                shown.append(repr(event))
        except WorkerError as error:
            shown += [*traceback.format_exception(error), repr(vars(error))]
        shown.append(await adapter.engine_version())
    finally:
        await adapter.aclose()
    shown += [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]
    return shown


async def _check(
    where: str, spellings: Iterable[str], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    text = ""

    async def script(request: Request, wire: Wire) -> None:
        await _answer(where, text, request, wire)

    async with ScriptServer(script) as server:
        for name in spellings:
            text = SPELLINGS[name]
            recording = folder / f"{name}.jsonl"
            shown = await _shown(recording, caplog, base_url=f"{server.base_url}/v1", api_key=KEY)
            shown.append(recording.read_text("utf-8"))
            leaks = [leak for leak in map(_leak, shown) if leak]
            assert not leaks, (name, leaks[0])


@pytest.mark.parametrize(("number", "where"), [*enumerate(PLACES)])
async def test_the_key_is_shown_nowhere(
    number: int, where: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Errors with their causes, events, health, props, versions, logs and recordings; in each
    place every fifth spelling."""
    await _check(where, [*SPELLINGS][number % 5 :: 5], tmp_path, caplog)


@pytest.mark.exhaustive
@pytest.mark.parametrize("where", PLACES)
async def test_no_spelling_of_the_key_is_shown_anywhere(
    where: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every spelling in every place."""
    await _check(where, SPELLINGS, tmp_path, caplog)
