"""One job in a pool: it waits for a replica, is sent to it, and may fail over."""

import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

import attrs

from adapter_api.errors import ErrorCode, WorkerError
from adapter_api.events import End, Error, Started, Token, TokenEvent
from adapter_api.limits import StreamClock
from adapter_api.stream import TokenStream
from adapter_api.task import TaskRequest
from registry.host.jobs import JobRecord, Ledger, Priority, copied, of_the_job, too_late
from registry.host.policy import Verdict, verdict_on
from registry.host.pool import Progress, Wait
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
"""Returns the queue of a pool that takes new jobs; for a job that is already in a queue, the
current queue of its pool."""


@attrs.define(eq=False)
class Job:
    """One submitted job, with its attempts in its pool and its fallback pools.

    Args:
        task: The job.
        correlation_id: The task's, or the one that the host made for it.
        priority: Its place in the queue.
        limits: The clock of the stream that the user reads.
        report: Reports the job and its attempts to observers.
        rng: Spreads pauses.

    Attributes:
        replica: The replica of the current attempt.
    """

    task: TaskRequest
    correlation_id: str
    priority: Priority
    limits: StreamClock
    report: JobReport
    _rng: random.Random
    replica: Replica | None = attrs.field(default=None, init=False)
    _find_queue: FindQueue = attrs.field(init=False)
    _record: JobRecord = attrs.field(init=False)
    _pool_id: str = attrs.field(init=False)
    _queue: Queue = attrs.field(init=False)
    _progress: Progress = attrs.field(init=False)
    _fallback: Iterator[str] | None = attrs.field(default=None, init=False)
    _is_back: bool = attrs.field(default=False, init=False)
    _failure: WorkerError | None = attrs.field(default=None, init=False)  # in this pool
    _unused: tuple[str, ...] = attrs.field(default=(), init=False)  # why, of fallback pools
    # Of the current attempt:
    _stream: TokenStream | None = attrs.field(default=None, init=False)
    _sent: str | None = attrs.field(default=None, init=False)
    _is_judged: bool = attrs.field(default=False, init=False)

    async def events(
        self, pool_id: str, find_queue: FindQueue, ledger: Ledger
    ) -> AsyncIterator[TokenEvent | list[Token]]:
        """Yield the job's events, from the first replica that begins an answer.

        Args:
            pool_id: The job's pool.
            find_queue: Returns the queue of a pool; raises WorkerError if it takes no jobs.
            ledger: Keeps the job's record.
        """
        now = self.limits.now()
        record = self._record = ledger.open(self.task.job_id, pool_id, now)
        end: End | None = None
        failure: WorkerError | None = None
        try:
            self._find_queue, self._pool_id = find_queue, pool_id
            self._enter(find_queue(pool_id, None), now)
            while end is None:
                step = self._take(now)
                lease = step if isinstance(step, Lease) else await self._wait(step)
                head: list[TokenEvent] = []
                limit_s = self._queue.pool.policy.first_token_timeout_s
                try:
                    stream = self._send(lease)
                    if limit_s is not None:
                        stream.clock.first_within(limit_s, partial(too_late, limit_s, head))
                    advance, take_buffered = stream.__anext__, stream.take_buffered
                    while not lease.has_answered:
                        # Started is held back until this replica begins its answer, so that the
                        # user never gets the Started of a failed attempt.
                        head.append(self._rare(lease, await advance()))
                    if limit_s is not None:
                        stream.clock.first_within(None)
                    for event in head:
                        if isinstance(event, End):
                            end = event
                        else:
                            yield event
                    while end is None:
                        event = await advance()
                        if type(event) is Token:
                            more = take_buffered()
                            lease.tokens += 1 + len(more)
                            yield [event, *more] if more else event
                        elif isinstance(event, End):
                            end = self._whole(lease, event)
                        else:
                            yield self._rare(lease, event)
                except WorkerError as error:
                    self._note_outcome(lease, error, now := self.limits.now())
                    if lease.has_answered:
                        raise
                    failure = error
                except BaseException as error:
                    self._note_outcome(lease, error, now := self.limits.now())
                    raise
                finally:
                    self.replica = None
                    try:
                        if end is not None:
                            now = lease.left_at
                        elif self._stream is not None:
                            await self._stream.aclose()
                            now = self.limits.now()
                    finally:
                        self._stream = None
                        self._queue.give_back(lease, now)
                if failure is not None:
                    self._prepare_retry(lease, failure)
                    failure = None
        except WorkerError as error:
            reported = of_the_job(error, self.limits, record.asked, self._unused)
            record.end(str(reported.code), detail=reported.message)
            reported.steps = record.ledger
            raise reported from error.__cause__
        except BaseException:
            if record.outcome is None:
                record.end(self._why_stopped())
            if self.limits.stopped_by is not None:
                self.limits.stopped_by.steps = record.ledger
            raise
        finally:
            self._failure = failure = None  # their tracebacks hold this frame
            ledger.close(record)
        yield end  # closing the generator here costs nothing

    # Finding a replica

    def _enter(self, queue: Queue, now: float) -> None:
        self._queue = queue
        queue.pool.jobs += 1
        queue.pool.budget.deposit(now)
        self._progress = Progress(self.task, self.limits.deadline_at, now)

    def _take(self, now: float) -> Lease | Wait:
        """Return a replica for the next attempt, or what the job waits for.

        Raises:
            WorkerError: The last failure, or the refusal if there was none.
        """
        while True:
            try:
                return self._queue.take(self._progress, self._record, now)
            except WorkerError as refusal:
                self._move_on(refusal)

    async def _wait(self, step: Lease | Wait) -> Lease:
        """Wait for a replica.

        Raises:
            WorkerError: As from `_take`.
        """
        while isinstance(step, Wait):
            try:
                return await self._queue.wait(
                    self._progress, self._record, step, self.priority, is_back=self._is_back
                )
            except WorkerError as refusal:
                self._move_on(refusal)
            step = self._take(self.limits.now())
        return step

    def _move_on(self, refusal: WorkerError) -> None:
        """Fall back to another pool, since this one refuses the job.

        Raises:
            WorkerError: The failure here, or the refusal, if there is no other.
        """
        if self._fall_back(refusal):
            return
        failure = self._failure
        if failure is None:
            raise refusal
        if failure.retry_after_ms is None:
            failure.retry_after_ms = refusal.retry_after_ms
        raise failure from refusal

    def _prepare_retry(self, lease: Lease, error: WorkerError) -> None:
        """Prepare for another attempt.

        Raises:
            WorkerError: The failure, if no other attempt is allowed.
        """
        self._queue = self._find_queue(self._pool_id, self._queue)  # it may have been bound again
        why = self._queue.pool.try_again(self._progress, lease, error, self._backoff_s(error))
        self._record.note("retry", why)
        if why == "granted":
            self._is_back, self._failure = True, error
        elif not self._fall_back(error):
            raise error

    def _fall_back(self, error: WorkerError) -> bool:
        """Move to the next existing fallback pool; return False if there is none."""
        if not error.retriable and verdict_on(error) is Verdict.JOB:
            return False
        if self._fallback is None:  # that of the first pool counts
            names = self._queue.pool.policy.fallback
            # Those of [defaults] may name the pool itself.
            self._fallback = iter([name for name in names if name != self._pool_id])
        for pool_id in self._fallback:
            try:
                queue = self._find_queue(pool_id, None)
            except WorkerError as missing:
                self._record.note("fallback", str(missing.code), detail=missing.message)
                self._unused += (missing.message,)
                continue
            self._record.note("fallback", str(error.code), detail=f"to pool {pool_id}")
            self._pool_id, self._is_back, self._failure = pool_id, False, error
            self._enter(queue, self.limits.now())
            return True
        return False

    def _backoff_s(self, error: WorkerError) -> float:
        """Return how long the job must not be sent to a replica that failed it."""
        if error.retry_after_ms is not None:
            return error.retry_after_ms / 1000
        backoff_s = min(MAX_BACKOFF_S, BACKOFF_S * 2.0 ** (len(self._record.asked) - 1))
        return backoff_s * self._rng.uniform(0.5, 1.0)

    def _why_stopped(self) -> str:
        """Return why the job ended from outside: its deadline, or a cancel."""
        stopped_by = self.limits.stopped_by
        return str(ErrorCode.CANCELLED if stopped_by is None else stopped_by.code)

    # One attempt

    def _send(self, lease: Lease) -> TokenStream:
        """Send the job to the replica, with the rest of the deadline. Only the pool retries."""
        replica, deadline_at = lease.replica, self.limits.deadline_at
        self.replica, self._is_judged = replica, False
        self._record.asked.append(replica.replica_id)
        self._sent = replica.binding.model_for(self.task.model)
        task = copied(
            self.task,
            correlation_id=self.correlation_id,
            deadline_s=None if deadline_at is None else max(deadline_at - lease.taken_at, 0.001),
            max_attempts=1,
            model=self._sent,
        )
        stream = self._stream = replica.adapter.attempt(task, self.report)
        self.limits.follow(stream.clock)
        return stream

    def _rare(self, lease: Lease, event: TokenEvent) -> TokenEvent:
        """Return an event other than a further Token, as the user gets it.

        Raises:
            WorkerError: If it is Error.
        """
        if isinstance(event, Started):
            return self._started(lease, event)
        if isinstance(event, Error):
            raise event.error
        is_token = isinstance(event, Token)
        if is_token:
            lease.tokens += 1
        if not lease.has_answered:  # from now on no other replica will
            queue = self._queue
            if queue.pool.members.note_answer(lease, is_token, self.limits.now()):
                queue.serve()
        return self._whole(lease, event) if isinstance(event, End) else event

    def _started(self, lease: Lease, event: Started) -> Started:
        replica, sent = lease.replica, self._sent
        lease.started = True
        self.report.engine = event
        if event.engine_version != replica.engine_version or event.engine != replica.engine:
            self._queue.pool.members.note_started(replica, event)
        if sent is not None and event.model != sent and is_other_model(sent, event.model):
            said = f"requested {sent}, answered as {event.model}"
            self._record.note("answer", "other_model", replica.replica_id, detail=said)
            replica.is_doubted = True
            if replica.notes_odd_model(event.model):
                logger.warning(
                    "replica %s of pool %s answers with another model: %s",
                    replica.replica_id,
                    replica.pool_id,
                    said,
                )
        if event.replica_id == replica.replica_id:
            return event
        return copied(event, replica_id=replica.replica_id)

    def _whole(self, lease: Lease, event: End) -> End:
        """Return End with the numbers of the whole job: earlier attempts and their time are part
        of it. So is the ledger, which is complete now."""
        metrics, record = event.metrics, self._record
        now = lease.left_at = self.limits.now()
        self._note_outcome(lease, None, now)
        record.end("ok", now=now)
        first_ms = metrics.time_to_first_token_ms
        if first_ms is not None:
            first_ms = round(first_ms + (lease.taken_at - self.limits.started_at) * 1000, 3)
        whole = copied(
            metrics,
            attempts=metrics.attempts + len(record.asked) - 1,
            time_to_first_token_ms=first_ms,
            ledger=record.ledger(),
        )
        return copied(event, metrics=whole)

    def _note_outcome(self, lease: Lease, error: BaseException | None, now: float) -> None:
        """Note, once, the outcome of the attempt."""
        if self._is_judged:
            return
        self._is_judged = True
        detail = ""
        if error is None:
            outcome = "ok"
            self._queue.pool.members.note_whole(lease, now)
        elif isinstance(error, WorkerError):
            outcome, detail = str(error.code), error.message
            self._queue.pool.note_failure(self._progress, lease, error)
        else:
            outcome = self._why_stopped()
        self._record.note(
            "attempt",
            outcome,
            lease.replica.replica_id,
            now=now,
            took_s=now - lease.taken_at,
            detail=detail,
        )
