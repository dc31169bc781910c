"""The gateway's memory: nothing of ended requests, little of slow ones."""

import asyncio
import gc
import resource
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import registry
from tests.registry.gateway.conftest import CHAT, TEXT, Served, Start
from tests.registry.gateway.raw import RawClient, events, text_of

PATH = "/v1/chat/completions"
CLIENTS = 10
SETTLED = 5_000
"""Requests after which all that is bounded is full: the ledger, recent jobs, the allocator."""


def rss_mb() -> float:
    """Return the memory of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


async def _ask(port: int, count: int) -> None:
    async with RawClient(port) as client:
        for _ in range(count):
            client.post(PATH, CHAT)
            status, headers = await client.head()
            assert status == 200
            await client.reader.readexactly(int(headers["content-length"]))


async def _grown_mb(start: Start, count: int) -> float:
    served = await start(registry.get("mock", {"tokens": ["x"]}), access_log=False)
    for requests in (SETTLED, count):
        before = rss_mb()
        await asyncio.gather(*(_ask(served.port, requests // CLIENTS) for _ in range(CLIENTS)))
    return rss_mb() - before


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
async def test_requests_leave_nothing(start: Start) -> None:
    """50,000 requests grow the process by at most 5 MB."""
    assert await _grown_mb(start, 50_000) <= 5


@pytest.mark.exhaustive
async def test_500_clients_at_once_are_answered(start: Start) -> None:
    """Each of 500 streams that run side by side comes whole to its own client."""
    served = await start(registry.get("mock", {"delay_s": 0.5}))
    clients = [RawClient(served.port) for _ in range(500)]
    async with AsyncExitStack() as stack:
        for number, client in enumerate(clients):
            await stack.enter_async_context(client)
            client.post(PATH, {**CHAT, "stream": True}, X_Request_Id=f"j{number}")
        while len(served.gateway.table) < len(clients):
            await asyncio.sleep(0.01)
        for number, client in enumerate(clients):
            status, headers = await client.head()
            assert (status, headers["x-request-id"]) == (200, f"j{number}")
            assert text_of(events(await client.body())) == TEXT
    assert served.gateway.table.totals.answered == 500


async def test_readers_that_stall_cost_little(start: Start) -> None:
    """Two clients that do not read add at most 2 MB, whatever their engines send."""
    served = await start(registry.get("mock", {"tokens": ["x" * 4096] * 5_000}))
    table = served.gateway.table
    async with AsyncExitStack() as stack:
        before = rss_mb()
        for number in range(2):
            client = await stack.enter_async_context(RawClient(served.port))
            client.writer.transport.pause_reading()
            client.post(PATH, {**CHAT, "stream": True}, X_Request_Id=f"j{number}")
        delivered = -1
        async with asyncio.timeout(20):
            while len(table) < 2 or delivered != (delivered := _tokens(served)):
                await asyncio.sleep(0.1)  # until nothing moves any more
        assert 0 < delivered < 10_000
        assert rss_mb() - before <= 2


def _tokens(served: Served) -> int:
    return sum(job.tokens for job in served.gateway.table.jobs)
