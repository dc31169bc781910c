"""Retries and their delays (HTU-1002, ADAPT-3005, WA-INT-3003)."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_api import (
    CapacityExceeded,
    EngineUnavailable,
    ErrorCode,
    StreamClock,
    WorkerError,
    WorkerReset,
)
from adapters.http_util import (
    RetryBudget,
    RetryPolicy,
    Unanswered,
    may_repeat,
    retry_after_ms,
    try_and_retry,
)
from adapters.http_util.retry import BUDGET_PER_REQUEST, BUDGET_RESERVE, REPEATABLE_STATUSES

seconds = st.floats(0, 1e6, allow_nan=False)
policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 9),
    base_s=seconds,
    multiplier=st.floats(1, 1e9, allow_nan=False),
    cap_s=seconds,
)


@given(policies, st.integers(0, 10_000), st.integers())
def test_delay_n_is_within_its_bounds(policy: RetryPolicy, n: int, seed: int) -> None:
    """HTU-1002: uniform in [0, min(cap, base * multiplier**n)], for every n."""
    delay_s = policy.delay_s(n, random.Random(seed))
    assert 0 <= delay_s <= policy.cap_s
    if n < 20:
        assert delay_s <= policy.base_s * policy.multiplier**n


def test_the_defaults_are_those_of_the_specification() -> None:
    """HTU-1002: base 100 ms, multiplier 2, cap 2 s, 4 attempts."""
    policy = RetryPolicy()
    assert (policy.base_s, policy.multiplier, policy.cap_s, policy.attempts) == (0.1, 2.0, 2.0, 4)


@pytest.mark.parametrize(("most", "attempts"), [(None, 4), (9, 4), (4, 4), (1, 1)])
def test_a_task_may_allow_fewer_requests(most: int | None, attempts: int) -> None:
    """limited_to never adds any."""
    policy = RetryPolicy(seed=5).limited_to(most)
    assert (policy.attempts, policy.seed) == (attempts, 5)


@given(st.integers(), st.integers(0, 30))
def test_equal_seeds_give_equal_delays(seed: int, count: int) -> None:
    """HTU-1002: seedable; other seeds give other delays."""
    policy = RetryPolicy()

    def delays(rng: random.Random) -> list[float]:
        return [policy.delay_s(n, rng) for n in range(count)]

    assert delays(random.Random(seed)) == delays(random.Random(seed))
    if count:
        assert delays(random.Random(seed)) != delays(random.Random(abs(seed) + 1))


def test_delays_are_spread_over_their_whole_range() -> None:
    """HTU-1002: full jitter, so that many clients do not come back together."""
    policy, rng = RetryPolicy(), random.Random(1)
    shares = [policy.delay_s(3, rng) / 0.8 for _ in range(4000)]
    assert min(shares) < 0.01
    assert max(shares) > 0.99
    assert 0.48 < sum(shares) / len(shares) < 0.52


@pytest.mark.parametrize(
    "wrong",
    [{"attempts": 0}, {"base_s": -1}, {"multiplier": 0.5}, {"cap_s": -1}, {"retry_after_cap_s": -1},
     {"base_s": float("nan")}],
)  # fmt: skip
def test_a_policy_without_sense_is_refused(wrong: dict[str, float]) -> None:
    """The error names the field."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetryPolicy(**wrong)  # type: ignore[arg-type]


# Retry-After

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "2"}, 2000),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "1.5"}, 1500),
        ({"retry-after": " 3 "}, 3000),
        ({"retry-after-ms": "250"}, 250),
        ({"retry-after-ms": "250.7", "retry-after": "9"}, 250),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9000),
        ({"retry-after-ms": "-1", "retry-after": "9"}, 9000),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e99"}, None),
        ({"retry-after": "soon"}, None),
        ({"x-ms-retry-after-ms": "250", "retry-after": "1"}, 250),
        ({"retry-after": "2s"}, 2000),
        ({"retry-after": "2026-01-02T03:04:15Z"}, 10_000),
        # A limit that is used up, and when it is reset: OpenAI and Groq, OpenRouter, GitHub,
        # Anthropic, the IETF's draft.
        ({"x-ratelimit-reset-tokens": "6m0.5s", "x-ratelimit-remaining-tokens": "0"}, 360_500),
        ({"x-ratelimit-reset-requests": "120ms", "x-ratelimit-remaining-requests": "0"}, 120),
        ({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "7"}, None),
        ({"x-ratelimit-reset-tokens": "6m0s"}, None),
        ({"x-ratelimit-reset": "1767323055000", "x-ratelimit-remaining": "0"}, 10_000),
        ({"x-ratelimit-reset": "1767323055", "x-ratelimit-remaining": "0"}, 10_000),
        ({"ratelimit-reset": "30", "ratelimit-remaining": "0"}, 30_000),
        ({"ratelimit": '"minute";r=0;t=7, "day";r=50;t=9000'}, 7000),
        ({"ratelimit": "limit=10, remaining=0, reset=7"}, 7000),
        ({"ratelimit": "limit=10, remaining=1, reset=7"}, None),
        (
            {
                "anthropic-ratelimit-tokens-reset": "2026-01-02T03:04:15Z",
                "anthropic-ratelimit-tokens-remaining": "0",
            },
            10_000,
        ),
        ({"x-ratelimit-reset": "soon", "x-ratelimit-remaining": "0"}, None),
        ({"x-ratelimit-reset": "30", "x-ratelimit-remaining": "0", "retry-after": "2"}, 2000),
        ({"retry-after": "Fri, 02 Jan 2026 03:04:15 GMT"}, 10_000),
        ({"retry-after": "Fri, 02 Jan 2026 03:04:15"}, 10_000),
        ({"retry-after": "Fri, 02 Jan 2026 04:04:15 +0100"}, 10_000),
        ({"retry-after": "Fri, 02 Jan 2026 03:03:00 GMT"}, 0),
        ({"retry-after": "Friday, 02-Jan-26 03:04:15 GMT"}, 10_000),
        ({"retry-after": "Fri, 99 Jan 2026 03:04:15 GMT"}, None),
        ({"retry-after": "Fri, 02 Jan 99999999999999 03:04:15 GMT"}, None),
        ({"retry-after": "2 Jan 2026 03:04:15 +99999999999999999999"}, None),
    ],
)
def test_retry_after_in_each_of_its_forms(headers: dict[str, str], expected: int | None) -> None:
    """WA-INT-3003: milliseconds, seconds or a date; what makes no sense is not there."""
    assert retry_after_ms(headers, NOW) == expected


@given(st.integers(-(10**8), 10**8))
def test_a_date_is_as_good_as_seconds(offset_s: int) -> None:
    """Any date in any time zone; one that is over means at once."""
    date = (NOW + timedelta(seconds=offset_s)).astimezone()
    headers = {"retry-after": format_datetime(date)}
    assert retry_after_ms(headers, NOW) == max(0, offset_s * 1000)


@given(
    st.text(max_size=40)
    | st.from_regex(
        r"(Mon, )?-?[0-9]{1,20} (Jan|Foo) -?[0-9]{1,20} [0-9]{1,20}:[0-9]{1,20}(:[0-9]{1,20})? "
        r"([+-][0-9]{1,20}|GMT|X)",
        fullmatch=True,
    )
)
@settings(max_examples=200)
def test_any_retry_after_is_safe(value: str) -> None:
    """Whatever a server sends: a wait of at least nothing, or none."""
    for name in ("retry-after", "retry-after-ms"):
        wait_ms = retry_after_ms({name: value})
        assert wait_ms is None or wait_ms >= 0


def test_without_a_clock_the_present_is_now() -> None:
    """A date is measured from now."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100))
    wait_ms = retry_after_ms({"retry-after": date})
    assert wait_ms is not None
    assert 95_000 < wait_ms <= 100_000


# What may be repeated


def test_only_refusals_before_any_work_may_be_repeated() -> None:
    """WA-INT-3003, WA-INT-3004: refusals of the moment, and an origin that was not reached."""
    refusals = {408, 425, 429, 449, 498, 502, 503, 504, 529}
    assert refusals | {521, 522, 523} == REPEATABLE_STATUSES
    for status in range(300, 600):
        expected = status in REPEATABLE_STATUSES
        for error in (
            CapacityExceeded(ErrorCode.ADMISSION_REJECT, "busy", status=status),
            EngineUnavailable(ErrorCode.POOL_UNAVAILABLE, "away", status=status),
        ):
            assert may_repeat(error) is expected
        assert not may_repeat(CapacityExceeded(ErrorCode.QUOTA_EXHAUSTED, "paid?", status=status))
        assert not may_repeat(WorkerReset(ErrorCode.WORKER_RESET, "broke", status=status))


@pytest.mark.parametrize("code", ErrorCode)
def test_without_a_status_only_a_failed_connect_may_be_repeated(code: ErrorCode) -> None:
    """ADAPT-3005: where nothing was sent, nothing can be done twice."""
    error = WorkerError.of(code, "x")
    assert may_repeat(error) is (code in (ErrorCode.POOL_UNAVAILABLE, ErrorCode.CIRCUIT_OPEN))
    assert not may_repeat(WorkerError.of(code, "x", retriable=False))
    assert not may_repeat(Unanswered(ErrorCode.POOL_UNAVAILABLE, "sent, and then silence"))
    assert not may_repeat(ValueError("x"))
    assert not may_repeat(asyncio.CancelledError())


# The budget


def test_a_budget_bounds_what_retries_add() -> None:
    """In the long run at most one retry for five jobs, whatever the reserve."""
    budget = RetryBudget()
    assert sum(budget.spend() for _ in range(1000)) == BUDGET_RESERVE
    for _ in range(1000):
        budget.earn()
    assert sum(budget.spend() for _ in range(1000)) == pytest.approx(
        min(BUDGET_RESERVE, 1000 * BUDGET_PER_REQUEST), abs=1
    )


@given(st.lists(st.booleans(), max_size=300), st.floats(0, 5))
def test_a_budget_never_gives_what_it_does_not_have(steps: list[bool], tokens: float) -> None:
    """Never below nothing, never above the reserve."""
    budget, spent = RetryBudget(tokens), 0
    for earning in steps:
        if earning:
            budget.earn()
        else:
            spent += budget.spend()
        assert 0 <= budget.tokens <= BUDGET_RESERVE
    assert spent <= tokens + BUDGET_PER_REQUEST * sum(steps) + 1e-9


# The loop


class Tries:
    """Something that fails with these errors in turn, and then works."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.count = 0

    async def __call__(self) -> str:
        self.count += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


Told = list[tuple[ErrorCode, int, float]]


async def _run(
    tries: Callable[[], Awaitable[object]],
    *,
    policy: RetryPolicy | None = None,
    deadline_s: float | None = None,
    budget: RetryBudget | None = None,
    seed: int = 1,
) -> tuple[object, Told]:
    told: Told = []
    result = await try_and_retry(
        tries,
        policy or RetryPolicy(base_s=0.001, cap_s=0.002),
        StreamClock(deadline_s),
        budget or RetryBudget(),
        random.Random(seed),
        lambda error, attempt, wait_s: told.append((error.code, attempt, wait_s)),
    )
    return result, told


def busy(wait_ms: int | None = None) -> WorkerError:
    """A 503."""
    return EngineUnavailable(ErrorCode.POOL_UNAVAILABLE, "busy", status=503, retry_after_ms=wait_ms)


async def test_what_may_be_repeated_is_until_it_works() -> None:
    """WA-INT-3003: each failed attempt is reported with its number and the wait that follows."""
    tries = Tries(busy(), busy(), busy())
    result, told = await _run(tries)
    assert (result, tries.count) == ("done", 4)
    assert [(code, attempt) for code, attempt, _ in told] == [
        (ErrorCode.POOL_UNAVAILABLE, n) for n in (1, 2, 3)
    ]
    assert told == (await _run(Tries(busy(), busy(), busy())))[1]
    assert told != (await _run(Tries(busy(), busy(), busy()), seed=2))[1]


async def test_the_last_error_is_raised_as_it_is() -> None:
    """WA-INT-3003: the error of the last attempt propagates, retriable, with the server's wait."""
    last = busy(1)
    tries = Tries(busy(), busy(), busy(), last)
    with pytest.raises(EngineUnavailable) as caught:
        await _run(tries)
    assert caught.value is last
    assert (last.retriable, last.retry_after_ms, tries.count) == (True, 1, 4)


@pytest.mark.parametrize(
    "error",
    [WorkerReset(ErrorCode.WORKER_RESET, "x"), ValueError("x"), KeyError("x")],
    ids=lambda error: type(error).__name__,
)
async def test_nothing_else_is_repeated(error: Exception) -> None:
    """WA-INT-3004: one attempt, the error as it is."""
    tries = Tries(error)
    with pytest.raises(type(error)) as caught:
        await _run(tries)
    assert caught.value is error
    assert tries.count == 1


async def test_the_servers_wait_wins_over_our_own() -> None:
    """HTU-1002: Retry-After is kept to the millisecond, longer or shorter than the backoff."""
    policy = RetryPolicy(base_s=1000, cap_s=1000)
    result, told = await _run(Tries(busy(5), busy(0)), policy=policy)
    assert result == "done"
    assert [wait_s for _, _, wait_s in told] == [0.005, 0]


async def test_a_wait_that_is_longer_than_the_cap_is_not_begun() -> None:
    """A server may not make us wait for an hour: the error comes at once and says how long."""
    tries = Tries(busy(3_600_000))
    with pytest.raises(EngineUnavailable) as caught:
        await asyncio.wait_for(_run(tries), 10)
    assert (caught.value.retry_after_ms, tries.count) == (3_600_000, 1)


@pytest.mark.parametrize("asked_ms", [None, 500])
async def test_a_wait_that_does_not_fit_the_deadline_is_not_begun(asked_ms: int | None) -> None:
    """ADAPT-3005: the error comes at once, with retry_after_ms, also for our own backoff."""
    policy = RetryPolicy(base_s=1000, cap_s=1000)
    tries = Tries(busy(asked_ms))
    with pytest.raises(EngineUnavailable) as caught:
        await asyncio.wait_for(_run(tries, policy=policy, deadline_s=0.2), 10)
    assert tries.count == 1
    assert caught.value.retry_after_ms is not None
    assert caught.value.retry_after_ms >= 200


async def test_an_empty_budget_ends_the_retries() -> None:
    """One adapter's jobs share it."""
    budget = RetryBudget(1.5)
    tries = Tries(busy(), busy(), busy())
    with pytest.raises(EngineUnavailable):
        await _run(tries, budget=budget)
    assert tries.count == 2
    assert budget.tokens == 0.5


async def test_one_attempt_means_no_retry() -> None:
    """ADAPT-3005: a policy may forbid retries, and costs no budget then."""
    budget = RetryBudget()
    tries = Tries(busy())
    with pytest.raises(EngineUnavailable):
        await _run(tries, policy=RetryPolicy(attempts=1), budget=budget)
    assert (tries.count, budget.tokens) == (1, BUDGET_RESERVE)


async def test_cancelling_ends_a_wait_at_once() -> None:
    """WA-INT-3002: the backoff is an await point like any other."""
    tries = Tries(busy(50_000))
    task = asyncio.create_task(_run(tries))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 1)
    assert tries.count == 1
