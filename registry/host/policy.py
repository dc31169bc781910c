"""PoolPolicy: how a pool treats its jobs."""

import attrs
from attrs.validators import ge, gt, optional

from registry.host.admission import Full
from registry.host.breaker import BreakerPolicy
from registry.host.routing import DefaultPolicy, RoutingPolicy


@attrs.frozen(kw_only=True)
class PoolPolicy:
    """The limits of one pool (AH-1006).

    Args:
        routing: Chooses among the replicas that can take a job.
        breaker: When a replica is left alone, and for how long.
        queue_most: The most jobs that wait for a replica; 0 for no waiting.
        queue_full: What a full queue does: "reject" the newcomer, or "drop_oldest_batch" for it.
        in_flight_most: The most streams of a replica whose own limit is not known.
        ready_wait_s: How long a job waits, in seconds, where no replica is ready but one
            is loading or not yet checked.
        probe_interval_s: Seconds between two health checks of a replica, give or take a tenth.
        probe_timeout_s: The longest a health check may take.
        retry_ratio: Attempts beyond the first, as a share of the submitted jobs.
        retry_floor_per_s: Such attempts per second that are always granted.
        attempts_most: The most attempts of one job.
        refuse_mixed_versions: Whether a replica gets no work while it runs another engine version
            than the pool does (ORCH-3046).
        deadline_s: The deadline of tasks that have none.

    Raises:
        ValueError: If a number is below what it can be.
    """

    routing: RoutingPolicy = attrs.field(factory=DefaultPolicy)
    breaker: BreakerPolicy = attrs.field(factory=BreakerPolicy)
    queue_most: int = attrs.field(default=100, validator=ge(0))
    queue_full: Full = "reject"
    in_flight_most: int | None = attrs.field(default=None, validator=optional(ge(1)))
    ready_wait_s: float = attrs.field(default=10.0, validator=ge(0))
    probe_interval_s: float = attrs.field(default=5.0, validator=gt(0))
    probe_timeout_s: float = attrs.field(default=5.0, validator=gt(0))
    retry_ratio: float = attrs.field(default=0.2, validator=ge(0))
    retry_floor_per_s: float = attrs.field(default=1.0, validator=ge(0))
    attempts_most: int = attrs.field(default=3, validator=ge(1))
    refuse_mixed_versions: bool = False
    deadline_s: float | None = attrs.field(default=None, validator=optional(gt(0)))
