"""Clients that send anything and leave at any time: the gateway answers, and keeps nothing."""

import asyncio
import contextlib
import json
import logging
import random

import pytest

import registry
from tests.registry.gateway.conftest import CHAT, Start
from tests.registry.gateway.raw import RawClient

AT_ONCE = 20


def _request(rng: random.Random) -> bytes:
    """Return a request that is valid in most parts."""

    def sometimes(share: float, line: str) -> str:
        return line + "\r\n" if rng.random() < share else ""

    content = "x" * rng.choice([1, 10, 70_000])
    fields = {
        "model": rng.choice(["mock", "mock", "mock", "none"]),
        "messages": [{"role": "user", "content": content}],
        "stream": rng.random() < 0.6,
        "max_tokens": rng.choice([5, 5, 5, 0]),
    }
    body = json.dumps(fields).encode()
    lines = (
        sometimes(0.15, "Expect: 100-continue")
        + sometimes(0.1, "Connection: close")
        + sometimes(0.1, "Connection: Upgrade\r\nUpgrade: h2c")
    )
    if rng.random() < 0.3:
        cut = rng.randrange(1, len(body))
        parts = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:cut], body[cut:]))
        body, lines = parts + b"0\r\n\r\n", lines + "Transfer-Encoding: chunked\r\n"
    else:
        lines += f"Content-Length: {len(body) + rng.choice([0] * 9 + [-3, 5])}\r\n"
    method = rng.choice(["POST"] * 9 + ["HEAD", "OPTIONS"])
    path = rng.choice(["/v1/chat/completions"] * 8 + ["/v1/models", "/nothing"])
    version = rng.choice(["1.1"] * 6 + ["1.0"])
    return f"{method} {path} HTTP/{version}\r\nHost: x\r\n{lines}\r\n".encode() + body


async def _visit(port: int, rng: random.Random) -> None:
    """Send some requests in pieces, with bytes changed here and there, and read a part."""
    data = bytearray(b"".join(_request(rng) for _ in range(rng.choice([1, 1, 1, 2, 3]))))
    if rng.random() < 0.15:
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(min(len(data), 400))] = rng.randrange(256)
    with contextlib.suppress(OSError, TimeoutError):
        async with RawClient(port) as client:
            while data:
                size = rng.choice([len(data), rng.randint(1, len(data))])
                client.writer.write(bytes(data[:size]))
                del data[:size]
                await asyncio.sleep(rng.choice([0, 0, 0.002]))
                if rng.random() < 0.05:
                    return
            if rng.random() < 0.1:
                client.writer.write_eof()
            async with asyncio.timeout(rng.choice([0.01, 0.1])):
                await client.reader.read(rng.choice([10, 1000, 1 << 20]))


@pytest.mark.parametrize(
    "visits", [60, pytest.param(4_000, marks=[pytest.mark.exhaustive, pytest.mark.timeout(300)])]
)
async def test_wild_clients_break_nothing(
    start: Start, caplog: pytest.LogCaptureFixture, visits: int
) -> None:
    """No request makes an error in the log, a job that stays, or a gateway that answers no more."""
    served = await start(registry.get("mock", {"delay_s": 0.003}))
    seeds = iter(range(visits))

    async def visit_on() -> None:
        for seed in seeds:
            await _visit(served.port, random.Random(seed))

    with caplog.at_level(logging.ERROR):
        await asyncio.gather(*(visit_on() for _ in range(AT_ONCE)))
        await asyncio.wait_for(served.gateway.table.finish(), 10)
    assert [record.getMessage() for record in caplog.records] == []
    (replica,) = served.host.snapshot().pools[0].replicas
    assert replica.in_flight == 0
    async with RawClient(served.port) as client:
        client.post("/v1/chat/completions", CHAT)
        assert (await client.head())[0] == 200
