"""Which of the replicas that can take a job gets it (ORCH-3009, ORCH-3012)."""

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

import attrs

from adapter_api.task import TaskRequest


@attrs.frozen
class Candidate:
    """A replica that is ready, allowed, and has room.

    Args:
        replica_id: Its name.
        load: Streams in flight.
        limit: The most at once; None without a limit.
    """

    replica_id: str
    load: int
    limit: int | None = None


@attrs.frozen
class Choice:
    """The replica that gets the job, and why: "only_candidate", "affinity", "affinity_overflow"
    or "least_loaded"."""

    replica_id: str
    reason: str


class RoutingPolicy(Protocol):
    """Chooses among candidates. The same arguments give the same choice."""

    def choose(self, task: TaskRequest, candidates: Sequence[Candidate]) -> Choice:
        """Choose for `task`; there is at least one candidate."""
        ...


@attrs.frozen
class LeastLoaded:
    """The one with the fewest streams; ties by replica_id."""

    def choose(self, task: TaskRequest, candidates: Sequence[Candidate]) -> Choice:
        """Choose for `task`."""
        least = min(candidates, key=lambda c: (c.load, c.replica_id))
        return Choice(least.replica_id, _only(candidates) or "least_loaded")


@attrs.frozen
class SessionAffinity:
    """Tasks of one session go to one replica, as long as it is not loaded far above the others.

    Rendezvous hashing: each session has an order of all replicas, and takes the first that is
    there. When a replica comes or goes, only the sessions for which it is the first move. A
    replica whose load would be more than `bound` times the mean is passed over. Tasks without a
    session go to the least loaded.

    Args:
        bound: At least 1.

    Raises:
        ValueError: If it is less.
    """

    bound: float = attrs.field(default=1.25)

    @bound.validator
    def _at_least_one(self, _: object, value: float) -> None:
        if not value >= 1:
            raise ValueError(f"bound must be at least 1, got {value!r}")

    def choose(self, task: TaskRequest, candidates: Sequence[Candidate]) -> Choice:
        """Choose for `task`."""
        session_id = task.session_id
        if session_id is None:
            return LeastLoaded().choose(task, candidates)
        order = sorted(candidates, key=lambda c: (_weight(session_id, c.replica_id), c.replica_id))
        most = math.ceil(self.bound * (sum(c.load for c in order) + 1) / len(order))
        first, *others = order
        if first.load + 1 <= most:
            return Choice(first.replica_id, _only(order) or "affinity")
        for candidate in others:
            if candidate.load + 1 <= most:
                return Choice(candidate.replica_id, "affinity_overflow")
        raise AssertionError("not every replica can be loaded above the mean")


DefaultPolicy = SessionAffinity
"""Session affinity where there is a session, else the least loaded."""


def _only(candidates: Sequence[Candidate]) -> str | None:
    return "only_candidate" if len(candidates) == 1 else None


def _weight(session_id: str, replica_id: str) -> bytes:
    """Where the replica stands in the session's order; the same in every process."""
    return blake2b(f"{session_id}\0{replica_id}".encode(), digest_size=8).digest()
