"""The adapter over real sockets: requests, retries, refusals, what it learns and what it tells."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import attrs
import httpx
import pytest

import registry
from adapter_api import (
    AuthenticationFailed,
    CapacityExceeded,
    ContentFiltered,
    EgressDenied,
    End,
    EngineUnavailable,
    ErrorCode,
    InvalidRequest,
    NotFound,
    Started,
    TaskRequest,
    Token,
    WorkerError,
    WorkerReset,
)
from adapters.openai_http import OpenAIHttpAdapter, OpenAIHttpConfig, RetryPolicy
from tests.adapters.openai_http.conftest import Serving
from tests.script_server import ScriptServer, Request, Script, Wire
from tests.openai_chunks import delta, piece, usage, well_behaved, whole_answer


def statuses(*codes: int, headers: dict[str, str] | None = None, body: Any = None) -> Script:
    """Answers with these statuses in turn, then with whole answers."""
    rest = list(codes)

    async def script(request: Request, wire: Wire) -> None:
        if rest:
            await wire.answer(body or {"error": {"message": "scripted"}}, rest.pop(0), headers)
        else:
            await whole_answer(wire)

    return script


async def _failure(adapter: OpenAIHttpAdapter, task: TaskRequest) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        await adapter.submit(task).text()
    return caught.value


async def test_one_job_is_one_request_with_everything_in_it(
    serving: Serving, task: TaskRequest
) -> None:
    """OC-ADAPT-OAI 6001, AH-1003: path, body and headers; no other request is sent."""
    task = attrs.evolve(task, correlation_id="corr-1")
    async with serving(well_behaved(), api_key="sk-test-key", headers={"X-Team": "a"}) as (
        server,
        adapter,
    ):
        events = [event async for event in adapter.submit(task)]
        (request,) = server.requests
    assert (request.method, request.target) == ("POST", "/v1/completions")
    assert request.json()["max_tokens"] == 5
    assert request.json()["stream_options"] == {"include_usage": True}
    for name, value in {
        "authorization": "Bearer sk-test-key",
        "x-correlation-id": "corr-1",
        "x-team": "a",
        "accept-encoding": "identity",
        "content-type": "application/json",
    }.items():
        assert request.headers[name] == value
    assert events[0] == Started("job-1", "openai-compatible", "m", "m", 7, "r0")
    assert events[1:3] == [Token("Hello", 0), Token(" world", 1)]
    end = events[3]
    assert isinstance(end, End)
    assert (end.finish_reason, end.proof) == ("stop", "finish_reason")
    metrics = end.metrics
    assert (metrics.tokens_generated, metrics.prompt_tokens) == (2, 2)
    assert (metrics.usage_source, metrics.attempts) == ("engine", 1)
    assert metrics.time_to_first_token_ms is not None


async def test_messages_and_prompts_find_their_endpoint(serving: Serving) -> None:
    """auto goes by the task; chat sends prompts as messages; completions refuses messages."""
    messages = TaskRequest(messages=[{"role": "user", "content": "hi"}])
    prompt = TaskRequest(prompt="hi")
    async with serving(well_behaved()) as (server, adapter):
        await adapter.submit(messages).text()
        await adapter.submit(prompt).text()
        assert [r.path for r in server.posts] == ["/v1/chat/completions", "/v1/completions"]
    async with serving(well_behaved(), api="chat") as (server, adapter):
        await adapter.submit(prompt).text()
        assert server.posts[0].path == "/v1/chat/completions"
    async with serving(well_behaved(), api="completions") as (server, adapter):
        error = await _failure(adapter, messages)
        assert "set api to 'auto' or 'chat'" in error.message
        assert server.requests == []


async def test_a_chat_answer_streams(serving: Serving) -> None:
    """Deltas become tokens; the role-only chunk does not."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        for part in ({"role": "assistant", "content": ""}, {"content": "a"}, {"content": "b"}):
            await wire.event(delta(part))
        await wire.event(delta({}, "stop"))
        await wire.event("[DONE]")
        await wire.end()

    async with serving(script) as (_, adapter):
        stream = adapter.submit(TaskRequest(messages=[{"role": "user", "content": "x"}]))
        events = [event async for event in stream]
    assert events[1:3] == [Token("a", 0), Token("b", 1)]
    assert events[3].metrics.usage_source == "counted"
    assert events[3].metrics.tokens_generated == 2


async def test_the_model_comes_from_task_or_config(serving: Serving) -> None:
    """The task's goes first; with neither the field is left out."""
    async with serving(well_behaved(), model="default") as (server, adapter):
        await adapter.submit(TaskRequest(prompt="x", model="mine")).text()
        await adapter.submit(TaskRequest(prompt="x")).text()
        assert [r.json()["model"] for r in server.posts] == ["mine", "default"]
    async with serving(well_behaved()) as (server, adapter):
        await adapter.submit(TaskRequest(prompt="x")).text()
        assert "model" not in server.posts[0].json()
        assert server.posts[0].headers["x-correlation-id"]


async def test_owned_extra_is_refused_before_anything_is_sent(serving: Serving) -> None:
    """`extra={"n": 2}` never reaches the server."""
    async with serving(well_behaved()) as (server, adapter):
        with pytest.raises(InvalidRequest, match="'n'"):
            await adapter.submit(TaskRequest(prompt="x", extra={"n": 2}))
        assert server.requests == []


async def test_connections_are_used_again(serving: Serving) -> None:
    """Ten jobs in a row need one connection; ten at once need ten, and leave them usable."""
    async with serving(well_behaved()) as (server, adapter):
        for _ in range(10):
            await adapter.submit(TaskRequest(prompt="x")).text()
        assert len(server.connections) == 1
        texts = [adapter.submit(TaskRequest(prompt="x")).text() for _ in range(10)]
        assert set(await asyncio.gather(*texts)) == {"Hello world"}
        assert len(server.connections) <= 10


# Retry


async def test_busy_servers_are_asked_again(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """WA-INT-3003, OC-ADAPT-OAI 6030: 503 and 429 are repeated and logged with their reason."""
    caplog.set_level(logging.INFO, "worker_adapters")
    async with serving(statuses(503, 429, 502)) as (server, adapter):
        events = [e async for e in adapter.submit(TaskRequest(prompt="x", job_id="job-9"))]
        assert len(server.posts) == 4
    assert events[-1].metrics.attempts == 4
    records = [r for r in caplog.records if r.name == "worker_adapters.openai_http"]
    assert [r.__dict__.get("status") for r in records] == [503, 429, 502, None]
    for record in records:
        fields = record.__dict__
        assert fields["job_id"] == "job-9"
        assert fields["replica_id"] == "r0"
        assert fields["pool_id"] == "default"
        assert "job-9" not in fields["human"]
    assert records[-1].__dict__["tokens_out"] == 2
    assert "decode_time_ms" in records[-1].__dict__


async def test_four_attempts_are_all(serving: Serving) -> None:
    """HTU-1002, WA-INT-3004: the last error is raised, retriable."""
    async with serving(statuses(*[503] * 9)) as (server, adapter):
        error = await _failure(adapter, TaskRequest(prompt="x"))
        assert len(server.posts) == 4
    assert isinstance(error, EngineUnavailable)
    assert (error.status, error.retriable) == (503, True)


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
    serving: Serving, status: int, body: Any, kind: type[WorkerError], code: ErrorCode
) -> None:
    """WA-INT-3004, HTU-ERR-4002: exactly one request, the right class and code."""
    async with serving(statuses(status, body=body)) as (server, adapter):
        error = await _failure(adapter, TaskRequest(prompt="x"))
        assert len(server.requests) == 1
        assert await adapter.submit(TaskRequest(prompt="x")).text() == "Hello world"
    assert type(error) is kind
    assert (error.code, error.status) == (code, status)


@pytest.mark.parametrize(
    ("headers", "least_s"), [({"Retry-After": "0"}, 0.0), ({"retry-after-ms": "120"}, 0.12)]
)
async def test_retry_after_is_kept(
    serving: Serving, headers: dict[str, str], least_s: float
) -> None:
    """The server's wait takes the place of our own."""
    async with serving(statuses(429, headers=headers)) as (_, adapter):
        events = [e async for e in adapter.submit(TaskRequest(prompt="x"))]
    assert events[-1].metrics.time_to_first_token_ms >= least_s * 1000


async def test_a_wait_that_does_not_fit_is_not_begun(serving: Serving) -> None:
    """Retry-After beyond the deadline, or beyond a minute, fails at once with retry_after_ms."""
    loop = asyncio.get_running_loop()
    for seconds, deadline_s in (("5", 1.0), ("3600", None)):
        async with serving(statuses(503, headers={"Retry-After": seconds})) as (server, adapter):
            began = loop.time()
            error = await _failure(adapter, TaskRequest(prompt="x", deadline_s=deadline_s))
            assert loop.time() - began < 0.5
            assert len(server.posts) == 1
        assert error.retry_after_ms == int(seconds) * 1000
        assert error.code is ErrorCode.POOL_UNAVAILABLE


async def test_nothing_is_sent_again_after_a_token(serving: Serving) -> None:
    """A stream that breaks is an error, whatever the policy."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        await wire.event(piece("a"))
        await wire.reset()

    async with serving(script) as (server, adapter):
        error = await _failure(adapter, TaskRequest(prompt="x"))
        assert len(server.posts) == 1
    assert (error.code, error.tokens_emitted) == (ErrorCode.STREAM_TRUNCATED, 1)


async def test_an_unreachable_server_is_tried_again() -> None:
    """Connect failures are repeated within the policy, then POOL_UNAVAILABLE."""
    async with ScriptServer(well_behaved()) as server:
        url = server.base_url
    retry = RetryPolicy(attempts=3, base_s=0.01, seed=1)
    async with OpenAIHttpAdapter(url, retry=retry) as adapter:
        error = await _failure(adapter, TaskRequest(prompt="x"))
    assert error.code is ErrorCode.POOL_UNAVAILABLE
    assert "cannot connect" in error.message


async def test_a_connection_that_was_closed_while_idle_is_replaced(serving: Serving) -> None:
    """QUIRKS 11: resent once, because not one byte of an answer came; counted as an attempt."""
    seen = []

    async def script(request: Request, wire: Wire) -> None:
        seen.append(request)
        if request.connection.requests == 2:
            await wire.close()  # as if the request and the server's FIN had crossed
        else:
            await whole_answer(wire)

    async with serving(script) as (server, adapter):
        await adapter.submit(TaskRequest(prompt="x")).text()
        events = [e async for e in adapter.submit(TaskRequest(prompt="x"))]
        assert len(seen) == 3
    assert events[-1].metrics.attempts == 2


async def test_a_fresh_connection_that_breaks_is_not_repeated(serving: Serving) -> None:
    """The engine may have begun to work: WORKER_RESET, for the caller to decide."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.close()

    async with serving(script) as (server, adapter):
        error = await _failure(adapter, TaskRequest(prompt="x"))
        assert len(server.posts) == 1
    assert (error.code, error.retriable) == (ErrorCode.WORKER_RESET, True)


# Fields a server refuses


def refusing(*fields: str, words: str = "Unrecognized request argument supplied: {}") -> Script:
    """Refuses requests that have one of the fields, naming it."""

    async def script(request: Request, wire: Wire) -> None:
        for field in fields:
            if request.method == "POST" and field in request.json():
                await wire.answer({"error": {"message": words.format(field)}}, 400)
                return
        await whole_answer(wire)

    return script


@pytest.mark.parametrize(
    "words",
    [
        "Unrecognized request argument supplied: {}",
        "Unexpected fields in the request: {{'{}'}}",
        "Unsupported parameter: '{}' is not supported with this model.",
        "{}: Extra inputs are not permitted",
    ],
)
async def test_a_refused_field_is_left_out_from_then_on(serving: Serving, words: str) -> None:
    """Asked once more without it, remembered for the model, visible in props."""
    async with serving(refusing("seed", words=words)) as (server, adapter):
        for _ in range(2):
            task = TaskRequest(prompt="x", seed=1, model="m1")
            events = [e async for e in adapter.submit(task)]
        assert ["seed" in r.json() for r in server.posts] == [True, False, False]
        assert events[0].seed is None  # it was not sent
        await adapter.submit(TaskRequest(prompt="x", seed=1, model="m2")).text()
        assert ["seed" in r.json() for r in server.posts][3:] == [True, False]
        props = await adapter.props()
    assert props.dropped_fields == {"m1": ("seed",), "m2": ("seed",)}


async def test_several_refused_fields_one_after_the_other(serving: Serving) -> None:
    """Each is learned from its own refusal."""
    async with serving(refusing("stream_options", "seed", "top_p")) as (server, adapter):
        task = TaskRequest(prompt="x", seed=1, top_p=0.5)
        assert await adapter.submit(task).text() == "Hello world"
        assert len(server.posts) == 4


async def test_max_tokens_has_another_name_for_chats_only(serving: Serving) -> None:
    """OpenAI's newer chat models demand max_completion_tokens; a completion is never unbounded."""
    words = "Unsupported parameter: '{}'. Use 'max_completion_tokens' instead."
    messages = TaskRequest(messages=[{"role": "user", "content": "x"}], max_tokens=9)
    async with serving(refusing("max_tokens", words=words)) as (server, adapter):
        await adapter.submit(messages).text()
        assert server.posts[1].json()["max_completion_tokens"] == 9
    async with serving(refusing("max_tokens", words=words)) as (server, adapter):
        assert (await _failure(adapter, TaskRequest(prompt="x"))).status == 400
        assert len(server.posts) == 1


async def test_strict_makes_a_refusal_an_error(serving: Serving) -> None:
    """strict=True: nothing the caller asked for is left out."""
    async with serving(refusing("seed"), strict=True) as (server, adapter):
        error = await _failure(adapter, TaskRequest(prompt="x", seed=1))
        assert len(server.posts) == 1
    assert "seed" in error.message


@pytest.mark.parametrize(
    "words", ["{} must be below 5", "prompt is not supported", "Unknown model named seedling"]
)
async def test_a_refused_value_is_not_a_refused_field(serving: Serving, words: str) -> None:
    """A bad value, a required field or a word that only looks alike: one request, an error."""
    async with serving(refusing("seed", words=words)) as (server, adapter):
        assert (await _failure(adapter, TaskRequest(prompt="x", seed=9))).status == 400
        assert len(server.posts) == 1


@pytest.mark.parametrize(
    ("task", "options", "hint"),
    [
        (TaskRequest(prompt="x"), {}, "set api='chat'"),
        (TaskRequest(prompt="x"), {"api": "chat"}, "set api='completions'"),
        (TaskRequest(messages=[{"role": "user", "content": "x"}]), {}, "give the task a prompt"),
    ],
)
async def test_a_missing_endpoint_says_which_option_to_set(
    serving: Serving, task: TaskRequest, options: dict[str, str], hint: str
) -> None:
    """A chat-only or completions-only server."""
    script = statuses(404, body={"detail": "Not Found"})
    async with serving(script, **options) as (_, adapter):
        assert hint in (await _failure(adapter, task)).message


# Keys


async def test_a_key_never_shows(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """HTU-1004: a server that echoes the key does not get it into errors or logs."""
    key = "my-own-unusual-credential"
    caplog.set_level(logging.DEBUG, "worker_adapters")

    async def script(request: Request, wire: Wire) -> None:
        said = {"error": {"message": f"bad key {request.headers['authorization']}"}}
        await wire.answer(said, 503 if len(server.posts) < 2 else 401)

    async with serving(script, api_key=key) as (server, adapter):
        error = await _failure(adapter, TaskRequest(prompt="x"))
    assert isinstance(error, AuthenticationFailed)
    assert "ORCHD_OPENAI_API_KEY" in error.message
    assert key not in f"{error!r} {error} {error.__cause__!r} {caplog.text}"


async def test_a_key_with_a_line_break_is_refused(serving: Serving) -> None:
    """Read from a file with its newline: a clear error, no header injection."""
    async with serving(well_behaved(), api_key="key\n") as (server, adapter):
        error = await _failure(adapter, TaskRequest(prompt="x"))
        assert server.requests == []
    assert "line break" in error.message


async def test_a_key_function_is_asked_for_each_request(serving: Serving) -> None:
    """Sync or async, so that keys can be rotated."""
    keys = iter(["first-key", "second-key"])
    async with serving(well_behaved(), api_key=lambda: next(keys)) as (server, adapter):
        for _ in range(2):
            await adapter.submit(TaskRequest(prompt="x")).text()
        sent = [r.headers["authorization"] for r in server.posts]
    assert sent == ["Bearer first-key", "Bearer second-key"]


async def _azure(server: ScriptServer, provider: Any) -> OpenAIHttpAdapter:
    return OpenAIHttpAdapter(server.base_url, azure_deployment="gpt", azure_token_provider=provider)


async def test_an_entra_token_is_fetched_once_for_many() -> None:
    """Many callers, one refresh; the token is sent as bearer, to the deployment."""
    asked = []

    async def provider() -> str:
        asked.append(1)
        await asyncio.sleep(0.05)
        return f"token-{len(asked)}"

    async with ScriptServer(well_behaved()) as server, await _azure(server, provider) as adapter:
        jobs = [adapter.submit(TaskRequest(prompt="x")).text() for _ in range(8)]
        await asyncio.gather(*jobs)
        assert len(asked) == 1
        request = server.posts[0]
    assert request.headers["authorization"] == "Bearer token-1"
    assert request.target == "/openai/deployments/gpt/completions?api-version=2024-10-21"


async def test_a_refused_entra_token_is_renewed_once() -> None:
    """401 with a kept token: a new one, one more request; a second 401 is the answer."""
    asked: list[int] = []

    def provider() -> str:
        asked.append(1)
        return f"token-{len(asked)}"

    def script(good: str) -> Script:
        async def answer(request: Request, wire: Wire) -> None:
            if request.headers["authorization"] == good:
                await whole_answer(wire)
            else:
                await wire.answer({"error": "expired"}, 401)

        return answer

    async with (
        ScriptServer(script("Bearer token-2")) as server,
        await _azure(server, provider) as adapter,
    ):
        assert await adapter.submit(TaskRequest(prompt="x")).text() == "Hello world"
        assert len(server.posts) == 2
    async with ScriptServer(script("never")) as server, await _azure(server, provider) as adapter:
        assert isinstance(await _failure(adapter, TaskRequest(prompt="x")), AuthenticationFailed)
        assert len(server.posts) == 2


@pytest.mark.parametrize("result", [5, "", "bad\ntoken", ValueError("secret-detail")])
async def test_a_failing_provider_is_a_clear_error(result: Any) -> None:
    """Its own words, which may hold anything, are not shown."""

    def provider() -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    async with ScriptServer(well_behaved()) as server, await _azure(server, provider) as adapter:
        error = await _failure(adapter, TaskRequest(prompt="x"))
        assert server.requests == []
    assert "azure_token_provider" in error.message
    assert "secret-detail" not in error.message


# What is learned and told


VERSIONS: Sequence[tuple[dict[str, str], dict[str, Any], str, str]] = [
    ({}, {"system_fingerprint": "vllm-0.32.0-227ce6a1"}, "vllm", "vllm-0.32.0-227ce6a1"),
    ({"Server": "llama.cpp"}, {"system_fingerprint": "b5000-abc"}, "llama.cpp", "b5000-abc"),
    ({"x-litellm-version": "1.106"}, {"system_fingerprint": "fp_x"}, "litellm", "1.106"),
    ({}, {"system_fingerprint": "fp_ollama"}, "ollama", "fp_ollama"),
    ({"openai-version": "2020-10-01"}, {"system_fingerprint": "fp_44709d"}, "openai", "fp_44709d"),
    ({}, {"id": "cmpl-7b2e2b3c-1c22-4d4f-9c9d-0123456789ab"}, "llama-cpp-python", "m"),
    ({}, {}, "openai-compatible", "m"),
]


@pytest.mark.parametrize(("headers", "fields", "engine", "version"), VERSIONS, ids=lambda v: str(v))
async def test_engine_and_version_are_learned_from_the_answer(
    serving: Serving, headers: dict[str, str], fields: dict[str, Any], engine: str, version: str
) -> None:
    """OC-ADAPT-OAI 6010, ORCH-3055: header, fingerprint or model string, best first."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.stream_head(headers)
        await wire.event({**piece("a"), **fields})
        await wire.event({**piece("", "stop"), **fields})
        await wire.end()

    async with serving(script) as (_, adapter):
        first = await anext(stream := adapter.submit(TaskRequest(prompt="x")))
        await stream.aclose()
    assert isinstance(first, Started)
    assert (first.engine, first.engine_version) == (engine, version)


async def test_a_recognized_server_is_held_to_its_word(serving: Serving) -> None:
    """vLLM never ends without a finish_reason, so its [DONE] alone is truncation."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        await wire.event(piece("a", system_fingerprint="vllm-0.32.0"))
        await wire.event("[DONE]")
        await wire.end()

    async with serving(script) as (_, adapter):
        error = await _failure(adapter, TaskRequest(prompt="x"))
    assert error.code is ErrorCode.STREAM_TRUNCATED


async def test_after_the_finish_nothing_is_waited_for_long(serving: Serving) -> None:
    """The answer is whole at its finish_reason: a server that then hangs costs a second at most,
    and neither stall limit nor deadline makes an error of it."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        await wire.event(piece("a"))
        await wire.event(piece("", "stop"))
        await wire.until_closed()

    async with serving(script, stall_timeout_s=0.2) as (_, adapter):
        for deadline_s in (None, 0.5):
            task = TaskRequest(prompt="x", deadline_s=deadline_s)
            events = [e async for e in adapter.submit(task)]
            assert isinstance(events[-1], End)
            assert events[-1].metrics.usage_source == "counted"


async def test_jobs_without_the_registry_and_through_it(serving: Serving) -> None:
    """OpenAIHttpAdapter(url), OpenAIHttpAdapter(config) and registry.get are one adapter."""
    async with ScriptServer(well_behaved()) as server:
        for adapter in (
            OpenAIHttpAdapter(server.base_url),
            OpenAIHttpAdapter(OpenAIHttpConfig(server.base_url)),
            registry.get("openai-http", base_url=server.base_url),
        ):
            async with adapter:
                stream = await adapter.submit(TaskRequest(prompt="x"))
                assert await stream.text() == "Hello world"
                assert await adapter.cancel("unknown") is False


async def test_a_closed_adapter_says_so(serving: Serving) -> None:
    """submit after aclose is a clear error; aclose twice is nothing."""
    adapter = OpenAIHttpAdapter("http://127.0.0.1:9")
    await adapter.aclose()
    await adapter.aclose()
    error = await _failure(adapter, TaskRequest(prompt="x"))
    assert "closed" in error.message
    assert not error.retriable


async def test_the_egress_list_is_asked_before_anything_is_sent(serving: Serving) -> None:
    """ORCH-3080: a host that is not named is EGRESS_DENIED, for jobs and for health."""
    async with serving(well_behaved(), egress_allow=("api.openai.com",)) as (server, adapter):
        with pytest.raises(EgressDenied):
            await adapter.submit(TaskRequest(prompt="x"))
        assert "egress" in (await adapter.health()).message
        assert server.connections == []
    async with serving(well_behaved(), egress_allow=("127.0.0.*",)) as (_, adapter):
        assert await adapter.submit(TaskRequest(prompt="x")).text()


async def test_a_client_of_the_callers_stays_open(serving: Serving) -> None:
    """client= is used and not closed; httpx's own transport reads the same stream."""
    async with ScriptServer(well_behaved()) as server, httpx.AsyncClient() as client:
        async with OpenAIHttpAdapter(server.base_url, client=client) as adapter:
            assert await adapter.submit(TaskRequest(prompt="x")).text() == "Hello world"
        assert not client.is_closed
    async with ScriptServer(well_behaved()) as server:
        transport = httpx.AsyncHTTPTransport()
        async with OpenAIHttpAdapter(server.base_url, transport=transport) as adapter:
            assert await adapter.submit(TaskRequest(prompt="x")).text() == "Hello world"


async def test_a_redirect_is_not_followed(serving: Serving) -> None:
    """The key must not go to another host."""
    script = statuses(302, headers={"Location": "http://other.example/"})
    async with serving(script) as (server, adapter):
        error = await _failure(adapter, TaskRequest(prompt="x"))
    assert error.code is ErrorCode.UPSTREAM_PROTOCOL
    assert "redirects are not followed" in error.message


async def test_http_answers_without_a_stream(serving: Serving) -> None:
    """A plain JSON answer is one token; a page of HTML and JSON that is cut off are errors."""
    choice = {"index": 0, "text": "all at once", "finish_reason": "stop"}
    whole = {"id": "x", "choices": [choice], **{"usage": usage(1, 3)["usage"]}}
    async with serving(statuses(200, 200, 200, body=whole)) as (_, adapter):
        events = [e async for e in adapter.submit(TaskRequest(prompt="x"))]
    assert [e.text for e in events if isinstance(e, Token)] == ["all at once"]
    assert events[-1].metrics.tokens_generated == 3
    for body, code, says in (
        (b"<html><title>Login</title>", ErrorCode.UPSTREAM_PROTOCOL, "HTML"),
        (b'{"choices":[{"te', ErrorCode.STREAM_TRUNCATED, "cut off"),
    ):
        async with serving(statuses(200, body=body)) as (_, adapter):
            error = await _failure(adapter, TaskRequest(prompt="x"))
            assert error.code is code
            assert says in error.message
