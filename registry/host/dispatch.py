"""One job on its way through a pool: it waits for a replica, asks it, and moves to another."""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Self

import attrs

from adapter_api.errors import ErrorCode, WorkerError, WorkerTimeout
from adapter_api.events import End, Error, Started, Token, TokenEvent
from adapter_api.limits import StreamClock
from adapter_api.stream import TokenStream
from adapter_api.task import TaskRequest
from registry.host.admission import Priority
from registry.host.attempts import JobRecord
from registry.host.line import Line
from registry.host.pool import Progress
from registry.host.replica import Lease, Replica
from registry.observers import JobReport

BACKOFF_S = 0.1
"""The pause before a replica is asked again that failed the job, doubled with each attempt."""

BACKOFF_MOST_S = 5.0
"""The longest such pause."""


class Job:
    """What one submit carries through its attempts.

    Args:
        task: The job, with its correlation_id and deadline.
        priority: Its place in the line.
        limits: The clock of the stream that the user reads.
        clock: The host's clock.
        report: Watches the stream that the caller reads, and the attempts.
    """

    def __init__(
        self,
        task: TaskRequest,
        priority: Priority,
        limits: StreamClock,
        clock: Callable[[], float],
        report: JobReport,
    ) -> None:
        self.task = task
        self.report = report
        self.limits = limits
        self.clock = clock
        self.began_at = clock()
        self.attempt: Attempt | None = None
        self._priority = priority
        self._asked: list[str] = []  # the replica of each attempt
        self._failure: WorkerError | None = None  # of the last attempt

    async def events(
        self,
        find_line: Callable[[], Line],
        follow: Callable[[Line], Line],
        open_record: Callable[[], JobRecord],
    ) -> AsyncIterator[TokenEvent | list[Token]]:
        """The job's events, from whichever replica gives its first token.

        Args:
            find_line: The line to join.
            follow: The line of that pool now: another one if the pool was bound anew.
            open_record: Begins the job's ledger.
        """
        record = open_record()
        try:
            line = find_line()
            line.pool.note_job(self.clock())
            progress = Progress(self.task, self._deadline_at(), self.clock())
            while True:
                lease = await self._lease(line, progress, record)
                async with Attempt(self, line, lease, record) as attempt:
                    for event in await attempt.head():
                        yield event
                    stream = attempt.stream
                    while not attempt.ended:
                        event = await stream.__anext__()
                        if type(event) is not Token:
                            yield attempt.rare(event)
                        elif more := stream.take_buffered():
                            lease.tokens += 1 + len(more)
                            yield [event, *more]
                        else:
                            lease.tokens += 1
                            yield event
                    return
                # Only a failure before the first token comes here.
                line = follow(line)
                self._go_on(line, progress, record, attempt)
        except WorkerError as error:
            told = self._told(error)
            record.end(str(told.code), detail=told.message)
            told.ledger = record.ledger()
            raise told from error.__cause__
        except BaseException:
            if record.outcome is None:
                record.end(self.why_stopped())
            if self.limits.stopped_by is not None:
                self.limits.stopped_by.ledger = record.ledger()
            raise

    async def _lease(self, line: Line, progress: Progress, record: JobRecord) -> Lease:
        try:
            lease = await line.lease(progress, record, self._priority)
        except WorkerError as refusal:
            if self._failure is None:
                raise
            if self._failure.retry_after_ms is None:
                self._failure.retry_after_ms = refusal.retry_after_ms
            raise self._failure from refusal
        self._asked.append(lease.replica.replica_id)
        return lease

    def task_for_attempt(self) -> TaskRequest:
        """The task with what is left of its deadline. The pool alone asks again."""
        left_s = self.limits.remaining_s()
        deadline_s = None if left_s is None else max(left_s, 0.001)
        return attrs.evolve(self.task, deadline_s=deadline_s, max_attempts=1)

    @property
    def replica(self) -> Replica | None:
        """The replica that is being asked; None between attempts."""
        return None if self.attempt is None else self.attempt.lease.replica

    def why_stopped(self) -> str:
        """Why the job ended from outside: its deadline, or somebody's wish."""
        stopped_by = self.limits.stopped_by
        return str(ErrorCode.CANCELLED if stopped_by is None else stopped_by.code)

    def earlier(self) -> int:
        """How many attempts there were before the present one."""
        return len(self._asked) - 1

    def _go_on(self, line: Line, progress: Progress, record: JobRecord, attempt: "Attempt") -> None:
        """Get ready for another attempt.

        Raises:
            WorkerError: The failure, if there must be none.
        """
        error = attempt.failure
        assert error is not None
        self._failure = error
        replica_id = attempt.lease.replica.replica_id
        why = line.pool.go_on(progress, replica_id, error, self._backoff_s(error), self.clock())
        record.note("retry", why or "granted")
        if why is not None:
            raise error

    def end(self, event: End, record: JobRecord) -> End:
        """The answer is whole, and so is the ledger, which End takes along."""
        record.end("ok")
        metrics = attrs.evolve(event.metrics, ledger=record.ledger())
        return attrs.evolve(event, metrics=metrics)

    def _backoff_s(self, error: WorkerError) -> float:
        if error.retry_after_ms is not None:
            return error.retry_after_ms / 1000
        backoff_s = min(BACKOFF_MOST_S, BACKOFF_S * 2.0 ** (len(self._asked) - 1))
        return backoff_s * random.uniform(0.5, 1.0)

    def _told(self, error: WorkerError) -> WorkerError:
        """The error for the user: it speaks of the whole job."""
        if error.code is ErrorCode.DEADLINE_UNMET and self.task.deadline_s is not None:
            # The adapter knows only the part of the deadline that it was given.
            error = WorkerTimeout(
                ErrorCode.DEADLINE_UNMET,
                f"the job did not end within its deadline of {self.task.deadline_s:g} s",
            )
        if len(self._asked) < 2:
            return error
        fields = error.fields()
        replicas = ", ".join(self._asked)
        fields["message"] += f" (the last of {len(self._asked)} attempts, on {replicas})"
        return WorkerError.of(**fields)

    def _deadline_at(self) -> float | None:
        left_s = self.limits.remaining_s()
        return None if left_s is None else self.clock() + left_s


def _too_late(limit_s: float, head: Sequence[TokenEvent]) -> WorkerError:
    code = ErrorCode.DECODE_TIMEOUT if head else ErrorCode.POOL_UNAVAILABLE
    return WorkerError.of(code, f"the replica gave no token within the pool's {limit_s:g} s")


class Attempt:
    """One replica is asked for the answer. `async with` gives the lease back in any case.

    A WorkerError before the answer is the replica's is kept as `failure` and does not leave
    the block: the job may move on.
    """

    def __init__(self, job: Job, line: Line, lease: Lease, record: JobRecord) -> None:
        self.lease = lease
        self.failure: WorkerError | None = None
        self.ended = False
        self._job = job
        self._line = line
        self._record = record
        self._stream: TokenStream | None = None
        self._answered = False
        self._judged = False
        self._began_at = job.clock()

    async def __aenter__(self) -> Self:
        self._job.attempt = self
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._job.attempt = None
        try:
            self._judge(error)
            if self._stream is not None:
                await self._stream.aclose()
        finally:
            self._line.give_back(self.lease)
        if isinstance(error, WorkerError) and not self._answered:
            self.failure = error
            return True
        return False

    async def head(self) -> list[TokenEvent]:
        """The first events, up to the one that makes the answer this replica's.

        Started alone does not: it is held back, so that the user never sees that of an attempt
        that failed.
        """
        job, replica = self._job, self.lease.replica
        self._stream = replica.adapter.attempt(job.task_for_attempt(), job.report)
        limits = self._stream.clock
        job.limits.follow(limits)
        events: list[TokenEvent] = []
        limit_s = self._line.pool.policy.first_token_timeout_s
        if limit_s is not None:
            limits.first_within(limit_s, partial(_too_late, limit_s, events))
        while not self._answered:
            event = await self._stream.__anext__()
            if isinstance(event, Started):
                self._line.pool.note_started(replica, event, job.clock())
                events.append(attrs.evolve(event, replica_id=replica.replica_id))
            else:
                events.append(self.rare(event))
        if limit_s is not None:
            limits.first_within(None)
        return events

    @property
    def stream(self) -> TokenStream:
        """The replica's events, from where `head` ended."""
        assert self._stream is not None
        return self._stream

    def rare(self, event: TokenEvent) -> TokenEvent:
        """An event that is not the next of many Tokens, as the user gets it.

        Raises:
            WorkerError: If it is Error.
        """
        if isinstance(event, Error):
            raise event.error
        if not self._answered:
            self._answer(event)
        if isinstance(event, End):
            self.ended = True
            self._judge(None)
            return self._job.end(self._whole(event), self._record)
        return event

    def _answer(self, event: TokenEvent) -> None:
        """The replica gives the answer: from now on no other will."""
        self._answered = True
        now, replica = self._job.clock(), self.lease.replica
        if type(event) is Token:
            self.lease.tokens += 1
            replica.note_first_token((now - self._began_at) * 1000)
        self._line.pool.note_answer(self.lease, now)
        self._line.serve()  # a breaker may have closed

    def _whole(self, event: End) -> End:
        """End with the numbers of the whole job: earlier attempts and their time are part of it."""
        metrics = event.metrics
        before_ms = (self._began_at - self._job.began_at) * 1000
        first_ms = metrics.time_to_first_token_ms
        return attrs.evolve(
            event,
            metrics=attrs.evolve(
                metrics,
                attempts=metrics.attempts + self._job.earlier(),
                time_to_first_token_ms=None if first_ms is None else round(first_ms + before_ms, 3),
            ),
        )

    def _judge(self, error: BaseException | None) -> None:
        """Tell breaker and ledger, once, how the attempt went."""
        if self._judged:
            return
        self._judged = True
        pool, replica, now = self._line.pool, self.lease.replica, self._job.clock()
        detail = ""
        if error is None:
            outcome = "ok"
        elif isinstance(error, WorkerError):
            outcome, detail = str(error.code), error.message
        else:
            outcome = self._job.why_stopped()
        if isinstance(error, WorkerError):
            pool.note_failure(self.lease, error, now)
        self._record.note(
            "attempt", outcome, replica.replica_id, took_s=now - self._began_at, detail=detail
        )
