"""PoolPolicy: how a pool treats its jobs."""

import math
from typing import Any

import attrs
from attrs.validators import ge, optional

from registry.host.admission import Full
from registry.host.breaker import BreakerPolicy, positive
from registry.host.routing import DefaultPolicy, RoutingPolicy


def _not_negative(_: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{attribute.name} must be 0 or more and finite, got {value!r}")


@attrs.frozen(kw_only=True)
class PoolPolicy:
    """The limits of one pool (AH-1006).

    Args:
        routing: Chooses among the replicas that can take a job.
        breaker: When a replica is left alone, and for how long.
        max_queue: The most jobs that wait for a replica; 0 for no waiting.
        queue_full: What a full queue does: "reject" the newcomer, or "drop_oldest_batch" for it.
        max_in_flight: The most streams of a replica whose own limit is not known.
        ready_wait_s: How long a job waits, in seconds, where no replica is ready but one
            is loading or not yet checked.
        probe_interval_s: Seconds between two health checks of a replica, give or take a tenth.
        probe_timeout_s: The longest a health check may take.
        retry_ratio: Attempts beyond the first, as a share of the submitted jobs.
        retry_floor_per_s: Such attempts per second that are always granted.
        max_attempts: The most attempts of one job.
        refuse_mixed_versions: Whether a replica gets no work while it runs another engine version
            than the pool does (ORCH-3046).
        deadline_s: The deadline of tasks that have none.
        first_token_timeout_s: How long an attempt may take to its first token before the job moves
            on, in seconds. The adapter's own limit holds besides.

    Raises:
        ValueError: If a number is not what it can be.
    """

    routing: RoutingPolicy = attrs.field(factory=DefaultPolicy)
    breaker: BreakerPolicy = attrs.field(factory=BreakerPolicy)
    max_queue: int = attrs.field(default=100, validator=ge(0))
    queue_full: Full = "reject"
    max_in_flight: int | None = attrs.field(default=None, validator=optional(ge(1)))
    ready_wait_s: float = attrs.field(default=10.0, validator=_not_negative)
    probe_interval_s: float = attrs.field(default=5.0, validator=positive)
    probe_timeout_s: float = attrs.field(default=5.0, validator=positive)
    retry_ratio: float = attrs.field(default=0.2, validator=_not_negative)
    retry_floor_per_s: float = attrs.field(default=1.0, validator=_not_negative)
    max_attempts: int = attrs.field(default=3, validator=ge(1))
    refuse_mixed_versions: bool = False
    deadline_s: float | None = attrs.field(default=None, validator=optional(positive))
    first_token_timeout_s: float | None = attrs.field(default=None, validator=optional(positive))
