"""The main job against a real engine, through the registry and the command line."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import registry
from adapter_api import (
    AuthenticationFailed,
    Cancelled,
    End,
    Error,
    ErrorCode,
    HealthState,
    InvalidRequest,
    MetricsFrame,
    Started,
    TaskRequest,
    Token,
    WorkerError,
)
from tests.engines.conftest import ACTOR, KEY, Engine

pytestmark = pytest.mark.engine

StartEngine = Callable[..., Engine]
COMMAND = str(Path(sys.executable).with_name("worker-adapters"))


def _task(**changes: object) -> TaskRequest:
    fields = {"model": "tiny", "prompt": "hello world", "max_tokens": 12, "temperature": 0.9}
    return TaskRequest(**{**fields, "seed": 42, **changes})  # type: ignore[arg-type]


async def test_streams_started_tokens_end(start_engine: StartEngine) -> None:
    """WA-INT-3001, OC-ADAPT-OAI 6001: a real engine's answer is started, token*, end."""
    engine = start_engine()
    async with registry.get("openai-http", base_url=engine.base_url) as adapter:
        events = [event async for event in adapter.submit(_task())]
        assert isinstance(events[0], Started)
        tokens = [event for event in events if isinstance(event, Token)]
        assert [token.index for token in tokens] == list(range(len(tokens)))
        assert [type(event) for event in events[1 + len(tokens) : -1]] == [MetricsFrame]
        assert isinstance(events[-1], End)
        assert events[-1].finish_reason in ("length", "stop")
        health = await adapter.health()
        assert health.state is HealthState.HEALTHY
        assert (await adapter.props()).models == ("tiny",)


async def test_messages_are_answered_by_the_chat_endpoint(start_engine: StartEngine) -> None:
    """OC-ADAPT-OAI 6001: messages go to /v1/chat/completions."""
    engine = start_engine(model=ACTOR)
    messages = [{"role": "user", "content": "@hello"}]
    async with registry.get("openai-http", base_url=engine.base_url) as adapter:
        text = await adapter.submit(_task(prompt=None, messages=messages)).text()
    assert text


async def test_two_seeded_runs_are_identical(start_engine: StartEngine) -> None:
    """WA-INT-3006, ORCH-3045: same input, seed and engine give byte-identical streams."""
    engine = start_engine()
    async with registry.get("openai-http", base_url=engine.base_url) as adapter:
        runs = []
        for _ in range(3):
            stream = adapter.submit(_task(job_id="same", max_tokens=40))
            frames = [frame async for frame in stream.frames()]
            frames[-1].pop("metrics")  # it has the times, as the engine's own numbers have
            runs.append(json.dumps([frame for frame in frames if frame["type"] != "metrics"]))
    assert runs[0] == runs[1] == runs[2]


async def test_cancel_stops_generation(start_engine: StartEngine) -> None:
    """WA-INT-3002: after cancel no token comes and the engine stops computing."""
    engine = start_engine()
    async with registry.get("openai-http", base_url=engine.base_url) as adapter:
        task = _task(max_tokens=4000)
        seen = []
        async with adapter.submit(task) as stream:
            async for event in stream:
                seen.append(event)
                if len(seen) == 5:
                    assert await adapter.cancel(task.job_id)
                if isinstance(event, Error):
                    break
        assert isinstance(seen[5], Error)
        assert isinstance(seen[5].error, Cancelled)
        await asyncio.sleep(0.5)  # the server notices at its next token
        before = engine.cpu_s()
        await asyncio.sleep(1.0)
        assert engine.cpu_s() - before < 0.2
        assert await adapter.submit(_task()).text()


async def test_an_unknown_key_is_refused(start_engine: StartEngine) -> None:
    """HTU-ERR-4002: a wrong key is UPSTREAM_AUTH, and is shown nowhere (HTU-1004)."""
    engine = start_engine("--key", KEY)
    wrong = "sk-not-the-key-at-all"
    async with registry.get("openai-http", base_url=engine.base_url, api_key=wrong) as adapter:
        with pytest.raises(AuthenticationFailed) as caught:
            await adapter.submit(_task())
        assert wrong not in f"{caught.value!r} {caught.value} {adapter!r} {adapter.config!r}"
        health = await adapter.health()
        assert health.live
        assert not health.ready
    async with registry.get("openai-http", base_url=engine.base_url, api_key=KEY) as adapter:
        assert await adapter.submit(_task()).text()


async def test_a_prompt_that_is_too_long_is_context_overflow(start_engine: StartEngine) -> None:
    """The engine's own words for a too long prompt are understood, or at least never a success."""
    engine = start_engine()
    async with registry.get("openai-http", base_url=engine.base_url) as adapter:
        with pytest.raises(WorkerError) as caught:
            await adapter.submit(_task(prompt="hello " * 6000)).text()
    error = caught.value
    assert isinstance(error, InvalidRequest) or error.code is ErrorCode.STREAM_TRUNCATED


async def test_a_killed_engine_is_an_error_not_an_answer(start_engine: StartEngine) -> None:
    """A stream whose server dies ends in an error, at once."""
    engine = start_engine()
    async with registry.get("openai-http", base_url=engine.base_url) as adapter:
        events = []
        began = time.monotonic()
        async with adapter.submit(_task(max_tokens=4000)) as stream:
            async for event in stream:
                events.append(event)
                if len(events) == 5:
                    engine.process.kill()
                if isinstance(event, Error):
                    break
        assert isinstance(events[-1], Error)
        assert events[-1].error.code in (ErrorCode.STREAM_TRUNCATED, ErrorCode.WORKER_RESET)
        assert time.monotonic() - began < 10
        health = await adapter.health()
        assert not health.live


async def test_the_command_line_streams_from_it(start_engine: StartEngine) -> None:
    """`worker-adapters submit` and `health` work against the engine as a user types them."""
    engine = start_engine()
    arguments = ["--base-url", engine.base_url, "--model", "tiny", "--max-tokens", "8"]
    submit = await asyncio.to_thread(
        subprocess.run,
        [COMMAND, "submit", "hello world", *arguments, "--seed", "1", "--frames"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    kinds = [json.loads(line)["type"] for line in submit.stdout.splitlines()]
    assert kinds[0] == "started"
    assert kinds[-1] == "end"
    assert set(kinds[1:-1]) == {"token", "metrics"}
    health = await asyncio.to_thread(
        subprocess.run,
        [COMMAND, "health", "--base-url", engine.base_url],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert health.returncode == 0
