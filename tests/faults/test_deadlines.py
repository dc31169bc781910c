"""deadline_s covers everything a job waits for (ADAPT-3005, HTU-ERR-4002)."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from adapter_api import ErrorCode, TaskRequest
from adapter_api.faults import SCENARIOS, FaultServer, Scenario
from adapter_api.faults.scenario import LINGER_S, PROMPT_S, fails
from adapter_api.faults.wire import TEXT, Wire
from adapters.http_util import RetryPolicy
from tests.faults.conftest import SHORT, Bench, MakeBench, Outcome, run
from tests.silent_port import silent_port

DEADLINE_S = 0.25


@pytest.fixture
def deaf_url() -> Iterator[str]:
    """Return the URL of a port whose backlog is full: connecting to it never completes."""
    with silent_port() as port:
        yield f"http://127.0.0.1:{port}"


def _task(deadline_s: float = DEADLINE_S) -> TaskRequest:
    return TaskRequest(prompt="hi", deadline_s=deadline_s)


def _in_time(outcome: Outcome, limit_s: float = DEADLINE_S) -> bool:
    return outcome.took(limit_s, limit_s + PROMPT_S)


SILENT = [
    name
    for name, scenario in SCENARIOS.items()
    if scenario.expect.codes & {"DECODE_TIMEOUT", "POOL_UNAVAILABLE"}
    and scenario.expect.after_s == 0.4
    and not name.startswith("endless-")
    and not scenario.task
]


async def test_the_deadline_ends_every_silence(make_bench: MakeBench) -> None:
    """In the wait for the head, for the first token, between tokens, with any kind of ping."""

    async def one(name: str) -> None:
        bench = await make_bench()
        outcome = await run(bench.adapter(name), _task())
        assert (name, outcome.code) == (name, ErrorCode.DEADLINE_UNMET)
        assert _in_time(outcome), name
        assert bench.in_use == 0

    await asyncio.gather(*map(one, SILENT))


async def test_the_deadline_ends_a_connect(bench: Bench, deaf_url: str) -> None:
    """A connect that never completes ends with the deadline and leaks no socket."""
    adapter = bench.adapter_for(deaf_url, connect_timeout_s=20.0)
    outcome = await run(adapter, _task())
    assert outcome.code == ErrorCode.DEADLINE_UNMET
    assert _in_time(outcome)
    assert bench.transport.open_connections == 0


async def test_connect_timeouts_are_retried_until_the_deadline(bench: Bench, deaf_url: str) -> None:
    """connect_timeout_s applies to each attempt, the deadline to all attempts together."""
    adapter = bench.adapter_for(deaf_url, connect_timeout_s=0.1)
    outcome = await run(adapter, _task(5.0))
    assert outcome.code == ErrorCode.POOL_UNAVAILABLE
    assert _in_time(outcome, 0.4)
    adapter = bench.adapter_for(deaf_url, connect_timeout_s=1.0)
    outcome = await run(adapter, _task(1.2))
    assert outcome.code in (ErrorCode.DEADLINE_UNMET, ErrorCode.POOL_UNAVAILABLE)
    assert outcome.took(1.0, 1.2 + PROMPT_S)
    assert bench.transport.open_connections == 0


async def test_first_token_timeout_ends_a_slow_connect(bench: Bench, deaf_url: str) -> None:
    """Waiting for the connection is a part of waiting for the first token."""
    adapter = bench.adapter_for(deaf_url, connect_timeout_s=20.0, **SHORT)
    outcome = await run(adapter, TaskRequest(prompt="hi"))
    assert outcome.code == ErrorCode.POOL_UNAVAILABLE
    assert _in_time(outcome, 0.4)


async def test_a_refused_connect_is_retried_then_reported(bench: Bench) -> None:
    """Nothing listens: four attempts, then POOL_UNAVAILABLE (WA-INT-3003)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    outcome = await run(bench.adapter_for(url), _task(5.0))
    assert outcome.code == ErrorCode.POOL_UNAVAILABLE
    assert outcome.error is not None
    assert outcome.error.retriable
    assert outcome.took(0, PROMPT_S)


async def test_backoff_that_does_not_fit_is_not_begun(bench: Bench) -> None:
    """A backoff beyond the deadline is not waited for: the error comes at once and names it."""
    slow = RetryPolicy(base_s=100.0, cap_s=100.0, seed=1)
    outcome = await run(bench.adapter("status-503", retry=slow), _task())
    assert outcome.code == ErrorCode.POOL_UNAVAILABLE
    assert outcome.error is not None
    assert outcome.error.retry_after_ms is not None
    assert outcome.error.retry_after_ms > DEADLINE_S * 1000
    assert outcome.took(0, PROMPT_S)
    assert len(bench.server.requests) == 1


async def test_the_deadline_ends_a_backoff_it_was_going_to_fit(bench: Bench) -> None:
    """An answer that uses up the rest of the deadline after a retry is DEADLINE_UNMET."""

    async def script(wire: Wire) -> None:
        if wire.request.number == 1:
            await wire.answer_json(503, {}, "retry-after-ms: 150")
        else:
            await wire.wait_closed()

    late = Scenario("late", "refuses, then says nothing", script, fails("DEADLINE_UNMET"))
    async with FaultServer({"late": late}) as server:
        outcome = await run(bench.adapter_for(server.url("late")), _task())
        assert len(server.requests) == 2
    assert outcome.code == ErrorCode.DEADLINE_UNMET
    assert _in_time(outcome)


async def test_the_deadline_runs_while_a_job_queues_for_a_connection(bench: Bench) -> None:
    """One connection, held by another job: the second job's deadline runs all the same."""
    holder = bench.adapter("stall-before-head").submit(TaskRequest(prompt="hi"))
    holding = asyncio.ensure_future(holder.__anext__())
    await asyncio.sleep(0.05)
    outcome = await run(bench.adapter("ordinary"), _task())
    assert outcome.code == ErrorCode.DEADLINE_UNMET
    assert _in_time(outcome)
    assert len(bench.server.requests) == 1
    holding.cancel()
    await asyncio.wait([holding])
    await holder.aclose()
    assert bench.in_use == 0


async def test_the_deadline_runs_while_a_key_function_hangs(bench: Bench) -> None:
    """A key function that hangs counts against the deadline."""

    async def never() -> str:
        await asyncio.sleep(60)
        return "key"

    outcome = await run(bench.adapter("ordinary", api_key=never), _task())
    assert outcome.code == ErrorCode.DEADLINE_UNMET
    assert _in_time(outcome)
    assert bench.server.requests == []


async def test_the_deadline_runs_while_a_refusal_is_read(bench: Bench) -> None:
    """The status came, its body does not: the deadline decides."""
    outcome = await run(bench.adapter("stall-in-refusal"), _task())
    assert outcome.code == ErrorCode.DEADLINE_UNMET
    assert _in_time(outcome)
    assert bench.in_use == 0


async def test_a_slow_consumer_meets_the_deadline_too(bench: Bench) -> None:
    """The deadline passes while the consumer is busy: the next event is the error."""
    stream = bench.adapter("slow-tokens-for-ever").submit(_task())
    await stream
    await asyncio.sleep(DEADLINE_S + 0.1)
    frames = [frame async for frame in stream.frames()]
    assert frames[-1]["code"] == "DEADLINE_UNMET"
    assert bench.in_use == 0


async def test_a_whole_answer_is_not_lost_to_the_deadline(bench: Bench) -> None:
    """Waiting for usage after the finish_reason leaves room for End."""
    deadline_s = 0.9 * LINGER_S
    outcome = await run(bench.adapter("pings-after-finish"), _task(deadline_s))
    assert outcome.end is not None
    assert outcome.text == TEXT
    assert outcome.took(0, deadline_s)


@pytest.mark.parametrize(
    ("scenario", "deadline_s", "stall_timeout_s", "code"),
    [
        ("slow-tokens-for-ever", DEADLINE_S, 20.0, ErrorCode.DEADLINE_UNMET),
        ("stall-between-tokens", 20.0, DEADLINE_S, ErrorCode.DECODE_TIMEOUT),
    ],
)
async def test_a_limit_is_exact(
    bench: Bench, scenario: str, deadline_s: float, stall_timeout_s: float, code: ErrorCode
) -> None:
    """The deadline and the limit on silence end a job when they pass."""
    adapter = bench.adapter(scenario, stall_timeout_s=stall_timeout_s)
    outcome = await run(adapter, _task(deadline_s))
    assert outcome.code == code
    assert _in_time(outcome)


async def test_without_any_limit_a_stream_that_makes_progress_goes_on(bench: Bench) -> None:
    """None means no limit, for the first token and for stalls."""
    adapter = bench.adapter("usage-late", first_token_timeout_s=None, stall_timeout_s=None)
    outcome = await run(adapter, TaskRequest(prompt="hi"))
    assert outcome.text == TEXT


async def test_deadlines_of_many_jobs_at_once(bench: Bench) -> None:
    """Fifty stalled jobs on one loop all end when it passes."""
    async with FaultServer() as server:
        adapter = bench.adapter_for(server.url("stall-between-tokens"), client=None)
        async with adapter:
            outcomes = await asyncio.gather(*(run(adapter, _task(0.5)) for _ in range(50)))
    assert {outcome.code for outcome in outcomes} == {ErrorCode.DEADLINE_UNMET}
    assert all(_in_time(outcome, 0.5) for outcome in outcomes)
