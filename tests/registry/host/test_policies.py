"""The policies alone, with a clock made of numbers: routing, breaker, budget, line, ledger."""

from collections import Counter

import attrs
import cattrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import ErrorCode, TaskRequest, WorkerError
from registry.host.admission import AdmissionQueue, Priority
from registry.host.attempts import Explanation, Ledger
from registry.host.breaker import Breaker, BreakerPolicy, counts
from registry.host.budget import WINDOW_S, RetryBudget
from registry.host.routing import Candidate, LeastLoaded, SessionAffinity

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
    """Whoever is chosen has at most 1.25 times the mean, rounded up; there always is one."""
    chosen = choose("session", list(loads), loads)
    mean = (sum(loads.values()) + 1) / len(loads)
    assert loads[chosen] + 1 < 1.25 * mean + 1


def test_a_bound_below_one_is_refused() -> None:
    """No replica could take anything."""
    with pytest.raises(ValueError, match="bound must be at least 1"):
        SessionAffinity(0.5)


def test_what_counts_for_a_breaker() -> None:
    """Connect failures, resets, stalls and cut answers do; all else does not (ORCH-3602)."""
    counted = {code for code in ErrorCode if counts(WorkerError.of(code, "x"))}
    assert counted == {
        "POOL_UNAVAILABLE",
        "WORKER_RESET",
        "DECODE_TIMEOUT",
        "STREAM_TRUNCATED",
        "UPSTREAM_PROTOCOL",
    }
    assert not counts(WorkerError.of("WORKER_RESET", "x", status=409))


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
    """What began before the breaker opened neither opens, closes nor frees it any more."""
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


def test_the_retry_budget_is_a_share_and_a_floor() -> None:
    """In any ten seconds a share of their jobs and a few more; what is not taken is lost."""
    budget = RetryBudget(ratio=0.5, floor_per_s=0.2)
    assert [budget.withdraw(0.0) for _ in range(3)] == [True, True, False]
    budget.deposit(1.0)
    budget.deposit(1.5)
    assert [budget.withdraw(2.0), budget.withdraw(2.0)] == [True, False]
    assert [budget.withdraw(100.0) for _ in range(3)] == [True, True, False]


@given(st.lists(st.tuples(st.floats(0, 0.5), st.booleans()), max_size=300))
def test_no_window_grants_more_than_its_share(steps: list[tuple[float, bool]]) -> None:
    """Whenever jobs come and attempts are asked for (ORCH-3602)."""
    budget, now, jobs, granted = RetryBudget(0.2, 0.1), 0.0, [], []
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


@attrs.define(eq=False)
class Ticket:
    name: str
    priority: Priority = "interactive"


def test_the_line_has_two_priorities() -> None:
    """Interactive before batch, each in its order; who leaves is gone."""
    queue: AdmissionQueue[Ticket] = AdmissionQueue(10)
    tickets = [Ticket("b1", "batch"), Ticket("i1"), Ticket("b2", "batch"), Ticket("i2")]
    assert [queue.push(ticket) for ticket in tickets] == [None] * 4
    assert [ticket.name for ticket in queue] == ["i1", "i2", "b1", "b2"]
    assert queue.remove(tickets[1])
    assert not queue.remove(tickets[1])
    assert (queue.count("interactive"), queue.count("batch"), len(queue)) == (1, 2, 3)


def test_a_full_line_refuses_or_drops() -> None:
    """Only an interactive newcomer pushes out a batch ticket, the oldest one."""
    rejecting: AdmissionQueue[Ticket] = AdmissionQueue(1)
    rejecting.push(Ticket("b", "batch"))
    late = Ticket("late")
    assert rejecting.push(late) is late
    dropping: AdmissionQueue[Ticket] = AdmissionQueue(2, "drop_oldest_batch")
    oldest, newer = Ticket("b1", "batch"), Ticket("b2", "batch")
    dropping.push(oldest)
    dropping.push(newer)
    batch = Ticket("b3", "batch")
    assert dropping.push(batch) is batch
    assert dropping.push(Ticket("i1")) is oldest
    assert dropping.push(Ticket("i2")) is newer
    assert dropping.push(late) is late


def test_a_line_may_be_given_other_limits() -> None:
    """Whoever is served last has no place any more; the measured service time stays."""
    queue: AdmissionQueue[Ticket] = AdmissionQueue(4, "drop_oldest_batch")
    batch, *interactive = Ticket("b", "batch"), Ticket("1"), Ticket("2"), Ticket("3")
    for ticket in (batch, *interactive):
        queue.push(ticket)
    queue.served(7.0)
    assert queue.limit(2, "reject") == [interactive[2], batch]
    assert list(queue) == interactive[:2]
    assert queue.wait_s(1) == 14.0
    assert queue.push(batch) is batch
    assert queue.limit(3, "reject") == []
    assert queue.push(batch) is None


@pytest.mark.parametrize("arguments", [(-1,), (1, "drop")])
def test_a_line_that_cannot_be_is_refused(arguments: tuple[object, ...]) -> None:
    """Neither a negative length nor an unknown word."""
    with pytest.raises(ValueError, match=r"most|full"):
        AdmissionQueue(*arguments)  # type: ignore[arg-type]


def test_the_wait_follows_measured_service_times() -> None:
    """The longer the line and the service, and the fewer at once, the longer (AH-1005)."""
    queue: AdmissionQueue[Ticket] = AdmissionQueue(10)
    for number in range(4):
        queue.push(Ticket(str(number)))
    queue.served(3.0)
    assert (queue.wait_s(1), queue.wait_s(2), queue.wait_s(8)) == (12.0, 6.0, 3.0)
    for _ in range(50):
        queue.served(1.0)
    assert queue.wait_s(4) == pytest.approx(1.0, rel=0.01)


def test_the_ledger_is_bounded_and_forgets_finished_jobs_first() -> None:
    """The oldest finished job goes, else the oldest."""
    ledger = Ledger(max_jobs=2)
    ledger.open("running", "p")
    ledger.open("done", "p").end("ok")
    ledger.open("new", "p")
    assert ledger.explain("done") is None
    ledger.open("newer", "p")
    assert ledger.explain("running") is None
    assert len(ledger) == 2


def test_a_record_keeps_its_end() -> None:
    """However many steps there are, the end is one of them, and the rest is counted."""
    now = [0.0]
    ledger = Ledger(max_steps=3, clock=lambda: now[0])
    record = ledger.open("job", "p")
    for _ in range(5):
        now[0] += 1.0
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
