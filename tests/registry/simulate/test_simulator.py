"""The simulator: repeatable, true to the host's own decisions, and fast enough to try things."""

import random
from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_api import InternalError, TaskRequest
from registry.host import (
    BreakerPolicy,
    Candidate,
    Choice,
    LeastLoaded,
    LoadedModel,
    PoolPolicy,
    PrefixAffinity,
)
from registry.host.policy import WINDOW_S
from registry.simulate import Arrival, Outage, SimulatedReplica, poisson, simulate

LEAST_LOADED = PoolPolicy(routing=LeastLoaded())


def _replicas(count: int, *outages: Outage, limit: int | None = 4) -> list[SimulatedReplica]:
    """Replicas r0, r1, ... of which the last has the outages."""
    last = count - 1
    return [
        SimulatedReplica(f"r{n}", limit=limit, outages=outages if n == last else ())
        for n in range(count)
    ]


_outages = st.builds(
    lambda start, length, kind: Outage(start, start + length, kind),
    st.floats(0, 15),
    st.floats(0.1, 10),
    st.sampled_from(["refuse", "hang", "busy", "slow"]),
)


@settings(max_examples=8)
@given(
    outages=st.lists(_outages, max_size=3),
    rate=st.floats(0.5, 12),
    seed=st.integers(0, 1000),
    deadline_s=st.none() | st.floats(0.5, 20),
    max_queue=st.integers(0, 20),
)
def test_whatever_happens_every_job_ends_and_retries_stay_within_their_budget(
    outages: list[Outage], rate: float, seed: int, deadline_s: float | None, max_queue: int
) -> None:
    """Any trace, any outages: one end for each job, amplification bounded (AH-1006)."""
    policy = PoolPolicy(max_queue=max_queue)
    trace = poisson(rate, 20, sessions=5, batch_share=0.3, deadline_s=deadline_s, seed=seed)
    replicas = _replicas(3, *outages)
    report = simulate(trace, replicas, policy, first_token_timeout_s=3, seed=seed)
    assert sum(report.outcomes.values()) == report.jobs == len(trace)
    assert sum(report.load.values()) == report.attempts
    windows = report.ended_s / WINDOW_S + 1
    most = policy.retry_ratio * len(trace) + policy.retry_floor_per_s * WINDOW_S * windows
    assert report.retries <= most
    again = simulate(trace, replicas, policy, first_token_timeout_s=3, seed=seed)
    assert again == report


def test_the_same_seed_gives_the_same_report_to_the_byte() -> None:
    """A simulation can be an expectation in a test."""
    trace = poisson(5, 60, sessions=4, seed=3)
    replicas = _replicas(3, Outage(10, 30, "hang"))
    reports = {repr(simulate(trace, replicas, seed=5)) for _ in range(3)}
    assert len(reports) == 1
    assert repr(simulate(trace, replicas, seed=6)) not in reports


def test_a_breaker_keeps_jobs_from_a_dead_replica() -> None:
    """With a breaker the dead replica gets a few attempts, without one many (ORCH-3602)."""
    trace = poisson(8, 120, seed=1)
    replicas = _replicas(4, Outage(20, 80, "hang"), limit=None)
    slow_probes = {"probe_interval_s": 1000.0, "probe_timeout_s": 500.0, "max_attempts": 4}
    strict = PoolPolicy(breaker=BreakerPolicy(failures=3), **slow_probes)
    never = PoolPolicy(breaker=BreakerPolicy(failures=10**6), **slow_probes)
    with_breaker, without = (
        simulate(trace, replicas, policy, first_token_timeout_s=2, seed=2)
        for policy in (strict, never)
    )
    assert without.transitions == ()
    changes = [(t.before, t.after) for t in with_breaker.transitions]
    assert changes[0] == ("closed", "open")
    assert changes[-1] == ("half_open", "closed")
    assert with_breaker.retries < without.retries / 2
    assert with_breaker.outcomes["ok"] >= without.outcomes["ok"]


def test_health_checks_find_a_dead_replica_too() -> None:
    """With probes every second few jobs meet it, whatever the breaker (ORCH-3057)."""
    trace = poisson(8, 100, seed=1)
    replicas = _replicas(4, Outage(20, 80, "refuse"), limit=None)
    breaker = BreakerPolicy(failures=10**6)
    often = simulate(trace, replicas, PoolPolicy(breaker=breaker, probe_interval_s=1.0))
    rarely = simulate(trace, replicas, PoolPolicy(breaker=breaker, probe_interval_s=50.0))
    assert often.retries <= rarely.retries
    assert often.retries < 12


def test_a_session_stays_on_its_replica() -> None:
    """Affinity sends all jobs of a session to one replica while it has room (ORCH-3009)."""
    trace = tuple(Arrival(n * 5.0, "one session") for n in range(40))

    calm = [attrs.evolve(r, spread=0.0) for r in _replicas(4)]
    affine, spread = simulate(trace, calm), simulate(trace, calm, LEAST_LOADED)
    assert list(affine.load.values()) == [40]
    assert set(spread.load.values()) == {10}, "ties go to the one with the fewest jobs (ORCH-3012)"
    busy = simulate(poisson(10, 60, seed=1), _replicas(4, limit=None))
    assert max(busy.load.values()) < 1.3 * min(busy.load.values())


def test_interactive_jobs_go_first() -> None:
    """When a pool is full, batch jobs wait and interactive ones hardly do."""
    replicas = _replicas(1, limit=2)
    waits = {}
    for share in (0.0, 1.0):
        trace = poisson(0.8, 300, batch_share=0.7, seed=4)
        kept = tuple(a for a in trace if (a.priority == "batch") == bool(share))
        waits[share] = simulate(kept, replicas, PoolPolicy(max_queue=1000)).waited_s[1]
    mixed = simulate(poisson(0.8, 300, batch_share=0.7, seed=4), replicas)
    assert mixed.waited_s[1] >= max(waits.values())
    assert mixed.waited_s[1] > mixed.waited_s[0] >= 0.0


def test_a_policy_that_fails_is_what_one_wants_to_see() -> None:
    """Its exception is the cause of the simulation's."""

    class Failing:
        def choose(self, task: TaskRequest, candidates: Sequence[Candidate]) -> Choice:
            raise ZeroDivisionError

    with pytest.raises(InternalError, match="failed with ZeroDivisionError") as caught:
        simulate((Arrival(0.0),), _replicas(1), PoolPolicy(routing=Failing()))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_full_queue_refuses_or_drops() -> None:
    """The documented full policies: reject the newcomer, or give up the oldest batch job."""
    rush = tuple(Arrival(0.001 * n, priority="batch" if n < 4 else "interactive") for n in range(8))
    replicas = [SimulatedReplica("r0", limit=1, spread=0.0)]
    rejecting = simulate(rush, replicas, PoolPolicy(max_queue=3))
    assert rejecting.outcomes == {"ok": 4, "ADMISSION_REJECT": 4}
    dropping = simulate(rush, replicas, PoolPolicy(max_queue=3, queue_full="drop_oldest_batch"))
    assert dropping.outcomes == {"ok": 4, "ADMISSION_REJECT": 4}
    assert dropping.first_token_s[1] < rejecting.ended_s


def test_deadlines_are_kept_in_the_queue_and_in_the_answer() -> None:
    """A job ends at its deadline wherever it is."""
    replicas = [SimulatedReplica("r0", limit=1, first_token_s=1.0, decode_s=3.0, spread=0.0)]
    trace = (
        Arrival(0.0, deadline_s=10.0),
        Arrival(0.1, deadline_s=2.0),
        Arrival(0.2, deadline_s=6),
    )
    report = simulate(trace, replicas)
    assert report.outcomes == {"ok": 1, "DEADLINE_UNMET": 2}
    assert report.ended_s == 6.2


def test_an_answer_that_breaks_off_is_not_repeated() -> None:
    """After its first token a job fails with its replica; before, it moves (ORCH-3602)."""
    outage = Outage(1.0, 100.0, "refuse")
    dying = SimulatedReplica("a", first_token_s=0.5, decode_s=5.0, spread=0.0, outages=(outage,))
    slow = SimulatedReplica("b", first_token_s=0.5, decode_s=5.0, spread=0.0)
    answered = simulate((Arrival(0.0),), [dying, slow])
    assert answered.outcomes == {"STREAM_TRUNCATED": 1}
    waiting = simulate((Arrival(0.8),), [dying, slow])
    assert waiting.outcomes == {"ok": 1}
    assert waiting.load == {"a": 1, "b": 1}


def test_what_cannot_be_simulated_is_refused() -> None:
    """No replica, or two of one name, is a mistake."""
    for replicas in ([], [SimulatedReplica("a"), SimulatedReplica("a")]):
        with pytest.raises(ValueError, match="a name of its own"):
            simulate((), replicas)


def test_a_trace_is_repeatable_and_as_dense_as_asked() -> None:
    """The same seed gives the same arrivals, sorted, of the given sessions and shares."""
    trace = poisson(10, 200, sessions=3, batch_share=0.25, deadline_s=9, seed=8)
    assert trace == poisson(10, 200, sessions=3, batch_share=0.25, deadline_s=9, seed=8)
    assert 1700 < len(trace) < 2300
    assert [a.at_s for a in trace] == sorted(a.at_s for a in trace)
    assert {a.session_id for a in trace} == {"s0", "s1", "s2"}
    assert 0.2 < sum(a.priority == "batch" for a in trace) / len(trace) < 0.3


def test_a_minute_of_traffic_takes_seconds() -> None:
    """Two thousand jobs of the real host cost their own work and nothing else."""
    trace = poisson(32, 60, sessions=50, seed=1)
    report = simulate(trace, _replicas(8, limit=16))
    assert report.outcomes == {"ok": len(trace)}
    assert report.ended_s > 59


def test_the_report_reads_well() -> None:
    """A person sees outcomes, waits, attempts and breakers."""
    report = simulate(poisson(5, 30, seed=1), _replicas(2, Outage(5, 10, "busy")))
    text = str(report)
    assert text.startswith(f"{report.jobs} jobs: ")
    assert "p99" in text
    assert "per job" in text


def test_each_routing_policy_shows_what_it_is_for() -> None:
    """Loaded models are kept, and beginnings of prompts found in the cache."""
    rng = random.Random(3)
    trace = [
        attrs.evolve(job, prompt=f"document {rng.randrange(24)}", model=rng.choice("mno"))
        for job in poisson(6, 30, sessions=40, seed=1)
    ]
    replicas = [
        attrs.evolve(r, models=("m", "n", "o"), swap_s=2.0, cached_prompts=8) for r in _replicas(6)
    ]
    least, prefix, loaded = (
        simulate(trace, replicas, PoolPolicy(routing=routing), seed=1)
        for routing in (LeastLoaded(), PrefixAffinity(), LoadedModel())
    )
    assert prefix.cache_hits > 1.3 * least.cache_hits
    assert loaded.swaps < least.swaps / 4
    assert loaded.first_token_s[0] < least.first_token_s[0] / 2


def test_weights_and_priorities_are_simulated() -> None:
    """A strong replica takes its share, and a spare is left alone while there is room."""
    strong, weak, spare = _replicas(3, limit=None)
    replicas = [attrs.evolve(strong, weight=3.0), weak, attrs.evolve(spare, priority=1)]
    report = simulate(poisson(20, 20, seed=1), replicas, LEAST_LOADED)
    assert set(report.load) == {"r0", "r1"}
    assert 2.4 < report.load["r0"] / report.load["r1"] < 3.6


def test_an_engine_that_cuts_each_answer_loses_few_jobs() -> None:
    """Its breaker stays open longer each time, though every probe has a first token."""
    replicas = _replicas(2, Outage(5, 60, "cut"), limit=8)
    report = simulate(poisson(4, 60, seed=1), replicas, LEAST_LOADED)
    assert report.outcomes["STREAM_TRUNCATED"] < 25
    assert report.load["r1"] < report.load["r0"] / 3
