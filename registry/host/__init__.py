"""Many engines behind one submit: pools of replicas, and a dispatch that survives them."""

from registry.host.attempts import Explanation, Step
from registry.host.breaker import BreakerPolicy
from registry.host.host import AdapterHost
from registry.host.places import Binding, SwapError
from registry.host.policy import PoolPolicy
from registry.host.routing import (
    Candidate,
    Choice,
    DefaultPolicy,
    LeastLoaded,
    RoutingPolicy,
    SessionAffinity,
)
from registry.host.snapshot import HostSnapshot, PoolHealth, PoolSnapshot, ReplicaSnapshot

__all__ = [
    "AdapterHost",
    "Binding",
    "BreakerPolicy",
    "Candidate",
    "Choice",
    "DefaultPolicy",
    "Explanation",
    "HostSnapshot",
    "LeastLoaded",
    "PoolHealth",
    "PoolPolicy",
    "PoolSnapshot",
    "ReplicaSnapshot",
    "RoutingPolicy",
    "SessionAffinity",
    "Step",
    "SwapError",
]
