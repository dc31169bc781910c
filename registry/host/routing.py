"""Routing policies: the choice among the replicas that can take a job (ORCH-3009, ORCH-3012).

A policy is a small object. It gets the candidates as a sequence that is also sorted by load and
indexed by a hash ring. So a choice costs the same among ten and ten thousand replicas.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from typing import Protocol, Self, overload

import attrs

from adapter_api.task import TaskRequest
from adapter_api.validators import integer, number

PROBES = 21
"""Points of the ring that are probed for a key. With 21 the fullest replica gets about 5 percent
more keys than the mean. Source: Appleton and O'Reilly, Multi-probe consistent hashing (2015)."""

RING = 1 << 64

FAST_MS = 5.0
"""First-token times up to this count as equal: differences below it are noise."""

MAX_LOADED_MODELS = 64
"""Models for which the replicas that have them loaded are indexed; others need a walk."""


def pace_of(first_token_ms: float) -> int:
    """Return the class of a first-token time above FAST_MS; each spans a factor of two."""
    return 1 + int(math.log2(first_token_ms / FAST_MS))


Rank = tuple[float, int, int, str]


@attrs.frozen
class Candidate:
    """A replica that is ready, allowed, and has room.

    Args:
        replica_id: Its name.
        load: Streams in flight.
        limit: The maximum of concurrent streams; None without a limit.
        weight: Its share of the load compared with the others.
        first_token_ms: The recent time to its first token; None while unknown.
        jobs: Attempts sent to it so far.
        model: The model of its latest attempt; None while unknown.
    """

    replica_id: str
    load: int
    limit: int | None = None
    weight: float = 1.0
    first_token_ms: float | None = None
    jobs: int = 0
    model: str | None = None

    @property
    def rank(self) -> Rank:
        """Its place in the order by load; ties by first-token time, jobs and name."""
        first_ms = self.first_token_ms
        pace = 0 if first_ms is None or first_ms <= FAST_MS else pace_of(first_ms)
        return (self.load + 1) / self.weight, pace, self.jobs, self.replica_id


class Candidates(Sequence[Candidate]):
    """Candidates, sorted by load and placed on a hash ring.

    `put` and `remove` keep both sorted in logarithmic time, so that a pool updates one object with
    each attempt instead of building one for each job.
    """

    def __init__(self, candidates: Iterable[Candidate] = ()) -> None:
        self.by_id: dict[str, tuple[Rank, int, Candidate]] = {}
        """The candidates and their places, by replica_id; not to be changed."""
        self._heap: list[tuple[Rank, int, Candidate]] = []  # with entries that are out of date
        self._changes = 0
        self._ring: list[tuple[int, str]] = []
        self._load = 0
        self._loaded: dict[str, Candidates] = {}  # by model, once a policy asked
        for candidate in candidates:
            self.put(candidate)

    @classmethod
    def of(cls, candidates: Sequence[Candidate]) -> "Candidates":
        """Return `candidates` itself if it is indexed, else an index of it."""
        return candidates if isinstance(candidates, Candidates) else cls(candidates)

    def __len__(self) -> int:
        return len(self.by_id)

    def __iter__(self) -> Iterator[Candidate]:
        return (candidate for _, _, candidate in self.by_id.values())

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Candidate]: ...
    def __getitem__(self, index: int | slice) -> Candidate | Sequence[Candidate]:
        return list(self)[index]

    # Changing

    def put(self, candidate: Candidate) -> None:
        """Add a candidate, or replace the one of its name."""
        replica_id = candidate.replica_id
        before = self.by_id.get(replica_id)
        self._changes += 1
        entry = self.by_id[replica_id] = (candidate.rank, self._changes, candidate)
        self._load += candidate.load
        heappush(self._heap, entry)
        if before is None:
            insort(self._ring, (_point(replica_id), replica_id))
        else:
            self._load -= before[2].load
        if len(self._heap) > 2 * len(self.by_id) + 64:
            self._heap = list(self.by_id.values())
            heapify(self._heap)
        for model, loaded in self._loaded.items():
            if candidate.model == model:
                loaded.put(candidate)
            elif before is not None and before[2].model == model:
                loaded.remove(replica_id)

    def remove(self, replica_id: str) -> Candidate | None:
        """Take a candidate out; returns it if it was there."""
        before = self.by_id.pop(replica_id, None)
        if before is None:
            return None
        self._load -= before[2].load
        del self._ring[bisect_left(self._ring, (_point(replica_id), replica_id))]
        loaded = self._loaded.get(before[2].model or "")
        if loaded is not None:
            loaded.remove(replica_id)
        return before[2]

    @contextmanager
    def without(self, replica_ids: Iterable[str]) -> Iterator[Self]:
        """Leave some candidates out for a while."""
        removed = [self.remove(replica_id) for replica_id in replica_ids]
        try:
            yield self
        finally:
            for candidate in removed:
                if candidate is not None:
                    self.put(candidate)

    # Queries

    @property
    def load(self) -> int:
        """Streams in flight on all of them."""
        return self._load

    def max_load(self, bound: float) -> int:
        """Return the load that a candidate may have with one more job: `bound` times the mean."""
        return math.ceil(bound * (self._load + 1) / len(self.by_id))

    def least_loaded(self) -> Candidate:
        """Return the one with the least load for its weight; ties go to the one that is faster to
        its first token, then to the one that had fewer jobs, then by name.

        Raises:
            LookupError: If there are no candidates.
        """
        heap, members = self._heap, self.by_id
        while heap:
            entry = heap[0]
            if members.get(entry[2].replica_id) is entry:
                return entry[2]
            heappop(heap)
        raise LookupError("there are no candidates to choose from")

    def near(self, key: str) -> list[Candidate]:
        """Return up to PROBES candidates in the order of `key`, nearest first.

        When a candidate comes or goes, only the keys for which it is the nearest move.
        """
        ring, members = self._ring, self.by_id
        if not ring:
            return []
        digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        point = int.from_bytes(digest[:8], "big")
        step = int.from_bytes(digest[8:], "big") | 1
        nearest: dict[str, float] = {}
        size = len(ring)
        for _ in range(PROBES):
            found, replica_id = ring[bisect_left(ring, (point,)) % size]
            distance = ((found - point) % RING) / members[replica_id][2].weight
            if distance < nearest.get(replica_id, math.inf):
                nearest[replica_id] = distance
            point = (point + step) % RING
        return [members[name][2] for name in sorted(nearest, key=nearest.__getitem__)]

    def with_model(self, model: str) -> "Candidates":
        """Return those whose latest attempt was for `model`, which therefore have it loaded."""
        loaded = self._loaded.get(model)
        if loaded is None:
            loaded = Candidates(c for c in self if c.model == model)
            if len(self._loaded) < MAX_LOADED_MODELS:
                self._loaded[model] = loaded
        return loaded


@lru_cache(maxsize=65536)  # a replica that is full now and then leaves the ring and comes back
def _point(replica_id: str) -> int:
    """Return where a replica stands on the ring; the same in every process."""
    return int.from_bytes(blake2b(replica_id.encode(), digest_size=8).digest(), "big")


@attrs.frozen
class Choice:
    """The replica that gets the job, and why: "only_candidate", "affinity", "affinity_overflow",
    "model_loaded" or "least_loaded"."""

    replica_id: str
    reason: str


class RoutingPolicy(Protocol):
    """Chooses among candidates. The same arguments give the same choice."""

    def choose(self, task: TaskRequest, candidates: Sequence[Candidate]) -> Choice:
        """Choose for `task`; there is at least one candidate. A pool gives Candidates."""
        ...


@attrs.frozen
class LeastLoaded:
    """The candidate with the fewest streams for its weight.

    Ties go to the one that is faster to its first token, then to the one that had fewer jobs, then
    by replica_id.
    """

    def choose(self, task: TaskRequest, candidates: Sequence[Candidate]) -> Choice:
        """Choose for `task`."""
        return _least(Candidates.of(candidates))


@attrs.frozen
class SessionAffinity:
    """Tasks of one session go to one replica, as long as it is not loaded far above the others.

    Each session orders the replicas in its own way and takes the first available one. When a
    replica comes or goes, only the sessions for which it is the first move. A replica whose load
    would be more than `bound` times the mean is skipped. Tasks without a session go to the least
    loaded.

    Args:
        bound: At least 1.

    Raises:
        ValueError: If it is less.
    """

    bound: float = attrs.field(default=1.25, validator=number(1))

    def choose(self, task: TaskRequest, candidates: Sequence[Candidate]) -> Choice:
        """Choose for `task`."""
        indexed = candidates if isinstance(candidates, Candidates) else Candidates(candidates)
        if task.session_id is None:
            return _least(indexed)
        return _near(task.session_id, indexed, self.bound)


@attrs.frozen
class PrefixAffinity:
    """Tasks that begin with the same text go to one replica, which has that text in its cache.

    Otherwise as SessionAffinity, whose key is the session; here it is the beginning of the prompt,
    or of the messages.

    Args:
        chars: How many characters at the beginning count, at least 1.
        bound: At least 1.

    Raises:
        ValueError: If one of them is less.
    """

    chars: int = attrs.field(default=512, validator=integer(1))
    bound: float = attrs.field(default=1.25, validator=number(1))

    def choose(self, task: TaskRequest, candidates: Sequence[Candidate]) -> Choice:
        """Choose for `task`."""
        return _near(self.key_of(task), Candidates.of(candidates), self.bound)

    def key_of(self, task: TaskRequest) -> str:
        """Return the beginning of the engine's input."""
        if task.messages is None:
            return (task.prompt or "")[: self.chars]
        text, left = "", self.chars
        for message in task.messages:
            content = message.content
            if not isinstance(content, str):
                parts = (part.get("text") for part in content or ())
                content = " ".join(part for part in parts if isinstance(part, str))
            text += f"{message.role}\0{content[:left]}\0"
            left = self.chars - len(text)
            if left <= 0:
                break
        return text[: self.chars]


@attrs.frozen
class LoadedModel:
    """Tasks go where their model is loaded, so that engines which hold one model at a time rarely
    swap. If it is loaded nowhere, or only on replicas far above the mean load, the task goes to the
    least loaded.

    Args:
        bound: At least 1: how far above the mean load a replica may be that has the model.

    Raises:
        ValueError: If it is less.
    """

    bound: float = attrs.field(default=2.0, validator=number(1))

    def choose(self, task: TaskRequest, candidates: Sequence[Candidate]) -> Choice:
        """Choose for `task`."""
        indexed = Candidates.of(candidates)
        if task.model is not None and len(indexed) > 1:
            loaded = indexed.with_model(task.model)
            if loaded:
                best = loaded.least_loaded()
                if best.load == 0 or best.load + 1 <= indexed.max_load(self.bound):
                    return Choice(best.replica_id, "model_loaded")
        return _least(indexed)


DefaultPolicy = SessionAffinity
"""Session affinity where there is a session, else the least loaded."""


def _least(candidates: Candidates) -> Choice:
    best = candidates.least_loaded()
    is_only = len(candidates.by_id) == 1
    return Choice(best.replica_id, "only_candidate" if is_only else "least_loaded")


def _near(key: str | None, candidates: Candidates, bound: float) -> Choice:
    """Choose the nearest to the key that is not loaded far above the mean."""
    if not key or len(candidates) == 1:
        return _least(candidates)
    max_load = candidates.max_load(bound)
    for place, candidate in enumerate(candidates.near(key)):
        if candidate.load + 1 <= max_load:
            return Choice(candidate.replica_id, "affinity_overflow" if place else "affinity")
    return Choice(candidates.least_loaded().replica_id, "affinity_overflow")
