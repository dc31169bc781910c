"""The jobs of a front: bounded, found by their ids, counted, explained when they have ended.

Standard input, HTTP and bulk runs all hand their jobs to a host through a JobTable.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Literal, TypeVar

import attrs

from adapter_api import CapacityExceeded, ErrorCode, TaskRequest, TokenStream, WorkerError
from registry.host import AdapterHost
from registry.host.jobs import Priority

Phase = Literal["held", "queue", "waiting", "generating"]

RETRY_S = 1.0
"""The delay until a full pool is tried again although none of our jobs in it has ended: its other
jobs may have ended, or it may have more replicas."""

MAX_FAILURES = 20
"""The number of failures kept for display: a screenful."""


class DuplicateJob(ValueError):
    """A job of the same id is in the table.

    Args:
        job_id: The id.
    """

    def __init__(self, job_id: str) -> None:
        super().__init__(f"a job with the id {job_id} is running already")
        self.job_id = job_id


@attrs.define(eq=False)
class Job:
    """One job in the table.

    Args:
        pool_id: Its pool.
        task: The task. Its deadline begins when the host gets it.
        priority: "interactive" jobs go before "batch" jobs.

    Attributes:
        since: When it was made, in seconds of the loop's clock.
        phase: "held" before the host has it, "queue" before a replica accepts it, "waiting" for
            the first token, then "generating", if the front notes that.
        outcome: "ok" or the error's code; None before its end.
    """

    pool_id: str
    task: TaskRequest
    priority: Priority = "interactive"
    since: float = attrs.field(factory=lambda: asyncio.get_running_loop().time(), init=False)
    phase: Phase = attrs.field(default="held", init=False)
    outcome: str | None = attrs.field(default=None, init=False)
    cancelled: bool = attrs.field(default=False, init=False)
    woken: asyncio.Event | None = attrs.field(default=None, init=False, repr=False)

    @property
    def job_id(self) -> str:
        """The task's job_id."""
        return self.task.job_id


_J = TypeVar("_J", bound=Job)


@attrs.frozen
class Totals:
    """Numbers of jobs that have ended.

    Args:
        answered: With a whole answer.
        cancelled: Cancelled by request or by the end of the run.
        failed: With an error.
        codes: Of the failed ones, how many with each code.
    """

    answered: int = 0
    cancelled: int = 0
    failed: int = 0
    codes: dict[str, int] = attrs.field(factory=dict)

    def __str__(self) -> str:
        """Return a sentence such as "12 answered, 1 cancelled, 2 failed (WORKER_RESET 2)"."""
        parts = [f"{self.answered} answered"]
        if self.cancelled:
            parts.append(f"{self.cancelled} cancelled")
        codes = ", ".join(f"{code} {count}" for code, count in sorted(self.codes.items()))
        parts.append(f"{self.failed} failed" + (f" ({codes})" if codes else ""))
        return ", ".join(parts)


@attrs.frozen
class Failure:
    """A job that failed.

    Args:
        at_s: When, in seconds since the epoch.
        job_id: The job.
        pool_id: Its pool.
        code: The error's code.
    """

    at_s: float
    job_id: str
    pool_id: str
    code: str


class JobTable(Generic[_J]):
    """Runs jobs on a host for one front.

    Args:
        host: Runs the jobs.
        max_jobs: How many jobs the host has at once; None for no limit of our own.
        on_ended: Called with each job that has ended.
    """

    def __init__(
        self,
        host: AdapterHost,
        *,
        max_jobs: int | None = None,
        on_ended: Callable[[_J], None] | None = None,
    ) -> None:
        self._host = host
        self._max_jobs = max_jobs
        self._on_ended = on_ended
        self._jobs: dict[str, _J] = {}
        self._held: dict[str, _J] = {}  # in the order in which they begin
        self._running = 0
        self._full: dict[str, asyncio.TimerHandle] = {}  # pools without room, tried again then
        self._outcomes: Counter[str] = Counter()
        self._idle = asyncio.Event()
        self._idle.set()
        self.failures: deque[Failure] = deque(maxlen=MAX_FAILURES)

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._jobs

    @property
    def jobs(self) -> tuple[_J, ...]:
        """The jobs that have not ended, in the order in which they came."""
        return tuple(self._jobs.values())

    @property
    def totals(self) -> Totals:
        """The numbers of jobs that have ended."""
        codes = {code: n for code, n in self._outcomes.items() if code not in ("ok", "CANCELLED")}
        return Totals(
            answered=self._outcomes["ok"],
            cancelled=self._outcomes["CANCELLED"],
            failed=sum(codes.values()),
            codes=codes,
        )

    def run(self, job: _J, *, wait: bool = False) -> "Run[_J]":
        """Return a context that runs a job: entering it yields the opened stream.

        Args:
            job: The job.
            wait: Wait for room in the table and in the pool's queue. Otherwise a full queue is
                the job's error.
        """
        return Run(self, job, wait)

    def enter(self, job: _J) -> None:
        """Add a job to the table.

        Raises:
            DuplicateJob: If a job of this id is in it.
        """
        if job.job_id in self._jobs:
            raise DuplicateJob(job.job_id)
        self._jobs[job.job_id] = job
        self._idle.clear()

    def leave(self, job: _J, failure: BaseException | None) -> None:
        """Remove a job from the table and count its outcome."""
        self._held.pop(job.job_id, None)
        del self._jobs[job.job_id]
        if isinstance(failure, WorkerError):
            outcome: str | None = failure.code
        else:
            outcome = None if job.phase == "held" else self._host.outcome(job.job_id)
        job.outcome = outcome = str(outcome or ErrorCode.CANCELLED)
        self._outcomes[outcome] += 1
        if outcome not in ("ok", "CANCELLED"):
            at_s = round(time.time(), 3)
            self.failures.append(Failure(at_s, job.job_id, job.pool_id, outcome))
        if self._on_ended is not None:
            self._on_ended(job)
        if not self._jobs:
            self._idle.set()

    async def cancel(self, job_id: str) -> bool:
        """Cancel a job, whether it is held, queued or running.

        Returns:
            False if the table has no such job.
        """
        job = self._jobs.get(job_id)
        if job is None:
            return False
        job.cancelled = True
        if job.woken is not None:
            job.woken.set()
        if job.phase != "held":
            await self._host.cancel(job.pool_id, job_id)
        return True

    async def cancel_held(self) -> None:
        """Cancel the jobs that the host does not have yet."""
        for job in list(self._held.values()):
            await self.cancel(job.job_id)

    async def finish(self) -> None:
        """Wait until every job has ended."""
        await self._idle.wait()

    # Waiting for room

    async def opened(self, job: _J, *, wait: bool) -> TokenStream:
        """Hand a job to the host and return its opened stream; `closed` follows.

        Raises:
            WorkerError: If the job could not be started, or was cancelled before it was.
        """
        if wait:
            await self._wait_for_room(job)
        else:
            self._running += 1
        while True:
            job.phase = "queue"
            stream = self._host.submit(job.pool_id, job.task, priority=job.priority)
            try:
                await stream
            except BaseException as error:
                await stream.aclose()
                self.closed(job, full=wait and _is_full(error))
                if not wait or not _is_full(error):
                    raise
                await self._wait_for_room(job, again=True)
                continue
            job.phase = "waiting"
            self._try_again(job.pool_id)
            return stream

    async def _wait_for_room(self, job: _J, *, again: bool = False) -> None:
        """Return when the host may get the job, and count it as running.

        Raises:
            Cancelled: If the job was cancelled meanwhile.
        """
        job.phase = "held"
        if again:  # it came before all that are held
            self._held = {job.job_id: job, **self._held}
        else:
            self._held[job.job_id] = job
        job.woken = asyncio.Event()
        self._admit()
        try:
            await job.woken.wait()
        except BaseException:
            if job.job_id not in self._held:  # admitted at the same moment
                self.closed(job)
            raise
        if job.cancelled:
            if self._held.pop(job.job_id, None) is None:
                self.closed(job)
            raise WorkerError.of(
                ErrorCode.CANCELLED, "the job was cancelled before it began", job_id=job.job_id
            )

    def _admit(self) -> None:
        """Start held jobs, in their order, while there is room."""
        for job in list(self._held.values()):
            if not self._has_room():
                return
            if job.pool_id not in self._full:
                self._let_begin(job)

    def _try_again(self, pool_id: str) -> None:
        """Let one held job of a full pool begin: it finds out whether there is room again."""
        if pool_id in self._full:
            for job in self._held.values():
                if job.pool_id == pool_id:
                    if self._has_room():
                        self._let_begin(job)
                    return
            self._full.pop(pool_id).cancel()

    def _let_begin(self, job: _J) -> None:
        del self._held[job.job_id]
        self._running += 1
        assert job.woken is not None
        job.woken.set()

    def _has_room(self) -> bool:
        return self._max_jobs is None or self._running < self._max_jobs

    def closed(self, job: _J, *, full: bool = False) -> None:
        """Note that a job has left the host; `full` if its pool refused it for lack of room."""
        self._running -= 1
        if full:
            self._retry_later(job.pool_id)
        else:
            self._try_again(job.pool_id)
        self._admit()

    def _retry_later(self, pool_id: str) -> None:
        def retry() -> None:
            self._retry_later(pool_id)
            self._try_again(pool_id)

        if pool_id in self._full:
            self._full[pool_id].cancel()
        self._full[pool_id] = asyncio.get_running_loop().call_later(RETRY_S, retry)


class Run(Generic[_J]):
    """One job that runs through a table: a context that yields its opened stream.

    Entering it raises DuplicateJob, or the WorkerError that prevented the start.
    Leaving it closes the stream.

    Cancellation:
        The job ends, and its connection is closed.
    """

    __slots__ = ("_job", "_stream", "_table", "_wait")

    def __init__(self, table: JobTable[_J], job: _J, wait: bool) -> None:
        self._table = table
        self._job = job
        self._wait = wait
        self._stream: TokenStream | None = None

    async def __aenter__(self) -> TokenStream:
        table, job = self._table, self._job
        table.enter(job)
        try:
            self._stream = stream = await table.opened(job, wait=self._wait)
        except BaseException as error:
            table.leave(job, error)
            raise
        return stream

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._stream is not None
        try:
            await self._stream.aclose()
        finally:
            self._table.closed(self._job)
            self._table.leave(self._job, error)


def _is_full(error: BaseException) -> bool:
    return isinstance(error, CapacityExceeded) and error.code is ErrorCode.ADMISSION_REJECT
