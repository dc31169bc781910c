"""Whole answers in unusual forms."""

from adapter_api.faults.scenario import LIMIT_S, collect, fails, scenario, whole
from adapter_api.faults.wire import PIECES, TEXT, USAGE, Wire, to_event, to_json

# How servers end


@scenario("gives an ordinary answer: text, finish_reason, usage, `[DONE]`", whole())
async def ordinary(wire: Wire) -> None:
    await wire.begin(*PIECES)
    await wire.rest()


@scenario("ends without `[DONE]`, after the finish_reason (transformers)", whole(counted=True))
async def no_done(wire: Wire) -> None:
    await wire.begin(*PIECES)
    await wire.finish()
    await wire.end()


@scenario("sends `[DONE]` but no finish_reason", whole(proof="done", counted=True))
async def done_alone(wire: Wire) -> None:
    await wire.begin(*PIECES)
    await wire.done()


@scenario("closes the connection at the end of an HTTP/1.0 answer", whole())
async def http_1_0(wire: Wire) -> None:
    await wire.raw(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    await wire.chunk(wire.stream())


@scenario("sends the whole answer with a Content-Length", whole())
async def content_length(wire: Wire) -> None:
    await wire.answer(200, wire.stream(), kind="text/event-stream")


@scenario("finishes with reason `length` and no text at all", whole("", counted=False))
async def no_text(wire: Wire) -> None:
    await wire.head()
    await wire.finish("length")
    await wire.usage()
    await wire.done()


@scenario("puts the last text into the event with the finish_reason (vLLM)", whole())
async def finish_with_text(wire: Wire) -> None:
    await wire.begin(*PIECES[:-1])
    payload = wire.payload(PIECES[-1], finish_reason="stop")
    await wire.event(payload)
    await wire.usage()
    await wire.done()


# Usage


@scenario("puts the usage into the event with the finish_reason (llama-server)", whole())
async def usage_in_finish(wire: Wire) -> None:
    await wire.begin(*PIECES)
    await wire.finish(usage=USAGE)
    await wire.done()


@scenario("sends the usage a while after the finish_reason", whole(within_s=0.4))
async def usage_late(wire: Wire) -> None:
    await wire.begin(*PIECES)
    await wire.finish()
    await wire.sleep(0.3)
    await wire.usage()
    await wire.done()


@scenario("sends no usage", whole(counted=True))
async def usage_missing(wire: Wire) -> None:
    await wire.begin(*PIECES)
    await wire.finish()
    await wire.done()


@scenario("sends a usage that is all zeros", whole(counted=True))
async def usage_zero(wire: Wire) -> None:
    await wire.begin(*PIECES)
    await wire.finish()
    await wire.usage({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})
    await wire.done()


@scenario("sends zeros as usage in every event, the real one at the end (Ollama)", whole())
async def usage_zero_first(wire: Wire) -> None:
    zeros = dict.fromkeys(USAGE, 0)
    await wire.head()
    for piece in PIECES:
        await wire.event(wire.payload(piece, usage=zeros))
    await wire.finish(usage=zeros)
    await wire.usage()
    await wire.done()


# What an event may look like


@scenario("sends nulls, and leaves out everything that may be left out", whole())
async def nulls(wire: Wire) -> None:
    await wire.head()
    payloads: list[object] = [
        None,
        {},
        {"choices": None},
        {"choices": []},
        {"choices": [{}]},
        wire.with_choice(text=None, delta=None, finish_reason=None),
        wire.with_choice(text=None, delta={"content": None, "role": "assistant"}),
        wire.payload(usage=None, error=None, system_fingerprint=None),
    ]
    for payload in payloads:
        await wire.event(payload)
    await wire.text(*PIECES)
    await wire.rest()


@scenario(
    "begins with an event without choices, id and model, and sends events without text (Azure)",
    whole(),
)
async def azure(wire: Wire) -> None:
    filters = {"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]}
    await wire.head()
    await wire.event({"choices": [], "created": 0, "id": "", "model": "", "object": "", **filters})
    await wire.text(*PIECES)
    offsets = {"check_offset": 0, "start_offset": 0, "end_offset": 9}
    await wire.event(
        {"choices": [{"index": 0, "finish_reason": None, "content_filter_offsets": offsets}]}
    )
    await wire.rest()


@scenario("sends comments, ids, retry times, pings and empty events in between", whole())
async def other_fields(wire: Wire) -> None:
    await wire.head()
    for piece in PIECES:
        for noise in (b": ping\n\n", b"id: 7\n\n", b"retry: 100\n\n", b"data:\n\n", b"data\n\n"):
            await wire.chunk(noise)
        await wire.chunk(b"event: ping\ndata: {}\n\nevent: ping\ndata: now\n\n")
        await wire.chunk(b"id: 8\nretry: x\nunknown: field\n" + to_event(wire.payload(piece)))
    await wire.rest()


@scenario("ends lines with CR LF", whole())
async def crlf(wire: Wire) -> None:
    await wire.head()
    await wire.chunk(wire.stream(newline="\r\n"))
    await wire.end()


@scenario("ends lines with CR LF and sends every byte in a chunk of its own", whole(within_s=0.5))
async def crlf_byte_by_byte(wire: Wire) -> None:
    await wire.head()
    for byte in wire.stream(newline="\r\n"):
        await wire.chunk(bytes([byte]))
    await wire.end()


@scenario("ends lines with CR", whole())
async def cr(wire: Wire) -> None:
    await wire.head()
    await wire.chunk(wire.stream(newline="\r"))
    await wire.end()


@scenario("begins with a byte order mark", whole())
async def bom(wire: Wire) -> None:
    await wire.head()
    await wire.chunk(b"\xef")
    await wire.chunk(b"\xbb")
    await wire.chunk(b"\xbf" + wire.stream())
    await wire.end()


@scenario("writes `data:` without the space", whole())
async def no_space(wire: Wire) -> None:
    await wire.head()
    await wire.chunk(wire.stream(space=""))
    await wire.end()


@scenario("spreads the JSON of an event over several data lines", whole())
async def data_lines(wire: Wire) -> None:
    await wire.head()
    for piece in PIECES:
        lines = to_json(wire.payload(piece)).replace(b",", b",\n").split(b"\n")
        await wire.chunk(b"".join(b"data: %s\n" % line for line in lines) + b"\n")
    await wire.rest()


@scenario("has U+2028, U+2029 and U+0085 in its text", whole("a\u2028b\u2029c\u0085d"))
async def unicode_line_ends(wire: Wire) -> None:
    await wire.begin("a\u2028b", "\u2029c", "\u0085d")
    await wire.rest()


@scenario("sends every byte in a write of its own", whole(within_s=0.5))
async def byte_by_byte(wire: Wire) -> None:
    await wire.head(framing="close")
    await wire.drip(wire.stream())


@scenario("cuts its chunks in the middle of characters", whole())
async def split_characters(wire: Wire) -> None:
    await wire.head()
    body = wire.stream()
    at = body.index("🙂".encode()) + 2
    await wire.chunk(body[:at])
    await wire.sleep(0.02)
    await wire.chunk(body[at:])
    await wire.end()


@scenario("sends half a character in one event and the rest in the next", whole("a\ufffd\ufffdb"))
async def half_characters(wire: Wire) -> None:
    await wire.head()
    for piece in (b"a\xc3", b"\xb6b"):
        await wire.chunk(to_event(wire.payload("@")).replace(b"@", piece))
    await wire.rest()


@scenario("writes all text as `\\u` escapes", whole())
async def escapes(wire: Wire) -> None:
    await wire.head()
    for piece in PIECES:
        escaped = "".join(
            f"\\u{unit:04x}"
            for unit in memoryview(piece.encode("utf-16-le")).cast("H")  # as JSON counts
        )
        await wire.chunk(to_event(wire.payload("@")).replace(b"@", escaped.encode()))
    await wire.rest()


@scenario("escapes half of a surrogate pair", whole("a\ufffdb"))
async def lone_surrogate(wire: Wire) -> None:
    await wire.head()
    await wire.chunk(to_event(wire.payload("@")).replace(b"@", rb"a\ud83db"))
    await wire.rest()


@scenario("has NaN and infinities among its log probabilities", whole())
async def not_a_number(wire: Wire) -> None:
    await wire.head()
    for piece, number in zip(PIECES, (b"NaN", b"-Infinity", b"1" + b"0" * 400), strict=True):
        payload = wire.payload(piece)
        payload["choices"][0]["logprobs"] = {"token_logprobs": ["@"]}
        await wire.chunk(to_event(payload).replace(b'"@"', number))
    await wire.rest()


@scenario("writes keys twice; the last one counts", whole("last"))
async def duplicate_keys(wire: Wire) -> None:
    await wire.head()
    await wire.event(wire.payload())
    key = b'"content":' if wire.request.chat else b'"text":'
    await wire.chunk(to_event(wire.payload("last")).replace(key, key + b'"first",' + key))
    await wire.rest()


@scenario("sends a finish_reason with each piece of text", whole())
async def finish_with_each(wire: Wire) -> None:
    await wire.head()
    for piece in PIECES:
        await wire.event(wire.payload(piece, finish_reason="stop"))
    await wire.usage()
    await wire.done()


@scenario(
    "sends more text after the finish_reason, then usage and `[DONE]`",
    fails("STREAM_TRUNCATED", text=TEXT),
)
async def text_after_finish(wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.finish()
    await wire.text(PIECES[2])
    await wire.usage()
    await wire.done()


@scenario(
    "sends reasoning for longer than the limits allow silence, then text", whole(within_s=0.9)
)
async def reasoning(wire: Wire) -> None:
    await wire.head()
    for _ in range(4):
        await wire.event(wire.with_choice(text="", delta={"reasoning_content": "hm"}))
        await wire.sleep(LIMIT_S / 2)
    await wire.text(*PIECES)
    await wire.rest()


SCENARIOS = collect(vars())
