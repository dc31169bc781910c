"""Routing policies: session affinity, load, and what they are given."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import TaskRequest
from registry.host import (
    Candidate,
    Candidates,
    LeastLoaded,
    LoadedModel,
    PrefixAffinity,
    SessionAffinity,
)

NAMES = [f"r{number}" for number in range(8)]


def of_session(session_id: str | None) -> TaskRequest:
    return TaskRequest(prompt="x", session_id=session_id)


def choose(session_id: str | None, names: list[str], loads: dict[str, int] | None = None) -> str:
    candidates = [Candidate(name, (loads or {}).get(name, 0)) for name in names]
    return SessionAffinity().choose(of_session(session_id), candidates).replica_id


@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.none() | st.integers(0, 5), st.sampled_from("ab")),
        max_size=60,
    )
)
def test_the_index_is_what_a_fresh_one_would_be(
    changes: list[tuple[str, int | None, str]],
) -> None:
    """Whatever is put and removed: least, load, nearest and loaded are those of its members."""
    index = Candidates()
    index.with_model("a")
    members: dict[str, Candidate] = {}
    for name, load, model in changes:
        if load is None:
            index.remove(name)
            members.pop(name, None)
        else:
            members[name] = Candidate(name, load, model=model)
            index.put(members[name])
    fresh = Candidates(members.values())
    assert set(index) == set(members.values())
    assert index.load == sum(candidate.load for candidate in members.values())
    assert index.near("key") == fresh.near("key")
    assert set(index.with_model("a")) == {c for c in members.values() if c.model == "a"}
    if members:
        assert index.least_loaded() == min(members.values(), key=lambda c: c.rank)
        with index.without(list(members)[:1]):
            assert len(index) == len(members) - 1
        assert index.near("key") == fresh.near("key")


def test_ties_go_to_the_fastest_then_to_the_one_with_the_fewest_jobs() -> None:
    """At low load a slow replica gets nothing, and equal ones share (ORCH-3012)."""
    slow = Candidate("a", 0, first_token_ms=400.0, jobs=0)
    quick = [
        Candidate(name, 0, first_token_ms=20.0, jobs=jobs) for name, jobs in (("b", 7), ("c", 6))
    ]
    new = Candidate("d", 0)
    choose_among = LeastLoaded().choose
    assert choose_among(of_session(None), [slow, *quick]).replica_id == "c"
    assert choose_among(of_session(None), [slow, *quick, new]).replica_id == "d"
    assert choose_among(of_session(None), [slow]).reason == "only_candidate"


def test_load_is_shared_by_weight() -> None:
    """A replica of weight three gets three of four jobs."""
    index = Candidates([Candidate("a", 0, weight=3.0), Candidate("b", 0)])
    for _ in range(40):
        chosen = LeastLoaded().choose(of_session(None), index).replica_id
        before = next(c for c in index if c.replica_id == chosen)
        index.put(Candidate(chosen, before.load + 1, weight=before.weight))
    assert {c.replica_id: c.load for c in index} == {"a": 30, "b": 10}


def test_keys_are_shared_by_weight_and_evenly() -> None:
    """The fullest of a hundred replicas has little more than the mean; weights count."""
    index = Candidates(Candidate(f"r{n}", 0) for n in range(100))
    counts = Counter(index.near(f"key {n}")[0].replica_id for n in range(10_000))
    assert max(counts.values()) < 150
    weighted = Candidates([Candidate("a", 0, weight=3.0), Candidate("b", 0)])
    share = sum(weighted.near(f"key {n}")[0].replica_id == "a" for n in range(2000)) / 2000
    assert 0.6 < share < 0.9


def test_tasks_with_one_beginning_go_to_one_replica() -> None:
    """Whatever follows it, and whether it is a prompt or messages."""
    index = Candidates(Candidate(name, 0) for name in NAMES)
    policy = PrefixAffinity(chars=20)
    system = "You are a helpful assistant. "

    def chosen(**fields: object) -> str:
        return policy.choose(TaskRequest(**fields), index).replica_id  # type: ignore[arg-type]

    assert chosen(prompt=system + "a") == chosen(prompt=system + "b")
    assert len({chosen(prompt=f"{n} and so on") for n in range(50)}) == len(NAMES)
    talks = [[("system", system), ("user", question)] for question in ("one", "two")]
    assert (
        len(
            {
                chosen(messages=[{"role": role, "content": text} for role, text in talk])
                for talk in talks
            }
        )
        == 1
    )
    parts = [{"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image"}]}]
    assert policy.key_of(TaskRequest(messages=parts)) == "user\0look\0"


def test_a_task_goes_where_its_model_is_loaded() -> None:
    """Unless that replica is far above the mean."""
    loaded, other = Candidate("a", 1, model="m"), Candidate("b", 0, model="n")
    task = TaskRequest(prompt="x", model="m")
    choice = LoadedModel().choose(task, [loaded, other])
    assert (choice.replica_id, choice.reason) == ("a", "model_loaded")
    busy = Candidate("a", 9, model="m")
    others = [Candidate(name, 0) for name in "bcdef"]
    assert LoadedModel().choose(task, [busy, *others]).reason == "least_loaded"
    assert LoadedModel().choose(TaskRequest(prompt="x"), [loaded, other]).replica_id == "b"


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
