"""Connections that are kept, dropped, reused and misused."""

from adapter_api.faults.scenario import collect, fails, scenario, whole
from adapter_api.faults.wire import PIECES, Wire

LONG_PROMPT = {"prompt": "x" * (12 << 20)}
"""More than both kernels' buffers hold: a client cannot have sent it before the server reads."""


@scenario("keeps the connection for the next job", whole(requests=2), jobs=2)
async def kept(wire: Wire) -> None:
    await wire.whole_answer()


@scenario(
    "closes the kept connection when the second job's request arrives", whole(requests=3), jobs=2
)
async def stale_fin(wire: Wire) -> None:
    if wire.request.number != 2:
        await wire.whole_answer()


@scenario(
    "resets the kept connection when the second job's request arrives", whole(requests=3), jobs=2
)
async def stale_rst(wire: Wire) -> None:
    if wire.request.number != 2:
        await wire.whole_answer()
    else:
        await wire.reset()


@scenario(
    "closes the connection after a part of its answer to the second job's request",
    fails("WORKER_RESET", requests=2),
    jobs=2,
)
async def stale_after_bytes(wire: Wire) -> None:
    if wire.request.number != 2:
        await wire.whole_answer()
    else:
        await wire.raw(b"HTTP/1.1 200")


@scenario(
    "closes every connection on which a second request arrives, and the new one too",
    fails("WORKER_RESET", requests=3),
    jobs=2,
)
async def stale_twice(wire: Wire) -> None:
    if wire.request.number == 1:
        await wire.whole_answer()


@scenario(
    "closes the connection some time after its answer, without notice", whole(requests=2), jobs=2
)
async def idle_close(wire: Wire) -> None:
    await wire.whole_answer()
    await wire.close()


@scenario("says `Connection: close` and closes after each answer", whole(requests=2), jobs=2)
async def connection_close(wire: Wire) -> None:
    await wire.whole_answer("Connection: close")
    await wire.close()


@scenario("says `Connection: close` and leaves it open", whole(requests=2, closes=True), jobs=2)
async def connection_close_left_open(wire: Wire) -> None:
    await wire.whole_answer("Connection: close")
    await wire.wait_closed()


@scenario("sends bytes after the end of its answer", whole(requests=2), jobs=2)
async def bytes_behind(wire: Wire) -> None:
    body = wire.stream()
    await wire.raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%sgarbage" % (len(body), body))
    await wire.sleep(0.05)


@scenario("sends a second answer after the first one", whole(requests=2), jobs=2)
async def answer_behind(wire: Wire) -> None:
    body = wire.stream()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    await wire.raw(answer + answer.replace(b"Hello", b"Wrong"))
    await wire.sleep(0.05)


@scenario(
    "answers before it has read the request, and does not read it for a while",
    fails("UPSTREAM_PROTOCOL", within_s=0.3, closes=True),
    task=LONG_PROMPT,
    early=True,
)
async def early_answer(wire: Wire) -> None:
    await wire.begin(*PIECES)
    await wire.rest()
    await wire.sleep(5.0)


@scenario(
    "refuses before it has read the request, and does not read it",
    fails("INVALID_PARAMS", within_s=0.3),
    task=LONG_PROMPT,
    early=True,
)
async def early_refusal(wire: Wire) -> None:
    await wire.answer_json(413, wire.complaint("too large"))
    await wire.sleep(5.0)


SCENARIOS = collect(vars())
