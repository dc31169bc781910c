"""A pool's decisions: which replica a job gets, how long it waits, when it is refused.

Nothing here waits or talks to an engine. Time is an argument, in seconds of the host's clock.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import attrs

from adapter_api.errors import EngineUnavailable, ErrorCode, InternalError, WorkerError
from adapter_api.events import Started
from adapter_api.health import EngineProps, HealthStatus
from adapter_api.notices import BreakerNotice, ReplicaNotice
from adapter_api.task import TaskRequest
from registry.host.breaker import Breaker, counts
from registry.host.budget import RetryBudget
from registry.host.policy import PoolPolicy
from registry.host.replica import Lease, Replica
from registry.host.routing import Candidate
from registry.host.snapshot import BreakerState, ReplicaSnapshot, ReplicaState

WAIT_MOST_S = 60.0
"""The longest that a job waits because replicas asked for it: the caller decides on longer ones."""


Tell = Callable[[str, object], None]


@attrs.frozen
class Attempt:
    """Ask this replica now."""

    replica: Replica
    reason: str


@attrs.frozen
class Wait:
    """Wait for a change, or until `until` if that comes first."""

    reason: str
    until: float | None = None


@attrs.frozen
class Fail:
    """End the job."""

    error: WorkerError


Step = Attempt | Wait | Fail


@attrs.define(eq=False)
class Progress:
    """How far a job has come with its pool.

    Args:
        task: The job.
        deadline_at: When it must have ended; None without a deadline.
        since: Since when it waits for a replica.
        tried: The replicas that failed it, each with the time before which it is not asked again.
        attempts: How many of its attempts failed.
    """

    task: TaskRequest
    deadline_at: float | None
    since: float
    tried: dict[str, float] = attrs.field(factory=dict)
    attempts: int = 0

    def fits(self, until: float) -> bool:
        """Whether a wait until then leaves time before the deadline."""
        return self.deadline_at is None or until < self.deadline_at


class Waiting(Protocol):
    """A job's place in the line."""

    @property
    def progress(self) -> Progress:
        """How far the job has come."""
        ...


_W = TypeVar("_W", bound=Waiting)


class Pool:
    """Replicas that serve the same models.

    Args:
        pool_id: Its name.
        policy: Its limits.
        tell: Tells observers of a change: the hook's name, and the notice.
        now: The time.
    """

    def __init__(self, pool_id: str, policy: PoolPolicy, tell: Tell, now: float) -> None:
        self.pool_id = pool_id
        self.replicas: dict[str, Replica] = {}
        self.draining = False
        self._leaving: set[Replica] = set()  # out of their places, with streams that still run
        self.jobs = 0
        self.retries = 0
        self._unready_since: float | None = now
        self._version: str | None = None
        self._tell = tell
        self.use(policy, now)

    def use(self, policy: PoolPolicy, now: float) -> None:
        """Go by `policy` from now on. Breakers and the retry budget begin afresh."""
        self.policy = policy
        self.budget = RetryBudget(policy.retry_ratio, policy.retry_floor_per_s)
        for replica in self.replicas.values():
            with self._watched(replica, now, "replaced"):
                replica.breaker = Breaker(policy.breaker)

    # Replicas

    def put(self, replica: Replica, now: float) -> None:
        """Add the replica, or put it in the place of the one of its name."""
        before = self.replicas.get(replica.replica_id)
        self.replicas[replica.replica_id] = replica
        if before is not None:
            self._leaving.add(before)
        self.draining = False
        self.note_change(now)
        self._tell_state(replica, None if before is None else before.shown_state)
        if before is not None:
            self._tell_breaker(replica, before.breaker.state, now, "replaced")

    def remove(self, replica: Replica, now: float) -> None:
        """The replica gets no work from now on."""
        del self.replicas[replica.replica_id]
        self._leaving.add(replica)
        self.note_change(now)
        notice = ReplicaNotice(self.pool_id, replica.replica_id, replica.shown_state, None)
        self._tell("replica_changed", notice)

    def busy(self) -> list[Replica]:
        """Those on which something runs, also if they are in place no more."""
        self._leaving = {replica for replica in self._leaving if not replica.idle.is_set()}
        return [r for r in (*self.replicas.values(), *self._leaving) if not r.idle.is_set()]

    def drain(self, replica: Replica, now: float) -> None:
        """The replica gets no new work, and stays."""
        before = replica.shown_state
        replica.draining = True
        self.note_change(now)
        self._tell_state(replica, before)

    # Deciding

    def next_step(self, job: Progress, now: float) -> Step:
        """What a job does next.

        Replicas it has not tried come first, also where it must wait for one of them to have
        room; those that failed it are asked again when no other can be.
        """
        accepting = [replica for replica in self.replicas.values() if self._accepts(replica)]
        if not accepting:
            return self._unready(job, now)
        allowed = [r for r in accepting if r.resting_until <= now and r.breaker.allows(now)]
        if not allowed:
            return self._closed_off(accepting, job, now)
        fresh = [r for r in allowed if r.replica_id not in job.tried]
        again = fresh or [r for r in allowed if job.tried[r.replica_id] <= now]
        if not again:
            until = min(job.tried[r.replica_id] for r in allowed)
            return self._wait_until(until, "backoff", job, now)
        chosen = self._choose(again, job.task)
        if chosen is not None:
            return chosen
        times = [_free_at(replica, now) for replica in accepting]
        if not fresh:
            times += [job.tried[r.replica_id] for r in allowed]
        return Wait("full", _first(times, now))

    def serve(
        self, line: Iterable[_W], settle: Callable[[_W, Attempt | Fail], None], now: float
    ) -> float | None:
        """Decide for every job in the line that need not wait any longer.

        Args:
            line: Who waits, in order.
            settle: Carries a decision out: the job leaves the line.
            now: The time.

        Returns:
            When to look again if nothing changes before; None if only a change can help.
        """
        until: float | None = None
        for turn in list(line):
            step = self.next_step(turn.progress, now)
            if not isinstance(step, Wait):
                settle(turn, step)
                continue
            if step.until is not None:
                until = step.until if until is None else min(until, step.until)
            if step.reason == "full" and not turn.progress.tried:
                break  # no replica has room for anybody
        return until

    def go_on(
        self, job: Progress, replica_id: str, error: WorkerError, backoff_s: float, now: float
    ) -> str | None:
        """Get a job ready for another attempt, after one that failed before its first token.

        Args:
            job: The job.
            replica_id: Which replica failed it.
            error: How.
            backoff_s: How long this job leaves that replica alone.
            now: The time.

        Returns:
            None if another attempt is granted, else why there must be none.
        """
        job.attempts += 1
        if not error.retriable:
            return "not_retriable"
        most = self.policy.max_attempts
        if job.attempts >= min(most, job.task.max_attempts or most):
            return "attempts_used_up"
        job.tried[replica_id] = now + backoff_s
        step = self.next_step(job, now)
        if isinstance(step, Fail):
            if error.retry_after_ms is None:
                error.retry_after_ms = step.error.retry_after_ms
            return "no_replica"
        if not self.budget.withdraw(now):
            return "retry_budget_spent"
        self.retries += 1
        return None

    def _accepts(self, replica: Replica) -> bool:
        return replica.accepts and not self._refuses_version_of(replica)

    def _choose(self, replicas: list[Replica], task: TaskRequest) -> Attempt | Fail | None:
        most = self.policy.max_in_flight
        candidates = [
            Candidate(r.replica_id, r.load, r.limit(most)) for r in replicas if r.has_room(most)
        ]
        if not candidates:
            return None
        try:
            choice = self.policy.routing.choose(task, candidates)
            if choice.replica_id not in [candidate.replica_id for candidate in candidates]:
                raise ValueError(f"replica {choice.replica_id!r} was not among the candidates")
        except Exception as exc:  # whatever it raises is the failure of this job alone
            error = InternalError(
                ErrorCode.INTERNAL,
                f"the routing policy of pool {self.pool_id!r} failed with {type(exc).__name__}",
            )
            error.__cause__ = exc
            return Fail(error)
        return Attempt(self.replicas[choice.replica_id], choice.reason)

    def _wait_until(self, until: float, reason: str, job: Progress, now: float) -> Step:
        if until - now <= WAIT_MOST_S and job.fits(until):
            return Wait(reason, until)
        wait_s = max(0.0, until - now)
        code = ErrorCode.CIRCUIT_OPEN if reason == "circuit_open" else ErrorCode.POOL_UNAVAILABLE
        return Fail(
            EngineUnavailable(
                code,
                f"no replica of pool {self.pool_id!r} may be asked for another {wait_s:.3g} s "
                f"({reason})",
                retry_after_ms=_ms(wait_s),
            ),
        )

    def _closed_off(self, accepting: list[Replica], job: Progress, now: float) -> Step:
        """All that accept work are at rest or have an open breaker: wait for the first."""
        until = _first([_free_at(replica, now) for replica in accepting], now)
        if until is None or any(r.breaker.is_probing for r in accepting):
            return Wait("circuit_open", until)  # the end of a probe will be told
        resting = any(r.resting_until > now and r.breaker.allows(now) for r in accepting)
        return self._wait_until(until, "at_rest" if resting else "circuit_open", job, now)

    def _unready(self, job: Progress, now: float) -> Step:
        """None accepts work: wait for those that may do so soon."""
        coming = any(
            not r.draining and r.state in ("unknown", "loading") for r in self.replicas.values()
        )
        since = job.since if self._unready_since is None else max(job.since, self._unready_since)
        until = since + self.policy.ready_wait_s
        if coming and now < until:
            return Wait("not_ready", until)
        said = ", ".join(_said(self.replicas[name]) for name in sorted(self.replicas))
        return Fail(
            EngineUnavailable(
                ErrorCode.POOL_UNAVAILABLE,
                f"no replica of pool {self.pool_id!r} is ready: {said or 'it has none'}",
                retry_after_ms=_ms(self.policy.probe_interval_s),
            )
        )

    @property
    def at_once(self) -> float:
        """How many attempts the replicas that accept work take at once, at least 1; of all of them
        where none does at present."""
        replicas = [r for r in self.replicas.values() if self._accepts(r)]
        most = self.policy.max_in_flight
        limits = [r.limit(most) for r in replicas or self.replicas.values()]
        return max(1, sum(math.inf if limit is None else limit for limit in limits))

    def next_chance_s(self, now: float) -> float:
        """For how long no replica may be asked, in seconds; 0 if one may be."""
        accepting = [r for r in self.replicas.values() if self._accepts(r)]
        if not accepting:
            return self.policy.probe_interval_s
        times = [_free_at(replica, now) for replica in accepting]
        if any(at is not None and at <= now for at in times):
            return 0.0
        until = _first(times, now)
        return 0.0 if until is None else until - now

    # Engine versions

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions of the engines that accept work, sorted."""
        return tuple(sorted({r.engine_version for r in self._ready() if r.engine_version}))

    def _ready(self) -> list[Replica]:
        return [replica for replica in self.replicas.values() if replica.accepts]

    def note_change(self, now: float) -> None:
        """A replica came, went, or changed its state or version."""
        ready = self._ready()
        if ready:
            self._unready_since = None
        elif self._unready_since is None:
            self._unready_since = now
        # The pool stays with its version as long as a replica runs it: a rolling upgrade moves
        # every session once, when the last of the old ones has gone.
        versions = self.versions
        if self._version not in versions:
            self._version = versions[0] if versions else None

    def _refuses_version_of(self, replica: Replica) -> bool:
        return (
            self.policy.refuse_mixed_versions
            and replica.engine_version is not None
            and replica.engine_version != self._version
        )

    # What is learnt

    def note_job(self, now: float) -> None:
        """A job came."""
        self.jobs += 1
        self.budget.deposit(now)

    def note_health(
        self, replica: Replica, status: HealthStatus, props: EngineProps | None, now: float
    ) -> None:
        """A health check told how the replica is."""
        before = replica.shown_state
        replica.note_health(status, props)
        self.note_change(now)
        self._tell_state(replica, before)

    def note_started(self, replica: Replica, started: Started, now: float) -> None:
        """An answer told of the replica's engine."""
        before = replica.engine_version
        replica.note_started(started)
        if replica.engine_version != before:
            self.note_change(now)

    def lease(self, replica: Replica, job_id: str, now: float) -> Lease:
        """An attempt begins."""
        with self._watched(replica, now, "probe"):
            trial = replica.breaker.begin(now)
        return Lease(replica, job_id, now, trial)

    def note_answer(self, lease: Lease, now: float) -> None:
        """An attempt has its first token."""
        lease.answered = True
        lease.replica.answered_at = now
        with self._watched(lease.replica, now, "answered"):
            lease.trial.succeeded()

    def note_failure(self, lease: Lease, error: WorkerError, now: float) -> None:
        """An attempt failed."""
        replica = lease.replica
        if counts(error):
            replica.failures += 1
            replica.poked.set()
            with self._watched(replica, now, str(error.code)):
                lease.trial.failed(now)
        asked_ms = error.retry_after_ms
        if error.retriable and asked_ms and error.code is not ErrorCode.LOCAL_SATURATED:
            rest_s = min(asked_ms / 1000, WAIT_MOST_S)
            replica.resting_until = max(replica.resting_until, now + rest_s)

    @contextmanager
    def _watched(self, replica: Replica, now: float, reason: str) -> Iterator[None]:
        before = replica.breaker.state
        yield
        self._tell_breaker(replica, before, now, reason)

    def is_present(self, replica: Replica) -> bool:
        """Whether the replica is in its place: not unbound, and not replaced."""
        return self.replicas.get(replica.replica_id) is replica

    def _tell_state(self, replica: Replica, before: ReplicaState | None) -> None:
        if replica.shown_state != before and self.is_present(replica):
            message = "" if replica.status is None else replica.status.message
            notice = ReplicaNotice(
                self.pool_id, replica.replica_id, before, replica.shown_state, message
            )
            self._tell("replica_changed", notice)

    def _tell_breaker(
        self, replica: Replica, before: BreakerState, now: float, reason: str
    ) -> None:
        breaker = replica.breaker
        if breaker.state != before and self.is_present(replica):
            retry_at = breaker.retry_at
            retry_in_ms = None if retry_at is None else max(0, round((retry_at - now) * 1000))
            notice = BreakerNotice(
                self.pool_id, replica.replica_id, before, breaker.state, retry_in_ms, reason
            )
            self._tell("breaker_changed", notice)

    # Telling

    def skipped(self, job: Progress, now: float) -> Iterable[tuple[str, str]]:
        """The replicas that cannot take the job now, by replica_id, each with the reason."""
        for name in sorted(self.replicas):
            replica = self.replicas[name]
            if not replica.accepts:
                yield name, replica.shown_state
            elif self._refuses_version_of(replica):
                yield name, "other_version"
            elif replica.resting_until > now:
                yield name, "at_rest"
            elif not replica.breaker.allows(now):
                yield name, "circuit_open"
            elif name in job.tried:
                yield name, "tried"
            elif not replica.has_room(self.policy.max_in_flight):
                yield name, "full"

    def replica_snapshots(self, now: float) -> tuple[ReplicaSnapshot, ...]:
        """Its replicas, by replica_id."""
        most = self.policy.max_in_flight
        return tuple(self.replicas[name].snapshot(now, most) for name in sorted(self.replicas))


def _free_at(replica: Replica, now: float) -> float | None:
    """When the replica may be asked again; None if that depends on a probe under way."""
    if replica.breaker.allows(now):
        return replica.resting_until
    at = replica.breaker.retry_at
    return None if at is None or at <= now else max(at, replica.resting_until)


def _first(times: Iterable[float | None], now: float) -> float | None:
    """The first of those that are still to come."""
    return min((at for at in times if at is not None and at > now), default=None)


def _said(replica: Replica) -> str:
    message = "" if replica.status is None else replica.status.message
    return f"{replica.replica_id} is {replica.shown_state}" + (f" ({message})" if message else "")


def _ms(seconds: float) -> int:
    """Milliseconds, never 0 for a wait."""
    return max(1, math.ceil(seconds * 1000))
