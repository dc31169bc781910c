"""The adapter over real sockets: requests, retries, what it learns, reports and logs."""

import asyncio
import logging
import sys
from typing import Any
from uuid import UUID

import attrs
import httpx
import pytest

import registry
from adapter_api import (
    Answer,
    AuthenticationFailed,
    CapacityExceeded,
    ContentFiltered,
    EgressDenied,
    End,
    EngineUnavailable,
    Error,
    ErrorCode,
    HealthState,
    InvalidRequest,
    NotFound,
    Reasoning,
    Started,
    TaskRequest,
    Token,
    Tool,
    ToolCallDelta,
    WorkerError,
    WorkerReset,
)
from adapter_api.faults import Request, Wire
from adapters.openai_http import OpenAIHttpAdapter, OpenAIHttpConfig, RetryPolicy
from tests.adapters.openai_http.conftest import FAST_RETRY, Serving
from tests.fake_openai import (
    FakeOpenAI,
    answers,
    chat,
    completion,
    fails,
    hangs,
    in_turn,
    lists,
    refuses,
    sse,
    streams,
    well,
)
from tests.openai_chunks import delta, piece, usage
from tests.virtual_time import now_s

PROMPT = TaskRequest(prompt="hi")
MESSAGES = TaskRequest(messages=[{"role": "user", "content": "hi"}])
OK = "Hello world"


async def _failure(adapter: OpenAIHttpAdapter, task: TaskRequest = PROMPT) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        await adapter.submit(task).text()
    return caught.value


async def _events(adapter: OpenAIHttpAdapter, task: TaskRequest = PROMPT) -> list[Any]:
    return [event async for event in adapter.submit(task)]


async def _started(adapter: OpenAIHttpAdapter, task: TaskRequest = PROMPT) -> Started:
    async with adapter.submit(task) as stream:
        started = await anext(stream)
    assert isinstance(started, Started)
    return started


def _records(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(r) for r in caplog.records if r.name == "worker_adapters.openai_http"]


# Requests


async def test_one_job_is_one_request_with_everything_in_it(
    serving: Serving, task: TaskRequest
) -> None:
    """OC-ADAPT-OAI 6001, AH-1003: path, body, headers, events; no other request is sent."""
    task = attrs.evolve(task, correlation_id="corr-1", top_p=0.9, stop=["x"], extra={"min_p": 0.1})
    async with serving(api_key="sk-test-key", headers={"X-Team": "a"}) as (server, adapter):
        events = await _events(adapter, task)
        (request,) = server.requests
    assert (request.method, request.target) == ("POST", "/v1/completions")
    assert request.json() == {
        "model": "m", "prompt": "hi", "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "seed": 7,
        "stop": ["x"], "stream": True, "stream_options": {"include_usage": True}, "min_p": 0.1,
    }  # fmt: skip
    for name, value in {
        "accept": "text/event-stream, application/json",
        "accept-encoding": "identity",
        "authorization": "Bearer sk-test-key",
        "content-type": "application/json",
        "x-correlation-id": "corr-1",
        "x-team": "a",
    }.items():
        assert request.headers[name] == value
    assert events[:3] == [
        Started("job-1", "openai-compatible", "m", "m", 7, "r0"),
        Token("Hello", 0),
        Token(" world", 1),
    ]
    end = events[3]
    assert isinstance(end, End)
    assert (end.finish_reason, end.proof) == ("stop", "finish_reason")
    metrics = end.metrics
    assert (metrics.tokens_generated, metrics.prompt_tokens) == (2, 2)
    assert (metrics.usage_source, metrics.attempts) == ("engine", 1)


async def test_a_chat_is_sent_and_read(serving: Serving) -> None:
    """Messages go to the chat endpoint as they are; deltas become tokens, the role does not."""
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}], "name": "n"},
    ]
    async with serving() as (server, adapter):
        events = await _events(adapter, TaskRequest(messages=messages, max_tokens=3))
        (request,) = server.requests
    assert request.target == "/v1/chat/completions"
    assert request.json() == {
        "messages": messages, "max_tokens": 3, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    assert events[1:3] == [Token("Hello", 0), Token(" world", 1)]


async def test_messages_and_prompts_find_their_endpoint(serving: Serving) -> None:
    """auto goes by the task; chat sends prompts as messages; completions refuses messages."""
    async with serving() as (server, adapter):
        await adapter.submit(MESSAGES).text()
        await adapter.submit(PROMPT).text()
        assert server.paths == ["/v1/chat/completions", "/v1/completions"]
    async with serving(api="chat") as (server, adapter):
        await adapter.submit(PROMPT).text()
        assert server.paths == ["/v1/chat/completions"]
        assert server.bodies[0]["messages"] == [{"role": "user", "content": "hi"}]
    async with serving(api="completions") as (server, adapter):
        await adapter.submit(PROMPT).text()
        error = await _failure(adapter, MESSAGES)
        assert "set api to 'auto' or 'chat'" in error.message
        assert server.paths == ["/v1/completions"]


async def test_the_model_comes_from_task_or_config(serving: Serving) -> None:
    """The task's goes first; with neither the field is left out."""
    async with serving(model="default") as (server, adapter):
        await adapter.submit(TaskRequest(prompt="x", model="mine")).text()
        await adapter.submit(PROMPT).text()
        assert [body["model"] for body in server.bodies] == ["mine", "default"]
    async with serving() as (server, adapter):
        await adapter.submit(PROMPT).text()
        assert "model" not in server.bodies[0]


async def test_a_correlation_id_is_made_where_none_is_given(serving: Serving) -> None:
    """AH-1003: a UUIDv4, another for each job."""
    async with serving() as (server, adapter):
        for _ in range(2):
            await adapter.submit(PROMPT).text()
        made = [UUID(request.headers["x-correlation-id"]) for request in server.requests]
    assert [one.version for one in made] == [4, 4]
    assert made[0] != made[1]


async def test_owned_extra_is_refused_before_anything_is_sent(serving: Serving) -> None:
    """`extra={"n": 2}` never reaches the server."""
    async with serving() as (server, adapter):
        with pytest.raises(InvalidRequest, match="'n'"):
            await adapter.submit(TaskRequest(prompt="x", extra={"n": 2}))
        assert server.connections == []


async def test_connections_are_used_again(serving: Serving) -> None:
    """Ten jobs in a row need one connection; ten at once need ten, and leave them usable."""
    async with serving() as (server, adapter):
        for _ in range(10):
            await adapter.submit(PROMPT).text()
        assert len(server.connections) == 1
        texts = [adapter.submit(PROMPT).text() for _ in range(10)]
        assert set(await asyncio.gather(*texts)) == {OK}
        assert len(server.connections) <= 10


# Retry


async def test_busy_servers_are_asked_again(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """WA-INT-3003, OC-ADAPT-OAI 6030, ORCH-3027, ORCH-3300: 503, 429 and 502 are repeated and
    logged with their reason, in sentences without ids."""
    caplog.set_level(logging.INFO, "worker_adapters")
    task = TaskRequest(prompt="x", job_id="job-9", session_id="s-9", correlation_id="c-9")
    async with serving(in_turn(fails(503), fails(429), fails(502), well)) as (server, adapter):
        events = await _events(adapter, task)
        assert len(server.requests) == 4
    assert events[-1].metrics.attempts == 4
    records = _records(caplog)
    assert [record.get("status") for record in records] == [503, 429, 502]
    for record in records:
        assert record["job_id"] == "job-9"
        assert record["session_id"] == "s-9"
        assert record["correlation_id"] == "c-9"
        assert record["engine"] == "openai-compatible"
        assert (record["pool_id"], record["replica_id"]) == ("default", "r0")
        assert not {"job-9", "s-9", "c-9"} & set(record["human"].split())
    assert "attempt 1 failed with POOL_UNAVAILABLE" in records[0]["human"]
    assert "attempt 2 failed with ADMISSION_REJECT" in records[1]["human"]


async def test_four_attempts_are_all(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """HTU-1002, WA-INT-3004: the last error is raised, retriable; every retry is logged."""
    async with serving(fails(503)) as (server, adapter):
        error = await _failure(adapter)
        assert len(server.requests) == 4
    assert isinstance(error, EngineUnavailable)
    assert (error.status, error.retriable) == (503, True)
    records = _records(caplog)
    assert [record["status"] for record in records] == [503] * 3


async def test_a_task_may_allow_one_request(serving: Serving) -> None:
    """max_attempts of the task bounds the adapter's own retries."""
    async with serving(fails(503)) as (server, adapter):
        with pytest.raises(EngineUnavailable):
            await adapter.submit(TaskRequest(prompt="x", max_attempts=1))
        assert len(server.requests) == 1
        with pytest.raises(EngineUnavailable):
            await adapter.submit(TaskRequest(prompt="x", max_attempts=9))
        assert len(server.requests) == 5


async def test_the_waits_follow_the_seed(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """HTU-1002: one seed gives one sequence of waits, each within the policy; another another."""
    waits: dict[int, list[list[str]]] = {1: [], 2: []}
    for seed in (1, 1, 2):
        caplog.clear()
        retry = RetryPolicy(base_s=0.01, cap_s=0.02, seed=seed)
        async with serving(fails(503), retry=retry) as (_, adapter):
            await _failure(adapter)
        waits[seed].append([r["human"].rsplit(" in ")[-1] for r in _records(caplog)[:3]])
    assert waits[1][0] == waits[1][1] != waits[2][0]
    for n, wait in enumerate(waits[1][0]):
        assert 0 <= float(wait.removesuffix(" s")) <= min(0.02, 0.01 * 2**n)


ONCE: list[tuple[int, Any, type[WorkerError], ErrorCode]] = [
    (400, {"error": {"message": "bad"}}, InvalidRequest, ErrorCode.INVALID_PARAMS),
    (422, {"detail": [{"loc": ["body", "prompt"], "msg": "too odd"}]}, InvalidRequest,
     ErrorCode.INVALID_PARAMS),
    (401, {"error": "Unauthorized"}, AuthenticationFailed, ErrorCode.UPSTREAM_AUTH),
    (403, b"no", AuthenticationFailed, ErrorCode.UPSTREAM_AUTH),
    (404, {"error": {"message": "The model `m` does not exist"}}, NotFound,
     ErrorCode.UPSTREAM_NOT_FOUND),
    (409, b"", CapacityExceeded, ErrorCode.ADMISSION_REJECT),
    (429, {"error": {"message": "pay", "code": "insufficient_quota"}}, CapacityExceeded,
     ErrorCode.QUOTA_EXHAUSTED),
    (400, {"error": {"message": "no", "code": "content_filter"}}, ContentFiltered,
     ErrorCode.CONTENT_FILTER),
    (400, {"error": {"message": "This model's maximum context length is 10 tokens"}},
     InvalidRequest, ErrorCode.CONTEXT_OVERFLOW),
    (500, b"Internal Server Error", WorkerReset, ErrorCode.WORKER_RESET),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind", "code"), ONCE, ids=lambda v: str(v)[:30])
async def test_what_will_not_get_better_is_sent_once(
    serving: Serving,
    status: int,
    body: Any,
    kind: type[WorkerError],
    code: ErrorCode,
) -> None:
    """WA-INT-3004, HTU-ERR-4002: exactly one request, the right class and code."""
    async with serving(in_turn(answers(body, status), well)) as (server, adapter):
        error = await _failure(adapter)
        assert len(server.requests) == 1
        assert await adapter.submit(PROMPT).text() == OK
    assert type(error) is kind
    assert (error.code, error.status) == (code, status)


@pytest.mark.parametrize(
    ("headers", "least_s"), [({"Retry-After": "0"}, 0.0), ({"retry-after-ms": "120"}, 0.12)]
)
async def test_retry_after_is_kept(
    serving: Serving, headers: dict[str, str], least_s: float
) -> None:
    """The server's wait takes the place of our own."""
    async with serving(in_turn(answers({}, 429, headers), well)) as (_, adapter):
        events = await _events(adapter)
    assert events[-1].metrics.time_to_first_token_ms >= least_s * 1000


@pytest.mark.parametrize(("seconds", "deadline_s"), [("50", 30.0), ("3600", None)])
async def test_a_wait_that_does_not_fit_is_not_begun(
    serving: Serving, seconds: str, deadline_s: float | None
) -> None:
    """Retry-After beyond the deadline, or beyond a minute, fails at once with retry_after_ms."""
    async with serving(answers({}, 503, {"Retry-After": seconds})) as (server, adapter):
        began = now_s()
        error = await _failure(adapter, TaskRequest(prompt="x", deadline_s=deadline_s))
        assert now_s() - began < 10
        assert len(server.requests) == 1
    assert error.retry_after_ms == int(seconds) * 1000
    assert error.code is ErrorCode.POOL_UNAVAILABLE


@pytest.mark.parametrize("last", ["reset", "close", "error", "503"])
async def test_nothing_is_sent_again_after_a_token(serving: Serving, last: str) -> None:
    """A stream that breaks is an error, whatever the policy and whatever it says."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        await wire.event(piece("a"))
        if last == "reset":
            await wire.reset()
        elif last == "close":
            await wire.close()
        else:
            code = 503 if last == "503" else "server_error"
            await wire.event({"error": {"message": "overloaded", "code": code}})
            await wire.end()

    async with serving(script) as (server, adapter):
        error = await _failure(adapter)
        assert len(server.requests) == 1
    assert error.retriable
    assert error.tokens_emitted == 1


async def test_an_unreachable_server_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """Connect failures are repeated within the policy, then POOL_UNAVAILABLE."""
    async with FakeOpenAI() as server:
        url = server.base_url
    async with OpenAIHttpAdapter(url, retry=attrs.evolve(FAST_RETRY, attempts=3)) as adapter:
        error = await _failure(adapter)
    assert error.code is ErrorCode.POOL_UNAVAILABLE
    place = url.removeprefix("http://")
    assert error.message == f"cannot connect: {place}: connection refused; is the server running?"
    assert [record["attempts"] for record in _records(caplog)] == [1, 2]


async def test_a_connection_that_was_closed_while_idle_is_replaced(serving: Serving) -> None:
    """The request is resent once, because not one byte of an answer came; counted as an attempt."""

    async def script(request: Request, wire: Wire) -> None:
        if request.connection.requests == 2:
            await wire.close()  # as if the request and the server's FIN had crossed
        else:
            await well(request, wire)

    async with serving(script) as (server, adapter):
        await adapter.submit(PROMPT).text()
        events = await _events(adapter)
        assert len(server.requests) == 3
    assert events[-1].metrics.attempts == 2


async def test_a_fresh_connection_that_breaks_is_not_repeated(serving: Serving) -> None:
    """The engine may have begun to work: WORKER_RESET, for the caller to decide."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.close()

    async with serving(script) as (server, adapter):
        error = await _failure(adapter)
        assert len(server.requests) == 1
    assert (error.code, error.retriable) == (ErrorCode.WORKER_RESET, True)


@pytest.mark.parametrize(
    ("task", "options", "handler", "hint"),
    [
        (PROMPT, {}, answers({"detail": "Not Found"}, 404), "set api='chat'"),
        (PROMPT, {}, answers(b"", 405), "set api='chat'"),
        (PROMPT, {}, fails(404, "This is a chat model and not supported in the v1/completions "
         "endpoint. Did you mean to use v1/chat/completions?"), "set api='chat'"),
        (PROMPT, {}, fails(400, "The completion operation does not work with the specified model",
         code="OperationNotSupported"), "set api='chat'"),
        (PROMPT, {"api": "chat"}, answers(b"", 501), "set api='completions'"),
        (MESSAGES, {}, answers({"detail": "Not Found"}, 404), "give the task a prompt"),
        (MESSAGES, {}, fails(400, "no chat template is set"), "give the task a prompt"),
        (MESSAGES, {}, fails(400, "The chatCompletion operation does not work",
         code="OperationNotSupported"), "give the task a prompt"),
        (PROMPT, {}, answers(b"", 401), "ORCHD_OPENAI_API_KEY"),
    ],
)  # fmt: skip
async def test_a_refusal_says_which_option_to_set(
    serving: Serving, task: TaskRequest, options: dict[str, str], handler: Any, hint: str
) -> None:
    """A chat-only server, a completions-only one, a model without the one or the other, a key."""
    async with serving(handler, **options) as (server, adapter):
        assert hint in (await _failure(adapter, task)).message
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "words", ["The model `m` does not exist", "The API deployment does not exist", "too long"]
)
async def test_other_refusals_have_no_hint(serving: Serving, words: str) -> None:
    """A missing model is not a missing endpoint."""
    status = 400 if words == "too long" else 404
    async with serving(fails(status, words)) as (_, adapter):
        assert (await _failure(adapter)).message.endswith(words)


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


async def test_started_tells_what_was_sent_and_who_answers(serving: Serving) -> None:
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
        events = await _events(adapter, MESSAGES)
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
        metrics = (await _events(adapter))[-1].metrics
    assert (metrics.tokens_generated, metrics.prompt_tokens) == (tokens, prompt)
    assert metrics.usage_source == source


async def test_times_add_up(serving: Serving) -> None:
    """Time to the first token and decode time are within the whole."""
    async with serving(streams(*completion(), pause_s=0.02)) as (_, adapter):
        began = now_s()
        metrics = (await _events(adapter))[-1].metrics
        whole_ms = (now_s() - began) * 1000
    assert 20 <= metrics.time_to_first_token_ms <= whole_ms
    assert 40 <= metrics.decode_time_ms <= whole_ms
    assert metrics.time_to_first_token_ms + metrics.decode_time_ms <= whole_ms


async def test_an_answer_without_text_has_no_first_token(serving: Serving) -> None:
    """End alone, with nothing counted."""
    async with serving(streams(piece("", "stop"), "[DONE]")) as (_, adapter):
        events = await _events(adapter)
    assert [type(event) for event in events] == [Started, End]
    metrics = events[1].metrics
    assert (metrics.tokens_generated, metrics.time_to_first_token_ms) == (0, None)
    assert metrics.decode_time_ms == 0


async def test_a_recognized_server_is_held_to_its_word(serving: Serving) -> None:
    """vLLM never ends without a finish_reason, so its [DONE] alone is truncation."""
    unfinished = streams(piece("a", system_fingerprint="vllm-0.32.0"), "[DONE]")
    async with serving(unfinished) as (_, adapter):
        assert (await _failure(adapter)).code is ErrorCode.STREAM_TRUNCATED
    async with serving(streams(piece("a"), "[DONE]")) as (_, adapter):
        assert (await _events(adapter))[-1].proof == "done"


async def test_a_failure_that_comes_as_text_is_one_where_the_dialect_says_so(
    serving: Serving,
) -> None:
    """LocalAI writes its errors into the answer."""
    handler = streams(piece("Internal error: out of memory", "stop"), "[DONE]")
    async with serving(handler, dialect="localai") as (_, adapter):
        assert (await _failure(adapter)).code is ErrorCode.WORKER_RESET
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


# Time


@pytest.mark.parametrize(
    ("head", "code"),
    [(False, ErrorCode.POOL_UNAVAILABLE), (True, ErrorCode.DECODE_TIMEOUT)],
)
@pytest.mark.parametrize("limit", ["first_token_timeout_s", "deadline_s"])
async def test_a_silent_server_is_given_up(
    serving: Serving, head: bool, code: ErrorCode, limit: str
) -> None:
    """HTU-ERR-4002: one budget for head and first token, one request, and the deadline over all."""

    async def script(request: Request, wire: Wire) -> None:
        if head:
            await wire.stream_head()
            await wire.chunk(b": ping\n\n")
        await wire.until_closed()

    options = {limit: 1.0} if limit == "first_token_timeout_s" else {}
    task = TaskRequest(prompt="x", deadline_s=None if options else 1.0)
    async with serving(script, **options) as (server, adapter):
        began = now_s()
        error = await _failure(adapter, task)
        assert 0.95 < now_s() - began < 1.95  # one limit, not one for each
        assert len(server.requests) == 1
        assert await server.all_closed()
    assert error.code is (code if options else ErrorCode.DEADLINE_UNMET)
    assert error.retriable is bool(options)


@pytest.mark.parametrize("ends", ["hangs", "breaks"])
async def test_a_refusal_that_is_cut_off_says_its_status(serving: Serving, ends: str) -> None:
    """The status is enough; the rest is not waited for beyond the limits."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.start(404, {"Content-Length": "100"})
        await wire.raw(b"not")
        await (wire.reset() if ends == "breaks" else wire.until_closed())

    async with serving(script, first_token_timeout_s=0.2) as (server, adapter):
        error = await _failure(adapter)
        assert await server.all_closed()
    assert (error.code, error.status) == (ErrorCode.UPSTREAM_NOT_FOUND, 404)


async def test_a_whole_answer_is_not_lost_to_its_deadline(serving: Serving) -> None:
    """The rest of the deadline is too short to wait for usage: the answer stands."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        await wire.event(piece("a"))
        await asyncio.sleep(0.17)
        await wire.event(piece("b", "stop"))
        await wire.until_closed()

    async with serving(script) as (_, adapter):
        assert await adapter.submit(TaskRequest(prompt="x", deadline_s=0.2)).text() == "ab"


# Ways to make and to end one


async def test_jobs_without_the_registry_and_through_it() -> None:
    """OpenAIHttpAdapter(url), OpenAIHttpAdapter(config) and registry.get are one adapter."""
    async with FakeOpenAI() as server:
        for adapter in (
            OpenAIHttpAdapter(server.base_url),
            OpenAIHttpAdapter(OpenAIHttpConfig(server.base_url)),
            registry.get("openai-http", base_url=server.base_url),
        ):
            async with adapter:
                stream = await adapter.submit(PROMPT)
                assert await stream.text() == OK
                assert await adapter.cancel("unknown") is False


async def test_cancel_finds_the_job(serving: Serving) -> None:
    """WA-INT-3002: True, the stream ends with CANCELLED, the server sees its connection closed."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        await wire.event(piece("a"))
        await wire.until_closed()

    async with serving(script) as (server, adapter):
        stream = adapter.submit(TaskRequest(prompt="x", job_id="mine"))
        assert [type(await anext(stream)) for _ in range(2)] == [Started, Token]
        assert await adapter.cancel("mine") is True
        assert await server.all_closed()
        last = await anext(stream)
        assert isinstance(last, Error)
        assert last.error.code is ErrorCode.CANCELLED
        assert await adapter.cancel("mine") is True  # idempotent


async def test_a_closed_adapter_says_so() -> None:
    """submit after aclose is a clear error, health an answer; aclose twice is nothing."""
    adapter = OpenAIHttpAdapter("http://127.0.0.1:9")
    await adapter.aclose()
    await adapter.aclose()
    error = await _failure(adapter)
    assert "closed" in error.message
    assert not error.retriable
    status = await adapter.health()
    assert "closed" in status.message
    assert not status.live


async def test_an_error_of_the_options_comes_as_one() -> None:
    """Unusable connection options give an error without the proxy's password."""
    options = {"proxy": "http://u:hidden-word@p", "ca_file": "/none"}
    async with OpenAIHttpAdapter("http://127.0.0.1:9", **options) as adapter:
        error = await _failure(adapter)
        assert isinstance(error, InvalidRequest)
        assert "these options" in error.message
        assert "hidden-word" not in error.message
        assert "these options" in (await adapter.health()).message
    async with OpenAIHttpAdapter("https://127.0.0.1:9", ca_file="/none") as adapter:
        assert isinstance(await _failure(adapter), InvalidRequest)


async def test_the_egress_list_is_asked_before_anything_is_sent(serving: Serving) -> None:
    """ORCH-3080: a host that is not named is EGRESS_DENIED, for jobs and for health."""
    async with serving(egress_allow=("api.openai.com",)) as (server, adapter):
        with pytest.raises(EgressDenied):
            await adapter.submit(PROMPT)
        assert "egress" in (await adapter.health()).message
        assert (await adapter.props()).models == ()
        assert server.connections == []
    async with serving(egress_allow=("127.0.0.*",)) as (_, adapter):
        assert await adapter.submit(PROMPT).text() == OK


async def test_a_redirect_is_not_followed(serving: Serving) -> None:
    """The key must not go to another host."""
    handler = answers(b"", 302, {"Location": "http://other.example/"})
    async with serving(handler) as (_, adapter):
        error = await _failure(adapter)
    assert error.code is ErrorCode.UPSTREAM_PROTOCOL
    assert "a redirect to http://other.example/" in error.message


# httpx's own clients and transports


async def test_a_client_of_the_callers_is_used_and_stays_open() -> None:
    """Its headers go out, ours too; only the caller closes it."""
    async with FakeOpenAI() as server, httpx.AsyncClient(headers={"X-Mine": "1"}) as client:
        async with OpenAIHttpAdapter(server.base_url, client=client, api_key="k" * 8) as adapter:
            assert await adapter.submit(PROMPT).text() == OK
            assert (await adapter.props()).models == ("m",)
        assert not client.is_closed
        for request in server.requests:
            assert request.headers["x-mine"] == "1"
            assert request.headers["authorization"] == "Bearer kkkkkkkk"
            assert request.headers["accept-encoding"] == "identity"


async def test_a_clients_habits_do_not_weaken_a_job() -> None:
    """Neither its redirects nor its read timeout are the adapter's."""
    gone = answers(b"", 307, {"Location": "/elsewhere"})
    routes = {"/v1/completions": streams(*completion(), pause_s=0.1), "/v1/models": gone}
    async with (
        FakeOpenAI(routes) as server,
        httpx.AsyncClient(follow_redirects=True, timeout=0.05) as client,
        OpenAIHttpAdapter(server.base_url, client=client) as adapter,
    ):
        assert await adapter.submit(PROMPT).text() == OK
        await adapter.health()
        server.routes["/v1/completions"] = gone
        assert (await _failure(adapter)).code is ErrorCode.UPSTREAM_PROTOCOL
        assert "/elsewhere" not in server.paths


async def test_a_closed_client_is_a_clear_error() -> None:
    """For jobs and for health."""
    client = httpx.AsyncClient()
    adapter = OpenAIHttpAdapter("http://127.0.0.1:9", client=client)
    await client.aclose()
    error = await _failure(adapter)
    assert (error.code, error.retriable) == (ErrorCode.POOL_UNAVAILABLE, False)
    assert "client that was given is closed" in (await adapter.health()).message


async def test_httpx_transports_read_the_same_stream(serving: Serving) -> None:
    """AsyncHTTPTransport over sockets: jobs, retries, errors and a cut answer."""
    routes = {
        "/v1/completions": in_turn(
            well, fails(503), well, fails(404), streams(piece("a")), streams(piece("a"))
        )
    }
    async with serving(routes, transport=httpx.AsyncHTTPTransport()) as (_, adapter):
        assert await adapter.submit(PROMPT).text() == OK
        assert (await _events(adapter))[-1].metrics.attempts == 2
        assert isinstance(await _failure(adapter), NotFound)
        assert (await _failure(adapter)).code is ErrorCode.STREAM_TRUNCATED
        stream = adapter.submit(PROMPT)
        await anext(stream)
        await stream.cancel()
        assert (await adapter.health()).ready


async def test_a_mock_transport_is_enough() -> None:
    """httpx.MockTransport serves jobs, health and errors, with no socket at all."""

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"data": [{"id": "m"}]})
        if b"broken" in request.content:
            raise httpx.ConnectError("no such host", request=request)
        return httpx.Response(200, content=sse(*chat()))

    transport = httpx.MockTransport(handler)
    async with OpenAIHttpAdapter("http://mock", transport=transport, retry=FAST_RETRY) as adapter:
        assert await adapter.submit(MESSAGES).text() == OK
        assert (await adapter.health()).ready
        error = await _failure(adapter, TaskRequest(prompt="broken"))
        assert error.code is ErrorCode.POOL_UNAVAILABLE


async def test_http2_is_offered_by_httpx_transport(serving: Serving) -> None:
    """http2=True works against a server that has only HTTP/1.1 (HTU-1001)."""
    async with serving({"/v1/models": lists("m")}, http2=True) as (_, adapter):
        assert await adapter.submit(PROMPT).text() == OK
        assert (await adapter.props()).models == ("m",)


async def test_http2_without_its_package_is_a_clear_refusal(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job is INVALID_PARAMS and health an answer, both with what to install; nothing is sent."""
    monkeypatch.setitem(sys.modules, "h2", None)  # as if it were not installed
    async with serving(http2=True) as (server, adapter):
        for _ in range(2):
            error = await _failure(adapter)
            assert error.code is ErrorCode.INVALID_PARAMS
            status = await adapter.health()
            assert status.state is HealthState.UNHEALTHY
            for message in (error.message, status.message):
                assert "pip install 'worker-adapters[http2]'" in message
        assert server.requests == []


# Calls and reasoning

TOOL = Tool("f", "A function")


async def test_an_answer_with_calls_and_reasoning_arrives_whole(serving: Serving) -> None:
    """Every kind of event, in order, over a socket; times count from the first generated piece."""
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}}
    rest = {"index": 0, "function": {"arguments": ": 1}"}}
    chunks = [
        delta({"role": "assistant", "content": None}),
        delta({"reasoning_content": "Hm."}),
        delta({"content": "Look."}),
        delta({"tool_calls": [call]}),
        delta({"tool_calls": [rest]}),
        delta({}, "tool_calls"),
        usage(5, 9),
        "[DONE]",
    ]
    task = TaskRequest(
        messages=[{"role": "user", "content": "x"}], tools=[TOOL], include_reasoning=True
    )
    async with serving(streams(*chunks, pause_s=0.01)) as (server, adapter):
        events = await _events(adapter, task)
        (body,) = server.bodies
    assert [type(event) for event in events] == [
        Started, Reasoning, Token, ToolCallDelta, ToolCallDelta, End,
    ]  # fmt: skip
    assert body["tools"] == [TOOL.to_wire()]
    answer = Answer.of(events)
    assert [(c.id, c.name, c.json()) for c in answer.tool_calls] == [("a", "f", {"x": 1})]
    assert answer.message().to_wire()["reasoning_content"] == "Hm."
    assert answer.metrics.decode_time_ms > 30  # four pauses after the reasoning


async def test_reasoning_that_is_not_delivered_is_progress_all_the_same(serving: Serving) -> None:
    """A model may think for longer than the stall limit."""
    chunks = [*[delta({"reasoning": "hm"})] * 6, delta({"content": "a"}), delta({}, "stop")]
    handler = streams(*chunks, "[DONE]", pause_s=0.08)
    async with serving(handler, stall_timeout_s=0.3, first_token_timeout_s=0.3) as (_, adapter):
        events = await _events(adapter, MESSAGES)
    assert [type(event) for event in events] == [Started, Token, End]
    assert events[-1].metrics.decode_time_ms > 400


@pytest.mark.parametrize(
    ("choice", "chunks", "words"),
    [
        ("required", [delta({"content": "no"}), delta({}, "stop")], "did not call a tool"),
        (
            {"type": "function", "function": {"name": "f"}},
            [delta({"content": "no"}), delta({}, "stop")],
            "did not call a tool",
        ),
        ("auto", [delta({"content": "no"}), delta({}, "stop")], None),
        ("auto", [delta({"reasoning": "no"}), delta({}, "stop")], "reasoning without any text"),
        ("auto", [delta({"content": "no"}), delta({}, "tool_calls")], "but sent no call"),
    ],
)
async def test_what_no_error_can_say_is_a_warning(
    serving: Serving,
    caplog: pytest.LogCaptureFixture,
    choice: Any,
    chunks: list[Any],
    words: str | None,
) -> None:
    """A call that was required or announced, and did not come; an answer of reasoning alone."""
    task = TaskRequest(
        messages=[{"role": "user", "content": "x"}], tools=[TOOL], tool_choice=choice
    )
    async with serving(streams(*chunks, "[DONE]")) as (_, adapter):
        answer = await adapter.submit(task).answer()
    humans = [record["human"] for record in _records(caplog)]
    assert len(humans) == (words is not None)
    assert words is None or words in humans[0]
    assert answer.text or answer.reasoning == "no"


async def test_a_refused_constraint_is_the_error(serving: Serving) -> None:
    """response_format, tools and keys of `extra` are never left out: one request, one refusal."""
    tasks = [
        TaskRequest(prompt="x", response_format={"type": "json_object"}),
        TaskRequest(prompt="x", tools=[TOOL]),
        TaskRequest(prompt="x", stop=["a"]),
        TaskRequest(prompt="x", extra={"grammar": "g"}),
        TaskRequest(prompt="x", extra={"structured_outputs": {"regex": "a"}}),
    ]
    fields = ("response_format", "tools", "stop", "grammar", "structured_outputs")
    for task in tasks:
        async with serving(refuses(*fields)) as (server, adapter):
            assert (await _failure(adapter, task)).code is ErrorCode.INVALID_PARAMS
            assert len(server.requests) == 1


async def test_tools_need_the_chat_endpoint(serving: Serving) -> None:
    """A prompt with tools goes there; api='completions' cannot send it."""
    task = TaskRequest(prompt="x", tools=[TOOL])
    async with serving() as (server, adapter):
        await adapter.submit(task).answer()
        assert server.paths == ["/v1/chat/completions"]
    async with serving(api="completions") as (server, adapter):
        assert "cannot send tools" in (await _failure(adapter, task)).message
        assert server.requests == []
