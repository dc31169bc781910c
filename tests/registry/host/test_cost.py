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
from typing import Any

import pytest

from adapter_api import (
    End,
    ErrorCode,
    HealthState,
    HealthStatus,
    InvalidRequest,
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

LARGE = pytest.mark.exhaustive
"""Sizes for a machine that has nothing else to do; the default ones take tenths of a second."""

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
    gc.disable()
    try:
        began_at = process_time()
        await work()
        return process_time() - began_at
    finally:
        gc.enable()


async def ratio(
    cheap: Callable[[], Awaitable[object]],
    expensive: Callable[[], Awaitable[object]],
    rounds: int = 5,
) -> float:
    """Return the ratio of two costs, each the minimum of several alternating rounds."""
    costs = [(await cost_of(cheap), await cost_of(expensive)) for _ in range(rounds)]
    return min(expensive for _, expensive in costs) / min(cheap for cheap, _ in costs)


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        print(f"\nhost: {text}", end="")


# Many replicas, many waiting jobs


def drive(front: Any, jobs: int, *, sessions: bool = False) -> Callable[[], Awaitable[object]]:
    """Run jobs one after another, reading each event."""

    async def run() -> None:
        for number in range(jobs):
            session_id = f"s{number}" if sessions else None
            async with front.submit(job(number, session_id=session_id)) as stream:
                async for _ in stream:
                    pass

    return run


@pytest.mark.timing
@pytest.mark.parametrize("replicas", [200, pytest.param(1000, marks=LARGE)])
async def test_a_job_costs_the_same_among_many_replicas(
    replicas: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """At most 1.5 times what it costs among ten; with sessions, twice."""
    adapter = Cheap()
    few, many = await host_of(adapter, 10), await host_of(adapter, replicas)
    found = {
        sessions: await ratio(
            drive(few.pool("p"), 60, sessions=sessions),
            drive(many.pool("p"), 60, sessions=sessions),
        )
        for sessions in (False, True)
    }
    say(
        capsys,
        f"a job among {replicas:,} replicas: {found[False]:.2f} times that among 10, "
        f"{found[True]:.2f} times with sessions",
    )
    await few.aclose()
    await many.aclose()
    assert found[False] < 1.5
    assert found[True] < 2.0


async def crowded(waiting: int) -> tuple[AdapterHost, list[asyncio.Task[str]]]:
    """A host whose replicas are full, with jobs that wait."""
    adapter = Cheap()
    adapter.gate = asyncio.Event()
    host = await host_of(adapter, 4, limit=1)
    jobs = [
        asyncio.create_task(host.submit("p", job(number)).text()) for number in range(waiting + 4)
    ]
    while host.snapshot().pools[0].queued_interactive < waiting:
        await asyncio.sleep(0)
    return host, jobs


@pytest.mark.timing
@pytest.mark.parametrize(
    ("fewer", "more"), [(50, 500), pytest.param(1000, 10_000, marks=LARGE)], ids=str
)
async def test_a_job_costs_the_same_before_ten_times_as_many(
    fewer: int, more: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """To join and to leave the queue costs at most 1.3 times; an unknown id is one look."""

    def join_and_leave(host: AdapterHost) -> Callable[[], Awaitable[object]]:
        async def run() -> None:
            for number in range(60):
                waiting = asyncio.create_task(host.submit("p", job(-1 - number)).text())
                for _ in range(3):
                    await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait({waiting})

        return run

    def ask_for_unknown(host: AdapterHost) -> Callable[[], Awaitable[object]]:
        async def run() -> None:
            for _ in range(1000):
                await host.cancel("p", "unknown")

        return run

    few, few_jobs = await crowded(fewer)
    many, many_jobs = await crowded(more)
    joining = await ratio(join_and_leave(few), join_and_leave(many))
    unknown = await ratio(ask_for_unknown(few), ask_for_unknown(many))
    say(
        capsys,
        f"a queue of {more:,} instead of {fewer:,}: {joining:.2f} times to join and leave it, "
        f"{unknown:.2f} times to cancel an unknown id",
    )
    for host, jobs in ((few, few_jobs), (many, many_jobs)):
        await host.aclose()
        await asyncio.gather(*jobs, return_exceptions=True)
    assert joining < 1.3
    assert unknown < 1.3


# Ended jobs


def memory_mb() -> float:
    """Resident memory now; on systems that do not notify, the most so far."""
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / (1 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


async def refused(host: AdapterHost, adapter: Cheap, count: int) -> None:
    adapter.failure = InvalidRequest(ErrorCode.INVALID_PARAMS, "no such option", status=400)
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


@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=LARGE)], ids=str)
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
    assert len(host._running) == 0
    await host.aclose()
    assert grown < 3.0


def storm(front: Any, count: int) -> Callable[[], Awaitable[float]]:
    """Cancel every job of many by its id; returns the processor seconds of the cancels."""

    async def run() -> float:
        jobs = [asyncio.create_task(front.submit(job(n)).text()) for n in range(count)]
        for _ in range(4):
            await asyncio.sleep(0)
        began_at = process_time()
        for number in range(count):
            assert await front.cancel(str(number))
        took_s = process_time() - began_at
        await asyncio.gather(*jobs, return_exceptions=True)
        return took_s

    return run


@pytest.mark.timing
@pytest.mark.parametrize(
    ("count", "rounds", "bound"), [(150, 6, 2.6), pytest.param(10_000, 3, 2.2, marks=LARGE)]
)
async def test_a_storm_of_cancels_costs_little_more_than_the_adapters_own(
    count: int, rounds: int, bound: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """About twice: a host's job is two streams, one inside the other. What jobs leave behind is
    the collector's work, which counts."""
    adapter = Cheap()
    adapter.gate = asyncio.Event()
    bare, host = adapter.bound(), await host_of(adapter, 1)
    storms = storm(bare, count), storm(host.pool("p"), count)
    costs = []
    for _ in range(rounds):
        if count > 1000:
            gc.collect()  # each storm begins alike
        costs.append((await storms[0](), await storms[1]()))
    found = min(expensive for _, expensive in costs) / min(cheap for cheap, _ in costs)
    say(capsys, f"{count:,} cancels cost {found:.2f} times the adapter's own")
    await host.aclose()
    await bare.aclose()
    assert found < bound


# Each job


@pytest.mark.timing
async def test_what_the_host_adds(capsys: pytest.CaptureFixture[str]) -> None:
    """To a request and to a paced token, as a multiple of what a bare adapter takes in the run."""
    short, long = Cheap(1), Cheap(400, paced=True)
    bare_short, bare_long = short.bound(), long.bound()
    host_short, host_long = await host_of(short, 2), await host_of(long, 2)
    request = await ratio(drive(bare_short, 60), drive(host_short.pool("p"), 60), rounds=8)
    token = await ratio(drive(bare_long, 2), drive(host_long.pool("p"), 2), rounds=12)
    say(capsys, f"a request is {request:.2f}, a paced token {token:.2f} times the bare adapter's")
    for closable in (host_short, host_long, bare_short, bare_long):
        await closable.aclose()
    assert request < 4.0
    assert token < 1.7
