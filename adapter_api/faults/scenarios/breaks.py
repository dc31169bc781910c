"""Answers that end before they are whole, abruptly or in order."""

from collections.abc import Iterable
from functools import partial

from adapter_api.faults.scenario import (
    Scenario,
    Script,
    collect,
    fails,
    scenario,
    whole,
)
from adapter_api.faults.wire import PIECES, TEXT, Wire, to_event, to_json

SAID = "".join(PIECES[:2])


async def _nothing(wire: Wire) -> None:
    pass


async def _half_a_head(wire: Wire) -> None:
    await wire.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/ev")


async def _head(wire: Wire) -> None:
    await wire.head()


async def _half_an_event(wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.chunk(to_event(wire.payload(PIECES[2]))[:40])


async def _half_a_character(wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    event = to_event(wire.payload(PIECES[2]))
    await wire.chunk(event[: event.index("🙂".encode()) + 2])


async def _half_a_chunk_header(wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.raw(b"1f")


async def _half_a_chunk(wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.raw(b"ff\r\ndata: ")


async def _tokens(wire: Wire) -> None:
    await wire.begin(*PIECES[:2])


async def _finishes(wire: Wire) -> None:
    await wire.head()
    for piece in PIECES[:2]:
        await wire.event(wire.payload(piece, finish_reason="stop"))


async def _finish(wire: Wire) -> None:
    await wire.begin(*PIECES)
    await wire.finish()


_RESET = fails("WORKER_RESET")
_CUT = fails("STREAM_TRUNCATED")
_CUT_AFTER_TEXT = fails("STREAM_TRUNCATED", text=SAID)

_PLACES = (
    ("before-head", "before its answer", _nothing, _RESET),
    ("in-head", "in the middle of a header", _half_a_head, _RESET),
    ("after-head", "after the headers", _head, _CUT),
    ("mid-event", "in the middle of an event", _half_an_event, _CUT_AFTER_TEXT),
    ("mid-character", "in the middle of a character", _half_a_character, _CUT_AFTER_TEXT),
    ("mid-chunk-header", "in the middle of a chunk's size", _half_a_chunk_header, _CUT_AFTER_TEXT),
    ("mid-chunk", "in the middle of a chunk", _half_a_chunk, _CUT_AFTER_TEXT),
    ("after-tokens", "after some tokens", _tokens, _CUT_AFTER_TEXT),
    ("after-finishes", "after tokens with a finish_reason each", _finishes, _CUT_AFTER_TEXT),
    ("after-finish", "after the finish_reason", _finish, whole(counted=True)),
)


async def _then_reset(script: Script, wire: Wire) -> None:
    await script(wire)
    await wire.reset()


def _breaks() -> Iterable[Scenario]:
    """Yield a FIN and an RST at every place."""
    for place, where, script, expect in _PLACES:
        broken = partial(_then_reset, script)
        yield Scenario(f"fin-{place}", f"closes the connection {where}", script, expect)
        yield Scenario(f"rst-{place}", f"resets the connection {where}", broken, expect)


@scenario("ends the body in order after some tokens", _CUT_AFTER_TEXT)
async def polite_end(wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.end()


@scenario("sends less than the Content-Length it announced", _CUT_AFTER_TEXT)
async def length_too_long(wire: Wire) -> None:
    body = b"".join(to_event(wire.payload(piece)) for piece in PIECES[:2])
    await wire.head(framing=len(body) + 100)
    await wire.chunk(body)


@scenario("announces a Content-Length that ends inside its answer", _CUT_AFTER_TEXT)
async def length_too_short(wire: Wire) -> None:
    body = wire.stream()
    shown = sum(len(to_event(wire.payload(piece))) for piece in PIECES[:2])
    await wire.head(framing=shown + 20)
    await wire.chunk(body)


@scenario("sends less than the Content-Length, but all of the answer", whole())
async def length_too_long_but_whole(wire: Wire) -> None:
    body = wire.stream()
    await wire.head(framing=len(body) + 100)
    await wire.chunk(body)


@scenario(
    "forgets the blank line after the event with the finish_reason",
    fails("STREAM_TRUNCATED", text=TEXT),
)
async def unterminated_event(wire: Wire) -> None:
    await wire.begin(*PIECES)
    await wire.chunk(to_event(wire.payload(finish_reason="stop"))[:-1])
    await wire.end()


@scenario("sends `[DONE]` and nothing else", _CUT)
async def done_without_choice(wire: Wire) -> None:
    await wire.head()
    await wire.done()


@scenario("sends an event without choices, usage and `[DONE]`", _CUT)
async def usage_without_choice(wire: Wire) -> None:
    await wire.head()
    await wire.event({"id": "", "choices": []})
    await wire.usage()
    await wire.done()


@scenario(
    "is llama-cpp-python, interrupted by another request: `[DONE]` without finish_reason",
    _CUT_AFTER_TEXT,
)
async def llama_cpp_python_interrupted(wire: Wire) -> None:
    await wire.head()
    for piece in PIECES[:2]:
        name = "cmpl-6d2b7e0a-8c1f-4f3e-9a51-0c9f6d7b2e44"
        await wire.event(wire.payload(piece, id=name))
    await wire.done()


@scenario("is Ollama, and swallows an error: one empty event, then `[DONE]`", _CUT)
async def ollama_swallowed_error(wire: Wire) -> None:
    await wire.head()
    await wire.event(wire.payload("", system_fingerprint="fp_ollama"))
    await wire.done()


@scenario("answers 200 with a Content-Length of 0", _CUT)
async def empty_200(wire: Wire) -> None:
    await wire.answer(200, b"", kind="text/event-stream")


@scenario("answers 200 with a chunked body of no chunks", _CUT)
async def empty_200_chunked(wire: Wire) -> None:
    await wire.head()
    await wire.end()


@scenario("answers 200 and closes", _CUT)
async def empty_200_until_close(wire: Wire) -> None:
    await wire.head(framing="close")


@scenario("answers 200 with comments and blank lines only", _CUT)
async def comments_only(wire: Wire) -> None:
    await wire.head()
    await wire.chunk(b": hello\n\n\n\n \n: bye\n\n")
    await wire.end()


@scenario("answers 200 with plain text", fails("WORKER_RESET"))
async def text_200(wire: Wire) -> None:
    await wire.answer(200, b"Internal Server Error\n", kind="text/plain")


@scenario("announces a whole JSON document and breaks off inside it", _CUT)
async def plain_json_cut(wire: Wire) -> None:
    body = to_json(_document(wire))
    await wire.head(framing=len(body), kind="application/json")
    await wire.chunk(body[:-20])


@scenario("ends a JSON document in order, in the middle", _CUT)
async def plain_json_cut_politely(wire: Wire) -> None:
    await wire.answer(200, to_json(_document(wire))[:-20])


@scenario("sends a JSON document without a finish_reason", fails("STREAM_TRUNCATED", text=TEXT))
async def plain_json_unfinished(wire: Wire) -> None:
    await wire.answer_json(200, _document(wire) | {"choices": [{"text": TEXT}]})


def _document(wire: Wire) -> dict[str, object]:
    return wire.payload(choices=[{"index": 0, "text": TEXT, "finish_reason": "stop"}])


SCENARIOS = [*_breaks(), *collect(vars())]
