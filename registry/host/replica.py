"""One replica of a pool, its known facts, and a sorted view of the replicas of one model."""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

from adapter_api.events import Started
from adapter_api.health import EngineProps, HealthState, HealthStatus
from adapter_api.notices import ReplicaState
from registry.adapter import BoundAdapter
from registry.host.breaker import Breaker, Pace, Trial
from registry.host.routing import Candidate, Candidates
from registry.host.snapshot import NOT_CHECKED, Binding, Rate, ReplicaSnapshot

NEW_SHARE = 0.2
"""The weight of the newest time in the recent one."""

FORGET_S = 60.0
"""After this time without a job, a replica's first-token time is ignored: it may be fast again,
which only a job can show."""

LATE_S = 0.001
"""Timers fire this much after the moment they wait for, so that it has passed by then."""

REFUSALS_IN_A_ROW = 2
"""The number of refused keys or missing models in a row after which a replica rests."""

MIN_REFUSED_S = 1.0
"""The minimum rest of a replica that keeps refusing; doubled with each further refusal."""

PROPS_S = 60.0
"""How often the properties of a ready replica are read again: a server may load other models
without going down."""

MAX_MODELS = 10_000
"""Names of models that are kept of one replica; the largest routers list under a thousand."""

MAX_ODD = 8
"""Unexpected models of one replica that are logged, each once."""


_ACCEPTING = (ReplicaState.READY, ReplicaState.BUSY)


def state_of(status: HealthStatus) -> ReplicaState:
    """Return the ReplicaState for the result of a health check."""
    if status.ready:
        healthy = status.state is HealthState.HEALTHY
        return ReplicaState.READY if healthy else ReplicaState.BUSY
    return ReplicaState.LOADING if status.live else ReplicaState.DOWN


@attrs.define(eq=False)
class Lease(Trial):
    """One attempt's claim on a replica's adapter, held while its stream lives. It is also the
    attempt from the point of view of the replica's breaker."""

    replica: "Replica"
    taken_at: float
    started: bool = attrs.field(default=False, init=False)
    has_answered: bool = attrs.field(default=False, init=False)
    tokens: int = attrs.field(default=0, init=False)
    held: bool = attrs.field(default=True, init=False)
    left_at: float = attrs.field(default=0.0, init=False)  # when its answer was whole


@attrs.define(eq=False)
class Replica:
    """An adapter bound in a pool, and the known facts about its engine.

    A rebind replaces it with a new Replica; the old one lives until its last lease is given back.

    Args:
        pool_id: The pool.
        replica_id: Its name in the pool.
        adapter: Its adapter.
        breaker: Its breaker.
        binding: How it was bound.

    Attributes:
        idle: Set when nothing uses its adapter; None while nothing waits for that.
        own_limit: The maximum of concurrent attempts, as bound, or the engine's slots; None without
            one.
    """

    pool_id: str
    replica_id: str
    adapter: BoundAdapter
    breaker: Breaker
    binding: Binding
    pace: Pace = attrs.field(factory=Pace, init=False)
    leases: set[Lease] = attrs.field(factory=set, init=False)
    poked: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    state: ReplicaState = attrs.field(default=ReplicaState.UNKNOWN, init=False)
    draining: bool = attrs.field(default=False, init=False)
    status: HealthStatus = attrs.field(default=NOT_CHECKED, init=False)
    props: EngineProps | None = attrs.field(default=None, init=False)
    engine: str | None = attrs.field(default=None, init=False)
    engine_version: str | None = attrs.field(default=None, init=False)
    own_limit: int | None = attrs.field(default=None, init=False)
    names: frozenset[str] = attrs.field(factory=frozenset, init=False)
    asked_for: str | None = attrs.field(default=None, init=False)
    resting_until: float = attrs.field(default=0.0, init=False)
    props_at: float = attrs.field(default=-math.inf, init=False)
    is_doubted: bool = attrs.field(default=False, init=False)
    refusals: int = attrs.field(default=0, init=False)
    answered_at: float = attrs.field(default=-math.inf, init=False)
    jobs: int = attrs.field(default=0, init=False)
    failures: int = attrs.field(default=0, init=False)
    tokens: int = attrs.field(default=0, init=False)
    first_token_ms: float | None = attrs.field(default=None, init=False)
    odd_models: set[str] = attrs.field(factory=set, init=False)
    _alarm: asyncio.TimerHandle | None = attrs.field(default=None, init=False)
    _keepers: int = attrs.field(default=0, init=False)
    idle: asyncio.Event | None = attrs.field(default=None, init=False)
    _rate: Rate = attrs.field(factory=Rate, init=False)

    def __attrs_post_init__(self) -> None:
        self.own_limit = self.binding.limit
        self._note_names()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep its adapter open, even if no stream uses it any more."""
        self._keepers += 1
        try:
            yield
        finally:
            self._keepers -= 1
            self.note_idle()

    @property
    def is_idle(self) -> bool:
        """True if nothing uses its adapter."""
        return not self.leases and not self._keepers

    def note_idle(self) -> None:
        """Note that a user of the adapter is gone; it may have been the last one."""
        if self.idle is not None and self.is_idle:
            self.idle.set()
            self.idle = None

    async def until_idle(self) -> None:
        """Wait until nothing uses its adapter."""
        if not self.is_idle:
            if self.idle is None:
                self.idle = asyncio.Event()
            await self.idle.wait()

    @property
    def shown_state(self) -> ReplicaState:
        """Its reported state: a replica that gets no new work is draining."""
        return ReplicaState.DRAINING if self.draining else self.state

    @property
    def shown_message(self) -> str:
        """The message of its last health check; empty before the first one."""
        return "" if self.status is NOT_CHECKED else self.status.message

    @property
    def accepts(self) -> bool:
        """True if it accepts new work by its last health check."""
        return not self.draining and self.state in _ACCEPTING

    @property
    def load(self) -> int:
        """Attempts that run on it."""
        return len(self.leases)

    def hard_limit(self, otherwise: int | None) -> int | None:
        """Return the maximum of concurrent attempts: its own limit, or `otherwise`."""
        return otherwise if self.own_limit is None else self.own_limit

    def limit(self, otherwise: int | None) -> int | None:
        """Return the maximum of concurrent attempts, including the learnt limit."""
        hard = otherwise if self.own_limit is None else self.own_limit
        if self.pace.limit is None:
            return hard
        learnt = self.pace.room
        return learnt if hard is None else min(hard, learnt)

    def free_at(self, now: float) -> float | None:
        """Return when it can get jobs again; None if that depends on a probe in flight."""
        if self.breaker.allows(now):
            return self.resting_until
        at = self.breaker.retry_at
        return None if at is None else max(at, self.resting_until)

    def set_alarm(self, call: "Callable[[Replica], None]") -> None:
        """Call `call` once when it can get jobs again; replaces an earlier alarm."""
        self.cancel_alarm()
        loop = asyncio.get_running_loop()
        at = max(self.resting_until, self.breaker.retry_at or 0.0, self.pace.next_at)
        if at > loop.time():
            self._alarm = loop.call_at(at + LATE_S, call, self)

    def cancel_alarm(self) -> None:
        """Cancel the timer, which would keep the replica and its pool alive."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def candidate(self, limit: int | None, now: float) -> Candidate:
        """Return the facts that a routing policy gets."""
        recent = now - self.answered_at < FORGET_S
        return Candidate(
            self.replica_id,
            len(self.leases),
            limit,
            self.binding.weight,
            self.first_token_ms if recent else None,
            self.jobs,
            self.asked_for,
        )

    # Models

    def lists(self, model: str | None) -> bool:
        """Return whether it is known to serve `model`. None is the model it is configured for."""
        if model is None:
            return self.status.model_listed is not False
        return model in self.names

    def notes_odd_model(self, answered: str | None) -> bool:
        """Return whether this is the first answer with such a model's name."""
        if answered is None or answered in self.odd_models or len(self.odd_models) >= MAX_ODD:
            return False
        self.odd_models.add(answered)
        return True

    def _note_names(self) -> None:
        own = {self.binding.model, *self.binding.aliases}
        if self.props is not None:
            listed = self.props.models[:MAX_MODELS]
            own.update(listed)
            own.update(name.removesuffix(":latest") for name in listed)  # the tag may be left out
        self.names = frozenset(name for name in own if name)

    # What is learnt

    def note_health(self, status: HealthStatus, props: EngineProps | None) -> None:
        """Note the result of a health check and, if they were read, the engine's properties."""
        state = state_of(status)
        if self.state is ReplicaState.DOWN and state is not ReplicaState.DOWN:
            self.pace.recover()
        self.status, self.state = status, state
        if props is not None:
            self.note_props(props)

    def wants_props(self, status: HealthStatus, now: float) -> bool:
        """Return whether its properties are to be read again after a check with this result."""
        return (
            not self.accepts
            or self.is_doubted
            or status.model_listed != self.status.model_listed
            or now - self.props_at >= PROPS_S
        )

    def note_props(self, props: EngineProps) -> None:
        """Note what the engine reports about itself."""
        self.props, self.is_doubted = props, False
        self.props_at = asyncio.get_running_loop().time()
        if self.binding.limit is None:
            self.own_limit = props.slots_total or None
        self._note_names()
        self._note_engine(props.engine, props.engine_version)

    def note_started(self, started: Started) -> None:
        """Note what an answer reports about its engine."""
        self._note_engine(started.engine, started.engine_version)

    def _note_engine(self, engine: str, version: str | None) -> None:
        if engine != "unknown":
            self.engine = engine
        if version is not None and version != "unknown":
            self.engine_version = version

    def note_first_token(self, took_ms: float) -> None:
        """Note how long an attempt waited for its first token."""
        recent = self.first_token_ms
        self.first_token_ms = took_ms if recent is None else recent + NEW_SHARE * (took_ms - recent)

    def note_refusal(self, first_s: float) -> float:
        """Note a refused key or a missing model; return for how long the replica rests."""
        self.refusals += 1
        self.is_doubted = True
        more = self.refusals - REFUSALS_IN_A_ROW
        return 0.0 if more < 0 else max(MIN_REFUSED_S, first_s) * 2.0**more

    def sample(self, now: float) -> float:
        """Return the tokens per second of the last seconds."""
        return self._rate.note(now, self.tokens + sum(lease.tokens for lease in self.leases))

    def snapshot(self, now: float, otherwise: int | None) -> ReplicaSnapshot:
        """Return its facts at this moment."""
        return ReplicaSnapshot(
            pool_id=self.pool_id,
            replica_id=self.replica_id,
            adapter=self.adapter.name,
            engine=self.engine,
            engine_version=self.engine_version,
            state=self.shown_state,
            breaker=self.breaker.state,
            in_flight=self.load,
            limit=self.hard_limit(otherwise),
            tokens_per_s=self.sample(now),
            first_token_ms=None if self.first_token_ms is None else round(self.first_token_ms, 3),
            jobs=self.jobs,
            failures=self.failures,
            message=self.shown_message,
            learnt_limit=None if self.pace.limit is None else self.pace.room,
            rests_s=round(max(0.0, self.resting_until - now), 3),
            weight=self.binding.weight,
            priority=self.binding.priority,
            models=tuple(sorted(self.names)),
        )


class View:
    """The replicas that serve one model.

    Args:
        model: The model; None for the one that each replica is configured for.
        is_whole: Whether every replica belongs here, whatever it lists.
    """

    def __init__(self, model: str | None, *, is_whole: bool = False) -> None:
        self.model = model
        self.is_whole = is_whole
        self.members: dict[str, Replica] = {}
        self.others: dict[str, Replica] = {}  # in the pool, and not of this view
        self.accepting: dict[str, Replica] = {}
        self.allowed: dict[str, Replica] = {}
        self.tiers: dict[int, Candidates] = {}  # those with room, by priority
        self._free_at: float | None = None
        self._is_known = False  # whether _free_at is up to date

    def sort_in(self, replica: Replica) -> None:
        """Note whether the replica belongs here."""
        name = replica.replica_id
        self.remove(name)
        is_member = not replica.draining and (self.is_whole or replica.lists(self.model))
        (self.members if is_member else self.others)[name] = replica

    def place(self, replica: Replica, accepts: bool, allowed: bool) -> None:
        """Note whether the replica accepts work, and whether it can take a job now."""
        name = replica.replica_id
        if accepts:
            self.accepting[name] = replica
        else:
            self.accepting.pop(name, None)
        if allowed:
            self.allowed[name] = replica
        else:
            self.allowed.pop(name, None)
        self._is_known = False

    def new_tier(self, priority: int) -> Candidates:
        """Return the candidates of a priority that had none so far."""
        tier = Candidates()
        self.tiers = dict(sorted({**self.tiers, priority: tier}.items()))
        return tier

    def remove(self, replica_id: str) -> None:
        """Remove a replica."""
        for kept in (self.members, self.others, self.accepting, self.allowed):
            kept.pop(replica_id, None)
        for tier in self.tiers.values():
            tier.remove(replica_id)
        self._is_known = False

    def free_at(self, now: float) -> float | None:
        """Return when the first of those that accept work can get jobs again; None if that depends
        on a probe in flight."""
        if not self._is_known:
            times = (replica.free_at(now) for replica in self.accepting.values())
            self._free_at = min((at for at in times if at is not None), default=None)
            self._is_known = True
        return self._free_at

    def forget_times(self) -> None:
        """Forget the computed times, because one of them changed."""
        self._is_known = False

    @property
    def coming(self) -> bool:
        """True if a replica may become ready soon, or one is still to be bound."""
        waits_for = (ReplicaState.UNKNOWN, ReplicaState.LOADING)
        return not self.members or any(r.state in waits_for for r in self.members.values())
