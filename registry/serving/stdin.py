"""Jobs from standard input: a task on each line in, a frame on each line out."""

import asyncio
import json
import logging
from typing import Any

from adapter_api import Error, ErrorCode, WorkerError
from adapter_api.frames import to_frame
from registry.host import AdapterHost
from registry.serving.jobs import Job, JobTable, Totals
from registry.serving.lines import LineReader, LineWriter
from registry.serving.redaction import without_task
from registry.serving.state import StateWriter
from registry.serving.tasks import BadLine, Cancel, Submit, parse_line

logger = logging.getLogger("worker_adapters.serving")

SAVE_INTERVAL_S = 1.0
"""Seconds between two snapshots: `top` shows a new one each second."""


class StdinJobs:
    """Runs the jobs of standard input, several at once.

    Args:
        host: Runs the jobs.
        out: Receives their frames.
        state: Receives the host's snapshots, and each ended job's explanation.
        max_jobs: How many jobs the host has at once. As many more are read ahead, so that lines
            that cancel jobs are seen.
    """

    def __init__(
        self, host: AdapterHost, out: LineWriter, state: StateWriter, max_jobs: int
    ) -> None:
        self._host = host
        self._out = out
        self._state = state
        self._table: JobTable[Job] = JobTable(host, max_jobs=max_jobs, on_ended=self._note_ended)
        self._room = asyncio.Semaphore(2 * max_jobs)
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by job_id
        self._cancels: set[asyncio.Task[Any]] = set()
        self._snapshot = host.snapshot()
        self._state_failed = False
        self.bad_lines = 0
        """Lines that were refused."""

    @property
    def busy(self) -> bool:
        """True if a job has not ended or a frame is not written."""
        return bool(self._tasks) or self._out.waiting > 0

    @property
    def totals(self) -> Totals:
        """The numbers of jobs that have ended."""
        return self._table.totals

    async def read(self, lines: LineReader) -> None:
        """Process the lines to their end. An invalid line gets an error frame."""
        number = 0
        async for line in lines:
            number += 1
            if line.strip():
                try:
                    await self._follow(parse_line(line, self._pools))
                except BadLine as error:
                    await self._refuse(error, number)

    async def finish(self) -> None:
        """Wait until every job has ended and every frame is written."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())
            await asyncio.sleep(0)  # let the tasks' callbacks run
        await self._out.drain()

    async def cancel_held(self) -> None:
        """Cancel the jobs that have not begun."""
        await self._table.cancel_held()

    async def save_snapshots(self) -> None:
        """Write a snapshot every second, until cancelled."""
        while True:
            self.save()
            await asyncio.sleep(SAVE_INTERVAL_S)

    def save(self, *, running: bool = True) -> None:
        """Write the snapshot; the last one again if the run is over.

        A folder that cannot be written does not end the run: the log has one warning.
        """
        if running:
            self._snapshot = self._host.snapshot()
        table = self._table
        try:
            self._state.save(
                self._snapshot, running=running, totals=table.totals, failures=table.failures
            )
            self._state_failed = False
        except OSError as error:
            self._warn(error)

    # One line

    async def _follow(self, request: Submit | Cancel) -> None:
        if isinstance(request, Cancel):
            self._cancel(request.job_id)
            return
        job_id = request.task.job_id
        if job_id in self._tasks:
            # Without the id in the frame: its reader would take the error for the job's end.
            raise BadLine(f"a job with the id {job_id} is running already")
        await self._room.acquire()
        task = asyncio.create_task(self._job(request), name=f"job {job_id}")
        self._tasks[job_id] = task
        task.add_done_callback(lambda _: self._ended(job_id))

    def _pools(self) -> list[str]:
        return [pool.pool_id for pool in self._host.snapshot().pools]

    def _cancel(self, job_id: str) -> None:
        if job_id not in self._tasks:
            raise BadLine(f"no job with the id {job_id[:60]!r} is running")
        cancel = asyncio.create_task(self._table.cancel(job_id))
        self._cancels.add(cancel)
        cancel.add_done_callback(self._cancels.discard)

    def _ended(self, job_id: str) -> None:
        del self._tasks[job_id]
        self._room.release()

    async def _refuse(self, error: BadLine, number: int) -> None:
        self.bad_lines += 1
        frame = to_frame(Error(WorkerError.of(ErrorCode.INVALID_PARAMS, str(error))))
        await self._write({"job_id": error.job_id, "line": number, **frame})

    # One job

    async def _job(self, request: Submit) -> None:
        job_id = request.task.job_id
        try:
            job = Job(request.pool_id, request.task, request.priority)
            async with self._table.run(job, wait=True) as stream:
                async for frame in stream.frames():
                    await self._write({"job_id": job_id, **frame})
        except WorkerError as error:
            await self._write({"job_id": job_id, **to_frame(Error(error))})
        except Exception:  # a defect; the job's reader still gets its last frame
            logger.exception("job %s failed", job_id)
            defect = WorkerError.of(ErrorCode.INTERNAL, "the run failed at this job, see its log")
            await self._write({"job_id": job_id, **to_frame(Error(defect))})

    def _note_ended(self, job: Job) -> None:
        explanation = None if job.phase == "held" else self._host.explain(job.job_id)
        if explanation is not None:
            try:
                self._state.append(without_task(explanation, job.task))
            except OSError as error:
                self._warn(error)

    async def _write(self, frame: dict[str, Any]) -> None:
        await self._out.write(json.dumps(frame).encode())

    def _warn(self, error: OSError) -> None:
        if not self._state_failed:
            self._state_failed = True
            logger.warning("the state folder cannot be written: %s", error.strerror or error)
