"""The data of a simulation: engines, jobs, and the report."""

import math
import random
from collections.abc import Mapping
from typing import Literal

import attrs

from registry.host.jobs import Priority

OutageKind = Literal["refuse", "hang", "busy", "slow", "cut"]


@attrs.frozen
class Outage:
    """A period in which an engine fails.

    Args:
        from_s: Its beginning, in seconds of the simulation.
        until_s: Its end.
        kind: "refuse" (no connection) and "hang" (connections without an answer), which health
            checks notice; "busy" (it answers 429), "slow" and "cut" (answers break off in the
            middle), which they do not notice.
        factor: The factor by which everything takes longer while the engine is slow.
    """

    from_s: float
    until_s: float
    kind: OutageKind = "refuse"
    factor: float = 10.0


@attrs.frozen
class SimulatedReplica:
    """An engine as data.

    Args:
        replica_id: Its name.
        limit: The maximum number of streams at once of each host; None for no limit.
        first_token_s: The median time to the first token.
        decode_s: The median time from there to the end.
        spread: The sigma of the lognormal distribution of these times; 0 for constant times.
        outages: The periods in which it fails.
        weight: Its share of the load compared with the others.
        priority: Replicas with a higher number get work only where none with a lower has room.
        models: The models it lists.
        swap_s: The time to load a different model.
        cached_prompts: The number of prompts in its cache; a cached one is answered sooner.
        slots: The maximum number of streams at once of all hosts together, beyond which it answers
            "busy"; None for no maximum.
    """

    replica_id: str
    limit: int | None = None
    first_token_s: float = 0.2
    decode_s: float = 2.0
    spread: float = 0.4
    outages: tuple[Outage, ...] = ()
    weight: float = 1.0
    priority: int = 0
    models: tuple[str, ...] = ()
    swap_s: float = 0.0
    cached_prompts: int = 0
    slots: int | None = None

    def outage(self, now: float) -> Outage | None:
        """Return the outage at that time."""
        return next((o for o in self.outages if o.from_s <= now < o.until_s), None)


@attrs.frozen
class Arrival:
    """A job of the trace.

    Args:
        at_s: When it arrives, in seconds of the simulation.
        session_id: Its session.
        priority: "interactive" jobs go before "batch" jobs.
        deadline_s: Its deadline, from its arrival.
        model: The requested model.
        prompt: The text that a cache may hold.
    """

    at_s: float
    session_id: str | None = None
    priority: Priority = "interactive"
    deadline_s: float | None = None
    model: str | None = None
    prompt: str = ""


def poisson(
    rate_per_s: float,
    duration_s: float,
    *,
    sessions: int = 0,
    batch_share: float = 0.0,
    deadline_s: float | None = None,
    seed: int = 0,
) -> tuple[Arrival, ...]:
    """Return a trace in which jobs come independently of one another.

    Args:
        rate_per_s: Jobs per second.
        duration_s: The length of the trace.
        sessions: The number of sessions; with 0, jobs have none.
        batch_share: The share of jobs with priority "batch".
        deadline_s: The deadline of each.
        seed: The same seed gives the same trace.
    """
    rng = random.Random(seed)
    arrivals, now = [], rng.expovariate(rate_per_s)
    while now < duration_s:
        session_id = f"s{rng.randrange(sessions)}" if sessions else None
        priority: Priority = "batch" if rng.random() < batch_share else "interactive"
        arrivals.append(Arrival(now, session_id, priority, deadline_s))
        now += rng.expovariate(rate_per_s)
    return tuple(arrivals)


@attrs.frozen
class Transition:
    """A change of a breaker."""

    at_s: float
    replica_id: str
    before: str
    after: str


@attrs.frozen
class Report:
    """The outcomes of the jobs of a trace.

    Args:
        jobs: The number of jobs.
        outcomes: The number of jobs that ended with "ok", or with each error code.
        attempts: Requests to engines.
        retries: Attempts beyond the jobs' first.
        waited_s: The median and the 99th percentile of the wait for the first replica. Jobs that
            never had one are not counted.
        first_token_s: The same for the time from arrival to the first token.
        transitions: Every change of a breaker.
        load: Attempts by replica.
        ended_s: When the last job ended.
        swaps: The number of times that an engine loaded another model.
        cache_hits: The number of attempts whose prompt was cached.
        first_token_p95_s: The 95th percentile of the time to the first token.
        refused: Attempts that an engine refused because it was busy.
    """

    jobs: int
    outcomes: Mapping[str, int]
    attempts: int
    retries: int
    waited_s: tuple[float, float]
    first_token_s: tuple[float, float]
    transitions: tuple[Transition, ...]
    load: Mapping[str, int]
    ended_s: float
    swaps: int = 0
    cache_hits: int = 0
    first_token_p95_s: float = 0.0
    refused: int = 0

    @property
    def rejected(self) -> int:
        """Jobs that were refused for lack of room."""
        return self.outcomes.get("ADMISSION_REJECT", 0)

    @property
    def amplification(self) -> float:
        """Attempts per job that got one or more."""
        return self.attempts / max(1, self.attempts - self.retries)

    def __str__(self) -> str:
        ends = ", ".join(f"{n} {code}" for code, n in sorted(self.outcomes.items()))
        load = ", ".join(f"{name} {n}" for name, n in sorted(self.load.items()))
        opened = sum(t.after == "open" for t in self.transitions)
        return (
            f"{self.jobs} jobs: {ends}\n"
            f"waited    p50 {self.waited_s[0]:.3f} s, p99 {self.waited_s[1]:.3f} s\n"
            f"first     p50 {self.first_token_s[0]:.3f} s, p99 {self.first_token_s[1]:.3f} s\n"
            f"attempts  {self.attempts} ({self.amplification:.2f} per job): {load}\n"
            f"breakers  opened {opened} times"
        )


def quantile(values: list[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed; 0 of none."""
    if not values:
        return 0.0
    values = sorted(values)
    return round(values[min(len(values) - 1, math.ceil(share * len(values)) - 1)], 6)
