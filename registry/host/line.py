"""The line before a pool: jobs wait here for a replica, and replicas are leased from here."""

import asyncio
import math
from collections.abc import Callable, Iterable

import attrs

from adapter_api.errors import CapacityExceeded, ErrorCode, WorkerError
from registry.host.admission import AdmissionQueue, Priority
from registry.host.attempts import JobRecord
from registry.host.pool import Attempt, Fail, Pool, Progress, Wait
from registry.host.replica import Lease, Replica
from registry.host.snapshot import PoolSnapshot


@attrs.define(eq=False)
class Turn:
    """A job's place in the line. Its outcome is set once, and with that the job is woken."""

    progress: Progress
    record: JobRecord
    priority: Priority
    outcome: Lease | WorkerError | None = attrs.field(default=None, init=False)
    woken: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)

    def settle(self, outcome: Lease | WorkerError) -> None:
        """The job gets its replica, or an error."""
        self.outcome = outcome
        self.woken.set()

    def result(self) -> Lease:
        """The replica the job got.

        Raises:
            WorkerError: The error it got instead.
        """
        if isinstance(self.outcome, WorkerError):
            raise self.outcome
        assert self.outcome is not None
        return self.outcome


class Line:
    """Gives the replicas of a pool to its jobs, first come, first served in each priority.

    Args:
        pool: Decides.
        clock: The host's clock.
    """

    def __init__(self, pool: Pool, clock: Callable[[], float]) -> None:
        self.pool = pool
        self._clock = clock
        self._queue: AdmissionQueue[Turn] = AdmissionQueue(
            pool.policy.max_queue, pool.policy.queue_full
        )
        self._empty = asyncio.Event()
        self._empty.set()
        self._opened = asyncio.Event()
        self._policy = pool.policy  # whose limits the queue has
        self._timer: asyncio.TimerHandle | None = None

    async def lease(self, progress: Progress, record: JobRecord, priority: Priority) -> Lease:
        """A replica for the job's next attempt; the caller gives it back.

        Raises:
            WorkerError: If there is none and none to wait for, or the line is full.

        Cancellation:
            The place in the line, or the lease that came at the same moment, is given back.
        """
        progress.since = now = self._clock()
        self.serve()  # those who came before may have waited for a moment that has come
        step = self.pool.next_step(progress, now)
        turn = Turn(progress, record, priority)
        if not isinstance(step, Wait):
            self._settle(turn, step, now)
            return turn.result()
        self._push(turn)
        self.serve()  # which also sets the timer for this one
        try:
            await turn.woken.wait()
        except BaseException:
            self._remove(turn)
            if isinstance(turn.outcome, Lease):
                self.give_back(turn.outcome)
            raise
        finally:
            record.note("queue", step.reason, took_s=self._clock() - now)
        return turn.result()

    def give_back(self, lease: Lease) -> None:
        """The attempt is over; whoever waits may have its replica."""
        lease.release()
        if lease.answered:
            self._queue.served(self._clock() - lease.taken_at)
        self.serve()

    def serve(self) -> None:
        """Something changed: settle every job in the line that need not wait any longer. A shorter
        line than before then refuses those for whom it has no place."""
        now = self._clock()

        def settle(turn: Turn, step: Attempt | Fail) -> None:
            self._remove(turn)
            self._settle(turn, step, now)

        self._wake_at(self.pool.serve(self._queue, settle, now))
        if self._policy is not self.pool.policy:
            self._policy = policy = self.pool.policy
            for turn in self._queue.limit(policy.max_queue, policy.queue_full):
                turn.settle(self._no_place())
            self._note_length()

    def _settle(self, turn: Turn, step: Attempt | Fail, now: float) -> None:
        """Carry the decision out, and tell of the replicas that could not take the job."""
        for replica_id, reason in self.pool.skipped(turn.progress, now):
            turn.record.note("skip", reason, replica_id)
        if isinstance(step, Fail):
            turn.settle(step.error)
            return
        turn.record.note("choose", step.reason, step.replica.replica_id)
        turn.settle(self.pool.lease(step.replica, turn.progress.task.job_id, now))

    # The queue

    def _push(self, turn: Turn) -> None:
        """Join the line.

        Raises:
            CapacityExceeded: ADMISSION_REJECT if the line is full.
        """
        pushed_out = self._queue.push(turn)
        if pushed_out is turn:
            raise self._no_place()
        if pushed_out is not None:
            pushed_out.settle(self._no_place())
        self._empty.clear()

    def _remove(self, turn: Turn) -> None:
        self._queue.remove(turn)
        self._note_length()

    def _note_length(self) -> None:
        if not len(self._queue):
            self._empty.set()

    def _no_place(self) -> CapacityExceeded:
        pool = self.pool
        wait_s = max(self._queue.wait_s(pool.at_once), pool.next_chance_s(self._clock()))
        return CapacityExceeded(
            ErrorCode.ADMISSION_REJECT,
            f"the line of pool {pool.pool_id!r} is full: {len(self._queue)} jobs wait, "
            f"and no more than {self._queue.most} may",
            retry_after_ms=math.ceil(1000 * wait_s) or 1,
        )

    # Draining

    def put(self, replica: Replica) -> None:
        """Put the replica in its place, which opens the pool if it was shut."""
        self.pool.put(replica, self._clock())
        self._opened.set()

    def shut(self) -> None:
        """No new jobs come, until a replica is put in place."""
        self.pool.draining = True
        self._opened.clear()

    def drain(self, replicas: Iterable[Replica]) -> None:
        """They get no new work from now on."""
        now = self._clock()
        for replica in replicas:
            self.pool.drain(replica, now)
        self.serve()

    async def finish(self) -> bool:
        """Wait until no job of a draining pool waits or runs. A job that runs may come to wait
        again.

        Returns:
            False as soon as the pool is opened again.
        """
        while self.pool.draining:
            busy = self.pool.busy()
            if self._empty.is_set() and not busy:
                return True
            await _first(self._opened, busy[0].idle if busy else self._empty)
        return False

    def close(self) -> None:
        """Leave no timer behind."""
        self._wake_at(None)

    def snapshot(self, now: float) -> PoolSnapshot:
        """The pool and its line, as they are now."""
        pool = self.pool
        versions = pool.versions
        return PoolSnapshot(
            pool_id=pool.pool_id,
            replicas=pool.replica_snapshots(now),
            queued_interactive=self._queue.count("interactive"),
            queued_batch=self._queue.count("batch"),
            mixed_versions=versions if len(versions) > 1 else (),
            jobs=pool.jobs,
            retries=pool.retries,
            draining=pool.draining,
        )

    def _wake_at(self, until: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if until is not None:
            wait_s = max(0.0, until - self._clock())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self.serve)


async def _first(*events: asyncio.Event) -> None:
    """Wait until one of them is set."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
