"""The table of jobs that every front shares."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

import registry
from adapter_api import Cancelled, TaskRequest, Token, WorkerError
from registry import AdapterHost, PoolPolicy
from registry.serving import Job, JobTable
from registry.serving.jobs import DuplicateJob

TOKENS = ("a ", "b ", "c ")


def task(job_id: str, **fields: Any) -> TaskRequest:
    return TaskRequest(prompt="x", job_id=job_id, **fields)


@pytest.fixture
async def host() -> AsyncIterator[AdapterHost]:
    """A pool `p` whose one replica runs one job, beside which one may wait."""
    async with AdapterHost() as made:
        made.set_policy("p", PoolPolicy(max_queue=1))
        adapter = registry.get("mock", tokens=TOKENS, delay_s=0.002)
        made.bind("p", "r0", adapter, limit=1)
        yield made


async def run(table: JobTable[Job], job_id: str, **how: Any) -> str:
    async with table.run(Job("p", task(job_id)), **how) as stream:
        return "".join([event.text async for event in stream if isinstance(event, Token)])


async def test_jobs_wait_for_room(host: AdapterHost) -> None:
    """Many more jobs than the pool's queue takes are all answered, in the order they came."""
    table = JobTable[Job](host)
    order: list[str] = []

    async def one(number: int) -> None:
        job_id = f"j{number:02}"
        assert await run(table, job_id, wait=True) == "a b c "
        order.append(job_id)

    await asyncio.gather(*map(one, range(20)))
    assert order == sorted(order)
    assert str(table.totals) == "20 answered, 0 failed"
    assert len(table) == 0


async def test_without_waiting_a_full_queue_is_an_error(host: AdapterHost) -> None:
    """A front that must answer at once gets ADMISSION_REJECT."""
    table = JobTable[Job](host)
    await run(table, "first")  # now the replica is ready
    results = await asyncio.gather(
        *(run(table, f"j{number}") for number in range(5)), return_exceptions=True
    )
    codes = [error.code for error in results if isinstance(error, WorkerError)]
    assert codes == ["ADMISSION_REJECT"] * 3
    assert str(table.totals) == "3 answered, 3 failed (ADMISSION_REJECT 3)"
    assert [failure.code for failure in table.failures] == codes


async def test_a_pool_that_stays_full_does_not_stop_another(host: AdapterHost) -> None:
    """Jobs that are held for one pool are not in the way of another's."""
    host.bind("q", "r0", registry.get("mock", tokens=TOKENS))
    table = JobTable[Job](host)
    async with AsyncExitStack() as stack:
        held = [asyncio.create_task(run(table, f"j{number}", wait=True)) for number in range(5)]
        stack.callback(lambda: [each.cancel() for each in held])
        await asyncio.sleep(0)
        async with table.run(Job("q", task("other")), wait=True) as stream:
            assert [event async for event in stream]
        assert not held[-1].done()
        await asyncio.gather(*held)


async def test_the_table_bounds_the_jobs(host: AdapterHost) -> None:
    """No more than max_jobs are with the host at once."""
    host.set_policy("p", PoolPolicy(max_queue=50))
    table = JobTable[Job](host, max_jobs=2)
    jobs = [asyncio.create_task(run(table, f"j{number}", wait=True)) for number in range(6)]
    while len(table) < 6:
        await asyncio.sleep(0)
    phases: list[str] = []
    while not all(job.done() for job in jobs):
        phases = [job.phase for job in table.jobs]
        assert sum(phase != "held" for phase in phases) <= 2
        await asyncio.sleep(0.001)
    assert table.totals.answered == 6


@pytest.mark.parametrize("number", [0, 1, 4])
async def test_a_job_is_cancelled_wherever_it_is(host: AdapterHost, number: int) -> None:
    """Answering, waiting in the pool or held by the table: the job ends, the others do not."""
    table = JobTable[Job](host)
    jobs = [asyncio.create_task(run(table, f"j{n}", wait=True)) for n in range(5)]
    await asyncio.sleep(0.001)
    assert await table.cancel(f"j{number}")
    results = await asyncio.gather(*jobs, return_exceptions=True)
    others = [result for n, result in enumerate(results) if n != number]
    assert others == ["a b c "] * 4
    assert table.totals.cancelled == 1
    assert not await table.cancel("j0")
    assert isinstance(results[number], Cancelled | str)


async def test_held_jobs_are_cancelled_together(host: AdapterHost) -> None:
    """A run that shuts down ends those that have not begun, and lets the others finish."""
    table = JobTable[Job](host, max_jobs=1)
    jobs = [asyncio.create_task(run(table, f"j{n}", wait=True)) for n in range(4)]
    await asyncio.sleep(0.001)
    await table.cancel_held()
    await table.finish()
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert results[0] == "a b c "
    assert all(isinstance(result, Cancelled) for result in results[1:])


async def test_a_front_that_goes_away_leaves_nothing(host: AdapterHost) -> None:
    """A cancelled caller frees its place, held or not."""
    table = JobTable[Job](host, max_jobs=1)
    jobs = [asyncio.create_task(run(table, f"j{n}", wait=True)) for n in range(3)]
    await asyncio.sleep(0.001)
    for job in jobs[:2]:
        job.cancel()
    assert await jobs[2] == "a b c "
    await table.finish()
    assert len(table) == 0


async def test_two_jobs_of_one_id(host: AdapterHost) -> None:
    """The second is refused while the first is in the table."""
    table = JobTable[Job](host)
    async with table.run(Job("p", task("j"))) as stream:
        with pytest.raises(DuplicateJob, match="j is running already"):
            await run(table, "j")
        assert [event async for event in stream]
    assert await run(table, "j") == "a b c "
