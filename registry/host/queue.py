"""The queue of a pool: jobs wait in it for a replica, and replicas are leased from it.

Jobs that wait for the same replicas share a lane, so that only the heads of a few lanes are
examined when a replica has room. Jobs that return after a failed attempt go first and are not
counted against the bound: they were admitted before.
"""

import asyncio
import math
from collections.abc import Coroutine, Iterable
from itertools import islice
from typing import Any

import attrs

from adapter_api.errors import CapacityExceeded, ErrorCode, WorkerError
from registry.host.jobs import PRIORITIES, JobRecord, Lane, Lanes, Priority, Ticket
from registry.host.policy import PoolPolicy
from registry.host.pool import Fail, Pool, Progress, Wait
from registry.host.replica import LATE_S, Lease, Replica, View
from registry.host.routing import Choice
from registry.host.snapshot import PoolSnapshot

NEW_SHARE = 0.2
"""The weight of the newest service time in the average."""

FIRST_GUESS_S = 1.0
"""The assumed service time while none was measured."""

MAX_COLD = 10_000
"""The number of jobs that may wait for the first health check: seconds of heavy traffic."""

DUE = 1.0 - 1e-9
"""The credit that gives a batch job the next start; shares such as 0.1 do not add up to 1."""

MAX_LOOKS = 32
"""The maximum number of returned jobs, unable to use a free replica, that one look skips."""


@attrs.define(eq=False)
class Turn(Ticket):
    """A job's place in the queue. Its outcome is set once, and with that the job is woken."""

    progress: Progress
    record: JobRecord
    woken: "asyncio.Future[None]"
    outcome: Lease | WorkerError | None = None
    alarm: asyncio.TimerHandle | None = None

    def settle(self, outcome: Lease | WorkerError) -> None:
        """Settle the job with its replica or an error."""
        self.outcome = outcome
        if not self.woken.done():
            self.woken.set_result(None)


EVERYONE = "*"
"""The lane of jobs that any replica of the pool may take."""


class Queue:
    """Assigns the replicas of a pool to its jobs, first come, first served in each priority.

    Args:
        pool: The pool, which makes the decisions.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        pool.members.on_return = self.serve
        self._lanes: Lanes[Turn] = Lanes()
        self._numbers = 0
        self._generation = -1
        self._credit = 0.0  # of batch jobs
        self._service_s = FIRST_GUESS_S
        self._is_measured = False
        self._is_new_policy = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._opened = asyncio.Event()

    def __len__(self) -> int:
        return len(self._lanes)

    def take(self, progress: Progress, record: JobRecord, now: float) -> Lease | Wait:
        """Return a lease for the job's next attempt, which the caller gives back, or the step that
        the job has to `wait` for.

        Args:
            progress: The job.
            record: Its ledger.
            now: The time.

        Raises:
            WorkerError: If there is none and none to wait for.
        """
        progress.since = now
        if self._lanes.size:
            self.serve()
        step = self.pool.next_step(progress, now)
        return step if isinstance(step, Wait) else self._carry_out(progress, record, step, now)

    async def wait(
        self,
        progress: Progress,
        record: JobRecord,
        step: Wait,
        priority: Priority,
        *,
        is_back: bool,
    ) -> Lease:
        """Wait for a replica for the job's next attempt; the caller gives it back.

        Args:
            progress: The job.
            record: Its ledger.
            step: The decision to wait, with its end.
            priority: Its place among the others.
            is_back: Whether it had a replica before.

        Raises:
            WorkerError: If there is none to wait for any more, or the queue is full.

        Cancellation:
            The place in the queue, or the lease that came at the same moment, is given back.
        """
        began_at = progress.since
        self._numbers += 1
        woken = asyncio.get_running_loop().create_future()
        turn = Turn(priority, is_back, self._numbers, progress, record, woken)
        self._push(turn)
        self._arm(turn, step)
        try:
            await woken
        except BaseException:
            self._remove(turn)
            if isinstance(turn.outcome, Lease):
                self.give_back(turn.outcome, _now())
            raise
        finally:
            now = _now()
            record.note("queue", step.reason, now=now, took_s=now - began_at)
        outcome = turn.outcome
        if isinstance(outcome, Lease):
            return outcome
        assert outcome is not None
        raise outcome

    def give_back(self, lease: Lease, now: float) -> None:
        """Note that an attempt is over; a waiting job may get its replica."""
        if lease.has_answered:  # for how long it held its replica
            took_s = now - lease.taken_at
            if self._is_measured:
                self._service_s += NEW_SHARE * (took_s - self._service_s)
            else:
                self._service_s, self._is_measured = took_s, True
        self.pool.members.give_back(lease, now)
        if not self._lanes.size:
            return
        if self.pool.is_closed_off:
            self.recheck()
        else:
            self.serve()

    # Serving

    def serve(self) -> None:
        """Settle the jobs that a replica with room can take."""
        full: set[str | None] = set()
        while self._lanes and self._serve_one(full):
            pass

    def _serve_one(self, full: set[str | None]) -> bool:
        """Settle the next job that need not wait any longer.

        Args:
            full: Lanes for which no replica has room; more are added.
        """
        for priority in self._order():
            for lane in self._lanes.of(priority):
                turn = self._first(lane, full)
                if turn is not None:
                    self._note_start(priority)
                    return True
        return False

    def _first(self, lane: Lane[Turn], full: set[str | None]) -> Turn | None:
        for turn in list(islice(lane.back, MAX_LOOKS)):
            if self._decide(turn):
                return turn
        if lane.fresh and lane.key not in full:
            turn = next(iter(lane.fresh))
            if self._decide(turn):
                return turn
            full.add(lane.key)
        return None

    def _order(self) -> tuple[Priority, ...]:
        is_due = self._credit + self.pool.policy.batch_share >= DUE
        return PRIORITIES[::-1] if is_due else PRIORITIES

    def _note_start(self, priority: Priority) -> None:
        """Give batch jobs their share of the starts while both kinds wait."""
        if not self._lanes.count("batch"):
            self._credit = 0.0
        else:
            self._credit += self.pool.policy.batch_share
            if priority == "batch":
                self._credit = max(0.0, self._credit - 1.0)

    def recheck(self) -> None:
        """Decide again for every job, after a replica's readiness, breaker or models changed."""
        if not self._lanes:
            return
        self._sort_again()
        self.serve()
        full: set[tuple[Priority, str | None]] = set()
        for turn in list(self._lanes):
            lane = turn.lane
            if lane is None or (not turn.is_back and (turn.priority, lane.key) in full):
                continue
            if not self._decide(turn) and not turn.is_back and turn.alarm is None:
                full.add((turn.priority, lane.key))  # the decision is the same for all of them
        self._trim()

    def _decide(self, turn: Turn) -> bool:
        """Settle a job if it need not wait any longer; else wake it when its wait is over."""
        now = _now()
        step = self.pool.next_step(turn.progress, now)
        if isinstance(step, Wait):
            self._arm(turn, step)
            return False
        self._remove(turn)
        try:
            turn.settle(self._carry_out(turn.progress, turn.record, step, now))
        except WorkerError as error:
            turn.settle(error)
        return True

    def _carry_out(
        self, progress: Progress, record: JobRecord, step: Choice | Fail, now: float
    ) -> Lease:
        """Apply the decision, and note the replicas that could not take the job."""
        pool, members, model = self.pool, self.pool.members, progress.task.model
        if model or members.away or progress.tried or members.without or members.everyone.others:
            for replica_id, reason in pool.skipped(model, progress.tried):
                record.note("skip", reason, replica_id, now=now)
        if isinstance(step, Fail):
            raise step.error
        record.note("choose", step.reason, step.replica_id, now=now)
        return members.lease(members.replicas[step.replica_id], model, now)

    def _arm(self, turn: Turn, step: Wait) -> None:
        if turn.alarm is not None:
            turn.alarm.cancel()
            turn.alarm = None
        if step.until is not None:
            loop = asyncio.get_running_loop()
            turn.alarm = loop.call_at(max(step.until, loop.time()) + LATE_S, self._ring, turn)

    def _ring(self, turn: Turn) -> None:
        turn.alarm = None
        if turn.lane is not None:
            self._decide(turn)

    # The lanes

    def _push(self, turn: Turn) -> None:
        """Join the queue.

        Raises:
            CapacityExceeded: ADMISSION_REJECT if the queue is full.
        """
        lanes, policy = self._lanes, self.pool.policy
        max_queue = policy.max_queue
        if self.pool.members.is_cold:
            max_queue = max(max_queue, MAX_COLD)
        if not turn.is_back and sum(lanes.fresh.values()) >= max_queue:
            batch = lanes.oldest_batch() if policy.queue_full == "drop_oldest_batch" else None
            if batch is None or turn.priority == "batch":
                raise self._no_room()
            self._refuse(batch)
        lanes.add(turn, self._key(turn))
        self._empty.clear()

    def _key(self, turn: Turn) -> str | None:
        view: View = self.pool.members.view(turn.progress.task.model)
        return EVERYONE if view.is_whole else view.model

    def _sort_again(self) -> None:
        """Put the jobs in the lanes of those that can take them now."""
        if self._generation == self.pool.members.generation:
            return
        self._generation = self.pool.members.generation
        for turn in sorted(self._lanes, key=lambda turn: turn.number):
            self._lanes.remove(turn)
            self._lanes.add(turn, self._key(turn))

    def _remove(self, turn: Turn) -> None:
        if turn.alarm is not None:
            turn.alarm.cancel()
            turn.alarm = None
        self._lanes.remove(turn)
        if not self._lanes:
            self._empty.set()

    def _refuse(self, turn: Turn) -> None:
        self._remove(turn)
        turn.settle(self._no_room())

    def _no_room(self) -> CapacityExceeded:
        pool, count = self.pool, len(self._lanes)
        wait_s = max(1.0, count / pool.at_once) * self._service_s
        return CapacityExceeded(
            ErrorCode.ADMISSION_REJECT,
            f"the queue of pool {pool.pool_id!r} is full: {count} jobs wait, "
            f"and the maximum is {pool.policy.max_queue}",
            retry_after_ms=math.ceil(1000 * max(wait_s, pool.next_chance_s())) or 1,
        )

    def use(self, policy: PoolPolicy) -> None:
        """Apply `policy` from now on, to waiting jobs with the next `recheck`."""
        self.pool.use(policy)
        self._is_new_policy = True

    def _trim(self) -> None:
        """Refuse the jobs for which a smaller queue has no room."""
        if self._is_new_policy and not self.pool.members.is_cold:
            self._is_new_policy = False
            refused = []
            while sum(self._lanes.fresh.values()) > self.pool.policy.max_queue:
                refused.append(self._lanes.last())
                self._remove(refused[-1])
            for turn in refused:
                turn.settle(self._no_room())

    # Draining

    def put(self, replica: Replica) -> None:
        """Add or replace the replica, which reopens the pool if it was shut."""
        self.pool.draining = False
        self.pool.members.put(replica)
        self._opened.set()

    def shut(self) -> None:
        """Refuse new jobs until a replica is added."""
        self.pool.draining = True
        self._opened.clear()

    def drain(self, replicas: Iterable[Replica]) -> None:
        """Give these replicas no new work."""
        for replica in replicas:
            self.pool.members.drain(replica)
        self.recheck()

    async def finish(self) -> bool:
        """Wait until no job of a draining pool waits or runs. A running job may return to the
        queue.

        Returns:
            False as soon as the pool is opened again.
        """
        while self.pool.draining:
            busy = self.pool.members.busy()
            if self._empty.is_set() and not busy:
                return True
            await _first(self._opened.wait(), busy[0].until_idle() if busy else self._empty.wait())
        return False

    def snapshot(self, now: float) -> PoolSnapshot:
        """Return the pool's and the queue's facts at this moment."""
        pool = self.pool
        replicas, versions = pool.members.replicas, pool.members.versions.all
        return PoolSnapshot(
            pool_id=pool.pool_id,
            replicas=tuple(
                replicas[name].snapshot(now, pool.policy.max_in_flight) for name in sorted(replicas)
            ),
            queued_interactive=self._lanes.count("interactive"),
            queued_batch=self._lanes.count("batch"),
            mixed_versions=versions if len(versions) > 1 else (),
            jobs=pool.jobs,
            retries=pool.retries,
            draining=pool.draining,
            fallback=pool.policy.fallback,
        )


async def _first(*events: Coroutine[Any, Any, object]) -> None:
    """Wait until one of them is over."""
    waits = [asyncio.create_task(event) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _now() -> float:
    return asyncio.get_running_loop().time()
