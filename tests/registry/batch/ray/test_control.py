"""Stopping a run on a cluster, and the reports of its actors before a block ends."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.batch import Limits
from registry.batch.ray.blocks import Answering
from registry.batch.ray.control import Control
from registry.batch.ray.plan import ActorPlan
from registry.batch.rows import Row

WORKERS = """
[[replicas]]
pool = "p"
replica = "r0"
adapter = "mock"
options = { echo = true, delay_s = 0.005 }
"""


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (Limits(max_tokens=20), "20 tokens are used, the limit is 20"),
        (Limits(max_failures=3), "4 rows failed, the limit is 3"),
    ],
)
async def test_a_limit_counts_what_all_actors_report(limits: Limits, why: str) -> None:
    """The reports are added up; the reason that came first is kept."""
    control = Control(limits)
    await control.use(10, 2)
    waiting = asyncio.create_task(control.stopped())
    await asyncio.sleep(0)
    assert not waiting.done()
    await control.use(10, 2)
    await control.stop("later")
    assert await waiting == why


async def test_a_block_is_counted_and_stopped_while_it_runs() -> None:
    """Also where asyncio's own threads are fewer than the blocks, as on a small machine."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    answering = Answering(ActorPlan(workers=WORKERS, limits=Limits(max_in_flight=1)))
    rows = [Row(n, f"r{n}", "completion", {"prompt": "x"}) for n in range(1000)]
    blocks = [asyncio.create_task(answering.answer(part)) for part in (rows[:500], rows[500:])]
    try:
        while not (used := await asyncio.to_thread(answering.used))[0]:
            await asyncio.sleep(0)
        assert used[1] == 0
        await asyncio.to_thread(answering.stop, "enough")
        ended = await asyncio.gather(*blocks)
        assert [block.used.stopped for block in ended] == ["enough", "enough"]
        tokens = sum(block.used.tokens_in + block.used.tokens_out for block in ended)
        assert used[0] <= tokens < 1000
        assert await asyncio.to_thread(answering.used) == (tokens, 0)
    finally:
        answering.close()
