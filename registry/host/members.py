"""The replicas of a pool, kept sorted for routing.

A View has the replicas that list one model: those that accept work, those that can take a job now,
and, by priority and load, those that have room. Every change of a replica ends in
`Members.refresh`, or in `_rank` if only its load changed. These update its position in each view,
so no job walks all replicas.
"""

import asyncio
import math
from collections import Counter, OrderedDict
from collections.abc import Callable

from adapter_api.errors import ErrorCode, WorkerError
from adapter_api.events import Started
from adapter_api.health import EngineProps, HealthStatus
from adapter_api.notices import BreakerState, ReplicaState
from registry.host.breaker import Breaker, Trial
from registry.host.policy import PoolPolicy, Verdict, verdict_on
from registry.host.replica import NEW_SHARE, Lease, Replica, View
from registry.host.snapshot import Changes, Notify, Versions

MAX_VIEWS = 64
"""Models whose replicas are kept sorted; the least recently requested one is dropped first."""

MAX_REST_S = 60.0
"""The longest rest that a server can request: a wrong header must not disable a replica."""


class Members:
    """The replicas of a pool, and the facts learnt about them.

    Args:
        pool_id: The pool.
        policy: Its limits.
        notify: Notifies observers of a change.

    Attributes:
        on_return: Called when a replica that rested or had an open breaker can get jobs again.
        away: The replicas that cannot take a job now.
        listed: How many replicas list each model.
        unchecked: The replicas whose first health check is to come.
        without: The replicas that lack the model they are configured for.
        generation: Counts changes of the replicas and of the models they list.
    """

    def __init__(self, pool_id: str, policy: PoolPolicy, notify: Notify) -> None:
        self.pool_id = pool_id
        self.policy = policy
        self.replicas: dict[str, Replica] = {}
        self.everyone = View(None, is_whole=True)
        self.on_return: Callable[[], object] = lambda: None
        self.unready_since: float | None = -math.inf
        self._views: OrderedDict[str | None, View] = OrderedDict()  # by model
        self._all: tuple[View, ...] = (self.everyone,)
        self.listed: Counter[str] = Counter()
        self._names: dict[str, frozenset[str]] = {}  # what each replica lists
        self.without: set[str] = set()
        self.away: dict[str, Replica] = {}
        self._moved: dict[str, Replica] = {}  # their loads changed since they were put in order
        self._leaving: set[Replica] = set()  # removed, with streams in flight
        self.versions = Versions()
        self.generation = 0
        self.unchecked: set[str] = set()
        self._changes = Changes(pool_id, notify)

    def use(self, policy: PoolPolicy) -> None:
        """Apply `policy` from now on. Breakers start over."""
        self.policy = policy
        for replica in self.replicas.values():
            before, replica.breaker = replica.breaker.state, Breaker(policy.breaker)
            self._notify_breaker(replica, before, "replaced")
            self.refresh(replica)
            self._await_return(replica)

    # Coming and going

    def put(self, replica: Replica) -> None:
        """Add the replica, or put it in the place of the one of its name."""
        before = self.replicas.get(replica.replica_id)
        if before is not None:
            self._leaving.add(before)
            self._forget(before)
        self.replicas[replica.replica_id] = replica
        self._note_change(replica)
        self._notify_state(replica, None if before is None else before.shown_state)
        if before is not None:
            self._notify_breaker(replica, before.breaker.state, "replaced")

    def remove(self, replica: Replica) -> None:
        """Take the replica out: it gets no work from now on."""
        del self.replicas[replica.replica_id]
        self._leaving.add(replica)
        self._forget(replica)
        self._note_readiness()
        self._changes.of_state(replica.replica_id, replica.shown_state, None)

    def drain(self, replica: Replica) -> None:
        """Give the replica no new work; it stays."""
        before = replica.shown_state
        replica.draining = True
        self._note_change(replica)
        self._notify_state(replica, before)

    def busy(self) -> list[Replica]:
        """Return those in use, including those that are out of their places."""
        self._leaving = {replica for replica in self._leaving if not replica.is_idle}
        return [r for r in (*self.replicas.values(), *self._leaving) if not r.is_idle]

    def is_present(self, replica: Replica) -> bool:
        """Return whether the replica is neither unbound nor replaced."""
        return self.replicas.get(replica.replica_id) is replica

    def _forget(self, replica: Replica) -> None:
        name = replica.replica_id
        replica.cancel_alarm()
        for view in self._all:
            view.remove(name)
        self.away.pop(name, None)
        self._moved.pop(name, None)
        self.unchecked.discard(name)
        self.without.discard(name)
        self.listed.subtract(self._names.pop(name, ()))
        self._note_version(name, None)
        self.generation += 1

    # Keeping order

    def refresh(self, replica: Replica, now: float | None = None) -> None:
        """Put the replica in its place in every view, after anything about it changed."""
        name = replica.replica_id
        if self.replicas.get(name) is not replica:
            return
        if now is None:
            now = _now()
        accepts = replica.accepts and not self.refuses_version_of(replica)
        allowed = accepts and replica.resting_until <= now and replica.breaker.allows(now)
        for view in self._all:
            if name not in view.members:
                continue
            if (name in view.allowed) is not allowed or (name in view.accepting) is not accepts:
                view.place(replica, accepts, allowed)
        self._rank(replica, now)

    def _rank(self, replica: Replica, now: float) -> None:
        """Update the replica's position by load, if it can get jobs and has room."""
        name, priority = replica.replica_id, replica.binding.priority
        candidate = None
        if name in self.everyone.allowed:
            limit = replica.limit(self.policy.max_in_flight)
            if (limit is None or len(replica.leases) < limit) and replica.pace.next_at <= now:
                candidate = replica.candidate(limit, now)
        if candidate is None:
            self.away[name] = replica
        elif self.away:
            self.away.pop(name, None)
        for view in self._all:
            tier = view.tiers.get(priority)
            if candidate is None:
                if tier is not None:
                    tier.remove(name)
            elif name in view.members:
                (view.new_tier(priority) if tier is None else tier).put(candidate)

    def _await_return(self, replica: Replica) -> None:
        """Refresh the replica when it may get jobs again."""
        for view in self._all:
            view.forget_times()
        if self.is_present(replica):
            replica.set_alarm(self._on_return_of)

    def _on_return_of(self, replica: Replica) -> None:
        self.refresh(replica)
        self.on_return()

    def view(self, model: str | None, now: float | None = None) -> View:
        """Return the replicas for a task: those that list its model, or all if none does."""
        if self._moved:
            moved, self._moved = self._moved, {}
            if now is None:
                now = _now()
            for replica in moved.values():
                self._rank(replica, now)
        if model is None and not self.without:
            return self.everyone
        view = self._views.get(model)
        if view is None:
            if model is not None and self.listed.get(model, 0) <= 0:
                return self.everyone
            view = self._make_view(model)
        elif len(self._views) > 1:
            self._views.move_to_end(model)
        return view if view.members else self.everyone

    def _make_view(self, model: str | None) -> View:
        if len(self._views) >= MAX_VIEWS:
            self._views.popitem(last=False)
        view = self._views[model] = View(model)
        self._all = (self.everyone, *self._views.values())
        for replica in self.replicas.values():
            view.sort_in(replica)
            self.refresh(replica)
        return view

    @property
    def is_cold(self) -> bool:
        """True if no replica was checked yet, so that the pool's capacity is unknown."""
        return len(self.unchecked) == len(self.replicas)

    # Changes

    def _note_change(self, replica: Replica) -> None:
        """Note that the replica came, or changed its state, models or version."""
        name = replica.replica_id
        names = self._names.get(name)
        if replica.state is ReplicaState.UNKNOWN:
            self.unchecked.add(name)
        else:
            self.unchecked.discard(name)
        if replica.lists(None) is (name in self.without):
            self.generation += 1
            (self.without.discard if replica.lists(None) else self.without.add)(name)
        if replica.names != names:
            self.generation += 1
            self.listed.subtract(names or ())
            self.listed.update(replica.names)
            self._names[name] = replica.names
        for view in self._all:
            view.sort_in(replica)
        self._note_version(name, replica.engine_version if replica.accepts else None)
        self.refresh(replica)
        self._note_readiness()

    def _note_readiness(self) -> None:
        if self.everyone.accepting:
            self.unready_since = None
        elif self.unready_since is None:
            self.unready_since = _now()

    def _note_version(self, replica_id: str, version: str | None) -> None:
        if self.versions.note(replica_id, version) and self.policy.refuse_mixed_versions:
            for replica in self.replicas.values():
                self.refresh(replica)

    def refuses_version_of(self, replica: Replica) -> bool:
        """Return whether the pool keeps to another version than the replica's."""
        return (
            self.policy.refuse_mixed_versions
            and replica.engine_version is not None
            and replica.engine_version != self.versions.kept
        )

    # Learning

    def note_health(
        self, replica: Replica, status: HealthStatus, props: EngineProps | None
    ) -> None:
        """Note what a health check said."""
        before = replica.shown_state
        replica.note_health(status, props)
        self._note_change(replica)
        self._notify_state(replica, before)

    def note_started(self, replica: Replica, started: Started) -> None:
        """Note what an answer reports about the replica's engine."""
        before = replica.engine_version
        replica.note_started(started)
        if before != replica.engine_version and self.is_present(replica):
            self._note_change(replica)

    def lease(self, replica: Replica, model: str | None, now: float) -> Lease:
        """Begin an attempt. Its replica moves before the next decision: once for many attempts."""
        breaker, before, pace = replica.breaker, replica.breaker.state, replica.pace
        lease = Lease(breaker, breaker.openings, replica, now)
        if before is not BreakerState.CLOSED:
            breaker.admit(lease, now)
        if model is not None:
            replica.asked_for = model
        replica.leases.add(lease)
        replica.jobs += 1
        self._moved[replica.replica_id] = replica
        if (pace.limit is not None or pace.is_back) and pace.begin(replica.load - 1, now):
            self._await_return(replica)
        if before is not BreakerState.CLOSED:
            self.refresh(replica, now)
            self._notify_breaker(replica, before, "probe")
        return lease

    def give_back(self, lease: Lease, now: float) -> None:
        """End an attempt; a second time does nothing."""
        if not lease.held:
            return
        replica, lease.held = lease.replica, False
        replica.tokens += lease.tokens
        replica.leases.discard(lease)
        if replica.idle is not None:
            replica.note_idle()
        if self.replicas.get(replica.replica_id) is replica:
            self._moved[replica.replica_id] = replica
        if replica.breaker.state is not BreakerState.CLOSED:
            lease.end()
            self.refresh(replica, now)

    def note_answer(self, lease: Lease, is_token: bool, now: float) -> bool:
        """Note an attempt's first event of the answer; return whether the replica may now take more
        than before."""
        replica = lease.replica
        lease.has_answered = True
        replica.answered_at = now
        replica.refusals = 0
        if is_token:
            replica.note_first_token((now - lease.taken_at) * 1000)
        if replica.pace.limit is None and replica.breaker.state is BreakerState.CLOSED:
            return False
        was_held = replica.pace.limit is not None or replica.breaker.is_probing
        replica.pace.answered(replica.hard_limit(self.policy.max_in_flight))
        lease.answered()
        if was_held:
            self.refresh(replica, now)
        return was_held

    def note_whole(self, lease: Lease, now: float) -> None:
        """Note that an answer is whole."""
        replica, before = lease.replica, lease.replica.breaker.state
        pace = replica.pace
        pace.took_s += NEW_SHARE * (now - lease.taken_at - pace.took_s)
        if pace.limit is not None:
            pace.whole(replica.load, now, replica.hard_limit(self.policy.max_in_flight))
        if before is not BreakerState.CLOSED:
            lease.succeeded()
            self._notify_breaker(replica, before, "answered")

    def note_failure(self, lease: Lease, error: WorkerError, counts: bool) -> Trial | None:
        """Note that an attempt failed.

        Args:
            lease: The attempt.
            error: How.
            counts: Whether the job has not counted against this replica before.

        Returns:
            The trial, if the failure counted against the replica.
        """
        replica, now, verdict = lease.replica, _now(), verdict_on(error)
        if verdict is Verdict.BUSY:
            rest_s = replica.pace.busy(replica.load - 1, lease.taken_at, now)
            if error.retry_after_ms is None:
                self._rest(replica, rest_s)
            self.refresh(replica, now)
            self._await_return(replica)
        elif verdict is Verdict.ELSEWHERE and error.code is not ErrorCode.INTERNAL:
            replica.poked.set()
            rest_s = replica.note_refusal(self.policy.probe_interval_s)
            if self.view(replica.asked_for).allowed.keys() - {replica.replica_id}:
                self._rest(replica, rest_s)  # where no other can answer, jobs get its refusal
        asked_ms = error.retry_after_ms
        if error.retriable and asked_ms and error.code is not ErrorCode.LOCAL_SATURATED:
            self._rest(replica, asked_ms / 1000)
        if verdict is Verdict.BROKEN:
            replica.failures += 1
            replica.poked.set()
        if verdict is not Verdict.BROKEN or not counts:
            return None
        before = replica.breaker.state
        lease.failed(now)
        if self._notify_breaker(replica, before, str(error.code)):
            self.refresh(replica)
        if replica.breaker.state is BreakerState.OPEN:
            replica.pace.recover()
            self._await_return(replica)
        return lease

    def _rest(self, replica: Replica, rest_s: float) -> None:
        until = _now() + min(rest_s, MAX_REST_S)
        if until > replica.resting_until:
            replica.resting_until = until
            self.refresh(replica)
            self._await_return(replica)

    def _notify_state(self, replica: Replica, before: ReplicaState | None) -> None:
        if self.is_present(replica):
            now, message = replica.shown_state, replica.shown_message
            self._changes.of_state(replica.replica_id, before, now, message)

    def _notify_breaker(self, replica: Replica, before: BreakerState, reason: str) -> bool:
        """Return whether the breaker's state is another one than before."""
        breaker = replica.breaker
        if breaker.state is before:
            return False
        if self.is_present(replica):
            now, retry_at = breaker.state, breaker.retry_at
            self._changes.of_breaker(replica.replica_id, before, now, retry_at, reason)
        return True


def _now() -> float:
    return asyncio.get_running_loop().time()
