"""The policies of failover and the queue: verdicts on errors, the retry budget, the lanes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import ErrorCode, WorkerError
from registry.host.jobs import Lanes, Priority, Ticket
from registry.host.policy import WINDOW_S, FailoverBudget, Verdict, refusal_of, verdict_on


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
def test_verdicts_on_answers(code: str, status: int | None, message: str, verdict: str) -> None:
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
