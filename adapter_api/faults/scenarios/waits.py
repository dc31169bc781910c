"""Silence, delay, and noise that looks like progress."""

from collections.abc import Iterable
from functools import partial
from typing import Literal

from adapter_api.faults.scenario import (
    LIMIT_S,
    LINGER_S,
    PROMPT_S,
    Scenario,
    collect,
    fails,
    scenario,
    times_out,
    whole,
)
from adapter_api.faults.wire import DONE, PIECES, Wire, to_event

SAID = "".join(PIECES[:2])
TICK_S = 0.03

Place = Literal["first", "between", "finish", "done"]


# Pings: signs of life without progress


async def _pings(kind: str, place: Place, wire: Wire) -> None:
    await wire.head()
    if place != "first":
        await wire.text(*(PIECES[:2] if place == "between" else PIECES))
    if place in ("finish", "done"):
        await wire.finish()
    if place == "done":
        await wire.usage()
        await wire.chunk(DONE)
    while True:
        await wire.chunk(_ping(kind, wire))
        await wire.sleep(TICK_S)


def _ping(kind: str, wire: Wire) -> bytes:
    if kind == "comment":
        return b": ping - 2026-11-23 08:00:00\n\n"
    if kind == "event":
        return b"event: ping\ndata: {}\n\n"
    if kind == "null":
        return b"data: null\n\n"
    if kind == "empty-delta":
        return to_event(wire.payload(""))
    if kind == "role":
        return to_event(wire.with_choice(text="", delta={"role": "assistant", "content": None}))
    return to_event(wire.payload(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 1}))


_KINDS = {
    "comment": "comments",
    "event": "`event: ping`",
    "null": "`data: null`",
    "empty-delta": "events with empty text",
    "role": "events that only name the role",
    "usage": "events that only report usage",
}


def _forever() -> Iterable[Scenario]:
    for kind, what in _KINDS.items():
        yield Scenario(
            f"pings-first-{kind}",
            f"sends {what} endlessly and no token",
            partial(_pings, kind, "first"),
            times_out("DECODE_TIMEOUT"),
        )
        yield Scenario(
            f"pings-between-{kind}",
            f"sends some tokens, then {what} endlessly",
            partial(_pings, kind, "between"),
            times_out("DECODE_TIMEOUT", text=SAID),
        )
    yield Scenario(
        "pings-after-finish",
        "sends comments endlessly after the finish_reason",
        partial(_pings, "comment", "finish"),
        whole(counted=True, within_s=LINGER_S + PROMPT_S, closes=True),
    )
    yield Scenario(
        "pings-after-done",
        "sends comments endlessly after `[DONE]`",
        partial(_pings, "comment", "done"),
        whole(within_s=3 * PROMPT_S, closes=True),
    )


# Silence


@scenario("reads the request and sends nothing", times_out("POOL_UNAVAILABLE"))
async def stall_before_head(wire: Wire) -> None:
    await wire.wait_closed()


@scenario("stops in the middle of the headers", times_out("POOL_UNAVAILABLE"))
async def stall_in_head(wire: Wire) -> None:
    await wire.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/ev")
    await wire.wait_closed()


@scenario("sends headers and nothing else", times_out("DECODE_TIMEOUT"))
async def stall_after_head(wire: Wire) -> None:
    await wire.head()
    await wire.wait_closed()


@scenario("stops in the middle of the first event", times_out("DECODE_TIMEOUT"))
async def stall_in_event(wire: Wire) -> None:
    await wire.head()
    await wire.chunk(to_event(wire.payload(PIECES[0]))[:-1])
    await wire.wait_closed()


@scenario("stops after some tokens", times_out("DECODE_TIMEOUT", text=SAID))
async def stall_between_tokens(wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.wait_closed()


@scenario(
    "stops after some tokens that each had a finish_reason",
    times_out("DECODE_TIMEOUT", text=SAID),
)
async def stall_between_finishes(wire: Wire) -> None:
    await wire.head()
    for piece in PIECES[:2]:
        await wire.event(wire.payload(piece, finish_reason="stop"))
    await wire.wait_closed()


@scenario(
    "stops after the finish_reason",
    whole(counted=True, within_s=LINGER_S + PROMPT_S, closes=True),
)
async def stall_after_finish(wire: Wire) -> None:
    await wire.begin(*PIECES)
    await wire.finish()
    await wire.wait_closed()


@scenario(
    "stops after `[DONE]`, without ending the body", whole(within_s=2 * PROMPT_S, closes=True)
)
async def stall_after_done(wire: Wire) -> None:
    await wire.begin(*PIECES)
    await wire.finish()
    await wire.usage()
    await wire.chunk(DONE)
    await wire.wait_closed()


@scenario("stops in the middle of a JSON document", times_out("DECODE_TIMEOUT"))
async def stall_in_json(wire: Wire) -> None:
    await wire.head(framing=1000, kind="application/json")
    await wire.chunk(b'{"choices": [{"text": ')
    await wire.wait_closed()


# Delay


@scenario(
    "lets the head wait, then the first token: one budget for both", times_out("DECODE_TIMEOUT")
)
async def one_budget(wire: Wire) -> None:
    await wire.sleep(0.7 * LIMIT_S)
    await wire.head()
    await wire.sleep(0.7 * LIMIT_S)
    await wire.text(*PIECES)
    await wire.rest()
    await wire.wait_closed()


@scenario("sends a header byte now and then", times_out("POOL_UNAVAILABLE"))
async def drip_head(wire: Wire) -> None:
    await wire.raw(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        await wire.raw(b"x")
        await wire.sleep(TICK_S)


@scenario("sends a byte of an event now and then", times_out("DECODE_TIMEOUT", text=SAID))
async def drip_event(wire: Wire) -> None:
    await wire.begin(*PIECES[:2])
    await wire.chunk(b'data: {"choices":[{"text":"')
    while True:
        await wire.chunk(b"x")
        await wire.sleep(TICK_S)


@scenario("sends a token now and then, for longer than any limit on silence", whole(within_s=1.3))
async def slow_tokens(wire: Wire) -> None:
    await wire.head()
    for piece in PIECES:
        await wire.sleep(0.6 * LIMIT_S)
        await wire.text(piece)
    await wire.sleep(0.6 * LIMIT_S)
    await wire.rest()


@scenario("sends 429 and a byte of its body now and then", times_out("ADMISSION_REJECT"))
async def drip_refusal(wire: Wire) -> None:
    await wire.head(status=429, framing=1000, kind="application/json")
    while True:
        await wire.chunk(b" ")
        await wire.sleep(TICK_S)


@scenario("sends 400 and then nothing", times_out("INVALID_PARAMS"))
async def stall_in_refusal(wire: Wire) -> None:
    await wire.head(status=400, framing=1000, kind="application/json")
    await wire.chunk(b'{"error": ')
    await wire.wait_closed()


# Deadline


async def _endless_tokens(pause_s: float, wire: Wire) -> None:
    await wire.head()
    while True:
        await wire.text("x")
        await wire.sleep(pause_s)


def _late() -> Iterable[Scenario]:
    expect = fails("DEADLINE_UNMET", text=None, after_s=0.3, within_s=0.4, closes=True)
    for name, what, pause_s in (
        ("tokens-for-ever", "sends tokens endlessly, as fast as it can", 0.0),
        ("slow-tokens-for-ever", "sends a token now and then, endlessly", TICK_S),
    ):
        script = partial(_endless_tokens, pause_s)
        yield Scenario(name, what, script, expect, task={"deadline_s": 0.3})


@scenario(
    "stops after the finish_reason, and the deadline is near",
    whole(counted=True, within_s=0.3, closes=True),
    task={"deadline_s": 0.3},
)
async def stall_after_finish_deadline(wire: Wire) -> None:
    await stall_after_finish.script(wire)


SCENARIOS = [*_forever(), *collect(vars()), *_late()]
