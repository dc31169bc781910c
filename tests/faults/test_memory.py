"""Whatever a server sends, and however slowly it is read, memory stays bounded (HTU-1003)."""

import asyncio
import gc
import logging
import tracemalloc
from contextlib import suppress

import pytest

from adapter_api import TaskRequest, Token
from adapter_api.faults import SCENARIOS, FaultServer, Scenario
from adapter_api.faults.scenario import fails
from adapter_api.faults.wire import Wire, to_event
from adapters.http_util import DecodeLimitError, SSEDecoder
from tests.faults.conftest import SHORT, Bench, run

MIB = 1 << 20

FLOODS = [
    name
    for name in SCENARIOS
    if name.startswith(("endless-", "gzip-", "refusal-endless", "deep-", "long-"))
]

PEAK_MIB = {"endless-json": 24, "endless-event": 24} | dict.fromkeys(
    ("endless-line", "endless-comment", "endless-event-name"), 16
)
"""A JSON document may have 16 MiB, a line and an event 8 MiB."""


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_costs_a_bounded_amount_of_memory(bench: Bench, name: str) -> None:
    """Lines, events, heads, trailers and bodies without end: the client stops within some MiB, the
    server's own included."""
    adapter = bench.adapter(name, **SHORT)
    await run(bench.adapter("ordinary"), TaskRequest(prompt="hi"))  # imports and caches
    tracemalloc.start()
    try:
        await run(adapter, TaskRequest(prompt="hi"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < PEAK_MIB.get(name, 8) * MIB
    assert bench.in_use == 0


@pytest.mark.parametrize("line", [b"data:xy\n", b"data:xy\r"])
def test_lines_of_little_data_cost_little(line: bytes) -> None:
    """An event costs no more than its limit in bytes, whatever its lines look like."""
    decoder, block = SSEDecoder(max_event_bytes=MIB // 2), line * 1024
    tracemalloc.start()
    try:
        with suppress(DecodeLimitError):
            for _ in range(1000):
                decoder.feed(block)
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()


async def test_a_slow_consumer_stops_the_server(bench: Bench) -> None:
    """While the stream is not read, neither is the socket: what the server could send stays
    bounded, and so does what is held here."""
    piece = "x" * 1000

    async def script(wire: Wire) -> None:
        await wire.head()
        block = to_event(wire.payload(piece)) * 16
        while True:
            await wire.chunk(block)

    fast = Scenario("fast", "sends long tokens as fast as it can", script, fails("CANCELLED"))
    async with FaultServer({"fast": fast}) as server:
        adapter = bench.adapter_for(server.url("fast"))
        tracemalloc.start()
        try:
            async with adapter.submit(TaskRequest(prompt="hi")) as stream:
                tokens = 0
                async for event in stream:
                    tokens += isinstance(event, Token)
                    if tokens == 1000:
                        break
                connection = server.connections[0]
                sent_bytes = -1
                for _ in range(20):  # a busy machine fills the buffers slowly
                    if connection.sent_bytes == sent_bytes:
                        break
                    sent_bytes = connection.sent_bytes
                    await asyncio.sleep(0.25)
                assert connection.sent_bytes == sent_bytes, "the server must wait"
                # What was read, what waits here, and the kernel's buffers of both ends.
                assert sent_bytes < 12 * MIB
                assert tracemalloc.get_traced_memory()[1] < 8 * MIB
        finally:
            tracemalloc.stop()
    assert bench.in_use == 0


async def test_faults_leave_no_memory_behind(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken jobs are forgotten: no connection, task or error of theirs is kept."""
    caplog.set_level(logging.CRITICAL, logger="worker_adapters")  # pytest keeps every record
    names = ("rst-mid-event", "error-object", "status-500", "wrong-text-number", "not-json")
    adapters = [bench.adapter(name) for name in names]

    async def some(count: int) -> None:
        for _ in range(count):
            for adapter in adapters:
                await run(adapter, TaskRequest(prompt="hi"))
            bench.server.requests.clear()
            bench.server.connections.clear()
        gc.collect()  # when it would come by itself depends on everything else here

    await some(5)
    tracemalloc.start()
    try:
        await some(5)
        before = tracemalloc.get_traced_memory()[0]
        await some(25)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < MIB / 8
    assert len(asyncio.all_tasks()) < 10
