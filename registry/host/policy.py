"""PoolPolicy: the limits of a pool."""

from typing import Any, Literal

import attrs

from adapter_api.validators import integer, number, one_of, seconds, seconds_or_none
from registry.host.breaker import BreakerPolicy
from registry.host.routing import DefaultPolicy, RoutingPolicy

QueueFull = Literal["reject", "drop_oldest_batch"]


def _names(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@attrs.frozen(kw_only=True)
class PoolPolicy:
    """The limits of one pool (AH-1006).

    Args:
        routing: Chooses among the replicas that can take a job.
        breaker: When a replica gets no jobs, and for how long.
        max_queue: The most jobs that wait for a replica; 0 for no waiting. Jobs that come before
            the first health check of any replica are not counted, nor are those that come back.
        queue_full: What a full queue does: "reject" the newcomer, or "drop_oldest_batch" for it.
        batch_share: The share of starts that waiting batch jobs get while interactive ones wait,
            too; 0: batch jobs wait until no interactive one does.
        max_in_flight: The maximum number of streams of a replica whose own limit is unknown.
        ready_wait_s: How long a job waits, in seconds, where no replica is ready but one
            is loading or not yet checked, or the pool has none.
        probe_interval_s: Seconds between two health checks of a replica, give or take a tenth.
        probe_timeout_s: The longest a health check may take, in seconds.
        retry_ratio: Attempts beyond the first, as a share of the submitted jobs.
        retry_floor_per_s: Such attempts per second that are always granted.
        max_attempts: The maximum number of attempts of one job.
        refuse_mixed_versions: Whether a replica gets no work while it runs another engine version
            than the pool does (ORCH-3046).
        deadline_s: The deadline of tasks that have none.
        first_token_timeout_s: How long an attempt may take to its first token before the job moves
            on, in seconds. The adapter's own limit applies, too.
        fallback: Pools that get the jobs this pool cannot serve, before their first token.

    Raises:
        ValueError: If a value is out of its range.
    """

    routing: RoutingPolicy = attrs.field(factory=DefaultPolicy)
    breaker: BreakerPolicy = attrs.field(factory=BreakerPolicy)
    max_queue: int = attrs.field(default=100, validator=integer(0))
    queue_full: QueueFull = attrs.field(
        default="reject", validator=one_of("reject", "drop_oldest_batch")
    )
    batch_share: float = attrs.field(default=0.1, validator=number(0, maximum=1))
    max_in_flight: int | None = attrs.field(default=None, validator=integer(1, optional=True))
    ready_wait_s: float = attrs.field(default=10.0, validator=number(0))
    probe_interval_s: float = attrs.field(default=5.0, validator=seconds)
    probe_timeout_s: float = attrs.field(default=5.0, validator=seconds)
    retry_ratio: float = attrs.field(default=0.2, validator=number(0))
    retry_floor_per_s: float = attrs.field(default=1.0, validator=number(0))
    max_attempts: int = attrs.field(default=3, validator=integer(1))
    refuse_mixed_versions: bool = False
    deadline_s: float | None = attrs.field(default=None, validator=seconds_or_none)
    first_token_timeout_s: float | None = attrs.field(default=None, validator=seconds_or_none)
    fallback: tuple[str, ...] = attrs.field(default=(), converter=_names)
