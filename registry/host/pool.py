"""A pool's decisions: which replica a job gets, how long it waits, when it is refused.

This module neither waits nor does I/O.
"""

import asyncio
import math
from collections.abc import Collection, Mapping, Sequence
from itertools import chain, islice
from types import MappingProxyType
from typing import Any

import attrs

from adapter_api.errors import EngineUnavailable, ErrorCode, InternalError, WorkerError
from adapter_api.health import EngineProps
from adapter_api.notices import BreakerState
from adapter_api.task import TaskRequest
from registry.host.breaker import MAX_REST_S, Trial
from registry.host.members import Members
from registry.host.policy import FailoverBudget, PoolPolicy, Verdict, refusal_of, verdict_on
from registry.host.replica import Lease, Replica, View
from registry.host.routing import Candidates, Choice
from registry.host.snapshot import Notify

MAX_SKIPS = 8
"""The maximum number of skipped replicas that one decision names; the ledger counts the others."""

MAX_WAIT_S = 60.0
"""The maximum wait that replicas may impose on a job: longer waits are up to the caller."""

MAX_BUSY = 8
"""Busy answers that do not count as attempts of a job. The host learns a limit from them, which the
jobs in flight at that time should not pay for."""

FREE_ATTEMPT_S = 1.0
"""An attempt that broke within this time, before any answer, cost the engine no work."""


@attrs.frozen
class Wait:
    """Wait for a change, or until `until` if that comes first."""

    reason: str
    until: float | None = None


@attrs.frozen
class Fail:
    """End the job."""

    error: WorkerError


Step = Choice | Wait | Fail

FULL = Wait("full")

_NONE: Mapping[Any, Any] = MappingProxyType({})
"""Of a job that no replica has failed yet, as nearly every job is."""


@attrs.define(eq=False)
class Progress:
    """The progress of a job in its pool.

    Args:
        task: The job.
        deadline_at: When it must have ended; None without a deadline.
        since: Since when it waits for a replica.
        tried: The replicas that failed it, each with the time before which it is not tried again.
        attempts: How many of its attempts failed, but for the first MAX_BUSY busy answers.
        busy: How many of those it had.
        counted_against: The trials that counted against replicas, at most one for each.
        refusals: An engine's words in a 500, with the replica that sent them.
        moved: Whether a refused key or a missing model moved it already.
    """

    task: TaskRequest
    deadline_at: float | None
    since: float
    tried: Mapping[str, float] = _NONE
    attempts: int = 0
    busy: int = 0
    counted_against: Mapping[str, Trial] = _NONE
    refusals: Mapping[tuple[int, str], str] = _NONE
    moved: bool = False

    def fits(self, until: float) -> bool:
        """Return whether a wait until then leaves time before the deadline."""
        return self.deadline_at is None or until < self.deadline_at


class Pool:
    """Decides for the jobs of one pool.

    Args:
        pool_id: Its name.
        policy: Its limits.
        notify: Notifies observers of a change: the hook's name, and the notice.
    """

    def __init__(self, pool_id: str, policy: PoolPolicy, notify: Notify) -> None:
        self.pool_id = pool_id
        self.policy = policy
        self.members = Members(pool_id, policy, notify)
        self.budget = FailoverBudget(policy.retry_ratio, policy.retry_floor_per_s)
        self.draining = False
        self.is_gone = False
        self.jobs = 0
        self.retries = 0

    def use(self, policy: PoolPolicy) -> None:
        """Apply `policy` from now on. Breakers and the budget start over."""
        self.policy = policy
        self.budget = FailoverBudget(policy.retry_ratio, policy.retry_floor_per_s)
        self.members.use(policy)

    # Deciding

    def next_step(self, job: Progress, now: float) -> Step:
        """Decide what a job does next.

        Replicas it has not tried come first, even if it must wait for one of them to have room.
        Those that failed it are tried again when all have been tried.
        """
        members, model = self.members, job.task.model
        view = members.view(model, now)
        if not view.allowed:
            return self._blocked(view, job, now)
        if view.is_whole and model is not None and members.unchecked:
            # No replica lists the model, and one that is still to be checked may.
            ready_by = job.since + self.policy.ready_wait_s
            if now < ready_by:
                return Wait("not_ready", ready_by)
        if not job.tried:
            return self._choose(view, job.task) or FULL
        tried = [name for name in job.tried if name in view.allowed]
        paused = [name for name in tried if job.tried[name] > now]
        if len(view.allowed) > len(tried):
            return self._choose(view, job.task, tried) or FULL
        if len(paused) == len(tried):
            return self._wait_until(min(job.tried[n] for n in paused), "backoff", job, now)
        until = min((job.tried[name] for name in paused), default=math.inf)
        full = FULL if until == math.inf else Wait("full", until)
        return self._choose(view, job.task, paused) or full

    def _choose(
        self, view: View, task: TaskRequest, but: Collection[str] = ()
    ) -> Choice | Fail | None:
        """Let the policy choose among replicas with room, of the first priority that has any."""
        for tier in view.tiers.values():
            if tier.by_id and not but:
                return self._chosen(tier, task)
            if tier.by_id:
                with tier.without(but):
                    if tier.by_id:
                        return self._chosen(tier, task)
        return None

    def _chosen(self, candidates: Candidates, task: TaskRequest) -> Choice | Fail:
        try:
            choice = self.policy.routing.choose(task, candidates)
            if choice.replica_id not in candidates.by_id:
                raise ValueError(f"replica {choice.replica_id!r} was not among the candidates")
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # of the policy, SystemExit included: fails this job only
            error = InternalError(
                ErrorCode.INTERNAL,
                f"the routing policy of pool {self.pool_id!r} failed with {type(exc).__name__}",
            )
            error.__cause__ = exc
            return Fail(error)
        return choice

    def _blocked(self, view: View, job: Progress, now: float) -> Step:
        """Decide for a job that no replica may take now, with or without room."""
        unready_since = self.members.unready_since
        since = job.since if unready_since is None else max(job.since, unready_since)
        until = since + self.policy.ready_wait_s
        if not view.accepting:
            coming = view.coming and not self.is_gone and now < until
            return Wait("not_ready", until) if coming else Fail(self._not_ready())
        free_at = view.free_at(now)
        if free_at is None:
            return Wait("circuit_open")  # the end of the probe is an event
        replicas = view.accepting.values()
        is_open = any(r.breaker.state is not BreakerState.CLOSED for r in replicas)
        reason = "circuit_open" if is_open else "at_rest"
        step = self._wait_until(free_at, reason, job, now)
        if isinstance(step, Fail) and any(r.breaker.is_probing for r in replicas):
            return Wait(reason)
        return step

    def _wait_until(self, until: float, reason: str, job: Progress, now: float) -> Step:
        if until - now <= MAX_WAIT_S and job.fits(until):
            return Wait(reason, until)
        wait_s = max(0.0, until - now)
        code = ErrorCode.CIRCUIT_OPEN if reason == "circuit_open" else ErrorCode.POOL_UNAVAILABLE
        if wait_s == math.inf:  # the remaining ones refused the job permanently
            message = f"no other replica of pool {self.pool_id!r} is left for the job"
            return Fail(EngineUnavailable(code, message, retriable=False))
        return Fail(
            EngineUnavailable(
                code,
                f"no replica of pool {self.pool_id!r} can take the job for another {wait_s:.3g} s "
                f"({reason})",
                retry_after_ms=_ms(wait_s),
            ),
        )

    def _not_ready(self) -> WorkerError:
        replicas = self.members.replicas
        said = ", ".join(_said(replicas[name]) for name in sorted(replicas)[:MAX_SKIPS])
        if len(replicas) > MAX_SKIPS:
            said += f" and {len(replicas) - MAX_SKIPS} more"
        return EngineUnavailable(
            ErrorCode.POOL_UNAVAILABLE,
            f"no replica of pool {self.pool_id!r} is ready: {said or 'it has none'}",
            retry_after_ms=_ms(self.policy.probe_interval_s),
        )

    # After an attempt

    def note_failure(self, job: Progress, lease: Lease, error: WorkerError) -> None:
        """Note that an attempt failed: against its replica, or as the job's own fault."""
        name = lease.replica.replica_id
        refusal = refusal_of(error)
        first = None if refusal is None else job.refusals.get(refusal)
        if refusal is not None and first is None:
            job.refusals = {**job.refusals, refusal: name}
        if first is not None and first != name:  # two engines report the same: the job is at fault
            for counted in job.counted_against.values():
                counted.retract()
            error.retriable = False
            return
        trial = self.members.note_failure(lease, error, name not in job.counted_against)
        if trial is not None:
            job.counted_against = {**job.counted_against, name: trial}

    def try_again(self, job: Progress, lease: Lease, error: WorkerError, backoff_s: float) -> str:
        """Prepare a job for another attempt, after one that failed before its first token.

        Args:
            job: The job.
            lease: The attempt that failed.
            error: The attempt's error.
            backoff_s: How long this job must not return to that replica.

        Returns:
            "granted", or the reason against another attempt.
        """
        now, name, verdict = _now(), lease.replica.replica_id, verdict_on(error)
        if verdict is Verdict.BUSY and job.busy < MAX_BUSY and job.task.max_attempts is None:
            job.busy += 1
        else:
            job.attempts += 1
        is_of_replica = verdict is Verdict.ELSEWHERE or (
            verdict is Verdict.BROKEN and not lease.started
        )
        moves = is_of_replica and not error.retriable and not job.moved
        if not (error.retriable or moves):
            return "not_retriable"
        max_attempts = self.policy.max_attempts
        if max(1, job.attempts) >= min(max_attempts, job.task.max_attempts or max_attempts):
            return "attempts_used_up"
        job.tried = {**job.tried, name: math.inf if moves else now + backoff_s}
        if moves:
            job.moved = True
            view = self.members.view(job.task.model)
            if not any(name not in job.tried for name in view.allowed):
                return "no_replica"
        step = self.next_step(job, now)
        if isinstance(step, Fail):
            if error.retry_after_ms is None:
                error.retry_after_ms = step.error.retry_after_ms
            return "no_replica"
        is_free = verdict in (Verdict.BUSY, Verdict.ELSEWHERE) or (
            verdict is Verdict.BROKEN
            and error.status is None
            and not lease.started
            and now - lease.taken_at < FREE_ATTEMPT_S
        )
        if not is_free and not self.budget.withdraw(now):
            return "retry_budget_spent"
        self.retries += 1
        return "granted"

    # Estimates

    @property
    def at_once(self) -> float:
        """The number of attempts that the replicas accepting work take at once, at least 1.

        If none accepts work now, all replicas count.
        """
        replicas = self.members.everyone.accepting or self.members.replicas
        limits = [replica.limit(self.policy.max_in_flight) for replica in replicas.values()]
        return max(1, sum(math.inf if limit is None else limit for limit in limits))

    @property
    def is_closed_off(self) -> bool:
        """True if no replica may get a job for longer than a busy one rests.

        Waiting jobs are rechecked then, since some of them cannot wait that long.
        """
        return self.next_chance_s() > MAX_REST_S

    def next_chance_s(self) -> float:
        """Return how long no replica can take a job, in seconds; 0 if one can now."""
        everyone, now = self.members.everyone, _now()
        if everyone.allowed:
            return 0.0
        if not everyone.accepting:
            return self.policy.probe_interval_s
        until = everyone.free_at(now)
        return 0.0 if until is None else max(0.0, until - now)

    # Reports

    def skipped(
        self, model: str | None, tried: Collection[str]
    ) -> Sequence[tuple[str | None, str]]:
        """Return replicas that cannot take a job now, each with the reason; the last entry counts
        those that are not named."""
        view, away = self.members.view(model), self.members.away
        if not (away or view.others or tried):
            return ()
        now = _now()
        reasons = chain(
            ((name, self._why_not(replica, now)) for name, replica in away.items()),
            ((name, "other_model") for name in view.others if name not in away),
            ((name, "tried") for name in tried if name in view.allowed and name not in away),
        )
        found: list[tuple[str | None, str]] = list(islice(reasons, MAX_SKIPS))
        if next(reasons, None) is not None:
            found.append((None, f"up to {len(away) + len(view.others) - MAX_SKIPS} more"))
        return found

    def _why_not(self, replica: Replica, now: float) -> str:
        if not replica.accepts:
            return replica.shown_state
        if self.members.refuses_version_of(replica):
            return "other_version"
        if replica.resting_until > now:
            return "at_rest"
        return "full" if replica.breaker.allows(now) else "circuit_open"

    def models(self) -> tuple[str, ...]:
        """Return every known model name that tasks can use in this pool."""
        return tuple(sorted(name for name, count in self.members.listed.items() if count > 0))

    def props(self) -> EngineProps:
        """Return the combined properties of the replicas that accept work."""
        replicas = list(self.members.everyone.accepting.values())
        known = [replica.props for replica in replicas if replica.props is not None]
        engines = {replica.engine for replica in replicas if replica.engine}
        slots = [props.slots_total for props in known if props.slots_total is not None]
        contexts = [props.context_length for props in known if props.context_length is not None]
        versions = self.members.versions.all
        return EngineProps(
            engine=engines.pop() if len(engines) == 1 else "unknown",
            engine_version=versions[0] if len(versions) == 1 else None,
            models=self.models(),
            context_length=min(contexts, default=None),
            slots_total=sum(slots) if len(slots) == len(replicas) > 0 else None,
        )


def _said(replica: Replica) -> str:
    message, state = replica.shown_message, replica.shown_state
    # A replica that refuses the key, for example, is alive and not ready, but nothing is loading.
    shown = "not ready" if message and state == "loading" else state
    return f"{replica.replica_id} is {shown}" + (f" ({message})" if message else "")


def _ms(seconds: float) -> int:
    """Return milliseconds, never 0 for a wait."""
    return max(1, math.ceil(seconds * 1000))


def _now() -> float:
    return asyncio.get_running_loop().time()
