"""Whole answers in unusual forms of HTTP, or as one JSON document."""

from adapter_api.faults.scenario import collect, scenario, whole
from adapter_api.faults.wire import DONE, PIECES, TEXT, USAGE, Wire, to_json

# Whole JSON


@scenario("ignores `stream` and sends one JSON document", whole())
async def plain_json(wire: Wire) -> None:
    await wire.answer_json(200, _document(wire))


@scenario("sends one JSON document, byte by byte, after blank lines", whole(within_s=0.5))
async def plain_json_late(wire: Wire) -> None:
    await wire.head(framing="close", kind="application/json")
    await wire.drip(b"\n\n \n" + to_json(_document(wire)))


@scenario("sends one JSON document behind a byte order mark", whole())
async def plain_json_bom(wire: Wire) -> None:
    await wire.answer(200, b"\xef\xbb\xbf" + to_json(_document(wire)))


@scenario("sends its chunks as lines of JSON, without `data:`", whole())
async def json_lines(wire: Wire) -> None:
    chunks = [*map(wire.payload, PIECES), wire.payload("", finish_reason="stop", usage=USAGE)]
    await wire.answer(200, b"".join(to_json(chunk) + b"\n" for chunk in chunks))


@scenario("sends events named `heartbeat` and `keep-alive` with data that is not JSON", whole())
async def heartbeats(wire: Wire) -> None:
    await wire.head()
    for piece, name in zip(PIECES, ("heartbeat", "keep-alive", "keepalive"), strict=True):
        await wire.chunk(f"event: {name}\ndata: alive\n\n".encode())
        await wire.text(piece)
    await wire.rest()


@scenario("forgets the blank lines between its events", whole())
async def single_newlines(wire: Wire) -> None:
    await wire.head()
    await wire.chunk(wire.stream().replace(b"\n\n", b"\n"))
    await wire.end()


def _document(wire: Wire) -> dict[str, object]:
    said = (
        {"message": {"role": "assistant", "content": TEXT}} if wire.request.chat else {"text": TEXT}
    )
    return wire.payload(choices=[{"index": 0, **said, "finish_reason": "stop"}], usage=USAGE)


# HTTP


@scenario("sends 100 and 103 before the answer", whole())
async def interim_answers(wire: Wire) -> None:
    await wire.raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
    await wire.begin(*PIECES)
    await wire.rest()


@scenario("offers an upgrade to h2c", whole())
async def upgrade_offer(wire: Wire) -> None:
    await wire.head("Connection: Upgrade", "Upgrade: h2c")
    await wire.text(*PIECES)
    await wire.rest()


@scenario("sends chunk extensions and trailers", whole())
async def chunk_extensions(wire: Wire) -> None:
    await wire.head()
    body = wire.stream()
    await wire.raw(
        b'%x;name=value;other="x"\r\n%s\r\n0;last\r\nX-Trailer: x\r\n\r\n' % (len(body), body)
    )
    wire.keep_alive = True


@scenario("sends no reason phrase, and header names in odd cases", whole())
async def bare_head(wire: Wire) -> None:
    await wire.raw(b"HTTP/1.1 200\r\ncontent-TYPE:text/event-stream\r\nCONNECTION: CLOSE\r\n\r\n")
    await wire.chunk(wire.stream())


@scenario("breaks the connection right after `[DONE]`", whole())
async def rst_after_done(wire: Wire) -> None:
    await wire.begin(*PIECES)
    await wire.finish()
    await wire.usage()
    await wire.chunk(DONE)
    await wire.reset()


SCENARIOS = collect(vars())
