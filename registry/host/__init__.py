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
from registry.host.simulator import simulate
from registry.host.snapshot import HostSnapshot, PoolHealth, PoolSnapshot, ReplicaSnapshot
from registry.host.spec import WorkersError
from registry.host.trace import Arrival, Outage, Report, SimulatedReplica, poisson
from registry.host.watching import WorkersWatch

__all__ = [
    "AdapterHost",
    "Arrival",
    "Binding",
    "BreakerPolicy",
    "Candidate",
    "Choice",
    "DefaultPolicy",
    "Explanation",
    "HostSnapshot",
    "LeastLoaded",
    "Outage",
    "PoolHealth",
    "PoolPolicy",
    "PoolSnapshot",
    "ReplicaSnapshot",
    "Report",
    "RoutingPolicy",
    "SessionAffinity",
    "SimulatedReplica",
    "Step",
    "SwapError",
    "WorkersError",
    "WorkersWatch",
    "poisson",
    "simulate",
]
