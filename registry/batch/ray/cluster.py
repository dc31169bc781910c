"""A bulk run on a Ray cluster: this process reads rows and keeps the journal, actors answer.

A group of rows is one row of a dataset. Ray Data sends groups to the actors, sends them again when
a node is lost, and never holds more of them than it must. What comes back goes into the journal,
unless the row is there already.
"""

# pyright: reportAttributeAccessIssue=false
# (Where Ray is not installed, pyright takes this package for it.)

import asyncio
import itertools
import logging
import pickle
import re
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import attrs
import pyarrow
import ray
import ray.data
from ray.data.block import BlockMetadata
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from registry.batch.errors import BatchError
from registry.batch.journal import Header, Journal
from registry.batch.local import Summary
from registry.batch.ray.blocks import Answering, Block
from registry.batch.ray.control import Control
from registry.batch.ray.plan import ActorPlan
from registry.batch.rows import Row
from registry.batch.runs import Begin, Plan, examined, run_journal
from registry.batch.source import Source

GROUP_ROWS = 64
"""Rows of a group, which is sent again when its actor is lost."""

GROUPS_AT_ONCE = 8
"""Groups at once in an actor: their rows fill some engines while the last rows of one end."""


REPORT_S = 0.1
"""How often an actor reports the tokens and failures of rows in groups that have not ended."""

ACTOR_CPUS = 0.25
"""The CPUs that an actor reserves: it mostly waits, and its node may run an engine, too."""


_COLOUR = re.compile(r"\x1b\[\d*m")
_EXCEPTION = re.compile(r"^(?=[\w.]+(?:Error|Exception): )", re.MULTILINE)

CONNECT_S = 10.0
"""How long connecting to the cluster may take."""


@attrs.frozen(kw_only=True)
class Cluster:
    """A Ray cluster and what its actors do.

    Args:
        address: "HOST:PORT" of the cluster that this machine is a node of; "auto" for the one that
            Ray finds; "local" for a new one on this machine.
        workers: The content of a workers file; None: the replica that ORCHD_OPENAI_* describe on
            each node.
        actors: How many actors answer; None: one for each node.
    """

    address: str
    workers: str | None = None
    actors: int | None = None


async def run_plan(plan: Plan, cluster: Cluster, begin: Begin | None = None) -> Summary:
    """Run an input file on a Ray cluster; the same call again resumes.

    Args:
        plan: The run. An empty pool_id is the only pool.
        cluster: The cluster. It is not changed; "local" ends with the run.
        begin: Called with the run before its first row, to watch and to stop it.

    Raises:
        BatchError: If the cluster cannot be used, or as for `registry.batch.run_plan`.
        OSError: If a file cannot be read or written. Finished rows stay in the journal.

    Cancellation:
        The run stops as by `stop`: rows in flight finish.
    """
    source = await asyncio.to_thread(examined, plan)
    header = Header(source.sha256, source.rows, plan.identity(source.format))
    await asyncio.to_thread(_connect, cluster.address)
    try:

        def start(journal: Journal) -> ClusterRun:
            if plan.retry_failed:
                journal.reopen_failed()
            return ClusterRun(source, journal, plan, cluster)

        path = plan.journal
        return await run_journal(path, header, start, begin, plan.output, plan.accept_changes)
    finally:
        await asyncio.to_thread(ray.shutdown)


def _connect(address: str) -> None:
    if address.startswith("ray://"):
        raise BatchError("Ray Client cannot run this: start the command on a node of the cluster")
    host, _, port = address.rpartition(":")
    try:
        if port.isdigit():  # Ray itself would try for minutes, and cannot be interrupted
            socket.create_connection((host, int(port)), CONNECT_S).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # we report its errors
    except (OSError, ValueError, RuntimeError) as exc:
        raise BatchError(f"no Ray cluster can be reached at {address}: {exc}") from exc


class ClusterRun:
    """A run whose rows are answered by actors.

    Args:
        source: The input.
        journal: Receives the results.
        plan: The run.
        cluster: Where the actors are.
    """

    def __init__(self, source: Source, journal: Journal, plan: Plan, cluster: Cluster) -> None:
        self._source = source
        self._journal = journal
        self._plan = plan
        self._cluster = cluster
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        control = ray.remote(num_cpus=0, scheduling_strategy=here)(Control)
        self._control = control.remote(plan.limits)
        self.progress = Summary(journal.rows, journal.answered, journal.failed)

    def stop(self, why: str) -> None:
        """Send no further row; rows in flight finish. The first reason is kept."""
        if not self.progress.stopped:
            self.progress.stopped = why
            self._control.stop.remote(why)

    async def run(self) -> None:
        """Run until every row has ended, or a reason to stop arises.

        Raises:
            OSError: If the journal cannot be written.
            BatchError: If the actors fail.
        """
        if not self.progress.left:
            return
        loop = asyncio.get_running_loop()
        consuming = asyncio.create_task(asyncio.to_thread(self._consume, loop))
        try:
            await asyncio.shield(consuming)
        except asyncio.CancelledError:
            self.stop("cancelled")
            await asyncio.wait({consuming})
            raise
        finally:
            await self._journal.flush()

    def _consume(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            for table in self._dataset().iter_batches(batch_size=None, batch_format="pyarrow"):
                for data in table["results"]:
                    done = asyncio.run_coroutine_threadsafe(self._take(data.as_py()), loop)
                    done.result()
        except ray.exceptions.RayError as exc:
            raise BatchError(f"the cluster failed: {_reason(exc)}") from exc

    def _dataset(self) -> ray.data.Dataset:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        # A block for each group: it continues as soon as it is there.
        context.target_max_block_size = context.target_min_block_size = 1
        actors = self._cluster.actors or sum(node["Alive"] for node in ray.nodes())
        plan = ActorPlan(
            workers=self._cluster.workers,
            pool_id=self._plan.pool_id or None,
            fields=self._plan.fields,
            limits=attrs.evolve(self._plan.limits, max_tokens=None, max_failures=None),
            actors=actors,
        )
        rows = ray.data.read_datasource(
            _OpenRows(self._source, self._journal.states()),
            override_num_blocks=1,
            num_cpus=0,
            label_selector={"ray.io/node-id": ray.get_runtime_context().get_node_id()},
        )
        return rows.map_batches(
            _Groups,
            fn_constructor_args=(plan, self._control),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=ACTOR_CPUS,
            compute=ray.data.ActorPoolStrategy(
                size=actors,
                max_tasks_in_flight_per_actor=2 * GROUPS_AT_ONCE,
                max_concurrent_calls_per_actor=GROUPS_AT_ONCE,
            ),
        )

    async def _take(self, data: bytes) -> None:
        """Write what an actor has answered."""
        block: Block = pickle.loads(data)
        progress = self.progress
        progress.add(block.used)
        for number, (outcome, result) in block.results.items():
            if self._journal.finished(number):
                continue  # an actor was lost after its last row, and the group was answered again
            self._journal.append(number, outcome, result)
            progress.done += 1
            progress.answered += outcome == "ok"
            progress.failed += outcome == "error"
        if why := block.used.stopped or progress.beyond(self._plan.limits):
            self.stop(why)


def _reason(error: Exception) -> str:
    """Return the exception that an actor raised; Ray puts its traceback before it."""
    text = _COLOUR.sub("", str(error))
    return _EXCEPTION.split(text)[-1].strip()


class _OpenRows(ray.data.Datasource):  # type: ignore[misc]  # it has no types here
    """The groups of open rows, read lazily on this node.

    Args:
        source: The input.
        finished: One byte for each row, which is not 0 if the row is finished.
    """

    def __init__(self, source: Source, finished: bytes) -> None:
        super().__init__()
        self._source = source
        self._finished = finished

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: unknown."""
        return None

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ray.data.ReadTask]:
        """Return the one task that reads."""
        source, finished = self._source, self._finished

        def read() -> Iterator[pyarrow.Table]:
            rows = source.read(lambda number: finished[number] != 0)
            while group := list(itertools.islice(rows, GROUP_ROWS)):
                yield pyarrow.table({"rows": [pickle.dumps(group)]})

        metadata = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None)
        return [ray.data.ReadTask(read, metadata)]


class _Groups:
    """Answers groups of rows; Ray Data makes one of these in each of its actors.

    Args:
        plan: The plan of the actor.
        control: Returns when the run stops.
    """

    def __init__(self, plan: ActorPlan, control: Any) -> None:
        self._answering = Answering(plan)
        self._control = control
        self._watching: asyncio.Task[None] | None = None
        self._reporting: asyncio.Task[None] | None = None

    async def __call__(self, table: pyarrow.Table) -> AsyncIterator[pyarrow.Table]:
        """Yield the results of one group."""
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
            self._reporting = asyncio.create_task(self._report())
        rows: list[Row] = pickle.loads(table["rows"][0].as_py())
        block = await self._answering.answer(rows)
        yield pyarrow.table({"results": [pickle.dumps(block)]})

    async def _watch(self) -> None:
        why = await self._control.stopped.remote()
        await asyncio.to_thread(self._answering.stop, why)

    async def _report(self) -> None:
        """Report usage while rows run: waiting for the end of a group would be too late for a
        limit."""
        tokens = failures = 0
        while True:
            await asyncio.sleep(REPORT_S)
            now = await asyncio.to_thread(self._answering.used)
            if now != (tokens, failures):
                await self._control.use.remote(now[0] - tokens, now[1] - failures)
                tokens, failures = now
