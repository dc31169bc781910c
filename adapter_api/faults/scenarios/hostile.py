"""Nonsense and malice: floods, bombs, bytes that are not HTTP, JSON that is not an answer."""

import gzip
import json
from collections.abc import Iterable
from functools import partial
from typing import Any

from adapter_api.faults.scenario import (
    LIMIT_S,
    Scenario,
    collect,
    fails,
    scenario,
    whole,
)
from adapter_api.faults.wire import PIECES, Wire, to_event

SAID = "".join(PIECES[:2])
BLOCK_BYTES = 32 << 10


# Floods. A client stops them at a bound of its own, or at its limit on silence.


async def _flood(before: bytes, again: bytes, wire: Wire) -> None:
    block = again * (BLOCK_BYTES // len(again))
    await wire.raw(before)
    while True:
        await wire.raw(block)


async def _flood_body(before: bytes, again: bytes, wire: Wire) -> None:
    block = again * (BLOCK_BYTES // len(again))
    await wire.begin(*PIECES[:2])
    await wire.chunk(before or again)
    while True:
        await wire.chunk(block)


_HEAD = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

_HTTP_FLOODS = (
    ("endless-status-line", "a status line", b"HTTP/1.1 200 O", b"K"),
    ("endless-header", "a header", _HEAD + b"X-Long: ", b"x"),
    ("endless-header-name", "a header's name", _HEAD, b"x"),
    ("endless-headers", "headers", _HEAD, b"X-Again: x\r\n"),
    ("endless-interim", "answers with status 100", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ("endless-chunk-size", "the size of a chunk", _CHUNKED, b"0"),
    ("endless-chunk-extension", "a chunk extension", _CHUNKED + b"5;x=", b"x"),
    ("endless-trailers", "trailers", _CHUNKED + b"0\r\n", b"X-Again: x\r\n"),
)
FLOOD_S = 2 * LIMIT_S
"""How soon a flood must end: client and server do nothing but work, in real time."""

_BODY_FLOODS = (
    ("endless-line", "a line", b"data: ", b"x"),
    ("endless-comment", "a comment", b":", b"x"),
    ("endless-event", "the data lines of one event", b"", b"data: %s\n" % (b"x" * 1000)),
    ("endless-event-name", "an event's name", b"event: ", b"x"),
)
_NOISE_FLOODS = (
    ("endless-blank-lines", "blank lines", b"\n"),
    ("endless-comments", "comments", b": ping\n\n"),
    ("endless-empty-events", "empty events", b"data: {}\n\n"),
    ("endless-ids", "ids", b"id: 1\n"),
    ("endless-event-empty-lines", "empty data lines of one event", b"data\n"),
)


def _floods() -> Iterable[Scenario]:
    expect = fails("UPSTREAM_PROTOCOL", within_s=FLOOD_S, closes=True)
    for name, what, before, again in _HTTP_FLOODS:
        yield Scenario(name, f"sends {what} without end", partial(_flood, before, again), expect)
    expect = fails("UPSTREAM_PROTOCOL", text=SAID, within_s=FLOOD_S, closes=True)
    for name, what, before, again in _BODY_FLOODS:
        script = partial(_flood_body, before, again)
        yield Scenario(name, f"sends {what} without end", script, expect)
    expect = fails(
        "UPSTREAM_PROTOCOL",
        "DECODE_TIMEOUT",
        text=SAID,
        within_s=FLOOD_S,
        closes=True,
    )
    for name, what, again in _NOISE_FLOODS:
        script = partial(_flood_body, b"", again)
        yield Scenario(name, f"sends {what} without end", script, expect)
    yield Scenario(
        "endless-json",
        "sends an endless JSON document",
        partial(_flood, _HEAD + b'\r\n{"choices": [{"text": "', b"x"),
        fails("UPSTREAM_PROTOCOL", "DECODE_TIMEOUT", within_s=FLOOD_S, closes=True),
    )
    yield Scenario(
        "endless-html",
        "sends an endless page of HTML",
        partial(_flood, _HEAD + b"\r\n<html>", b"<p>Hello"),
        fails("UPSTREAM_PROTOCOL", "DECODE_TIMEOUT", within_s=FLOOD_S, closes=True),
    )


# Compression that the client did not ask for

_BOMB = gzip.compress(b"x" * (1 << 20)) * 64


@scenario("compresses its answer although it must not", fails("UPSTREAM_PROTOCOL"))
async def gzip_answer(wire: Wire) -> None:
    body = gzip.compress(wire.stream())
    await wire.answer(200, body, "Content-Encoding: gzip", kind="text/event-stream")


@scenario("sends 64 MiB in 64 KiB of gzip", fails("UPSTREAM_PROTOCOL"))
async def gzip_bomb(wire: Wire) -> None:
    await wire.answer(200, _BOMB, "Content-Encoding: gzip", kind="text/event-stream")


@scenario("refuses with 64 MiB in 64 KiB of gzip", fails("INVALID_PARAMS"))
async def gzip_bomb_refusal(wire: Wire) -> None:
    await wire.answer(400, _BOMB, "Content-Encoding: gzip")


# Not HTTP

_GARBAGE = (
    ("http-0-9", "text without a head (HTTP/0.9)", b"hello, this is a server\n"),
    ("http-2", "an HTTP/2 settings frame",
     b"\0\0\x12\4\0\0\0\0\0\0\3\0\0\0\x64\0\4\0\1\0\0\0\2\0\0\0\0"),
    ("tls-alert", "a TLS alert", b"\x15\3\1\0\2\2\x46"),
    ("ssh", "an SSH banner", b"SSH-2.0-OpenSSH_9.9\r\n"),
    ("status-text", "a status that is not a number", b"HTTP/1.1 abc OK\r\n\r\n"),
    ("no-colon", "a header without a colon", _HEAD + b"Content-Type\r\n\r\n"),
    ("null-in-header", "a header with a null byte", _HEAD + b"X: a\0b\r\n\r\n"),
    ("two-lengths", "two lengths that differ",
     _HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n"),
    ("length-and-chunked", "a length for a chunked body",
     _HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("negative-length", "a negative length", _HEAD + b"Content-Length: -3\r\n\r\n"),
    ("length-text", "a length that is not a number", _HEAD + b"Content-Length: many\r\n\r\n"),
    ("huge-length", "a length of 40 digits", _HEAD + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n"),
    ("negative-chunk", "a chunk of negative size", _CHUNKED + b"-3\r\nabc\r\n"),
    ("chunk-text", "a chunk size that is not a number", _CHUNKED + b"data: x\r\n"),
    ("huge-chunk", "a chunk size of 20 digits", _CHUNKED + b"f" * 20 + b"\r\nabc\r\n"),
    ("long-chunk", "a chunk longer than its size", _CHUNKED + b"3\r\nabcdefgh\r\n"),
    ("switching", "101 Switching Protocols",
     b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"),
)  # fmt: skip


async def _garbage(data: bytes, wire: Wire) -> None:
    await wire.raw(data)
    await wire.wait_closed()


def _not_http() -> Iterable[Scenario]:
    expect = fails("UPSTREAM_PROTOCOL", closes=True)
    for name, what, data in _GARBAGE:
        yield Scenario(name, f"sends {what}", partial(_garbage, data), expect)


# Not an answer. Wrong types in every field.

_BIG = 10**400

_WRONG_EVENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("choices-text", {"choices": "x"}),
    ("choices-object", {"choices": {"index": 0, "text": "x"}}),
    ("choices-number", {"choices": 1}),
    ("choice-null", {"choices": [None]}),
    ("choice-text", {"choices": ["x"]}),
    ("choice-list", {"choices": [[]]}),
    ("two-choices", {"choices": [{"index": 0, "text": "x"}, {"index": 1, "text": "y"}]}),
    ("same-choice-twice", {"choices": [{"index": 0, "text": "x"}, {"index": 0, "text": "y"}]}),
)
_WRONG_CHOICES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("index-negative", {"index": -1}),
    ("index-other", {"index": 1}),
    ("index-text", {"index": "0"}),
    ("index-list", {"index": [0]}),
    ("index-huge", {"index": _BIG}),
    ("text-number", {"text": 1, "delta": {"content": 1}}),
    ("text-list", {"text": ["x"], "delta": {"content": [{"type": "text", "text": "x"}]}}),
    ("text-object", {"text": {"x": 1}, "delta": {"content": {"x": 1}}}),
    ("delta-text", {"text": None, "delta": "x"}),
    ("delta-list", {"text": None, "delta": ["x"]}),
    ("message-text", {"text": None, "delta": None, "message": "x"}),
    ("finish-number", {"finish_reason": 1}),
    ("finish-list", {"finish_reason": ["stop"]}),
    ("finish-false", {"finish_reason": False}),
)
_HARMLESS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("id-number", {"id": 1}),
    ("id-list", {"id": ["x"]}),
    ("model-object", {"model": {"name": "x"}}),
    ("fingerprint-number", {"system_fingerprint": 1.5}),
    ("created-text", {"created": "today"}),
    ("object-number", {"object": 7}),
    ("usage-text", {"usage": "much"}),
    ("usage-list", {"usage": [5, 7]}),
    ("usage-negative", {"usage": {"prompt_tokens": -5, "completion_tokens": -7}}),
    ("usage-float", {"usage": {"prompt_tokens": 5.5, "completion_tokens": 7.5}}),
    ("usage-huge", {"usage": {"prompt_tokens": 5, "completion_tokens": _BIG}}),
    ("usage-nested", {"usage": {"prompt_tokens": {"x": 1}, "completion_tokens": [7]}}),
)
_HARMLESS_CHOICES: tuple[tuple[str, Any], ...] = (
    ("text", "x"),
    ("list", [1]),
    ("values-text", {"token_logprobs": "x"}),
    ("values-mixed", {"token_logprobs": [["x"]]}),
    ("content-odd", {"content": [None, 1, {"logprob": "x"}]}),
    ("content-bare", {"content": [{}]}),
    ("huge", {"token_logprobs": [-_BIG]}),
)


async def _wrong_event(keys: dict[str, Any], wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.event(wire.payload("x", **keys))
    await wire.rest()


async def _wrong_choice(keys: dict[str, Any], wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.event(wire.with_choice(**keys))
    await wire.rest()


async def _odd_events(keys: dict[str, Any], wire: Wire) -> None:
    await wire.head()
    for piece in PIECES:
        await wire.event(wire.payload(piece, **keys))
    await wire.finish(**keys)
    await wire.done()


async def _odd_logprobs(logprobs: Any, wire: Wire) -> None:
    await wire.head()
    for piece in PIECES:
        payload = wire.payload(piece)
        payload["choices"][0]["logprobs"] = logprobs
        await wire.event(payload)
    await wire.rest()


def _show(keys: dict[str, Any]) -> str:
    shown = json.dumps(keys)
    return f"`{shown}`" if len(shown) < 100 else f"a number of 401 digits in `{next(iter(keys))}`"


def _wrong() -> Iterable[Scenario]:
    expect = fails("UPSTREAM_PROTOCOL", text=SAID)
    for name, keys in _WRONG_EVENTS:
        script = partial(_wrong_event, keys)
        yield Scenario(f"wrong-{name}", f"sends an event with {_show(keys)}", script, expect)
    for name, keys in _WRONG_CHOICES:
        script = partial(_wrong_choice, keys)
        yield Scenario(f"wrong-{name}", f"sends a choice with {_show(keys)}", script, expect)
    for name, keys in _HARMLESS:
        script = partial(_odd_events, keys)
        summary = f"sends {_show(keys)} in every event"
        yield Scenario(f"odd-{name}", summary, script, whole(counted=True))
    for name, value in _HARMLESS_CHOICES:
        script = partial(_odd_logprobs, value)
        summary = f"sends {_show({'logprobs': value})} in every choice"
        yield Scenario(f"odd-logprobs-{name}", summary, script, whole())


async def _deep(data: bytes, wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.chunk(b"data: " + data + b"\n\n")
    await wire.rest()


def _strange_json() -> Iterable[Scenario]:
    expect = fails("UPSTREAM_PROTOCOL", "WORKER_RESET", text=SAID)
    for name, what, data in (
        ("deep-list", "a list 100,000 lists deep", b"[" * 100_000 + b"]" * 100_000),
        (
            "deep-object",
            "an object 100,000 objects deep",
            b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        ),
        ("long-number", "a number of 100,000 digits", b"9" * 100_000),
        ("bare-number", "a bare number", b"1"),
        ("bare-true", "a bare `true`", b"true"),
        ("not-utf-8", "JSON that is not UTF-8", b'\xff\xfe{\x00"\x00'),
    ):
        yield Scenario(name, f"sends {what} as an event", partial(_deep, data), expect)


@scenario("has bytes that are not UTF-8 in its text", whole("a\ufffdb\ufffdc"))
async def invalid_utf_8(wire: Wire) -> None:
    await wire.head()
    for piece in (b"a\xffb", b"\xc0c"):
        await wire.chunk(to_event(wire.payload("@")).replace(b"@", piece))
    await wire.rest()


@scenario("has control characters and null in its text", whole("a\0b\x1bc\x7fd"))
async def control_characters(wire: Wire) -> None:
    await wire.begin("a\0b", "\x1bc\x7fd")
    await wire.rest()


@scenario("sends a token of 500,000 characters", whole("x" * 500_000))
async def long_token(wire: Wire) -> None:
    await wire.begin("x" * 500_000)
    await wire.rest()


# A server that repeats the client's key wherever text may occur


@scenario("repeats the key in the reason phrase, in headers and in the names it reports", whole())
async def key_in_names(wire: Wire) -> None:
    key = wire.request.credential or "none"
    headers = (f"X-Request-Id: {key}", f"OpenAI-Version: {key}", f"Set-Cookie: key={key}")
    await wire.head(*headers, f"X-LiteLLM-Version: {key}", reason=key)
    for piece in PIECES:
        await wire.event(wire.payload(piece, id=key, model=key, system_fingerprint=key))
    await wire.rest()


def _keys() -> Iterable[Scenario]:
    async def encoding(wire: Wire) -> None:
        await wire.answer(200, b"x", f"Content-Encoding: {wire.request.credential or 'x'}")

    async def index(wire: Wire) -> None:
        await wire.head()
        await wire.event(wire.with_choice(index=f"{wire.request.credential or 'x'}"))
        await wire.rest()

    async def location(wire: Wire) -> None:
        await wire.answer(302, b"", f"Location: http://[{wire.request.credential}")

    async def cut_event(wire: Wire) -> None:
        await wire.head()
        await wire.chunk(f"data: {'x' * 108}{wire.request.credential}\n\n".encode())
        await wire.rest()

    async def cut_refusal(wire: Wire) -> None:
        await wire.answer(400, f"{'x' * 488}{wire.request.credential} {'y' * 99}".encode())

    async def page(wire: Wire) -> None:
        body = f"<html><title>{wire.request.credential}</title>{'x' * 470}{wire.request.credential}"
        await wire.answer(200, body.encode())

    for name, where, script, code in (
        ("encoding", "as the Content-Encoding", encoding, "UPSTREAM_PROTOCOL"),
        ("index", "as the index of a choice", index, "UPSTREAM_PROTOCOL"),
        ("location", "in a Location that is not a URL", location, "UPSTREAM_PROTOCOL"),
        ("event", "far into an event that is not JSON", cut_event, "UPSTREAM_PROTOCOL"),
        ("refusal", "far into a refusal", cut_refusal, "INVALID_PARAMS"),
        ("page", "far into a page of HTML", page, "UPSTREAM_PROTOCOL"),
    ):
        yield Scenario(f"key-in-{name}", f"repeats the key {where}", script, fails(code))


SCENARIOS = [*_floods(), *_not_http(), *_wrong(), *_strange_json(), *collect(vars()), *_keys()]
