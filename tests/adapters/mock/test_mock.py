"""The mock adapter plays its script (ORCH-3058), by the same contract as every other."""

import asyncio
from typing import Any

import attrs
import pytest
from hypothesis import given, settings

import registry
from adapter_api import (
    Cancelled,
    CapacityExceeded,
    ConfigError,
    End,
    EngineUnavailable,
    Error,
    ErrorCode,
    HealthState,
    Refusal,
    Started,
    TaskRequest,
    Token,
    Tool,
    WorkerError,
)
from adapters.mock import MockAdapter, MockConfig
from tests.scripted import collect, reading
from tests.strategies import tasks
from tests.virtual_time import in_virtual_time, now_s

TASK = TaskRequest(prompt="say it again", model="m", seed=3, job_id="j")


async def _events(adapter: Any, task: TaskRequest = TASK) -> list[Any]:
    return await collect(adapter.submit(task))


async def test_it_plays_its_tokens() -> None:
    """WA-INT-3001: started, token*, end, as the script has them."""
    adapter = MockAdapter(tokens=("a", "b"), engine_version="9", replica_id="r7")
    events = await _events(adapter)
    assert events[:3] == [Started("j", "mock", "9", "m", 3, "r7"), Token("a", 0), Token("b", 1)]
    assert isinstance(events[3], End)
    assert (events[3].finish_reason, events[3].proof) == ("stop", "finish_reason")
    assert events[3].metrics.tokens_generated == 2
    assert len(events) == 4


async def test_it_refuses() -> None:
    """The tokens are the words of a refusal, which goes into the next request as one."""
    events = await _events(MockAdapter(tokens=("I ", "cannot."), refuses=True))
    assert events[1:3] == [Refusal("I ", 0), Refusal("cannot.", 1)]
    assert events[3].refused
    assert events[3].message_extra == {"refusal": "I cannot."}


async def test_the_ways_to_make_one_are_the_same() -> None:
    """Options, a config, or the registry."""
    config = MockConfig(("a", "b"), model="n")
    async with registry.get("mock", tokens=("a", "b"), model="n") as bound:
        runs = [
            await _events(adapter)
            for adapter in (MockAdapter(config), MockAdapter(tokens=["a", "b"], model="n"), bound)
        ]
    assert runs[0] == runs[1] == runs[2]
    assert (await MockAdapter().submit(TASK).text()).startswith("Once upon a time")
    with pytest.raises(TypeError, match="put the options into the MockConfig"):
        MockAdapter(config, echo=True)
    assert MockAdapter(config) != MockAdapter(config)
    assert repr(MockAdapter(config)) == f"MockAdapter(config={config!r})"


@settings(max_examples=30)
@given(tasks)
def test_the_same_task_gives_the_same_events(task: TaskRequest) -> None:
    """ORCH-3045, WA-INT-3006: nothing in the events depends on the run, metrics included."""
    task = attrs.evolve(task, deadline_s=None)
    for options in ({}, {"echo": True}, {"error_code": "WORKER_RESET", "error_after": 3}):
        first, second = (asyncio.run(_events(MockAdapter(**options), task)) for _ in range(2))
        assert [_plain(item) for item in first] == [_plain(item) for item in second]
        assert first[0].seed == task.seed


def _plain(item: Any) -> Any:
    error = item.error if isinstance(item, Error) else item
    return error.fields() if isinstance(error, WorkerError) else item


async def test_its_model_is_the_tasks_or_its_own() -> None:
    """As with every adapter, the config's model is the default."""
    assert (await _events(MockAdapter(model="own")))[0].model == "m"
    anonymous = TaskRequest(prompt="x")
    assert (await _events(MockAdapter(model="own"), anonymous))[0].model == "own"
    assert (await MockAdapter(model="own").props()).models == ("own",)


@pytest.mark.parametrize(("most", "count", "why"), [(2, 2, "length"), (9, 9, "stop")])
async def test_max_tokens_cuts_with_length(most: int, count: int, why: str) -> None:
    """As an engine would; an answer that fits exactly is not cut."""
    events = await _events(MockAdapter(), TaskRequest(prompt="x", max_tokens=most))
    assert len([e for e in events if isinstance(e, Token)]) == count
    assert events[-1].metrics.tokens_generated == count
    assert events[-1].finish_reason == why


async def test_an_answer_may_be_empty() -> None:
    """No tokens, and whole all the same."""
    *_, end = await _events(MockAdapter(tokens=(), finish_reason="eos"))
    assert end.finish_reason == "eos"
    assert (end.metrics.tokens_generated, end.metrics.time_to_first_token_ms) == (0, None)


async def test_echo_answers_with_the_prompt() -> None:
    """Word by word; of a chat, the texts of its messages."""
    echo = MockAdapter(echo=True)
    assert await echo.submit(TASK).text() == "say it again"
    assert [e.text for e in await _events(echo) if isinstance(e, Token)] == ["say", " it", " again"]
    parts = [{"type": "text", "text": "you there"}, {"type": "image_url", "image_url": "x"}]
    messages = [{"role": "user", "content": "hello"}, {"role": "user", "content": parts}]
    assert await echo.submit(TaskRequest(messages=messages)).text() == "hello you there"
    assert await echo.submit(TaskRequest(prompt="")).text() == ""


@pytest.mark.parametrize("after", [0, 1, 9])
async def test_it_fails_on_demand(after: int) -> None:
    """AH-1005: before Started, after N tokens, and after the last one."""
    adapter = MockAdapter(error_code="ADMISSION_REJECT", error_after=after, retry_after_ms=70)
    events = await _events(adapter)
    error = events[-1]
    assert isinstance(error, CapacityExceeded)
    assert (error.retriable, error.retry_after_ms, error.tokens_emitted) == (True, 70, after)
    assert error.job_id == "j"
    assert len(events) == (1 if after == 0 else after + 3)
    assert (after == 0) or isinstance(events[-2], Error)


@pytest.mark.parametrize("code", ErrorCode)
async def test_it_fails_with_any_code(code: ErrorCode) -> None:
    """Each error of the taxonomy can be had, by its name."""
    *_, error = await _events(MockAdapter(error_code=code.name, error_after=1))
    assert error.code is code


async def test_an_error_after_more_tokens_than_there_are_never_comes() -> None:
    """A stall after max_tokens has no effect."""
    assert isinstance((await _events(MockAdapter(error_code="INTERNAL", error_after=10)))[-1], End)
    task = TaskRequest(prompt="x", max_tokens=2)
    cut = await _events(MockAdapter(error_code="INTERNAL", error_after=3), task)
    assert cut[-1].finish_reason == "length"


@pytest.mark.parametrize("after", [0, 2, 9])
@in_virtual_time
async def test_it_stalls_on_demand(after: int) -> None:
    """The limits on silence, and the deadline, end it."""
    limits = (
        {"first_token_timeout_s": 0.05, "stall_timeout_s": 30.0}
        if after == 0
        else {"first_token_timeout_s": 30.0, "stall_timeout_s": 0.05}
    )
    began = now_s()
    events = await _events(MockAdapter(stall_after=after, **limits))
    assert now_s() - began == pytest.approx(0.05)
    assert events[-1].code is ErrorCode.DECODE_TIMEOUT
    assert events[-1].tokens_emitted == after
    unlimited = MockAdapter(stall_after=after, first_token_timeout_s=None, stall_timeout_s=None)
    late = await _events(unlimited, TaskRequest(prompt="x", deadline_s=0.05))
    assert late[-1].code is ErrorCode.DEADLINE_UNMET


async def test_a_stalled_job_can_be_cancelled() -> None:
    """ADAPT-3000: by its job_id, without the registry too; an unknown id is False."""
    adapter = MockAdapter(stall_after=1)
    reader, seen = await reading(adapter.submit(TASK), 2)
    assert await adapter.cancel("other") is False
    assert await adapter.cancel("j") is True
    await reader
    assert isinstance(seen[-1], Cancelled)
    async with registry.get("mock", stall_after=1) as bound:
        reader, seen = await reading(bound.submit(TASK), 2)
        assert await bound.cancel("j") is True
        await reader
        assert isinstance(seen[-1], Cancelled)


@in_virtual_time
async def test_it_takes_its_time() -> None:
    """delay_s precedes each token, and never counts as a stall."""
    began = now_s()
    adapter = MockAdapter(tokens=("a",) * 6, delay_s=0.02, stall_timeout_s=0.1)
    await adapter.submit(TASK).text()
    assert now_s() - began == pytest.approx(0.12)


@in_virtual_time
async def test_a_delay_can_be_too_long() -> None:
    """The limits measure it like an engine's silence."""
    adapter = MockAdapter(delay_s=60, first_token_timeout_s=0.02)
    assert (await _events(adapter))[-1].code is ErrorCode.DECODE_TIMEOUT


@pytest.mark.parametrize("state", HealthState)
async def test_its_health_is_scripted(state: HealthState) -> None:
    """ORCH-3057: state, live and ready as the config says."""
    async with registry.get("mock", health=str(state)) as adapter:
        health = await adapter.health()
        assert health.state is state
        assert health.live is health.ready is (state is not HealthState.UNHEALTHY)
    loading = await MockAdapter(health=state, live=True, ready=False).health()
    assert (loading.state, loading.live, loading.ready) == (state, True, False)


async def test_its_version_is_scripted() -> None:
    """The version is in Started, in props and in engine_version (ORCH-3046)."""
    async with registry.get("mock", engine_version="7") as adapter:
        assert await adapter.engine_version() == "7"
        assert (await adapter.props()).engine_version == "7"
        assert (await _events(adapter))[0].engine_version == "7"


async def test_closing_ends_its_jobs_and_refuses_others() -> None:
    """ORCH-3056: as every adapter that was closed; closing again does nothing."""
    async with MockAdapter(stall_after=0) as adapter:
        stream = await adapter.submit(TASK)
    await adapter.aclose()
    assert isinstance((await collect(stream))[-1], Cancelled)
    with pytest.raises(EngineUnavailable, match="closed") as caught:
        await adapter.submit(TASK)
    assert not caught.value.retriable


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"error_code": "NO"}, "error_code must be one of INVALID_PARAMS, .*, got 'NO'"),
        ({"finish_reason": "content_filter"}, "finish_reason must be one of stop, length, eos"),
        ({"delay_s": -1.0}, "delay_s must be a finite number of at least 0, got -1.0"),
        ({"error_after": -1}, "error_after must be an integer of at least 0"),
        ({"retry_after_ms": -1}, "retry_after_ms must be an integer of at least 0"),
        ({"stall_after": -1}, "stall_after must be an integer of at least 0"),
        (
            {"stall_timeout_s": -1.0},
            "stall_timeout_s must be a finite number of seconds of at least 0",
        ),
        ({"first_token_timeout_s": -1.0}, "first_token_timeout_s must be a finite number"),
        ({"tokens": ("",)}, "tokens must be a list of non-empty strings"),
        ({"health": "fine"}, "fine|health"),
    ],
)
async def test_wrong_scripts_are_refused(options: dict[str, Any], says: str) -> None:
    """Every option is checked when it is given, with and without the registry."""
    with pytest.raises(ValueError, match=says):
        MockAdapter(**options)
    with pytest.raises(ConfigError):
        registry.get("mock", **options)


async def test_a_text_is_not_taken_for_its_letters() -> None:
    """A str is refused, although it is a sequence of strings."""
    with pytest.raises(ValueError, match="tokens must be a list of non-empty strings, got 'abc'"):
        MockAdapter(tokens="abc")


def test_every_option_is_described() -> None:
    """One sentence each, for `describe`."""
    fields = registry.describe("mock").config_fields
    assert [f.name for f in fields] == [f.name for f in attrs.fields(MockConfig)]
    assert all(field.help for field in fields)
    assert not any(field.required for field in fields)


CALL = {"name": "get_weather", "arguments": {"city": "Oslo"}}
WEATHER = Tool("get_weather")


async def test_calls_are_played_for_tasks_with_tools() -> None:
    """A scripted call comes in pieces after the text, and whole at the end."""
    adapter = MockAdapter(tokens=("Checking.",), tool_calls=[CALL])
    answer = await adapter.submit(TaskRequest(prompt="x", tools=[WEATHER])).answer()
    assert (answer.text, answer.finish_reason) == ("Checking.", "tool_calls")
    assert [(call.name, call.json()) for call in answer.tool_calls] == [
        ("get_weather", {"city": "Oslo"})
    ]
    plain = await adapter.submit(TaskRequest(prompt="x")).answer()
    assert (plain.tool_calls, plain.finish_reason) == ((), "stop")


async def test_a_call_can_be_cut() -> None:
    """max_tokens counts pieces; a call that has begun is invalid."""
    adapter = MockAdapter(tokens=("a",), tool_calls=[CALL, CALL])
    task = TaskRequest(prompt="x", tools=[WEATHER], max_tokens=4)
    answer = await adapter.submit(task).answer()
    assert answer.finish_reason == "length"
    assert [call.name for call in answer.tool_calls] == ["get_weather"]
    assert [call.reason for call in answer.invalid_tool_calls] == ["cut"]


async def test_a_demanded_call_comes_without_a_script() -> None:
    """A task that demands a call gets one of the named tool, or of the first."""
    adapter = MockAdapter()
    named = {"type": "function", "function": {"name": "get_time"}}
    tools = [WEATHER, Tool("get_time")]
    for choice, name in (("required", "get_weather"), (named, "get_time")):
        task = TaskRequest(prompt="x", tools=tools, tool_choice=choice)
        answer = await adapter.submit(task).answer()
        assert [(call.name, call.json()) for call in answer.tool_calls] == [(name, {})]


async def test_reasoning_comes_only_if_asked_for() -> None:
    """Reasoning precedes the text, for tasks with include_reasoning."""
    adapter = MockAdapter(tokens=("a",), reasoning=("hm", "m"))
    asked = await adapter.submit(TaskRequest(prompt="x", include_reasoning=True)).answer()
    silent = await adapter.submit(TaskRequest(prompt="x")).answer()
    assert (asked.reasoning, silent.reasoning) == ("hmm", "")
    assert asked.text == silent.text == "a"


@pytest.mark.parametrize("calls", ["get_weather", [1], [{"arguments": "{}"}]])
def test_malformed_calls_are_refused(calls: Any) -> None:
    """The option is named."""
    with pytest.raises(ValueError, match="tool_calls"):
        MockAdapter(tool_calls=calls)
