"""Facts about replicas and pools: bindings, versions, and a host's snapshots, JSON-able by
cattrs."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Self

import attrs

from adapter_api.health import HealthState, HealthStatus
from adapter_api.notices import BreakerNotice, BreakerState, ReplicaNotice, ReplicaState
from adapter_api.validators import integer, number
from registry.adapter import BoundAdapter


@attrs.frozen(kw_only=True)
class ReplicaSettings:
    """The settings of a replica in a host, besides its adapter.

    Args:
        limit: The maximum number of streams; None: the engine's own, or the policy's.
        weight: Its share of the load compared with the other replicas.
        priority: Replicas with a higher number get work only where none with a lower has room.
        model: The engine's own name of its model: sent where a task names none, or an alias.
        aliases: Other names by which tasks may ask for that model.

    Raises:
        ValueError: If the limit is below 1, or the weight not above 0.
    """

    limit: int | None = attrs.field(default=None, validator=integer(1, optional=True))
    weight: float = attrs.field(default=1.0, validator=number(above=0))
    priority: int = 0
    model: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name, for what takes them one by one."""
        return {field.name: getattr(self, field.name) for field in attrs.fields(ReplicaSettings)}


@attrs.frozen
class Binding(ReplicaSettings):
    """An adapter and the settings with which it is bound; these are given by name.

    Args:
        adapter: The adapter, from a registry or made by hand.
    """

    adapter: BoundAdapter | object

    def model_for(self, model: str | None) -> str | None:
        """Return the engine's name of the model that a task requests."""
        return self.model if model is None or model in self.aliases else model


def is_other_model(sent: str | None, answered: str | None) -> bool:
    """Return whether an answer names a model other than the requested one.

    A dated or tagged form of the name is the same model ("gpt-4o-2024-08-06", "llama3:latest").
    """
    if not sent or not answered:
        return False
    asked, said = _bare(sent), _bare(answered)
    return not (asked.startswith(said) or said.startswith(asked))


def _bare(model: str) -> str:
    """Return a model's name without its folder, its file's ending and its case."""
    return model.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".gguf").lower()


class Versions:
    """The engine versions of a pool's replicas that accept work.

    A pool stays on its version as long as a replica runs it: a rolling upgrade moves every session
    once, when the last replica of the old version is gone.

    Attributes:
        kept: The version that the pool keeps to; None while none is known.
    """

    def __init__(self) -> None:
        self.kept: str | None = None
        self._of: dict[str, str] = {}

    @property
    def all(self) -> tuple[str, ...]:
        """Every version, sorted."""
        return tuple(sorted(set(self._of.values())))

    def note(self, replica_id: str, version: str | None) -> bool:
        """Note the version of a replica; None if it does not count. Return whether the pool keeps
        to another one now."""
        before = self._of.pop(replica_id, None)
        if version is not None:
            self._of[replica_id] = version
        if before == version or self.kept in self._of.values():
            return False
        self.kept, kept = min(self._of.values(), default=None), self.kept
        return self.kept != kept


Notify = Callable[[str, object], None]
"""Notifies observers: the hook's name, and the notice."""


class Changes:
    """Notifies observers of the changes of a pool's replicas.

    Args:
        pool_id: The pool.
        notify: Notifies them.
    """

    def __init__(self, pool_id: str, notify: Notify) -> None:
        self._pool_id = pool_id
        self._notify = notify

    def of_state(
        self,
        replica_id: str,
        before: ReplicaState | None,
        now: ReplicaState | None,
        message: str = "",
    ) -> None:
        """Note the state of a replica; None where it is not in the pool."""
        if now != before:
            notice = ReplicaNotice(self._pool_id, replica_id, before, now, message)
            self._notify("replica_changed", notice)

    def of_breaker(
        self,
        replica_id: str,
        before: BreakerState,
        now: BreakerState,
        retry_at: float | None,
        reason: str,
    ) -> None:
        """Note that the state of a breaker changed."""
        time = asyncio.get_running_loop().time()
        retry_in_ms = None if retry_at is None else max(0, round((retry_at - time) * 1000))
        notice = BreakerNotice(self._pool_id, replica_id, before, now, retry_in_ms, reason)
        self._notify("breaker_changed", notice)


RATE_WINDOW_S = 10.0
"""The window for tokens per second: long enough to be smooth, short enough to be current."""

MAX_RATE_SAMPLES = 64
"""The maximum number of samples in that window, however often a snapshot is taken."""


class Rate:
    """The growth of a count over the last seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=MAX_RATE_SAMPLES)

    def note(self, now: float, total: int) -> float:
        """Note the count; return its growth per second since the oldest note of the window."""
        samples = self._samples
        while samples and samples[0][0] < now - RATE_WINDOW_S:
            samples.popleft()
        samples.append((now, total))
        since, before = samples[0]
        return round((total - before) / (now - since), 1) if now > since else 0.0


@attrs.frozen
class ReplicaSnapshot:
    """One replica at one moment.

    Args:
        pool_id: Its pool.
        replica_id: Its name in the pool.
        adapter: The registry's name of its adapter.
        engine: The kind of engine; None while unknown.
        engine_version: The engine's version; None while unknown.
        state: "unknown" before the first health check; "ready" or "busy" (it accepts work);
            "loading" (alive, not ready); "down"; "draining" (it gets no new work).
        breaker: "closed", "open" or "half_open".
        in_flight: Streams that run on it, on its present adapter.
        limit: The maximum of concurrent streams; None without a limit.
        tokens_per_s: Tokens per second over the last seconds.
        first_token_ms: The recent time from the request to its first token; None without one yet.
        jobs: Attempts sent to it.
        failures: How many of them failed for a reason of its own.
        message: The message of its last health check.
        learnt_limit: The limit learnt from its answers, or from its recovery; None without one.
        rests_s: Seconds for which it still rests, because it was busy or requested it.
        weight: Its share of the load compared with the others.
        priority: Replicas with a higher number get work only where none with a lower has room.
        models: The model names that tasks can use for it; empty while unknown.
    """

    pool_id: str
    replica_id: str
    adapter: str
    engine: str | None
    engine_version: str | None
    state: ReplicaState = attrs.field(converter=ReplicaState)
    breaker: BreakerState = attrs.field(converter=BreakerState)
    in_flight: int
    limit: int | None
    tokens_per_s: float
    first_token_ms: float | None
    jobs: int
    failures: int
    message: str
    learnt_limit: int | None = None
    rests_s: float = 0.0
    weight: float = 1.0
    priority: int = 0
    models: tuple[str, ...] = ()

    @property
    def accepts(self) -> bool:
        """True if it accepts new work: ready or busy, with a breaker that is not open."""
        ready = self.state in (ReplicaState.READY, ReplicaState.BUSY)
        return ready and self.breaker is not BreakerState.OPEN


@attrs.frozen
class PoolSnapshot:
    """One pool at one moment.

    Args:
        pool_id: Its name.
        replicas: Its replicas, by replica_id.
        queued_interactive: Jobs of that priority that wait for a replica.
        queued_batch: The same for batch jobs.
        mixed_versions: The engine versions found, if there is more than one (ORCH-3046).
        jobs: Jobs submitted to it.
        retries: Attempts beyond the first of a job.
        draining: Whether it refuses new jobs.
        fallback: Where its jobs go when it cannot serve them.
    """

    pool_id: str
    replicas: tuple[ReplicaSnapshot, ...]
    queued_interactive: int
    queued_batch: int
    mixed_versions: tuple[str, ...]
    jobs: int
    retries: int
    draining: bool = False
    fallback: tuple[str, ...] = ()


@attrs.frozen
class HostSnapshot:
    """Every pool, by pool_id."""

    pools: tuple[PoolSnapshot, ...]


NOT_CHECKED = HealthStatus(HealthState.UNHEALTHY, "not checked yet", live=False, ready=False)
"""The health of a replica before its first check."""


@attrs.frozen(kw_only=True)
class PoolHealth(HealthStatus):
    """The health of a pool: healthy if all of its replicas are, unhealthy if none accepts work.

    It is live if some replica's process answers, and ready if some replica accepts work: it is
    ready, and its breaker is not open.

    Args:
        pool_id: Its name.
        replicas: The health of each replica as last checked, by replica_id.
        breakers: The state of each replica's breaker, by replica_id.
    """

    pool_id: str
    replicas: Mapping[str, HealthStatus]
    breakers: Mapping[str, BreakerState] = attrs.field(factory=dict)

    @classmethod
    def of(
        cls,
        pool_id: str,
        found: Mapping[str, HealthStatus],
        breakers: Mapping[str, BreakerState],
    ) -> Self:
        """Make a pool's health from what its replicas' checks found, and their breakers."""
        open_ones = [name for name in found if breakers.get(name) is BreakerState.OPEN]
        ready = [name for name in found if found[name].ready and name not in open_ones]
        whole = all(status.state is HealthState.HEALTHY for status in found.values())
        if len(ready) == len(found) > 0 and whole:
            state = HealthState.HEALTHY
        else:
            state = HealthState.DEGRADED if ready else HealthState.UNHEALTHY
        message = f"{len(ready)} of {len(found)} replicas accept work"
        if open_ones:
            message += f"; the breaker of {', '.join(sorted(open_ones))} is open"
        return cls(
            state,
            message,
            live=any(status.live for status in found.values()),
            ready=bool(ready),
            pool_id=pool_id,
            replicas=found,
            breakers=breakers,
        )
