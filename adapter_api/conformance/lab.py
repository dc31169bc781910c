"""The lab: servers for HTTP adapters. One works, one has every known fault, some are down."""

import hashlib
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import attrs

from adapter_api.faults import SCENARIOS, Damage, FaultProxy, FaultServer, Scenario, Wire
from adapter_api.faults.scenario import fails, scenario, whole
from adapter_api.faults.thread import LoopThread

_MAX_PACED_TOKENS = 256
_CONTEXT_CHARS = 50_000
_SYLLABLES = ("al", "be", "cor", "den", "el", "fa", "gro", "hin")


@scenario("answers like a sound engine with a small vocabulary", whole(text=None))
async def engine(wire: Wire) -> None:
    body = wire.request.json()
    asked = body.get("prompt") or " ".join(str(m["content"]) for m in body.get("messages", []))
    count = int(body.get("max_tokens") or 16)
    if body.get("model") == "no-such-model":
        await wire.answer_json(404, wire.complaint("there is no such model"))
    elif len(asked) > _CONTEXT_CHARS:
        more = {"code": "context_length_exceeded"}
        await wire.answer_json(400, wire.complaint("the prompt is too long", **more))
    elif body.get("tool_choice") not in (None, "auto", "none"):
        await _call(wire, body)
    else:
        await _generate(wire, f"{asked} {body.get('seed')}", count)


async def _call(wire: Wire, body: dict[str, Any]) -> None:
    """Call the first tool, with a text for every argument that it requires."""
    function = body["tools"][0]["function"]
    names = function.get("parameters", {}).get("required", [])
    arguments = json.dumps(dict.fromkeys(names, "Oslo"))
    begin = {"name": function["name"], "arguments": ""}
    first: dict[str, Any] = {"index": 0, "id": "call_lab", "type": "function", "function": begin}
    await wire.head()
    for piece in ("", arguments[:5], arguments[5:]):
        call = {"index": 0, "function": {"arguments": piece}} if piece else first
        await wire.event(wire.with_choice(delta={"tool_calls": [call]}))
    await wire.finish("tool_calls")
    await wire.usage({"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6})
    await wire.done()


async def _generate(wire: Wire, source: str, count: int) -> None:
    await wire.head()
    for index in range(count):
        digest = hashlib.blake2b(f"{source} {index}".encode()).digest()
        end = "\n" if index % 8 == 5 else ""  # blanks at both ends of a piece belong to the text
        await wire.text(f" {_SYLLABLES[digest[0] % 8]}{_SYLLABLES[digest[1] % 8]}{end}")
        if count <= _MAX_PACED_TOKENS:
            await wire.sleep(0.001)
    await wire.finish("length")
    await wire.usage({"prompt_tokens": 3, "completion_tokens": count, "total_tokens": 3 + count})
    await wire.done()


# Engines that are down for every request

_DOWN = fails("POOL_UNAVAILABLE")


@scenario("refuses everything", _DOWN)
async def refusing(wire: Wire) -> None:
    await wire.answer_json(503, wire.complaint("out of order"))


@scenario("fails at everything", _DOWN)
async def failing(wire: Wire) -> None:
    await wire.answer_json(500, wire.complaint())


@scenario("hangs up", _DOWN)
async def hanging_up(wire: Wire) -> None:
    await wire.close()


@scenario("does not speak HTTP", _DOWN)
async def babbling(wire: Wire) -> None:
    await wire.raw(b"220 mail.example ESMTP %s\r\n" % wire.request.credential.encode())
    await wire.close()


@scenario("says nothing", _DOWN)
async def silent(wire: Wire) -> None:
    await wire.wait_closed()


# Engines that a health check may take for ready

_ODD = fails("UPSTREAM_PROTOCOL")


@scenario("refuses the key", _ODD)
async def locked(wire: Wire) -> None:
    await wire.answer_json(401, wire.complaint("who are you?"))


@scenario("answers with a page of HTML", _ODD)
async def page(wire: Wire) -> None:
    await wire.answer(200, b"<!DOCTYPE html><title>It works</title>", kind="text/html")


@scenario("answers with JSON of another shape", _ODD)
async def other_shape(wire: Wire) -> None:
    await wire.answer_json(200, ["nothing", None])


_BROKEN = (refusing, failing, hanging_up, babbling, silent, locked, page, other_shape)
_SLOW = (silent,)


@attrs.frozen
class BrokenEngine:
    """An engine that cannot be used.

    Args:
        what: Its behaviour, as a continuation of "an engine that ...".
        url: Its base URL.
        down: health() must not report it as ready. Otherwise any report is right.
        quick: A client notices the failure at once, without waiting for a limit.
    """

    what: str
    url: str
    down: bool = True
    quick: bool = True


class Lab:
    """Runs the servers in a thread of their own, while entered.

    It outlives the event loops of single checks, and an adapter that blocks its loop does not
    block the servers.
    """

    def __init__(self) -> None:
        self.server = FaultServer({**SCENARIOS, engine.name: engine})
        self._down = FaultServer({one.name: one for one in _BROKEN}, fault_gets=True)
        self._closed_port = socket.socket()

    def __enter__(self) -> Self:
        self._closed_port.bind(("127.0.0.1", 0))  # taken, so that nothing else listens there
        self._thread = LoopThread()
        self._thread.run(self.server.start())
        self._thread.run(self._down.start())
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self._thread.run(self._down.__aexit__(None))
            self._thread.run(self.server.__aexit__(None))
        finally:
            self._closed_port.close()
            self._thread.stop()

    @contextmanager
    def proxied(
        self, upstream: str, damage: Damage, path: str | None = None
    ) -> Iterator[FaultProxy]:
        """Run a proxy beside the servers, while entered. Arguments as for FaultProxy."""
        proxy = FaultProxy(upstream, damage, path=path)
        self._thread.run(proxy.start())
        try:
            yield proxy
        finally:
            self._thread.run(proxy.stop())

    @property
    def engine_url(self) -> str:
        """Return the base URL of the engine that works."""
        return self.server.url(engine.name)

    def broken_engines(self) -> list[BrokenEngine]:
        """Return every kind of engine that cannot be used."""
        port = self._closed_port.getsockname()[1]
        return [
            BrokenEngine("does not listen", f"http://127.0.0.1:{port}"),
            *(self._broken_engine(one) for one in _BROKEN),
        ]

    def _broken_engine(self, how: Scenario) -> BrokenEngine:
        url = self._down.url(how.name)
        return BrokenEngine(how.summary, url, down=how.expect is _DOWN, quick=how not in _SLOW)
