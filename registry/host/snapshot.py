"""What a host tells of itself: plain data, JSON-able by cattrs."""

from collections.abc import Mapping
from typing import Literal, Self

import attrs

from adapter_api.health import HealthState, HealthStatus

ReplicaState = Literal["unknown", "ready", "loading", "busy", "down", "draining"]
BreakerState = Literal["closed", "open", "half_open"]


@attrs.frozen
class ReplicaSnapshot:
    """One replica, as it is now.

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
        limit: The most streams at once; None without a limit.
        tokens_per_s: Tokens it gave over the last seconds, per second.
        first_token_ms: The usual time from asking it to its first token; None without one yet.
        jobs: Attempts it was given.
        failures: Those of them that failed for a reason of its own.
        message: What its last health check said.
    """

    pool_id: str
    replica_id: str
    adapter: str
    engine: str | None
    engine_version: str | None
    state: ReplicaState
    breaker: BreakerState
    in_flight: int
    limit: int | None
    tokens_per_s: float
    first_token_ms: float | None
    jobs: int
    failures: int
    message: str


@attrs.frozen
class PoolSnapshot:
    """One pool, as it is now.

    Args:
        pool_id: Its name.
        replicas: Its replicas, by replica_id.
        queued_interactive: Jobs of that priority that wait for a replica.
        queued_batch: Likewise.
        mixed_versions: The engine versions found, if there is more than one (ORCH-3046).
        jobs: Jobs submitted to it.
        retries: Attempts beyond the first of a job.
        draining: Whether it refuses new jobs.
    """

    pool_id: str
    replicas: tuple[ReplicaSnapshot, ...]
    queued_interactive: int
    queued_batch: int
    mixed_versions: tuple[str, ...]
    jobs: int
    retries: int
    draining: bool = False


@attrs.frozen
class HostSnapshot:
    """Every pool, by pool_id."""

    pools: tuple[PoolSnapshot, ...]


@attrs.frozen
class PoolHealth:
    """How a pool is: healthy if all of its replicas are, unhealthy if none accepts work.

    Args:
        pool_id: Its name.
        state: healthy, degraded or unhealthy.
        message: One sentence for a person.
        live: Some replica's process answers.
        ready: Some replica accepts work.
        replicas: What each replica's check said, by replica_id.
    """

    pool_id: str
    state: HealthState
    message: str
    live: bool
    ready: bool
    replicas: Mapping[str, HealthStatus]

    @classmethod
    def of(cls, pool_id: str, found: Mapping[str, HealthStatus]) -> Self:
        """A pool's health from what its replicas' checks found."""
        ready = [name for name, status in found.items() if status.ready]
        if found and all(status.state is HealthState.HEALTHY for status in found.values()):
            state = HealthState.HEALTHY
        else:
            state = HealthState.DEGRADED if ready else HealthState.UNHEALTHY
        return cls(
            pool_id,
            state,
            f"{len(ready)} of {len(found)} replicas accept work",
            live=any(status.live for status in found.values()),
            ready=bool(ready),
            replicas=found,
        )
