"""The breaker of a replica alone, with a clock of numbers: probes, learnt limits, pace."""

import math
import random

import pytest

from registry.host.breaker import (
    MAX_GAP_S,
    MAX_LEARNT,
    SLOWEST_GAP_S,
    Breaker,
    BreakerPolicy,
    Pace,
    at_random,
)


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
    """A server that counts requests admits the fraction `per_request` of them, evenly."""
    found, credit = [], 0.0
    for _ in range(count):
        credit = min(2.0, credit + per_request)
        found.append(credit >= 1)
        credit -= credit >= 1
    return found


@pytest.mark.parametrize("share", [0.2, 0.35, 0.5, 0.65, 0.8])
def test_chance_is_distinguished_from_a_limit(share: float) -> None:
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
