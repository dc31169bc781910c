"""A pool in virtual time: tries policies on a trace, in milliseconds and the same every time.

What decides is the host's own: Pool with its routing, breakers and retry budget, and
AdmissionQueue. What waits and what engines do is simulated: an event happens, and the clock jumps
to the next one. Two runs with one seed give the same report; two policies with one seed meet the
same jobs, which take as long on every replica as they would have under the other.
"""

import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from typing import cast

import attrs

from adapter_api.errors import ErrorCode, InternalError, WorkerError
from adapter_api.health import HealthState, HealthStatus
from adapter_api.notices import BreakerNotice
from adapter_api.task import TaskRequest
from registry.adapter import BoundAdapter
from registry.host.admission import AdmissionQueue, Priority
from registry.host.breaker import Breaker
from registry.host.policy import PoolPolicy
from registry.host.pool import Attempt, Fail, Pool, Progress
from registry.host.replica import Lease, Replica
from registry.simulate.trace import Arrival, Report, SimulatedReplica, Transition, quantile

BACKOFF_S = 0.1
BACKOFF_MOST_S = 5.0


def simulate(
    trace: Sequence[Arrival],
    replicas: Sequence[SimulatedReplica],
    policy: PoolPolicy | None = None,
    *,
    first_token_timeout_s: float = 30.0,
    seed: int = 0,
) -> Report:
    """Run a trace through a pool.

    Args:
        trace: The jobs.
        replicas: The engines; all are ready at the beginning.
        policy: The pool's limits; the host's defaults if None.
        first_token_timeout_s: The limit of the adapters.
        seed: The same seed gives the same report.

    Raises:
        ValueError: If two replicas have one name, or there is none.
    """
    names = {replica.replica_id for replica in replicas}
    if not names or len(names) < len(replicas):
        raise ValueError("give replicas, each with a name of its own")
    policy = PoolPolicy() if policy is None else policy
    return _Simulation(replicas, policy, first_token_timeout_s, seed).run(trace)


@attrs.define(eq=False)
class _Job:
    """One job on its way. It is a ticket of the queue while it waits."""

    number: int
    arrival: Arrival
    progress: Progress
    lease: Lease | None = None
    began_at: float | None = None
    first_token_at: float | None = None
    outcome: str | None = None

    @property
    def priority(self) -> Priority:
        return self.arrival.priority


class _Simulation:
    """The clock, the events to come, and the engines."""

    def __init__(
        self,
        replicas: Sequence[SimulatedReplica],
        policy: PoolPolicy,
        first_token_timeout_s: float,
        seed: int,
    ) -> None:
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._seed = seed
        self._timeout_s = first_token_timeout_s
        self._engines = {replica.replica_id: replica for replica in replicas}
        self._transitions: list[Transition] = []
        self._attempts: Counter[str] = Counter()
        self._look_again_at = math.inf
        self._running = 0
        self._pool = Pool("simulated", policy, self._tell, 0.0)
        self._queue: AdmissionQueue[_Job] = AdmissionQueue(policy.max_queue, policy.queue_full)
        rng = random.Random(seed)
        for engine in replicas:
            # Only a snapshot asks a replica for its adapter, and nobody takes one here.
            nobody = cast(BoundAdapter, None)
            breaker = Breaker(policy.breaker)
            replica = Replica("simulated", engine.replica_id, nobody, breaker, engine.limit)
            self._pool.put(replica, 0.0)
            self._note_health(replica, "healthy")
            self._after(rng.uniform(0.0, policy.probe_interval_s), self._prober(replica))

    def run(self, trace: Sequence[Arrival]) -> Report:
        jobs = [self._expect(number, arrival) for number, arrival in enumerate(trace)]
        while self._running:
            self._now, _, happen = heapq.heappop(self._events)
            happen()
        waited = [job.began_at - job.arrival.at_s for job in jobs if job.began_at is not None]
        first = [
            job.first_token_at - job.arrival.at_s for job in jobs if job.first_token_at is not None
        ]
        return Report(
            jobs=len(jobs),
            outcomes=dict(Counter(str(job.outcome) for job in jobs)),
            attempts=self._attempts.total(),
            retries=self._pool.retries,
            waited_s=(quantile(waited, 0.5), quantile(waited, 0.99)),
            first_token_s=(quantile(first, 0.5), quantile(first, 0.99)),
            transitions=tuple(self._transitions),
            load=dict(self._attempts),
            ended_s=round(self._now, 6),
        )

    # Jobs

    def _expect(self, number: int, arrival: Arrival) -> _Job:
        limit_s = arrival.deadline_s or self._pool.policy.deadline_s
        deadline_at = None if limit_s is None else arrival.at_s + limit_s
        task = TaskRequest(prompt="", job_id=str(number), session_id=arrival.session_id)
        job = _Job(number, arrival, Progress(task, deadline_at, arrival.at_s))
        self._running += 1
        self._at(arrival.at_s, lambda: self._arrive(job))
        return job

    def _arrive(self, job: _Job) -> None:
        if job.progress.deadline_at is not None:
            self._at(job.progress.deadline_at, lambda: self._miss_deadline(job))
        self._pool.note_job(self._now)
        self._find_replica(job)

    def _find_replica(self, job: _Job) -> None:
        self._serve()
        job.progress.since = self._now
        step = self._pool.next_step(job.progress, self._now)
        if isinstance(step, Fail | Attempt):
            self._settle(job, step)
            return
        pushed_out = self._queue.push(job)
        if pushed_out is not None:
            self._end(pushed_out, ErrorCode.ADMISSION_REJECT)
        self._serve()

    def _settle(self, job: _Job, step: Attempt | Fail) -> None:
        self._queue.remove(job)
        if isinstance(step, Fail):
            if isinstance(step.error, InternalError):
                raise step.error  # the routing policy is what is being tried
            self._end(job, step.error.code)
        else:
            self._ask(job, step.replica)

    def _ask(self, job: _Job, replica: Replica) -> None:
        job.lease = lease = self._pool.lease(replica, str(job.number), self._now)
        if job.began_at is None:
            job.began_at = self._now
        self._attempts[replica.replica_id] += 1
        engine = self._engines[replica.replica_id]
        outage = engine.outage(self._now)
        kind = "well" if outage is None else outage.kind
        if kind == "refuse":
            self._fail_after(0.0, job, lease, ErrorCode.POOL_UNAVAILABLE)
        elif kind == "busy":
            self._fail_after(0.0, job, lease, ErrorCode.ADMISSION_REJECT)
        elif kind == "hang":
            self._fail_after(self._timeout_s, job, lease, ErrorCode.POOL_UNAVAILABLE)
        else:
            factor = outage.factor if outage is not None else 1.0
            self._answer(job, lease, engine, factor)

    def _answer(self, job: _Job, lease: Lease, engine: SimulatedReplica, factor: float) -> None:
        # Of the job and the attempt only, so that another policy meets the same times.
        rng = random.Random((self._seed * 1_000_003 + job.number) * 97 + job.progress.attempts)
        first_s = engine.first_token_s * rng.lognormvariate(0, engine.spread) * factor
        decode_s = engine.decode_s * rng.lognormvariate(0, engine.spread) * factor
        if first_s > self._timeout_s:
            self._fail_after(self._timeout_s, job, lease, ErrorCode.POOL_UNAVAILABLE)
            return
        dies_at = min(
            (o.from_s for o in engine.outages if o.kind == "refuse" and o.from_s > self._now),
            default=math.inf,
        )
        if dies_at < self._now + first_s:
            self._fail_after(dies_at - self._now, job, lease, ErrorCode.WORKER_RESET)
            return
        self._after(first_s, lambda: self._first_token(job, lease))
        if dies_at < self._now + first_s + decode_s:
            cut = ErrorCode.STREAM_TRUNCATED
            self._after(dies_at - self._now, lambda: self._finish(job, lease, cut))
        else:
            self._after(first_s + decode_s, lambda: self._finish(job, lease, None))

    def _first_token(self, job: _Job, lease: Lease) -> None:
        if job.lease is lease:
            job.first_token_at = self._now
            self._pool.note_answer(lease, self._now)
            self._serve()

    def _finish(self, job: _Job, lease: Lease, code: ErrorCode | None) -> None:
        if job.lease is not lease:
            return
        if code is not None:
            self._pool.note_failure(lease, WorkerError.of(code, "simulated"), self._now)
        self._give_back(job)
        self._end(job, code)

    def _fail_after(self, wait_s: float, job: _Job, lease: Lease, code: ErrorCode) -> None:
        """The attempt fails before its first token."""

        def fail() -> None:
            if job.lease is not lease:
                return
            error = WorkerError.of(code, "simulated")
            self._pool.note_failure(lease, error, self._now)
            self._give_back(job)
            backoff_s = min(BACKOFF_MOST_S, BACKOFF_S * 2.0**job.progress.attempts)
            replica = lease.replica
            if self._pool.go_on(job.progress, replica.replica_id, error, backoff_s, self._now):
                self._end(job, code)
            else:
                self._find_replica(job)
            if replica.poked.is_set():
                replica.poked.clear()
                self._check(replica)

        self._after(wait_s, fail)

    def _miss_deadline(self, job: _Job) -> None:
        if job.outcome is not None:
            return
        self._queue.remove(job)
        if job.lease is not None:
            self._give_back(job)
        self._end(job, ErrorCode.DEADLINE_UNMET)

    def _give_back(self, job: _Job) -> None:
        assert job.lease is not None
        lease, job.lease = job.lease, None
        lease.release()
        if lease.answered:
            self._queue.served(self._now - lease.taken_at)
        self._serve()

    def _end(self, job: _Job, code: ErrorCode | None) -> None:
        job.outcome = "ok" if code is None else str(code)
        self._running -= 1

    # The line

    def _serve(self) -> None:
        until = self._pool.serve(self._queue, self._settle, self._now)
        if until is not None and until < self._look_again_at:
            self._look_again_at = until
            self._at(until, self._look_again)

    def _look_again(self) -> None:
        self._look_again_at = math.inf
        self._serve()

    # Health

    def _prober(self, replica: Replica) -> Callable[[], None]:
        def probe() -> None:
            self._check(replica)
            self._after(self._pool.policy.probe_interval_s, probe)

        return probe

    def _check(self, replica: Replica) -> None:
        outage = self._engines[replica.replica_id].outage(self._now)
        if outage is None or outage.kind in ("slow", "busy"):
            self._note_health(replica, "healthy")
        elif outage.kind == "refuse":
            self._note_health(replica, "unhealthy")
        else:
            timeout_s = self._pool.policy.probe_timeout_s
            self._after(timeout_s, lambda: self._note_health(replica, "unhealthy"))

    def _note_health(self, replica: Replica, state: str) -> None:
        self._pool.note_health(replica, HealthStatus(HealthState(state)), None, self._now)
        self._serve()

    def _tell(self, hook: str, notice: object) -> None:
        if isinstance(notice, BreakerNotice):
            at_s = round(self._now, 6)
            change = Transition(at_s, notice.replica_id, notice.before, notice.after)
            self._transitions.append(change)

    # Time

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(when, self._now), next(self._order), happen))

    def _after(self, wait_s: float, happen: Callable[[], None]) -> None:
        self._at(self._now + wait_s, happen)
