"""The jobs of a long run: from lines of standard input to frames on standard output."""

import asyncio
import json
import logging
from functools import partial
from typing import Any

from adapter_api import Error, ErrorCode, WorkerError
from adapter_api.frames import to_frame
from registry import AdapterHost
from registry.serving.lines import LineReader, LineWriter
from registry.serving.requests import BadLine, Cancel, Submit, parse_line
from registry.serving.state import StateWriter

logger = logging.getLogger("worker_adapters.workers")

SAVE_EVERY_S = 1.0


class Run:
    """Jobs as they come, several at once.

    Args:
        host: Runs them.
        out: Gets their frames.
        state: Gets the host's snapshots, and each job's explanation when it has ended.
        max_jobs: How many jobs the host gets at once. As many more are read ahead, so that the
            lines that cancel jobs are seen.
    """

    def __init__(
        self, host: AdapterHost, out: LineWriter, state: StateWriter, max_jobs: int
    ) -> None:
        self._host = host
        self._out = out
        self._state = state
        self._most = max_jobs
        self._room = asyncio.Semaphore(2 * max_jobs)
        self._ahead: dict[str, Submit] = {}  # what was read and is not yet the host's, by job_id
        self._jobs: dict[str, tuple[str, asyncio.Task[None]]] = {}  # pool and task by job_id
        self._cancels: set[asyncio.Task[Any]] = set()
        self._snapshot = host.snapshot()
        self._unsaved = False

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits, or a frame does."""
        return bool(self._jobs or self._ahead) or self._out.waiting > 0

    async def read(self, lines: LineReader) -> None:
        """Do what the lines ask for, to their end. A bad line is an error frame."""
        number = 0
        async for line in lines:
            number += 1
            if line.strip():
                try:
                    await self._follow(parse_line(line))
                except BadLine as error:
                    await self._refuse(error, number)

    async def finish(self) -> None:
        """Wait until every job has ended and every frame is written."""
        while self._jobs:
            await asyncio.wait([task for _, task in self._jobs.values()])
            await asyncio.sleep(0)  # for what the tasks' ends have called
        await self._out.drain()

    async def end(self) -> None:
        """As `finish`, for the jobs that have begun; the others are cancelled."""
        dropped = list(self._ahead)
        self._ahead.clear()
        for job_id in dropped:
            await self._tell_dropped(job_id)
        await self.finish()

    async def save_again_and_again(self) -> None:
        """Keep the snapshot as it is now."""
        while True:
            self.save()
            await asyncio.sleep(SAVE_EVERY_S)

    def save(self, *, running: bool = True) -> None:
        """Write the snapshot; the last one again if the run is over. Where that fails the run goes
        on, and the log says so once."""
        if running:
            self._snapshot = self._host.snapshot()
        try:
            self._state.save(self._snapshot, running=running)
            self._unsaved = False
        except OSError as error:
            self._note_unsaved(error)

    async def _follow(self, request: Submit | Cancel) -> None:
        if isinstance(request, Submit):
            job_id = request.task.job_id
            if job_id in self._jobs or job_id in self._ahead:
                # Without the id: who reads its frames would take the error for that job's end.
                raise BadLine(f"a job of the id {job_id} runs already")
            await self._room.acquire()
            self._ahead[job_id] = request
            self._begin()
        elif request.job_id in self._ahead:
            del self._ahead[request.job_id]
            await self._tell_dropped(request.job_id)
        elif request.job_id in self._jobs:
            pool_id, _ = self._jobs[request.job_id]
            cancel = asyncio.create_task(self._host.cancel(pool_id, request.job_id))
            self._cancels.add(cancel)
            cancel.add_done_callback(self._cancels.discard)
        else:
            raise BadLine(f"no job of the id {request.job_id[:60]!r} runs")

    async def _tell_dropped(self, job_id: str) -> None:
        self._room.release()
        error = WorkerError.of(ErrorCode.CANCELLED, "the job was cancelled before it began")
        await self._write({"job_id": job_id, **to_frame(Error(error))})

    def _begin(self) -> None:
        """Give the host what it may have, in the order in which it was read."""
        while self._ahead and len(self._jobs) < self._most:
            job_id = next(iter(self._ahead))
            request = self._ahead.pop(job_id)
            task = asyncio.create_task(self._job(request), name=f"job {job_id}")
            self._jobs[job_id] = request.pool_id, task
            task.add_done_callback(partial(self._ended, job_id))

    def _ended(self, job_id: str, _: "asyncio.Task[None]") -> None:
        del self._jobs[job_id]
        self._room.release()
        self._begin()

    async def _job(self, request: Submit) -> None:
        try:
            await self._stream(request)
        except Exception:  # a defect; whoever waits for the job's last frame gets it
            logger.exception("job %s failed", request.task.job_id)
            error = WorkerError.of(ErrorCode.INTERNAL, "the run failed at this job, see its log")
            await self._write({"job_id": request.task.job_id, **to_frame(Error(error))})

    async def _stream(self, request: Submit) -> None:
        task = request.task
        stream = self._host.submit(request.pool_id, task, priority=request.priority)
        try:
            async for frame in stream.frames():
                await self._write({"job_id": task.job_id, **frame})
        finally:
            await stream.aclose()
        explanation = self._host.explain(task.job_id)
        if explanation is not None:
            try:
                self._state.append(explanation)
            except OSError as error:
                self._note_unsaved(error)

    async def _refuse(self, error: BadLine, number: int) -> None:
        frame = to_frame(Error(WorkerError.of(ErrorCode.INVALID_PARAMS, str(error))))
        await self._write({"job_id": error.job_id, "line": number, **frame})

    async def _write(self, frame: dict[str, Any]) -> None:
        await self._out.write(json.dumps(frame).encode())

    def _note_unsaved(self, error: OSError) -> None:
        if not self._unsaved:
            self._unsaved = True
            logger.warning("the state folder cannot be written: %s", error.strerror or error)
