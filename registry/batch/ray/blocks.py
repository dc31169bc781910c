"""Blocks of rows, answered in an actor by its own host, each row once."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

import registry.sync
from registry.batch.errors import BatchError
from registry.batch.journal import Header, Journal, JournalHeld, Outcome
from registry.batch.local import LocalRun, Results, Summary
from registry.batch.pace import Pace
from registry.batch.ray.plan import ActorPlan
from registry.batch.rows import Row
from registry.host import AdapterHost

HELD_S = 60.0
"""How long a block waits for the journal of its earlier attempt: as long as Ray takes to notice
that a node is dead, and to end its actors."""

MAX_BLOCKS = 256
"""Blocks at once in an actor. Each has a thread of these that waits for it: with the few threads
that asyncio has on a small machine, a stop or a count would wait for the end of a block."""


@attrs.define(eq=False)
class Block:
    """The results of a block.

    Attributes:
        rows: How many rows it has.
        results: By the row's number.
        used: The usage of this call, and why rows are still open, if some are.
    """

    rows: int
    results: dict[int, tuple[Outcome, bytes]] = attrs.field(factory=dict)
    used: Summary = attrs.field(factory=lambda: Summary(0, 0, 0))
    answered: int = 0
    failed: int = 0

    def append(self, number: int, outcome: Outcome, result: bytes) -> None:
        """Keep the result of a row."""
        self.results[number] = outcome, result

    async def flush(self) -> None:
        """Do nothing: nothing is written."""


class Answering:
    """Answers blocks of rows, several at once, in the thread of its host.

    Args:
        plan: The plan.
    """

    def __init__(self, plan: ActorPlan) -> None:
        self._plan = plan
        self._limits = plan.own_limits()
        self._runs: set[LocalRun] = set()
        self._ended = Summary(0, 0, 0)
        self._threads = ThreadPoolExecutor(MAX_BLOCKS, "worker-adapters-block")
        self._stopped = ""
        self._host = registry.sync.host(plan.host)
        self._pool_id, self._pace = self._host.call(self._begin)

    async def _begin(self, host: AdapterHost) -> tuple[str, Pace]:
        pools = [pool.pool_id for pool in host.snapshot().pools]
        pool_id = self._plan.pool_id or (pools[0] if len(pools) == 1 else None)
        if pool_id not in pools:
            raise BatchError(f"pool_id must be one of {', '.join(pools)}, got {pool_id!r}")
        assert pool_id is not None
        await host.check(pool_id)
        return pool_id, Pace(host, pool_id, self._limits, 1 / self._plan.actors)

    def close(self) -> None:
        """Close the host."""
        self._host.close()
        self._threads.shutdown(wait=False)

    def stop(self, why: str) -> None:
        """Send no further row of any block; rows in flight finish."""

        def stop(_: AdapterHost) -> None:
            self._stopped = self._stopped or why
            for run in self._runs:
                run.stop(why)

        self._host.call(stop)

    def used(self) -> tuple[int, int]:
        """Return how many tokens all rows have used so far, and how many rows have failed."""

        def count(_: AdapterHost) -> tuple[int, int]:
            every = [self._ended, *(run.progress for run in self._runs)]
            return (
                sum(one.tokens_in + one.tokens_out for one in every),
                sum(one.failures.total() for one in every),
            )

        return self._host.call(count)

    async def answer(self, rows: Sequence[Row]) -> Block:
        """Answer a block of rows. Call it in any event loop.

        Args:
            rows: The rows; numbered from 0 if the plan has checkpoints.

        Raises:
            BatchError: If another actor works on the same block.
            OSError: If the block's journal cannot be written.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, self._host.call, lambda host: self._answer(host, rows)
        )

    async def _answer(self, host: AdapterHost, rows: Sequence[Row]) -> Block:
        block = Block(len(rows))
        if self._stopped:
            block.used.stopped = self._stopped
        elif self._plan.checkpoints is None:
            await self._run(host, rows, block, block)
        else:
            name = self._plan.block_id(rows)
            journal = await _open_journal(Path(self._plan.checkpoints), name, len(rows))
            with journal:
                left = [row for row in rows if not journal.finished(row.number)]
                await self._run(host, left, journal, block)
                for number, outcome, result in journal.results():
                    block.append(number, outcome, result)
        return block

    async def _run(
        self, host: AdapterHost, rows: Sequence[Row], results: Results, block: Block
    ) -> None:
        run = LocalRun(
            iter(rows),
            results,
            host,
            self._pool_id,
            fields=self._plan.fields,
            limits=self._limits,
            pace=self._pace,
        )
        self._runs.add(run)
        try:
            await run.run()
        finally:
            self._runs.discard(run)
            self._ended.add(run.progress)
        block.used = run.progress


async def _open_journal(folder: Path, name: str, rows: int) -> Journal:
    """Open the journal of a block; wait while an earlier attempt, on a dying node, holds it."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    header = Header(name, rows, {})
    for _ in range(int(HELD_S)):
        try:
            return await asyncio.to_thread(Journal, folder / f"{name}.journal", header)
        except JournalHeld:
            await asyncio.sleep(1.0)
    return Journal(folder / f"{name}.journal", header)
