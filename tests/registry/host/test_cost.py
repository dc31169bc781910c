"""The cost of the host: it keeps nothing of ended jobs, and no job pays for the others.

Every figure is a ratio of two measurements of one run, or memory, which does not depend on speed.
"""

import asyncio
import gc
import logging
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from time import process_time

import pytest

from adapter_api import (
    CapacityExceeded,
    End,
    ErrorCode,
    HealthState,
    HealthStatus,
    Metrics,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    WorkerError,
    hookimpl,
)
from registry.adapter import BoundAdapter
from registry.host import AdapterHost, PoolPolicy
from registry.observers.notify import Observers

NOISE = 1.5
"""How far one run may be off: docs/explanation/scale.md has the figures of a quiet machine."""


QUIET = PoolPolicy(probe_interval_s=3600.0, max_queue=20_000, max_attempts=1)


class Cheap:
    """An adapter that answers with `count` tokens, one for each turn of the loop if it is paced."""

    def __init__(self, count: int = 1, *, paced: bool = False) -> None:
        self.count = count
        self.paced = paced
        self.gate: asyncio.Event | None = None
        self.failure: WorkerError | None = None

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        if self.failure is not None:
            raise self.failure.of(**self.failure.fields())
        yield Started(task.job_id, "cheap", "1")
        if self.gate is not None:
            await self.gate.wait()
        for index in range(self.count):
            if self.paced:
                await asyncio.sleep(0)
            yield Token("x", index)
        yield End(Metrics(self.count), "stop", "finish_reason")

    @hookimpl
    async def health(self) -> HealthStatus:
        return HealthStatus(HealthState.HEALTHY)

    def bound(self) -> BoundAdapter:
        return BoundAdapter(self, name="cheap", observers=Observers())


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """No records: the runner keeps each, and they would be what is measured."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


async def host_of(adapter: Cheap, replicas: int, limit: int | None = None) -> AdapterHost:
    host = AdapterHost(defaults=QUIET)
    for number in range(replicas):
        host.bind("p", f"r{number}", adapter.bound(), limit=limit)
    await host.check("p")
    return host


def job(number: int, **fields: object) -> TaskRequest:
    return TaskRequest(prompt="x", job_id=str(number), deadline_s=300.0, **fields)  # type: ignore[arg-type]


async def cost_of(work: Callable[[], Awaitable[object]]) -> float:
    """Processor seconds of the work, without the collector's."""
    gc.collect()
    gc.disable()
    try:
        began_at = process_time()
        await work()
        return process_time() - began_at
    finally:
        gc.enable()


async def ratio(
    cheap: Callable[[], Awaitable[object]], dear: Callable[[], Awaitable[object]], rounds: int = 4
) -> float:
    """How many times as much the second costs, by the least of several rounds in turns."""
    costs = [(await cost_of(cheap), await cost_of(dear)) for _ in range(rounds)]
    return min(dear for _, dear in costs) / min(cheap for cheap, _ in costs)


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        print(f"\nhost: {text}", end="")


# Many replicas, many waiting jobs


@pytest.mark.timing
async def test_a_job_costs_the_same_among_a_thousand_replicas(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At most 1.5 times what it costs among ten; with sessions, twice."""
    adapter = Cheap()
    few, many = await host_of(adapter, 10), await host_of(adapter, 1000)

    def drive(host: AdapterHost, *, sessions: bool) -> Callable[[], Awaitable[object]]:
        async def run() -> None:
            for number in range(60):
                session_id = f"s{number}" if sessions else None
                await host.submit("p", job(number, session_id=session_id)).text()

        return run

    found = {
        sessions: await ratio(drive(few, sessions=sessions), drive(many, sessions=sessions))
        for sessions in (False, True)
    }
    say(
        capsys,
        f"a job among 1,000 replicas: {found[False]:.2f} times that among 10, "
        f"{found[True]:.2f} times with sessions",
    )
    await few.aclose()
    await many.aclose()
    assert found[False] < 1.5 * NOISE
    assert found[True] < 2.0 * NOISE


@pytest.mark.timing
@pytest.mark.parametrize(
    ("fewer", "more"), [(100, 1000), pytest.param(1000, 10_000, marks=pytest.mark.exhaustive)]
)
async def test_a_job_costs_the_same_before_ten_times_as_many(
    fewer: int, more: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """To join and to leave the queue costs at most 1.3 times; an unknown id is one look."""

    async def crowded(count: int) -> tuple[AdapterHost, list[asyncio.Task[str]]]:
        adapter = Cheap()
        adapter.gate = asyncio.Event()
        host = await host_of(adapter, 4, limit=1)
        jobs = [
            asyncio.create_task(host.submit("p", job(number)).text()) for number in range(count + 4)
        ]
        while host.snapshot().pools[0].queued_interactive < count:
            await asyncio.sleep(0)
        return host, jobs

    def join_and_leave(host: AdapterHost) -> Callable[[], Awaitable[object]]:
        async def run() -> None:
            for number in range(100):
                waiting = asyncio.create_task(host.submit("p", job(-1 - number)).text())
                for _ in range(3):
                    await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait({waiting})

        return run

    few, few_jobs = await crowded(fewer)
    many, many_jobs = await crowded(more)
    joining = await ratio(join_and_leave(few), join_and_leave(many))
    say(capsys, f"to join a queue of {more:,} and leave it: {joining:.2f} times {fewer:,}")
    before = process_time()
    for _ in range(2000):
        await many.cancel("p", "unknown")
    unknown_us = (process_time() - before) / 2000 * 1e6
    say(capsys, f"to cancel an unknown id among {more:,} jobs: {unknown_us:.1f} us")
    for host, jobs in ((few, few_jobs), (many, many_jobs)):
        await host.aclose()
        await asyncio.gather(*jobs, return_exceptions=True)
    assert joining < 1.3 * NOISE
    assert unknown_us < 50


# Ended jobs


def memory_mb() -> float:
    """Resident memory now; on systems that do not tell, the most so far."""
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / (1 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


async def refused(host: AdapterHost, adapter: Cheap, count: int) -> None:
    adapter.failure = CapacityExceeded(ErrorCode.QUOTA_EXHAUSTED, "no quota", status=402)
    for number in range(count):
        with pytest.raises(WorkerError):
            await host.submit("p", TaskRequest(prompt="x" * 20_000, job_id=f"r{number}")).text()


async def cancelled(host: AdapterHost, adapter: Cheap, count: int) -> None:
    adapter.failure, adapter.gate = None, asyncio.Event()
    for number in range(count):
        task = TaskRequest(prompt="x" * 20_000, job_id=f"c{number}")
        running = asyncio.create_task(host.submit("p", task).text())
        for _ in range(3):
            await asyncio.sleep(0)
        assert await host.cancel("p", f"c{number}")
        await asyncio.wait({running})
        running.exception()


async def timed_out(host: AdapterHost, adapter: Cheap, count: int) -> None:
    adapter.failure, adapter.gate = None, asyncio.Event()

    async def late(number: int) -> None:
        task = TaskRequest(prompt="x" * 20_000, job_id=f"t{number}", deadline_s=0.001)
        with pytest.raises(WorkerError):
            await host.submit("p", task).text()

    for first in range(0, count, 50):
        await asyncio.gather(*(late(first + number) for number in range(50)))


@pytest.mark.parametrize(
    "count", [1500, pytest.param(20_000, marks=pytest.mark.exhaustive)], ids=str
)
async def test_ended_jobs_leave_nothing(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused, cancelled and timed-out jobs, with prompts of 20 kB: at most 3 MB in all."""
    adapter = Cheap()
    host = await host_of(adapter, 1)
    ways = (refused, cancelled, timed_out)
    for way in ways:  # fills what is bounded: the ledger, the interpreter's pools
        await way(host, adapter, 1000 if way is refused else 100)
    gc.collect()
    before = memory_mb()
    for way in ways:
        await way(host, adapter, count // len(ways))
    grown = memory_mb() - before
    say(capsys, f"{count:,} ended jobs: {grown:+.1f} MB")
    assert host.snapshot().pools[0].replicas[0].in_flight == 0
    gc.collect()
    assert not host._running._jobs
    await host.aclose()
    assert grown < 3.0


@pytest.mark.timing
@pytest.mark.parametrize(
    ("count", "rounds", "allowed"),
    [(500, 5, 2.8), pytest.param(10_000, 2, 3.5, marks=pytest.mark.exhaustive)],
)
async def test_a_storm_of_cancels_costs_little_more_than_the_adapters_own(
    count: int, rounds: int, allowed: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every job of many is cancelled by its id."""
    adapter = Cheap()
    adapter.gate = asyncio.Event()
    bare, host = adapter.bound(), await host_of(adapter, 1)
    pool = host.pool("p")

    def storm(front: BoundAdapter) -> Callable[[], Awaitable[object]]:
        async def run() -> None:
            jobs = [asyncio.create_task(front.submit(job(n)).text()) for n in range(count)]
            for _ in range(4):
                await asyncio.sleep(0)
            began_at = process_time()
            for number in range(count):
                assert await front.cancel(str(number))
            took.append(process_time() - began_at)
            await asyncio.gather(*jobs, return_exceptions=True)

        return run

    costs: list[float] = []
    for front in (bare, pool):
        took: list[float] = []
        for _ in range(rounds):
            await storm(front)()  # type: ignore[arg-type]
        costs.append(min(took))
    found = costs[1] / costs[0]
    say(capsys, f"{count:,} cancels cost {found:.2f} times the adapter's own")
    await host.aclose()
    await bare.aclose()
    assert found < allowed * NOISE


# Each job


@pytest.mark.timing
async def test_what_the_host_adds(capsys: pytest.CaptureFixture[str]) -> None:
    """To a request and to a paced token, as a multiple of what a bare adapter takes in the run.

    A bare request with one token takes about 50 us and a bare paced token 7 us on the machine for
    which 120 us and 5 us are the goals.
    """
    short, long = Cheap(1), Cheap(200, paced=True)
    bare_short, bare_long = short.bound(), long.bound()
    host_short, host_long = await host_of(short, 2), await host_of(long, 2)

    def drive(front: object, jobs: int) -> Callable[[], Awaitable[object]]:
        async def run() -> None:
            for number in range(jobs):
                async with front.submit(job(number)) as stream:  # type: ignore[attr-defined]
                    async for _ in stream:
                        pass

        return run

    request = await ratio(drive(bare_short, 200), drive(host_short.pool("p"), 200))
    token = await ratio(drive(bare_long, 5), drive(host_long.pool("p"), 5))
    say(capsys, f"a request is {request:.2f}, a paced token {token:.2f} times the bare adapter's")
    for closable in (host_short, host_long, bare_short, bare_long):
        await closable.aclose()
    assert request < 3.4 * NOISE
    assert token < 1.7 * NOISE
