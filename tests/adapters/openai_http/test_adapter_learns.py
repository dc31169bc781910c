"""The adapter over real sockets: what it learns from answers and reports."""

import asyncio
from typing import Any

import pytest

from adapter_api import (
    End,
    ErrorCode,
    Started,
    TaskRequest,
    Token,
)
from adapters.openai_http import OpenAIHttpAdapter
from tests.adapters.openai_http.conftest import Serving
from tests.adapters.openai_http.jobs import MESSAGES, OK, PROMPT, events_of, failure_of
from tests.fake_openai import (
    answers,
    completion,
    hangs,
    in_turn,
    streams,
)
from tests.openai_chunks import delta, piece, usage
from tests.virtual_time import now_s


async def _started(adapter: OpenAIHttpAdapter, task: TaskRequest = PROMPT) -> Started:
    async with adapter.submit(task) as stream:
        started = await anext(stream)
    assert isinstance(started, Started)
    return started


# What is learned and told


VERSIONS: list[tuple[dict[str, str], dict[str, Any], str, str]] = [
    ({}, {"system_fingerprint": "vllm-0.32.0-227ce6a1"}, "vllm", "0.32.0"),
    ({"Server": "llama.cpp"}, {"system_fingerprint": "b5000-abc"}, "llama.cpp", "b5000-abc"),
    ({"x-litellm-version": "1.106"}, {"system_fingerprint": "fp_x"}, "litellm", "1.106"),
    ({}, {"system_fingerprint": "fp_ollama"}, "ollama", "unknown"),
    ({"openai-version": "2020-10-01"}, {"system_fingerprint": "fp_44709d"}, "openai", "fp_44709d"),
    (
        {"Server": "uvicorn"},
        {"id": "cmpl-7b2e2b3c-1c22-4d4f-9c9d-0123456789ab"},
        "llama-cpp-python",
        "unknown",
    ),
    ({}, {"id": "cmpl-7b2e2b3c-1c22-4d4f-9c9d-0123456789ab"}, "openai-compatible", "m"),
    ({}, {"id": "cmpl-993791d3f7663d03"}, "vllm", "unknown"),
    ({}, {}, "openai-compatible", "m"),
    ({}, {"model": None}, "openai-compatible", "unknown"),
]


@pytest.mark.parametrize(("headers", "fields", "engine", "version"), VERSIONS, ids=lambda v: str(v))
async def test_engine_and_version_are_learned_from_the_answer(
    serving: Serving, headers: dict[str, str], fields: dict[str, Any], engine: str, version: str
) -> None:
    """OC-ADAPT-OAI 6010, ORCH-3055: header, fingerprint or model string, best first."""
    chunks = [{**piece("a"), **fields}, {**piece("", "stop"), **fields}]
    async with serving(streams(*chunks, headers=headers)) as (_, adapter):
        started = await _started(adapter)
    assert (started.engine, started.engine_version) == (engine, version)


async def test_a_better_source_of_the_version_is_never_replaced(serving: Serving) -> None:
    """Fingerprint over model string, version endpoint over both; a new fingerprint over an old."""
    chunks = [
        [piece("a", "stop", system_fingerprint="b1-aa")],
        [piece("a", "stop")],
        [piece("a", "stop", system_fingerprint="b2-bb")],
        [piece("a", "stop", system_fingerprint="b3-cc")],
    ]
    routes = {
        "/v1/completions": in_turn(*(streams(*one) for one in chunks)),
        "/props": answers({"build_info": "b2-bb-full"}),
    }
    async with serving(routes) as (_, adapter):
        told = [(await _started(adapter)).engine_version for _ in range(3)]
        assert told == ["b1-aa", "b1-aa", "b2-bb"]
        assert await adapter.engine_version() == "b2-bb-full"
        assert (await _started(adapter)).engine_version == "b2-bb-full"


async def test_started_names_what_was_sent_and_which_engine_answers(serving: Serving) -> None:
    """The engine's word for the model goes before ours; replica and seed are reported."""
    task = TaskRequest(prompt="x", model="alias", seed=3, job_id="j")
    named = piece("a", "stop")
    nameless = {**named, "model": None}
    async with serving(in_turn(streams(named), streams(nameless)), replica_id="r7") as (_, adapter):
        started = await _started(adapter, task)
        assert (started.job_id, started.model, started.seed) == ("j", "m", 3)
        assert started.replica_id == "r7"
        assert (await _started(adapter, task)).model == "alias"


async def test_azures_first_chunk_does_not_start_the_answer(serving: Serving) -> None:
    """It has no id, no model and no choices; what Started reports comes with the second one."""
    first = {"choices": [], "id": "", "model": "", "prompt_filter_results": [{"prompt_index": 0}]}
    offsets = {"choices": [{"index": 0, "content_filter_offsets": {"check_offset": 1}}], "id": ""}
    chunks = [
        first,
        delta({"content": "a"}, system_fingerprint="fp_aa", model="gpt-4o"),
        offsets,
        delta({}, "stop"),
        "[DONE]",
    ]
    async with serving(streams(*chunks), dialect="azure") as (_, adapter):
        events = await events_of(adapter, MESSAGES)
    assert [type(event) for event in events] == [Started, Token, End]
    assert (events[0].engine, events[0].engine_version) == ("azure-openai", "fp_aa")
    assert events[0].model == "gpt-4o"


@pytest.mark.parametrize(
    ("chunks", "tokens", "prompt", "source"),
    [
        ([piece("a"), piece("b", "stop"), usage(2, 8)], 8, 2, "engine"),
        ([piece("a"), piece("b", "stop")], 2, None, "counted"),
        ([piece("a"), piece("b", "stop"), usage(0, 0)], 2, None, "counted"),
        ([piece("a", "stop", usage={"completion_tokens": 3})], 3, None, "engine"),
    ],
)
async def test_metrics_say_who_counted(
    serving: Serving, chunks: list[Any], tokens: int, prompt: int | None, source: str
) -> None:
    """OC-ADAPT-OAI 6031: the engine's usage if it gives one, else the Token events, marked so."""
    async with serving(streams(*chunks, "[DONE]")) as (_, adapter):
        metrics = (await events_of(adapter))[-1].metrics
    assert (metrics.tokens_generated, metrics.prompt_tokens) == (tokens, prompt)
    assert metrics.usage_source == source


async def test_times_add_up(serving: Serving) -> None:
    """Time to the first token and decode time are within the whole."""
    async with serving(streams(*completion(), pause_s=0.02)) as (_, adapter):
        began = now_s()
        metrics = (await events_of(adapter))[-1].metrics
        whole_ms = (now_s() - began) * 1000
    assert 20 <= metrics.time_to_first_token_ms <= whole_ms
    assert 40 <= metrics.decode_time_ms <= whole_ms
    assert metrics.time_to_first_token_ms + metrics.decode_time_ms <= whole_ms


async def test_an_answer_without_text_has_no_first_token(serving: Serving) -> None:
    """End alone, with nothing counted."""
    async with serving(streams(piece("", "stop"), "[DONE]")) as (_, adapter):
        events = await events_of(adapter)
    assert [type(event) for event in events] == [Started, End]
    metrics = events[1].metrics
    assert (metrics.tokens_generated, metrics.time_to_first_token_ms) == (0, None)
    assert metrics.decode_time_ms == 0


async def test_a_recognized_server_is_held_to_its_word(serving: Serving) -> None:
    """vLLM never ends without a finish_reason, so its [DONE] alone is truncation."""
    unfinished = streams(piece("a", system_fingerprint="vllm-0.32.0"), "[DONE]")
    async with serving(unfinished) as (_, adapter):
        assert (await failure_of(adapter)).code is ErrorCode.STREAM_TRUNCATED
    async with serving(streams(piece("a"), "[DONE]")) as (_, adapter):
        assert (await events_of(adapter))[-1].proof == "done"


async def test_a_failure_that_comes_as_text_is_one_where_the_dialect_says_so(
    serving: Serving,
) -> None:
    """LocalAI writes its errors into the answer."""
    handler = streams(piece("Internal error: out of memory", "stop"), "[DONE]")
    async with serving(handler, dialect="localai") as (_, adapter):
        assert (await failure_of(adapter)).code is ErrorCode.WORKER_RESET
    async with serving(handler) as (_, adapter):
        assert (await adapter.submit(PROMPT).text()).startswith("Internal error")


async def test_reasoning_is_progress(serving: Serving) -> None:
    """An engine that thinks aloud is not stalled; what it thinks is not the answer."""
    chunks = [delta({"role": "assistant"})]
    chunks += [delta({"reasoning_content": "hm"})] * 6
    chunks += [delta({"content": "a"}), delta({}, "stop")]
    handler = streams(*chunks, "[DONE]", pause_s=0.05)
    async with serving(handler, first_token_timeout_s=0.2, stall_timeout_s=0.2) as (_, adapter):
        assert await adapter.submit(MESSAGES).text() == "a"


async def test_gets_never_delay_a_job(serving: Serving) -> None:
    """A submit sends its own request only, and waits for no other, whatever hangs."""
    paths = ("/v1/models", "/version", "/api/version", "/health", "/props", "/slots")
    async with serving(dict.fromkeys(paths, hangs)) as (server, adapter):
        probes = [adapter.health(), adapter.props(), adapter.engine_version()]
        tasks = [asyncio.create_task(probe) for probe in probes]
        await asyncio.sleep(0.05)
        began = now_s()
        assert await adapter.submit(PROMPT).text() == OK
        assert now_s() - began < 3
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    async with serving(dict.fromkeys(paths, hangs)) as (server, adapter):
        assert await adapter.submit(PROMPT).text() == OK
        assert [request.method for request in server.requests] == ["POST"]
