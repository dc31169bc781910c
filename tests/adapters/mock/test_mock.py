"""The mock adapter plays its script (ORCH-3058), by the same contract as every other."""

import time
from typing import Any

import pytest

import registry
from adapter_api import (
    CapacityExceeded,
    ConfigError,
    End,
    Error,
    ErrorCode,
    HealthState,
    Started,
    TaskRequest,
    Token,
    WorkerError,
)
from adapters.mock import MockAdapter, MockConfig

TASK = TaskRequest(prompt="say it again", model="m", seed=3, job_id="j")


async def _events(adapter: Any, task: TaskRequest = TASK) -> list[Any]:
    seen: list[Any] = []
    try:
        async for event in adapter.submit(task):
            seen.append(event)
    except WorkerError as error:
        seen.append(error)
    return seen


async def test_it_plays_its_tokens() -> None:
    """Same config and task, same events."""
    adapter = MockAdapter(tokens=("a", "b"), engine_version="9", replica_id="r7")
    events = await _events(adapter)
    assert events[:3] == [Started("j", "mock", "9", "m", 3, "r7"), Token("a", 0), Token("b", 1)]
    assert isinstance(events[3], End)
    assert (events[3].finish_reason, events[3].metrics.tokens_generated) == ("stop", 2)
    assert (
        await _events(MockAdapter(MockConfig(("a", "b"), engine_version="9", replica_id="r7")))
        == events
    )


async def test_max_tokens_cuts_with_length() -> None:
    """As an engine would."""
    task = TaskRequest(prompt="x", max_tokens=2)
    events = await _events(MockAdapter(), task)
    assert len([e for e in events if isinstance(e, Token)]) == 2
    assert events[-1].finish_reason == "length"


async def test_echo_says_the_prompt() -> None:
    """Prompts by word, messages by message."""
    assert await MockAdapter(echo=True).submit(TASK).text() == "say it again"
    messages = [{"role": "user", "content": "hello"}, {"role": "user", "content": "you"}]
    assert await MockAdapter(echo=True).submit(TaskRequest(messages=messages)).text() == "hello you"


@pytest.mark.parametrize("after", [0, 1, 9])
async def test_it_fails_on_demand(after: int) -> None:
    """Before Started, after N tokens, and after the last one."""
    adapter = MockAdapter(error_code="ADMISSION_REJECT", error_after=after, retry_after_ms=70)
    events = await _events(adapter)
    error = events[-1]
    assert isinstance(error, CapacityExceeded)
    assert (error.retry_after_ms, error.tokens_emitted) == (70, after)
    assert len(events) == (1 if after == 0 else after + 3)
    assert (after == 0) or isinstance(events[-2], Error)


@pytest.mark.parametrize("after", [0, 2])
async def test_it_stalls_on_demand(after: int) -> None:
    """The limits on silence, and the deadline, end it."""
    adapter = MockAdapter(stall_after=after, first_token_timeout_s=0.1, stall_timeout_s=0.1)
    began = time.monotonic()
    events = await _events(adapter)
    assert events[-1].code is ErrorCode.DECODE_TIMEOUT
    assert 0.09 < time.monotonic() - began < 0.3
    late = await _events(MockAdapter(stall_after=after), TaskRequest(prompt="x", deadline_s=0.1))
    assert late[-1].code is ErrorCode.DEADLINE_UNMET


async def test_it_takes_its_time() -> None:
    """delay_s goes before each token."""
    began = time.monotonic()
    await MockAdapter(tokens=("a", "b"), delay_s=0.05).submit(TASK).text()
    assert time.monotonic() - began > 0.1


async def test_its_health_is_scripted() -> None:
    """State, live and ready as the config says."""
    async with registry.get("mock", health="degraded") as adapter:
        assert (await adapter.health()).state is HealthState.DEGRADED
        assert await adapter.engine_version() == "1.0"
        assert (await adapter.props()).engine == "mock"
    loading = await MockAdapter(health="unhealthy", live=True, ready=False).health()
    assert (loading.live, loading.ready) == (True, False)


async def test_wrong_scripts_are_refused() -> None:
    """Every option is checked when it is given."""
    for options in (
        {"error_code": "NO"},
        {"delay_s": -1.0},
        {"tokens": ("",)},
        {"stall_after": -1},
    ):
        with pytest.raises(ConfigError):
            registry.get("mock", **options)
    with pytest.raises(TypeError):
        MockAdapter(MockConfig(), echo=True)
    assert "echo=True" in repr(MockAdapter(echo=True))
