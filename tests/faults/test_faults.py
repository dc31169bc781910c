"""Every scenario of the fault server, and what the adapter makes of it (QUIRKS of real servers)."""

import asyncio
import logging
import traceback

import pytest

from adapter_api import Cancelled, Error, HealthStatus, TaskRequest, Token
from adapter_api.faults import (
    CHAPTERS,
    LIMIT_S,
    SCENARIOS,
    Connection,
    Expect,
    Scenario,
)
from adapter_api.faults.scenario import PROMPT_S
from adapter_api.faults.wire import TEXT, USAGE
from tests.faults.conftest import (
    KEY,
    PATIENT,
    QUIET_S,
    SHORT,
    SLACK_S,
    TRIES,
    Bench,
    MakeBench,
    Outcome,
    run,
)
from tests.faults.page import PAGE, render

# Those that end when a limit passes run side by side, but not floods, which keep the loop busy.
WAITING = [
    scenario
    for scenario in SCENARIOS.values()
    if scenario.expect.after_s and not scenario.name.startswith("endless-")
]
REST = [scenario for scenario in SCENARIOS.values() if scenario not in WAITING]

# Where the shape of an event matters.
CHAT = [
    scenario
    for title, chapter in CHAPTERS.items()
    for scenario in chapter
    if title in tuple(CHAPTERS)[:3] or scenario.name.startswith(("wrong-", "odd-"))
]

# Where the server either ends its answer or is found out at once.
QUICK = [
    scenario
    for scenario in SCENARIOS.values()
    if scenario.expect.after_s == 0
    and scenario.expect.within_s <= 0.3
    and not scenario.early
    and (not scenario.expect.closes or scenario.expect.text == "")
    and scenario.expect.codes != {"UPSTREAM_PROTOCOL", "DECODE_TIMEOUT"}
]


def _task(scenario: Scenario, *, chat: bool = False) -> TaskRequest:
    fields = {"model": "m", **scenario.task}
    if "messages" not in fields and chat:
        fields["messages"] = [{"role": "user", "content": "hi"}]
    elif "messages" not in fields:
        fields.setdefault("prompt", "hi")
    return TaskRequest(**fields)


async def _run_undisturbed(
    scenario: Scenario, make_bench: MakeBench, *, chat: bool = False
) -> tuple[Bench, Outcome]:
    """The bench and outcome of the first run that had the machine to itself, or of the last."""
    limits = PATIENT if scenario.expect.within_s <= LIMIT_S else SHORT
    for _ in range(TRIES):
        bench = await make_bench()
        adapter = bench.adapter(scenario.name, dialect=scenario.server or "auto", **limits)
        for _ in range(scenario.jobs):
            outcome = await run(adapter, _task(scenario, chat=chat))
        if outcome.stood_s < QUIET_S:
            break
    return bench, outcome


def _assert_outcome(outcome: Outcome, expect: Expect) -> None:
    if expect.proof is None:
        assert outcome.error is not None, "the job must fail"
        assert outcome.error.code in expect.codes
        assert outcome.error.retry_after_ms == expect.retry_after_ms
        assert (outcome.error.tokens_emitted > 0) == bool(outcome.text)
    else:
        assert outcome.error is None
        assert outcome.end is not None
        assert outcome.end.proof == expect.proof
        metrics = outcome.end.metrics
        assert metrics.usage_source == ("counted" if expect.counted else "engine")
        if not expect.counted:
            told = (metrics.prompt_tokens, metrics.tokens_generated)
            assert told == (USAGE["prompt_tokens"], USAGE["completion_tokens"])
    if expect.text is not None:
        assert outcome.text == expect.text
    assert outcome.took(expect.after_s, expect.within_s)


async def _assert_connections(bench: Bench, expect: Expect) -> None:
    """None is in use, those to be closed are closed, and the next job works at once."""
    assert bench.in_use == 0
    if expect.closes:
        await _closed_by_client(bench.server.connections[0])
    outcome = await run(bench.adapter("ordinary"), TaskRequest(prompt="hi"))
    assert outcome.text == TEXT
    assert outcome.took(0, PROMPT_S)
    assert bench.in_use == 0


async def _closed_by_client(connection: Connection) -> None:
    async with asyncio.timeout(SLACK_S):
        await connection.gone.wait()
    assert connection.closed_by_client_at is not None


def _assert_no_key(outcome: Outcome, bench: Bench, records: list[logging.LogRecord]) -> None:
    """Neither the key nor a half of it is in anything that is shown, raised or logged."""
    adapter = bench.adapter("ordinary")
    shown = [repr(adapter), repr(adapter.config), repr(outcome.started), repr(outcome.end)]
    if outcome.error is not None:
        shown += [repr(outcome.error), repr(outcome.error.fields())]
        shown += traceback.format_exception(outcome.error)
    for record in records:
        shown += [record.getMessage(), repr(vars(record))]
    everything = "\n".join(shown)
    assert KEY[:12] not in everything
    assert KEY[-12:] not in everything


async def _assert_scenario(
    scenario: Scenario, make_bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench, outcome = await _run_undisturbed(scenario, make_bench)
    _assert_outcome(outcome, scenario.expect)
    assert len(bench.server.requests) == scenario.expect.requests
    if outcome.end is not None and scenario.jobs == 1:
        assert outcome.end.metrics.attempts == scenario.expect.requests
    await _assert_connections(bench, scenario.expect)
    _assert_no_key(outcome, bench, caplog.records)


@pytest.mark.parametrize("scenario", REST, ids=[scenario.name for scenario in REST])
async def test_a_scenario(
    scenario: Scenario, make_bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    """Outcome, text, requests, time and connections are what the scenario expects, and the key is
    nowhere to be seen (WA-INT-3002, WA-INT-3003, HTU-ERR-4002, HTU-1004, OC-ADAPT-OAI 6020)."""
    caplog.set_level(logging.DEBUG)
    await _assert_scenario(scenario, make_bench, caplog)


@pytest.mark.parametrize("part", range(4))
async def test_scenarios_that_wait(
    part: int, make_bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    """The same for those that end when a limit passes (ADAPT-3005, HTU-ERR-4002)."""
    caplog.set_level(logging.DEBUG)

    async def one(scenario: Scenario) -> None:
        try:
            await _assert_scenario(scenario, make_bench, caplog)
        except AssertionError as exc:
            exc.add_note(f"scenario {scenario.name}")
            raise

    await asyncio.gather(*(one(scenario) for scenario in WAITING[part::4]))


@pytest.mark.parametrize("scenario", CHAT, ids=[scenario.name for scenario in CHAT])
async def test_a_scenario_on_the_chat_endpoint(scenario: Scenario, make_bench: MakeBench) -> None:
    """Messages fare as prompts do (OC-ADAPT-OAI 6001)."""
    bench, outcome = await _run_undisturbed(scenario, make_bench, chat=True)
    _assert_outcome(outcome, scenario.expect)
    assert all(request.chat for request in bench.server.requests)
    assert bench.in_use == 0


@pytest.mark.parametrize("scenario", QUICK, ids=[scenario.name for scenario in QUICK])
async def test_health_and_props_survive_a_scenario(
    scenario: Scenario, make_bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a server answers to a GET, health and props are answers, without a key."""
    caplog.set_level(logging.DEBUG)
    bench = await make_bench(fault_gets=True)
    adapter = bench.adapter(scenario.name)
    health = await adapter.health()
    assert isinstance(health, HealthStatus)
    assert KEY[:12] not in f"{health!r} {await adapter.props()!r}"
    assert bench.in_use == 0


async def test_cancel_closes_the_connection_of_a_server_that_never_stops(bench: Bench) -> None:
    """After cancel() no Token comes and the server sees the connection closed (WA-INT-3002)."""
    adapter = bench.adapter("tokens-for-ever")
    stream = adapter.submit(TaskRequest(prompt="hi"))
    seen = 0
    async for event in stream:
        seen += isinstance(event, Token)
        if seen == 5:
            break
    assert await adapter.cancel(stream.job_id)
    assert bench.in_use == 0
    assert isinstance(await anext(stream), Error)
    with pytest.raises(Cancelled):
        await anext(stream)
    connection = bench.server.connections[0]
    await _closed_by_client(connection)
    sent = connection.sent_bytes
    await asyncio.sleep(0.05)
    assert connection.sent_bytes == sent


def test_the_page_lists_the_scenarios() -> None:
    """docs/reference/faults.md is what `python -m tests.faults.page` writes."""
    assert PAGE.read_text(encoding="utf-8") == render()
