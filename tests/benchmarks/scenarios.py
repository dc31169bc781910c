"""The measurements of one client, in one process. Each scenario returns numbers and the text.

`said` sums up the texts, so that two clients are compared only if they produced the same.
"""

import asyncio
import gc
import hashlib
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.request import urlopen

from tests.benchmarks.clients import Client, Product
from tests.benchmarks.server import STAMP_CHARS

Result = dict[str, Any]
Scenario = Callable[..., Awaitable[Result]]

_SETTLING_TOKENS = 2
"""Of each paced stream, not measured: the first ones, while others still connect, and the last."""


@asynccontextmanager
async def _started(client: Client, base: str) -> Any:
    await client.start(base)
    try:
        yield client
    finally:
        await client.aclose()


async def _read(client: Client) -> str:
    texts: list[str] = []
    await client.stream(texts.append)
    return "".join(texts)


async def _read_many(client: Client, count: int) -> str:
    texts = await asyncio.gather(*(_read(client) for _ in range(count)))
    return _digest("|".join(texts))


def _digest(text: str) -> str:
    return f"{len(text)} characters, {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _rss_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def _cpu() -> Iterator[Callable[[], float]]:
    """CPU seconds of this process since it was entered, its threads included."""
    gc.collect()
    began = time.process_time()
    yield lambda: time.process_time() - began


async def long(client: Client, base: str, *, tokens: int) -> Result:
    """One stream that arrives as fast as it is read: CPU per token."""
    async with _started(client, f"{base}/{tokens}/50/0"):
        with _cpu() as spent:
            text = await _read(client)
            cpu_us = spent() * 1e6
    return {"cpu_us": cpu_us / tokens, "said": _digest(text)}


async def paced(client: Client, base: str, *, streams: int, tokens: int, pause_ms: int) -> Result:
    """Many streams, each token in a read of its own: CPU per token while all of them run."""
    first, last = streams * _SETTLING_TOKENS, streams * (tokens - _SETTLING_TOKENS)
    count, chars, began, ended = 0, 0, 0.0, 0.0

    def on_text(text: str) -> None:
        nonlocal count, chars, began, ended
        count += 1
        chars += len(text)
        if count == first:
            began = time.process_time()
        elif count == last:
            ended = time.process_time()

    async with _started(client, f"{base}/{tokens}/1/{pause_ms * 1000}"):
        await asyncio.gather(*(client.stream(on_text) for _ in range(streams)))
    return {
        "cpu_us": (ended - began) * 1e6 / (last - first),
        "said": f"{count} tokens, {chars} characters",
    }


async def latency(client: Client, base: str, *, streams: int, tokens: int, pause_ms: int) -> Result:
    """As paced: how long after its write a token is there."""
    first, last = streams * _SETTLING_TOKENS, streams * (tokens - _SETTLING_TOKENS)
    waits_ns: list[int] = []
    now = time.monotonic_ns

    def on_text(text: str) -> None:
        waits_ns.append(now() - int(text[-16:]))

    async with _started(client, f"{base}/{tokens}/1/{pause_ms * 1000}"):
        await asyncio.gather(*(client.stream(on_text) for _ in range(streams)))
    steady = sorted(waits_ns[first:last])
    return {
        "p50_us": steady[len(steady) // 2] / 1e3,
        "p99_us": steady[len(steady) * 99 // 100] / 1e3,
        "said": f"{len(waits_ns)} tokens, {len(waits_ns) * STAMP_CHARS} characters",
    }


async def memory(client: Client, base: str, *, streams: int) -> Result:
    """Measure what each of many open streams adds to the process, which must be fresh."""
    begun, chars = 0, 0
    held = [0]

    def reader() -> Callable[[str], None]:
        is_first = True

        def on_text(text: str) -> None:
            nonlocal begun, chars, is_first
            chars += len(text)
            if is_first:
                is_first = False
                begun += 1
                if begun == streams:
                    gc.collect()
                    held[0] = _rss_bytes()

        return on_text

    async with _started(client, f"{base}/2/1/3000000"):
        await client.stream(lambda _: None)
        gc.collect()
        before = _rss_bytes()
        await asyncio.gather(*(client.stream(reader()) for _ in range(streams)))
    return {"bytes": (held[0] - before) / streams, "said": f"{chars} characters"}


async def first(client: Client, base: str, *, requests: int) -> Result:
    """One request after the other on a warm connection: when the first token is there."""
    waits: list[float] = []
    async with _started(client, f"{base}/1/1/0"):
        for _ in range(20):
            text = await _read(client)
        with _cpu() as spent:
            for _ in range(requests):
                arrived: list[float] = []
                began = time.perf_counter()
                await client.stream(lambda _, a=arrived: a.append(time.perf_counter()))  # type: ignore[misc]
                waits.append(arrived[0] - began)
            cpu_us = spent() * 1e6
    return {
        "p50_us": statistics.median(waits) * 1e6,
        "cpu_us": cpu_us / requests,
        "said": _digest(text),
    }


async def jobs(client: Client, base: str, *, requests: int, at_once: int) -> Result:
    """Jobs of one token, some at once: how many a second, and the CPU of each."""
    async with _started(client, f"{base}/1/1/0"):
        await _read_many(client, at_once)
        texts: list[str] = []

        async def work() -> None:
            while len(texts) < requests:
                texts.append(await _read(client))

        began = time.perf_counter()
        with _cpu() as spent:
            await asyncio.gather(*(work() for _ in range(at_once)))
            cpu_us = spent() * 1e6
        took_s = time.perf_counter() - began
    return {
        "per_s": len(texts) / took_s,
        "cpu_us": cpu_us / len(texts),
        "said": _digest("|".join(texts[:requests])),
    }


async def rows(client: Client, base: str, *, requests: int, at_once: int) -> Result:
    """A bulk run of one-token answers: the CPU of each row."""
    async with _started(client, f"{base}/1/1/0"):
        await client.rows(at_once, at_once)
        with _cpu() as spent:
            texts = await client.rows(requests, at_once)
            cpu_us = spent() * 1e6
    return {"cpu_us": cpu_us / requests, "said": _digest("|".join(texts))}


async def burst(client: Client, base: str, *, sizes: tuple[int, int], rounds: int) -> Result:
    """Bursts of requests on a warm pool: CPU per request of large ones to that of small ones."""
    small, large = sizes
    cpu: dict[int, list[float]] = {small: [], large: []}
    async with _started(client, f"{base}/5/5/0"):
        said = await _read_many(client, large)
        for _ in range(rounds):
            for size, times in ((small, large // small), (large, 1)):
                with _cpu() as spent:
                    for _ in range(times):
                        await _read_many(client, size)
                    cpu[size].append(spent() / (size * times))
    small_us, large_us = (statistics.median(cpu[size]) * 1e6 for size in sizes)
    return {"small_us": small_us, "large_us": large_us, "ratio": large_us / small_us, "said": said}


async def growth(client: Client, base: str, *, requests: int) -> Result:
    """Measure how much many requests, one after the other, add to the process."""
    async with _started(client, f"{base}/1/1/0"):
        for _ in range(1_000):
            text = await _read(client)
        gc.collect()
        before = _rss_bytes()
        for _ in range(requests):
            text = await _read(client)
        gc.collect()
        grown = _rss_bytes() - before
    return {"mb": grown / 1e6, "said": _digest(text)}


async def slow(client: Client, base: str, *, seconds: float) -> Result:
    """A reader that takes one token in a while, of a server that would send without end.

    Only of the product: what the server could still send, the CPU that cost, and the memory.
    """
    assert isinstance(client, Product)

    def sent() -> int:
        return int(urlopen(f"{base}/sent").read())

    async with (
        _started(client, f"{base}/1000000000/200/0"),
        client._adapter.submit(client.task()) as stream,
    ):
        for _ in range(3):
            await anext(stream)
        await asyncio.sleep(0.5)
        before_bytes, before_rss = sent(), _rss_bytes()
        count = 0
        with _cpu() as spent:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                await anext(stream)
                count += 1
                await asyncio.sleep(0.05)
            cpu_share = spent() / seconds
        more_bytes, more_rss = sent() - before_bytes, _rss_bytes() - before_rss
    return {
        "sent_kb": more_bytes / 1e3,
        "rss_mb": more_rss / 1e6,
        "cpu_share": cpu_share,
        "said": f"{count > 0}",
    }


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (long, paced, latency, memory, first, jobs, rows, burst, growth, slow)
}
