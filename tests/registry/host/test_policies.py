"""The policies alone, with a clock of numbers: routing, breaker, pace, budget, lanes, ledger."""

import asyncio
import math
import random
from collections import Counter

import cattrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import ErrorCode, TaskRequest, WorkerError
from adapter_api.ledger import Explanation
from registry.host import (
    Candidate,
    LeastLoaded,
    SessionAffinity,
)
from registry.host.breaker import (
    MAX_GAP_S,
    MAX_LEARNT,
    SLOWEST_GAP_S,
    Breaker,
    BreakerPolicy,
    Pace,
    at_random,
)
from registry.host.jobs import Lanes, Ledger, Priority, Ticket
from registry.host.policy import WINDOW_S, FailoverBudget, Verdict, refusal_of, verdict_on
from tests.virtual_time import in_virtual_time

NAMES = [f"r{number}" for number in range(8)]


def of_session(session_id: str | None) -> TaskRequest:
    return TaskRequest(prompt="x", session_id=session_id)


def choose(session_id: str | None, names: list[str], loads: dict[str, int] | None = None) -> str:
    candidates = [Candidate(name, (loads or {}).get(name, 0)) for name in names]
    return SessionAffinity().choose(of_session(session_id), candidates).replica_id


def test_least_loaded_breaks_ties_by_name() -> None:
    """The fewest streams, then the smallest replica_id (ORCH-3012)."""
    candidates = [Candidate("b", 1), Candidate("c", 0), Candidate("a", 1)]
    assert LeastLoaded().choose(of_session(None), candidates).replica_id == "c"
    assert LeastLoaded().choose(of_session(None), candidates[::2]).replica_id == "a"


@given(st.text(max_size=5), st.permutations(NAMES))
def test_the_order_of_candidates_does_not_matter(session: str, names: list[str]) -> None:
    """A session has its replica, in whatever order they are listed (ORCH-3009)."""
    session_id = "s" + session.encode().hex()
    assert choose(session_id, names) == choose(session_id, NAMES)


def test_only_the_sessions_of_a_lost_replica_move() -> None:
    """When one of eight goes, every session of the other seven stays where it was (ORCH-3009)."""
    sessions = [f"session-{number}" for number in range(400)]
    before = {session: choose(session, NAMES) for session in sessions}
    after = {session: choose(session, NAMES[1:]) for session in sessions}
    assert all(after[s] == before[s] for s in sessions if before[s] != "r0")
    assert all(20 < count < 90 for count in Counter(before.values()).values())


@given(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 20), min_size=1))
def test_affinity_never_loads_far_above_the_mean(loads: dict[str, int]) -> None:
    """The chosen replica has at most 1.25 times the mean, rounded up; there always is one."""
    chosen = choose("session", list(loads), loads)
    mean = (sum(loads.values()) + 1) / len(loads)
    assert loads[chosen] + 1 < 1.25 * mean + 1


def test_a_bound_below_one_is_refused() -> None:
    """No replica could take anything."""
    with pytest.raises(ValueError, match="bound must be a finite number of at least 1"):
        SessionAffinity(0.5)


def test_what_counts_for_a_breaker() -> None:
    """Connect failures, resets, stalls and cut answers do; all else does not (ORCH-3602)."""
    verdicts = {code: verdict_on(WorkerError.of(code, "x")) for code in ErrorCode}
    assert {code for code in verdicts if verdicts[code] is Verdict.BROKEN} == {
        "POOL_UNAVAILABLE",
        "WORKER_RESET",
        "DECODE_TIMEOUT",
        "STREAM_TRUNCATED",
        "UPSTREAM_PROTOCOL",
    }
    elsewhere = {code for code in verdicts if verdicts[code] is Verdict.ELSEWHERE}
    assert elsewhere == {"UPSTREAM_AUTH", "UPSTREAM_NOT_FOUND", "QUOTA_EXHAUSTED", "INTERNAL"}


@pytest.mark.parametrize(
    ("code", "status", "message", "verdict"),
    [
        ("WORKER_RESET", 409, "x", "job"),
        ("WORKER_RESET", 499, "client closed request", "broken"),
        ("WORKER_RESET", 424, "Request failed during generation", "broken"),
        ("WORKER_RESET", 424, "image input is not supported", "job"),
        ("WORKER_RESET", 500, "the server failed (500): image input is not supported", "job"),
        ("WORKER_RESET", 500, "Failed to parse messages", "job"),
        ("WORKER_RESET", 500, "the server failed (500): CUDA error", "broken"),
        ("POOL_UNAVAILABLE", 503, "the queue is full", "busy"),
        ("POOL_UNAVAILABLE", 503, "No available slots", "busy"),
        ("POOL_UNAVAILABLE", 503, "loading model", "broken"),
        ("POOL_UNAVAILABLE", None, "cannot connect: the queue of the kernel is full", "broken"),
        ("ADMISSION_REJECT", 429, "x", "busy"),
        ("ADMISSION_REJECT", 409, "x", "busy"),
    ],
)
def test_what_an_answer_says_and_of_whom(
    code: str, status: int | None, message: str, verdict: str
) -> None:
    """A 5xx whose text refuses the request is about the job, a full engine is only busy."""
    assert verdict_on(WorkerError.of(code, message, status=status)) == verdict


def test_only_an_engines_own_words_can_be_a_refusal() -> None:
    """Two replicas that answer "Internal Server Error" have nothing in common but that."""
    of = WorkerError.of
    assert refusal_of(of("WORKER_RESET", "tensor shape", status=500)) == (500, "tensor shape")
    assert refusal_of(of("WORKER_RESET", "failed (500): Internal Server Error", status=500)) is None
    assert refusal_of(of("WORKER_RESET", "tensor shape", status=424)) == (424, "tensor shape")
    assert refusal_of(of("WORKER_RESET", "client closed request", status=499)) is None
    assert refusal_of(of("POOL_UNAVAILABLE", "bad gateway", status=502)) is None
    assert refusal_of(of("WORKER_RESET", "reset")) is None


def test_a_breaker_opens_probes_and_closes() -> None:
    """Threshold within the window, open, one probe, closed (ORCH-3602)."""
    breaker = Breaker(BreakerPolicy(failures=2, window_s=10.0, open_s=5.0))
    breaker.begin(0.0).failed(0.0)
    breaker.begin(11.0).failed(11.0)  # the first is out of the window
    assert breaker.state == "closed"
    breaker.begin(12.0).failed(12.0)
    assert (breaker.state, breaker.retry_at, breaker.allows(16.9)) == ("open", 17.0, False)
    probe = breaker.begin(17.0)
    assert breaker.is_probing
    with pytest.raises(RuntimeError, match="half_open"):
        breaker.begin(17.0)
    probe.end()
    assert not breaker.is_probing
    breaker.begin(18.0).succeeded()
    assert (breaker.state, breaker.retry_at) == ("closed", None)


def test_a_failed_probe_doubles_the_time() -> None:
    """Up to max_open_s; a success starts over."""
    breaker = Breaker(BreakerPolicy(failures=1, open_s=5.0, max_open_s=15.0))
    now, opened = 0.0, []
    breaker.begin(now).failed(now)
    for _ in range(3):
        assert breaker.retry_at is not None
        opened.append(breaker.retry_at - now)
        now = breaker.retry_at
        breaker.begin(now).failed(now)
    assert opened == [5.0, 10.0, 15.0]


def test_only_the_probe_decides() -> None:
    """An attempt from before the breaker opened neither opens, closes nor frees it any more."""
    breaker = Breaker(BreakerPolicy(failures=1, open_s=5.0))
    old, older, oldest = (breaker.begin(0.0) for _ in range(3))
    breaker.begin(0.0).failed(1.0)
    probe = breaker.begin(6.0)
    old.succeeded()
    older.failed(6.0)
    oldest.end()
    assert (breaker.state, breaker.is_probing) == ("half_open", True)
    probe.succeeded()
    assert breaker.state == "closed"
    old.failed(7.0)
    assert breaker.state == "closed"
    probe.failed(7.0)  # it was answered, and then broke
    assert breaker.state == "open"


def test_a_first_token_lifts_the_exclusion_and_only_a_whole_answer_ends_it() -> None:
    """An engine that cuts each answer is left alone for longer each time."""
    breaker = Breaker(BreakerPolicy(failures=1, open_s=5.0, max_open_s=60.0))
    breaker.begin(0.0).failed(0.0)
    now, opened = 5.0, []
    for _ in range(3):
        probe = breaker.begin(now)
        assert not breaker.allows(now)
        probe.answered()
        assert (breaker.state, breaker.allows(now)) == ("half_open", True)
        beside = breaker.begin(now)
        probe.failed(now)
        assert breaker.retry_at is not None
        opened.append(breaker.retry_at - now)
        beside.succeeded()  # it began before the breaker opened
        assert breaker.state == "open"
        now = breaker.retry_at
    assert opened == [10.0, 20.0, 40.0]
    breaker.begin(now).succeeded()
    assert breaker.state == "closed"
    breaker.begin(now).failed(now)
    assert breaker.retry_at == now + 5.0


def test_a_failure_that_was_the_jobs_is_taken_back() -> None:
    """It no longer adds to others."""
    breaker = Breaker(BreakerPolicy(failures=2))
    trial = breaker.begin(0.0)
    trial.failed(0.0)
    trial.retract()
    breaker.begin(1.0).failed(1.0)
    assert breaker.state == "closed"


def test_busy_answers_teach_a_limit_and_rests() -> None:
    """The jobs that ran become the limit; several in a row are followed by rests that double."""
    pace = Pace()
    rests = [pace.busy(9, 0.0, 0.1), pace.busy(6, 0.0, 0.1), pace.busy(4, 0.0, 0.1)]
    assert pace.limit == 4
    assert max(rests) < 0.1, "until one of those that run may have ended"
    rests = [pace.busy(4, now, now) for now in range(1, 9)]
    assert rests[1:] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert pace.limit == 4, "it shrinks once for busy answers in a row"
    pace.answered(None)
    assert pace.busy(4, 9.0, 9.0) < 0.1
    assert pace.limit == pytest.approx(3.2)
    pace.busy(1, 10.0, 10.0)
    pace.answered(None)
    pace.busy(0, 11.0, 11.0)
    assert pace.limit == pytest.approx(0.8), "it was alone: the server counts requests"


def test_a_limit_grows_slowly_after_a_busy_answer_and_fast_in_calm() -> None:
    """By a twentieth in a second at first, by one for each round of answers at most."""
    pace = Pace()
    pace.took_s = 1.0
    pace.busy(8, 0.0, 0.0)
    limits = []
    for second in range(1, 31):
        for _ in range(8):
            if pace.limit is not None:
                pace.whole(math.ceil(pace.limit), float(second), None)
        limits.append(pace.limit or math.inf)
    assert limits[0] < 8.5
    assert 9 < limits[4] < 12
    assert limits[-1] > 40
    pace = Pace()
    pace.busy(8, 0.0, 0.0)
    pace.whole(1, 30.0, None)
    assert pace.limit == 8, "answers below the limit say nothing about it"


def test_attempts_come_at_the_pace_of_answers() -> None:
    """Beside others with a short pause at most; a limit below one is a longer pause."""
    pace = Pace()
    assert not pace.begin(0, 0.0)
    pace.busy(1, 0.0, 1.0)
    assert pace.begin(0, 2.0)
    assert 2.0 < pace.next_at <= 2.0 + MAX_GAP_S
    for now in range(3, 20):
        pace.answered(None)
        pace.busy(0, float(now), float(now))
    assert pace.begin(0, 30.0)
    assert 31.0 < pace.next_at <= 30.0 + SLOWEST_GAP_S


def limited(per_request: float, count: int) -> list[bool]:
    """What a server admits that counts requests: the share `per_request` of them, evenly."""
    found, credit = [], 0.0
    for _ in range(count):
        credit = min(2.0, credit + per_request)
        found.append(credit >= 1)
        credit -= credit >= 1
    return found


@pytest.mark.parametrize("share", [0.2, 0.35, 0.5, 0.65, 0.8])
def test_chance_is_told_from_a_limit(share: float) -> None:
    """Servers that count requests refuse in patterns; others do it by chance."""
    assert not at_random(limited(share, 64))
    assert not at_random([True] * int(64 * share) + [False] * (64 - int(64 * share)))
    rng = random.Random(1)
    drawn = [[rng.random() < share for _ in range(64)] for _ in range(100)]
    assert sum(map(at_random, drawn)) > 60


def test_a_replica_that_was_away_begins_slowly() -> None:
    """With one stream, one more for each first token, up to what it was trusted with before."""
    pace = Pace()
    pace.recover()
    assert pace.limit is None, "the probe is the breaker's to allow"
    pace.begin(0, 0.0)
    limits = []
    while pace.limit is not None:
        limits.append(pace.limit)
        pace.answered(4)
    assert limits == [1, 2, 3, 4]
    pace.busy(5, 0.0, 1.0)
    pace.recover()
    pace.begin(2, 1.0)
    assert pace.limit == 3, "streams from before are not held against it"
    for _ in range(10):
        pace.answered(None)
    assert pace.limit == 5
    assert MAX_LEARNT > 10


def test_the_retry_budget_is_a_share_and_a_floor() -> None:
    """In any ten seconds a share of their jobs and a few more; what is not taken is lost."""
    budget = FailoverBudget(ratio=0.5, floor_per_s=0.2)
    assert [budget.withdraw(0.0) for _ in range(3)] == [True, True, False]
    budget.deposit(1.0)
    budget.deposit(1.5)
    assert [budget.withdraw(2.0), budget.withdraw(2.0)] == [True, False]
    assert [budget.withdraw(100.0) for _ in range(3)] == [True, True, False]


@given(st.lists(st.tuples(st.floats(0, 0.5), st.booleans()), max_size=300))
def test_no_window_grants_more_than_its_share(steps: list[tuple[float, bool]]) -> None:
    """Whenever jobs come and attempts are asked for (ORCH-3602)."""
    budget, now, jobs, granted = FailoverBudget(0.2, 0.1), 0.0, [], []
    for pause, is_job in steps:
        now += pause
        if is_job:
            budget.deposit(now)
            jobs.append(now)
        elif budget.withdraw(now):
            granted.append(now)
            since = now - WINDOW_S
            share = 0.2 * sum(at > since - 1 for at in jobs) + 0.1 * WINDOW_S
            assert sum(at > since for at in granted) <= share


def of_priority(name: int, priority: Priority, *, is_back: bool = False) -> Ticket:
    return Ticket(priority, is_back, name)


def test_the_lanes_have_two_priorities_and_keep_their_order() -> None:
    """Interactive before batch, each in its order, whatever model they wait for."""
    lanes: Lanes[Ticket] = Lanes()
    tickets = [
        of_priority(number, priority)
        for number, priority in enumerate(("batch", "interactive", "batch", "interactive"))
    ]
    for ticket, key in zip(tickets, "abba", strict=True):
        lanes.add(ticket, key)
    assert [lane.key for lane in lanes.of("interactive")] == ["b", "a"]
    assert [lane.key for lane in lanes.of("batch")] == ["a", "b"]
    assert lanes.oldest_batch() is tickets[0]
    assert lanes.last() is tickets[2]
    assert lanes.remove(tickets[1])
    assert not lanes.remove(tickets[1])
    assert (lanes.count("interactive"), lanes.count("batch"), len(lanes)) == (1, 2, 3)
    assert [lane.key for lane in lanes.of("interactive")] == ["a"]


def test_jobs_that_came_back_go_first_and_are_not_given_up() -> None:
    """They neither count for the bound nor make room for others."""
    lanes: Lanes[Ticket] = Lanes()
    back, fresh = of_priority(2, "batch", is_back=True), of_priority(1, "batch")
    lanes.add(fresh, None)
    lanes.add(back, None)
    assert list(lanes) == [back, fresh]
    assert (lanes.fresh["batch"], lanes.back["batch"]) == (1, 1)
    assert lanes.oldest_batch() is fresh
    lanes.remove(fresh)
    assert lanes.oldest_batch() is None


@in_virtual_time
async def test_the_ledger_forgets_ended_jobs_only() -> None:
    """The oldest ended job goes first; a job in flight is kept, however many there are."""
    ledger = Ledger(max_jobs=2)
    running = [ledger.open(f"running {number}", "p", 0.0) for number in range(5)]
    for number in range(3):
        done = ledger.open(f"done {number}", "p", 0.0)
        done.end("ok")
        ledger.close(done)
    assert [ledger.outcome(f"done {number}") for number in range(3)] == [None, "ok", "ok"]
    assert all(ledger.explain(record.job_id) for record in running)
    assert len(ledger) == 7


@in_virtual_time
async def test_a_record_keeps_its_end() -> None:
    """However many steps there are, the end is one of them, and the rest is counted."""
    ledger = Ledger(max_steps=3)
    record = ledger.open("job", "p", asyncio.get_running_loop().time())
    for _ in range(5):
        await asyncio.sleep(1.0)
        record.note("attempt", "WORKER_RESET", "a", took_s=0.5, detail="reset")
    record.end("WORKER_RESET")
    record.end("ok")
    explanation = ledger.explain("job")
    assert explanation is not None
    assert [(step.kind, step.at_ms, step.took_ms) for step in explanation.steps] == [
        ("attempt", 500, 500),
        ("attempt", 1500, 500),
        ("end", 5000, 5000),
    ]
    assert (explanation.outcome, explanation.omitted) == ("WORKER_RESET", 3)
    assert "3 more steps" in str(explanation)
    assert cattrs.structure(cattrs.unstructure(explanation), Explanation) == explanation
