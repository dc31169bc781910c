"""One job on its way through a pool: it waits for a replica, is sent to it, and may fail over."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Self

import attrs

from adapter_api.errors import ErrorCode, WorkerError
from adapter_api.events import End, Error, Started, Token, TokenEvent
from adapter_api.limits import StreamClock
from adapter_api.stream import TokenStream
from adapter_api.task import TaskRequest
from registry.host.breaker import Verdict, verdict_on
from registry.host.jobs import JobRecord, Ledger, Priority, copied, of_the_job, too_late
from registry.host.pool import Progress
from registry.host.queue import Queue
from registry.host.replica import Lease, Replica
from registry.host.snapshot import is_other_model
from registry.observers.reports import JobReport

logger = logging.getLogger("worker_adapters.host")

BACKOFF_S = 0.1
"""The pause before a job returns to a replica that failed it, doubled with each attempt."""

MAX_BACKOFF_S = 5.0
"""The longest such pause."""

FindQueue = Callable[[str, Queue | None], Queue]
"""Returns the queue of a pool that takes new jobs. For a job that is in a queue already it returns
that pool's present one."""


@attrs.define(eq=False)
class Job:
    """The state that one submit carries through its attempts.

    Args:
        task: The job.
        priority: Its place in the queue.
        limits: The clock of the stream that the user reads.
        report: Reports the job and its attempts to observers.
        rng: Spreads pauses.

    Attributes:
        replica: The replica of the current attempt.
        asked: The replica of each attempt.
    """

    task: TaskRequest
    priority: Priority
    limits: StreamClock
    report: JobReport
    _rng: random.Random
    began_at: float = attrs.field(init=False)
    replica: Replica | None = attrs.field(default=None, init=False)
    asked: list[str] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.began_at = self.limits.started_at

    async def events(
        self, pool_id: str, find_queue: FindQueue, ledger: Ledger
    ) -> AsyncIterator[TokenEvent | list[Token]]:
        """Yield the job's events, from whichever replica gives the first event of its answer.

        Args:
            pool_id: The job's pool.
            find_queue: Returns the queue of a pool; raises WorkerError if it takes no jobs.
            ledger: Keeps the job's record.
        """
        record = ledger.open(self.task.job_id, pool_id)
        self.asked = record.asked
        attempt: Attempt | None = None
        way: _Way | None = None
        try:
            way = _Way(self, pool_id, find_queue, record)
            while True:
                attempt = await way.next_attempt()
                async with attempt:
                    for event in await attempt.head():
                        yield event
                    advance, take_buffered = attempt.stream.__anext__, attempt.stream.take_buffered
                    lease = attempt.lease
                    while not attempt.ended:
                        event = await advance()
                        if type(event) is not Token:
                            yield attempt.rare(event)
                        elif more := take_buffered():
                            lease.tokens += 1 + len(more)
                            yield [event, *more]
                        else:
                            lease.tokens += 1
                            yield event
                    return
                way.go_on(attempt)  # only a failure before the first event comes here
        except WorkerError as error:
            reported = of_the_job(error, self.task.deadline_s, self.asked)
            record.end(str(reported.code), detail=reported.message)
            reported.ledger = record.ledger()
            raise reported from error.__cause__
        except BaseException:
            if record.outcome is None:
                record.end(self.why_stopped())
            if self.limits.stopped_by is not None:
                self.limits.stopped_by.ledger = record.ledger()
            raise
        finally:
            del attempt, way  # they hold errors, whose tracebacks hold this frame
            ledger.close(record)

    def task_for(self, replica: Replica) -> TaskRequest:
        """Return the task with the rest of its deadline. Only the pool retries."""
        left_s = self.limits.remaining_s()
        return copied(
            self.task,
            deadline_s=None if left_s is None else max(left_s, 0.001),
            max_attempts=1,
            model=replica.binding.model_for(self.task.model),
        )

    def why_stopped(self) -> str:
        """Return why the job ended from outside: its deadline, or a cancel."""
        stopped_by = self.limits.stopped_by
        return str(ErrorCode.CANCELLED if stopped_by is None else stopped_by.code)

    @property
    def earlier(self) -> int:
        """The number of attempts before the current one."""
        return len(self.asked) - 1

    def backoff_s(self, error: WorkerError) -> float:
        """Return how long the job avoids a replica that failed it."""
        if error.retry_after_ms is not None:
            return error.retry_after_ms / 1000
        backoff_s = min(MAX_BACKOFF_S, BACKOFF_S * 2.0 ** (len(self.asked) - 1))
        return backoff_s * self._rng.uniform(0.5, 1.0)

    def progress(self) -> Progress:
        """Return the job's progress in a pool that it comes to."""
        left_s, now = self.limits.remaining_s(), _now()
        return Progress(self.task, None if left_s is None else now + left_s, now)


@attrs.define(eq=False)
class _Way:
    """A job's way from attempt to attempt, through its pool and the pools it falls back to."""

    _job: Job
    _pool_id: str
    _find_queue: FindQueue
    _record: JobRecord
    _is_back: bool = attrs.field(default=False, init=False)
    _failure: WorkerError | None = attrs.field(default=None, init=False)  # in this pool
    _queue: Queue = attrs.field(init=False)
    _progress: Progress = attrs.field(init=False)
    _fallback: Iterator[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._queue = self._find_queue(self._pool_id, None)
        others = self._queue.pool.policy.fallback  # of [defaults], it may name the pool itself
        self._fallback = iter([name for name in others if name != self._pool_id])
        self._enter()

    def _enter(self) -> None:
        self._queue.pool.note_job()
        self._progress = self._job.progress()

    async def next_attempt(self) -> "Attempt":
        """Wait for a replica.

        Raises:
            WorkerError: If the last failure, or the refusal if there was none.
        """
        job = self._job
        while True:
            try:
                lease = await self._queue.lease(
                    self._progress, self._record, job.priority, is_back=self._is_back
                )
            except WorkerError as refusal:
                if self._fall_back(refusal):
                    continue
                failure = self._failure
                if failure is None:
                    raise
                if failure.retry_after_ms is None:
                    failure.retry_after_ms = refusal.retry_after_ms
                raise failure from refusal
            job.asked.append(lease.replica.replica_id)
            return Attempt(job, self._queue, self._progress, lease, self._record)

    def go_on(self, attempt: "Attempt") -> None:
        """Get ready for another attempt.

        Raises:
            WorkerError: The failure, if there must be none.
        """
        error = attempt.failure
        assert error is not None
        self._queue = self._find_queue(self._pool_id, self._queue)  # it may have been bound again
        backoff_s = self._job.backoff_s(error)
        why = self._queue.pool.go_on(self._progress, attempt.lease, error, backoff_s)
        self._record.note("retry", why)
        if why == "granted":
            self._is_back, self._failure = True, error
        elif not self._fall_back(error):
            raise error

    def _fall_back(self, error: WorkerError) -> bool:
        """Move to the next existing fallback pool; return False if there is none."""
        if not error.retriable and verdict_on(error) is Verdict.JOB:
            return False
        for pool_id in self._fallback:
            try:
                self._queue = self._find_queue(pool_id, None)
            except WorkerError as missing:
                self._record.note("fallback", str(missing.code), detail=missing.message)
                continue
            self._record.note("fallback", str(error.code), detail=f"to pool {pool_id}")
            self._pool_id, self._is_back, self._failure = pool_id, False, error
            self._enter()
            return True
        return False


@attrs.define(eq=False)
class Attempt:
    """An attempt on one replica. `async with` returns the lease in any case.

    A WorkerError before the first event of the answer is kept as `failure` and does not leave the
    block: the job may move on.
    """

    _job: Job
    _queue: Queue
    _progress: Progress
    lease: Lease
    _record: JobRecord
    failure: WorkerError | None = attrs.field(default=None, init=False)
    ended: bool = attrs.field(default=False, init=False)
    _stream: TokenStream | None = attrs.field(default=None, init=False)
    _sent: str | None = attrs.field(default=None, init=False)
    _answered: bool = attrs.field(default=False, init=False)
    _is_judged: bool = attrs.field(default=False, init=False)

    async def __aenter__(self) -> Self:
        self._job.replica = self.lease.replica
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._job.replica = None
        try:
            self._judge(error)
            if self._stream is not None:
                await self._stream.aclose()
        finally:
            self._stream = None
            self._queue.give_back(self.lease)
        if isinstance(error, WorkerError) and not self._answered:
            self.failure = error
            return True
        return False

    async def head(self) -> list[TokenEvent]:
        """Return the first events, up to the one that makes the answer this replica's.

        Started alone does not: it is held back, so that the user never sees that of an attempt
        that failed.
        """
        job, replica = self._job, self.lease.replica
        task = job.task_for(replica)
        self._sent = task.model
        self._stream = replica.adapter.attempt(task, job.report)
        limits = self._stream.clock
        job.limits.follow(limits)
        events: list[TokenEvent] = []
        limit_s = self._queue.pool.policy.first_token_timeout_s
        if limit_s is not None:
            limits.first_within(limit_s, partial(too_late, limit_s, events))
        while not self._answered:
            event = await self._stream.__anext__()
            events.append(self._started(event) if isinstance(event, Started) else self.rare(event))
        if limit_s is not None:
            limits.first_within(None)
        return events

    @property
    def stream(self) -> TokenStream:
        """The replica's events, from where `head` ended."""
        assert self._stream is not None
        return self._stream

    def _started(self, event: Started) -> Started:
        replica = self.lease.replica
        self.lease.started = True
        self._queue.pool.members.note_started(replica, event)
        if is_other_model(self._sent, event.model):
            said = f"asked for {self._sent}, answered as {event.model}"
            self._record.note("answer", "other_model", replica.replica_id, detail=said)
            replica.is_doubted = True
            if replica.notes_odd_model(event.model):
                logger.warning(
                    "replica %s of pool %s answers with another model: %s",
                    replica.replica_id,
                    replica.pool_id,
                    said,
                )
        return copied(event, replica_id=replica.replica_id)

    def rare(self, event: TokenEvent) -> TokenEvent:
        """Return an event that is not the next of many Tokens, as the user gets it.

        Raises:
            WorkerError: If it is Error.
        """
        if isinstance(event, Error):
            raise event.error
        is_token = isinstance(event, Token)
        if is_token:
            self.lease.tokens += 1
        if not self._answered:
            self._answer(is_token)
        if isinstance(event, End):
            self.ended = True
            self._judge(None)
            return self._whole(event)
        return event

    def _answer(self, is_token: bool) -> None:
        """Note that this replica gives the answer: from now on no other will."""
        self._answered = True
        self._queue.note_answer(self.lease, is_token)

    def _whole(self, event: End) -> End:
        """Return End with the numbers of the whole job: earlier attempts and their time are part
        of it. So is the ledger, which is complete now."""
        job, metrics = self._job, event.metrics
        self._record.end("ok")
        first_ms = metrics.time_to_first_token_ms
        if first_ms is not None:
            first_ms = round(first_ms + (self.lease.taken_at - job.began_at) * 1000, 3)
        whole = copied(
            metrics,
            attempts=metrics.attempts + job.earlier,
            time_to_first_token_ms=first_ms,
            ledger=self._record.ledger(),
        )
        return copied(event, metrics=whole)

    def _judge(self, error: BaseException | None) -> None:
        """Note, once, how the attempt went."""
        if self._is_judged:
            return
        self._is_judged = True
        lease, now = self.lease, _now()
        detail = ""
        if error is None:
            outcome = "ok"
            self._queue.pool.members.note_whole(lease)
        elif isinstance(error, WorkerError):
            outcome, detail = str(error.code), error.message
            self._queue.pool.note_failure(self._progress, lease, error)
        else:
            outcome = self._job.why_stopped()
        self._record.note(
            "attempt",
            outcome,
            lease.replica.replica_id,
            now=now,
            took_s=now - lease.taken_at,
            detail=detail,
        )


def _now() -> float:
    return asyncio.get_running_loop().time()
