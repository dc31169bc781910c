"""Many engines behind one submit: pools of replicas, with queues, failover and breakers."""

from adapter_api.ledger import Explanation, Step
from adapter_api.notices import BreakerState, ReplicaState
from registry.host.breaker import BreakerPolicy
from registry.host.front import HostPool
from registry.host.host import AdapterHost
from registry.host.places import SwapError
from registry.host.policy import PoolPolicy
from registry.host.routing import (
    Candidate,
    Candidates,
    Choice,
    DefaultPolicy,
    LeastLoaded,
    LoadedModel,
    PrefixAffinity,
    RoutingPolicy,
    SessionAffinity,
)
from registry.host.snapshot import Binding, HostSnapshot, PoolHealth, PoolSnapshot, ReplicaSnapshot

__all__ = [
    "AdapterHost",
    "Binding",
    "BreakerPolicy",
    "BreakerState",
    "Candidate",
    "Candidates",
    "Choice",
    "DefaultPolicy",
    "Explanation",
    "HostPool",
    "HostSnapshot",
    "LeastLoaded",
    "LoadedModel",
    "PoolHealth",
    "PoolPolicy",
    "PoolSnapshot",
    "PrefixAffinity",
    "ReplicaSnapshot",
    "ReplicaState",
    "RoutingPolicy",
    "SessionAffinity",
    "Step",
    "SwapError",
]
