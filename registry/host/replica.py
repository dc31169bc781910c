"""One replica of a pool: its adapter, what runs on it, and what is known of it."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from adapter_api.events import Started
from adapter_api.health import EngineProps, HealthState, HealthStatus
from registry.adapter import BoundAdapter
from registry.host.breaker import Breaker, Trial
from registry.host.snapshot import ReplicaSnapshot, ReplicaState

RATE_WINDOW_S = 10.0
"""Over how long tokens per second are averaged: long enough to be calm, short enough to be now."""

MAX_RATE_SAMPLES = 64
"""The most samples in that window, however often somebody looks."""

NEW_SHARE = 0.2
"""The weight of the newest first-token time in the usual one."""


def state_of(status: HealthStatus) -> ReplicaState:
    """A health check's answer in the host's one word."""
    if status.ready:
        return "ready" if status.state is HealthState.HEALTHY else "busy"
    return "loading" if status.live else "down"


@attrs.define(eq=False)
class Lease:
    """The right of one attempt to use a replica's adapter. It is held for as long as the adapter's
    stream lives, so an adapter without leases has no streams."""

    replica: "Replica"
    job_id: str
    taken_at: float
    trial: Trial
    answered: bool = attrs.field(default=False, init=False)
    tokens: int = attrs.field(default=0, init=False)
    held: bool = attrs.field(default=True, init=False)

    def __attrs_post_init__(self) -> None:
        self.replica.leases.add(self)
        self.replica.idle.clear()
        self.replica.jobs += 1

    def release(self) -> None:
        """Give it back. Idempotent."""
        if not self.held:
            return
        self.held = False
        self.trial.end()
        replica = self.replica
        replica.tokens += self.tokens
        replica.leases.discard(self)
        replica.note_idle()


@attrs.define(eq=False)
class Replica:
    """An adapter in its place in a pool, and what is known of its engine.

    A rebind puts a new Replica in the place of the old one, which lives on until its last lease
    is given back.

    Args:
        pool_id: The pool.
        replica_id: Its name in the pool.
        adapter: Its adapter.
        breaker: Its breaker.
        own_limit: The most streams at once, as it was bound.
    """

    pool_id: str
    replica_id: str
    adapter: BoundAdapter
    breaker: Breaker
    own_limit: int | None = None
    leases: set[Lease] = attrs.field(factory=set, init=False)
    idle: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    state: ReplicaState = attrs.field(default="unknown", init=False)
    draining: bool = attrs.field(default=False, init=False)
    status: HealthStatus | None = attrs.field(default=None, init=False)
    props: EngineProps | None = attrs.field(default=None, init=False)
    engine: str | None = attrs.field(default=None, init=False)
    engine_version: str | None = attrs.field(default=None, init=False)
    resting_until: float = attrs.field(default=0.0, init=False)
    answered_at: float | None = attrs.field(default=None, init=False)
    poked: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    jobs: int = attrs.field(default=0, init=False)
    failures: int = attrs.field(default=0, init=False)
    tokens: int = attrs.field(default=0, init=False)
    first_token_ms: float | None = attrs.field(default=None, init=False)
    _keepers: int = attrs.field(default=0, init=False)
    _samples: deque[tuple[float, int]] = attrs.field(
        factory=lambda: deque(maxlen=MAX_RATE_SAMPLES), init=False
    )

    def __attrs_post_init__(self) -> None:
        self.idle.set()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Its adapter stays open, though nothing may run on it any more."""
        self._keepers += 1
        self.idle.clear()
        try:
            yield
        finally:
            self._keepers -= 1
            self.note_idle()

    def note_idle(self) -> None:
        """A user of the adapter is gone; it may have been the last one."""
        if not self.leases and not self._keepers:
            self.idle.set()

    @property
    def shown_state(self) -> ReplicaState:
        """Its state for everybody outside: one that gets no new work is draining."""
        return "draining" if self.draining else self.state

    @property
    def accepts(self) -> bool:
        """Whether it takes new work, as far as its health tells."""
        return not self.draining and self.state in ("ready", "busy")

    @property
    def load(self) -> int:
        """Attempts that run on it."""
        return len(self.leases)

    def limit(self, otherwise: int | None) -> int | None:
        """The most attempts at once: as bound, or the engine's slots, or `otherwise`."""
        if self.own_limit is not None:
            return self.own_limit
        slots = None if self.props is None else self.props.slots_total
        return slots or otherwise

    def has_room(self, otherwise: int | None) -> bool:
        """Whether one more attempt may run now."""
        limit = self.limit(otherwise)
        return limit is None or len(self.leases) < limit

    # What is learnt

    def note_health(self, status: HealthStatus, props: EngineProps | None) -> None:
        """What a health check says and, if it asked for them, the engine's properties."""
        self.status = status
        self.state = state_of(status)
        if props is not None:
            self.note_props(props)

    def note_props(self, props: EngineProps) -> None:
        """What the engine says of itself."""
        self.props = props
        self._note_engine(props.engine, props.engine_version)

    def note_started(self, started: Started) -> None:
        """What an answer says of its engine."""
        self._note_engine(started.engine, started.engine_version)

    def _note_engine(self, engine: str, version: str | None) -> None:
        if engine != "unknown":
            self.engine = engine
        if version is not None and version != "unknown":
            self.engine_version = version

    def note_first_token(self, took_ms: float) -> None:
        """How long an attempt waited for its first token."""
        usual = self.first_token_ms
        self.first_token_ms = took_ms if usual is None else usual + NEW_SHARE * (took_ms - usual)

    def sample(self, now: float) -> float:
        """Tokens per second since the oldest sample of the window; takes a new sample."""
        total = self.tokens + sum(lease.tokens for lease in self.leases)
        samples = self._samples
        while samples and samples[0][0] < now - RATE_WINDOW_S:
            samples.popleft()
        samples.append((now, total))
        since, before = samples[0]
        return round((total - before) / (now - since), 1) if now > since else 0.0

    def snapshot(self, now: float, otherwise: int | None) -> ReplicaSnapshot:
        """As it is now."""
        return ReplicaSnapshot(
            pool_id=self.pool_id,
            replica_id=self.replica_id,
            adapter=self.adapter.name,
            engine=self.engine,
            engine_version=self.engine_version,
            state=self.shown_state,
            breaker=self.breaker.state,
            in_flight=self.load,
            limit=self.limit(otherwise),
            tokens_per_s=self.sample(now),
            first_token_ms=None if self.first_token_ms is None else round(self.first_token_ms, 3),
            jobs=self.jobs,
            failures=self.failures,
            message="" if self.status is None else self.status.message,
        )
