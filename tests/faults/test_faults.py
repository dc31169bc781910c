"""Every scenario of the fault server, and what openai-http makes of it, in virtual time."""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator

import pytest

from adapter_api import (
    Cancelled,
    End,
    Error,
    HealthStatus,
    TaskRequest,
    Token,
    TokenEvent,
    hookimpl,
)
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
from adapters.openai_http import OpenAIHttpAdapter
from tests.faults.conftest import (
    KEY,
    PATIENT,
    SHORT,
    Bench,
    MakeBench,
    Outcome,
    run,
)
from tests.faults.page import PAGE, render

ALL = list(SCENARIOS.values())

# Where the shape of an event matters.
CHAT = [
    scenario
    for title, chapter in CHAPTERS.items()
    for scenario in chapter
    if title in tuple(CHAPTERS)[:3] or scenario.name.startswith(("wrong-", "odd-"))
]

# Where the server ends its answer, or the client detects the fault without waiting.
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


async def _run(
    scenario: Scenario, make_bench: MakeBench, *, chat: bool = False
) -> tuple[Bench, Outcome]:
    """Run a scenario's jobs. Return the outcome of the last one."""
    limits = PATIENT if scenario.expect.within_s <= LIMIT_S else SHORT
    bench = await make_bench()
    adapter = bench.adapter(scenario.name, dialect=scenario.server or "auto", **limits)
    for _ in range(scenario.jobs):
        outcome = await run(adapter, _task(scenario, chat=chat))
    return bench, outcome


def _assert_outcome(outcome: Outcome, expect: Expect) -> None:
    if expect.proof is None:
        assert outcome.error is not None, "the job must fail"
        assert outcome.error.code in expect.codes
        assert outcome.error.retry_after_ms == expect.retry_after_ms
        assert expect.text is None or (outcome.error.tokens_emitted > 0) == bool(outcome.text)
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
    """Check that no connection is in use, and that the next job works at once."""
    assert bench.in_use == 0
    if expect.closes:
        await _closed_by_client(bench.server.connections[0])
    outcome = await run(bench.adapter("ordinary"), TaskRequest(prompt="hi"))
    assert outcome.text == TEXT
    assert outcome.took(0, PROMPT_S)
    assert bench.in_use == 0


async def _closed_by_client(connection: Connection) -> None:
    async with asyncio.timeout(PROMPT_S):
        await connection.gone.wait()
    assert connection.closed_by_client_at is not None


def _assert_no_key(outcome: Outcome, bench: Bench, records: list[logging.LogRecord]) -> None:
    """Check that neither the key nor half of it is shown, raised or logged."""
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
    bench, outcome = await _run(scenario, make_bench)
    _assert_outcome(outcome, scenario.expect)
    assert len(bench.server.requests) == scenario.expect.requests
    if outcome.end is not None and scenario.jobs == 1:
        assert outcome.end.metrics.attempts == scenario.expect.requests
    await _assert_connections(bench, scenario.expect)
    _assert_no_key(outcome, bench, caplog.records)


@pytest.mark.parametrize("scenario", ALL, ids=[scenario.name for scenario in ALL])
async def test_a_scenario(
    scenario: Scenario, make_bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    """Outcome, text, requests, time and connections are what the scenario expects, and the key is
    not shown (WA-INT-3002, WA-INT-3003, HTU-ERR-4002, HTU-1004, OC-ADAPT-OAI 6020, ADAPT-3005)."""
    caplog.set_level(logging.DEBUG)
    await _assert_scenario(scenario, make_bench, caplog)


@pytest.mark.exhaustive
@pytest.mark.parametrize("scenario", CHAT, ids=[scenario.name for scenario in CHAT])
async def test_a_scenario_on_the_chat_endpoint(scenario: Scenario, make_bench: MakeBench) -> None:
    """Messages have the same outcome as prompts (OC-ADAPT-OAI 6001)."""
    bench, outcome = await _run(scenario, make_bench, chat=True)
    _assert_outcome(outcome, scenario.expect)
    assert all(request.chat for request in bench.server.requests)
    assert bench.in_use == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("scenario", QUICK, ids=[scenario.name for scenario in QUICK])
async def test_health_and_props_survive_a_scenario(
    scenario: Scenario, make_bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    """health() and props() return, without the key, whatever a server answers to a GET."""
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


async def test_an_adapter_that_lingers_is_late(bench: Bench) -> None:
    """A second of waiting after an answer is outside of every limit above."""

    class Lingering(OpenAIHttpAdapter):
        @hookimpl
        async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
            async with OpenAIHttpAdapter.submit(self, task) as stream:
                async for event in stream:
                    if isinstance(event, End):
                        await asyncio.sleep(1.0)
                    yield event

    adapter = Lingering(bench.server.url("ordinary"), client=bench.client)
    outcome = await run(adapter, TaskRequest(prompt="hi"))
    assert outcome.end is not None
    assert outcome.took(1.0, 1.0 + PROMPT_S)
    assert not outcome.took(0.0, SCENARIOS["ordinary"].expect.within_s)


def test_the_page_lists_the_scenarios() -> None:
    """docs/reference/faults.md is what `python -m tests.faults.page` writes."""
    assert PAGE.read_text(encoding="utf-8") == render()
