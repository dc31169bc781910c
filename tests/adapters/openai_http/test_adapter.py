"""The adapter over real sockets: requests, limits on time, beginning and end."""

import asyncio
from uuid import UUID

import attrs
import pytest

import registry
from adapter_api import (
    EgressDenied,
    End,
    Error,
    ErrorCode,
    InvalidRequest,
    Started,
    TaskRequest,
    Token,
)
from adapter_api.faults import Request, Wire
from adapters.openai_http import OpenAIHttpAdapter, OpenAIHttpConfig
from tests.adapters.openai_http.conftest import Serving
from tests.adapters.openai_http.jobs import MESSAGES, OK, PROMPT, events_of, failure_of
from tests.fake_openai import (
    FakeOpenAI,
    answers,
)
from tests.openai_chunks import piece
from tests.virtual_time import now_s

# Requests


async def test_one_job_is_one_request_with_everything_in_it(
    serving: Serving, task: TaskRequest
) -> None:
    """OC-ADAPT-OAI 6001, AH-1003: path, body, headers, events; no other request is sent."""
    task = attrs.evolve(task, correlation_id="corr-1", top_p=0.9, stop=["x"], extra={"min_p": 0.1})
    async with serving(api_key="sk-test-key", headers={"X-Team": "a"}) as (server, adapter):
        events = await events_of(adapter, task)
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
        events = await events_of(adapter, TaskRequest(messages=messages, max_tokens=3))
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
        error = await failure_of(adapter, MESSAGES)
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


# Time


@pytest.mark.parametrize(
    ("head", "code"),
    [(False, ErrorCode.POOL_UNAVAILABLE), (True, ErrorCode.DECODE_TIMEOUT)],
)
@pytest.mark.parametrize("limit", ["first_token_timeout_s", "deadline_s"])
async def test_a_silent_server_times_out(
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
        error = await failure_of(adapter, task)
        assert 0.95 < now_s() - began < 1.95  # one limit, not one for each
        assert len(server.requests) == 1
        assert await server.all_closed()
    assert error.code is (code if options else ErrorCode.DEADLINE_UNMET)
    assert error.retriable is bool(options)


async def test_pings_between_tokens_are_not_progress(serving: Serving) -> None:
    """The wait runs from the last token, not from the first ping after it."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        for text in "abc":
            await wire.event(piece(text))
            await asyncio.sleep(1.0)
        while True:
            await wire.chunk(b": ping\n\n")
            await asyncio.sleep(1.0)

    async with serving(script, stall_timeout_s=5.0) as (_, adapter):
        began = now_s()
        error = await failure_of(adapter, TaskRequest(prompt="x"))
    assert error.code is ErrorCode.DECODE_TIMEOUT
    assert 6.9 < now_s() - began < 7.9


@pytest.mark.parametrize("ends", ["hangs", "breaks"])
async def test_a_refusal_that_is_cut_off_says_its_status(serving: Serving, ends: str) -> None:
    """The status is enough; the rest is not waited for beyond the limits."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.start(404, {"Content-Length": "100"})
        await wire.raw(b"not")
        await (wire.reset() if ends == "breaks" else wire.until_closed())

    async with serving(script, first_token_timeout_s=0.2) as (server, adapter):
        error = await failure_of(adapter)
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
    error = await failure_of(adapter)
    assert "closed" in error.message
    assert not error.retriable
    status = await adapter.health()
    assert "closed" in status.message
    assert not status.live


async def test_an_error_of_the_options_comes_as_one() -> None:
    """Unusable connection options give an error without the proxy's password."""
    options = {"proxy": "http://u:hidden-word@p", "ca_file": "/none"}
    async with OpenAIHttpAdapter("http://127.0.0.1:9", **options) as adapter:
        error = await failure_of(adapter)
        assert isinstance(error, InvalidRequest)
        assert "these options" in error.message
        assert "hidden-word" not in error.message
        assert "these options" in (await adapter.health()).message
    async with OpenAIHttpAdapter("https://127.0.0.1:9", ca_file="/none") as adapter:
        assert isinstance(await failure_of(adapter), InvalidRequest)


async def test_the_egress_list_is_checked_before_anything_is_sent(serving: Serving) -> None:
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
        error = await failure_of(adapter)
    assert error.code is ErrorCode.UPSTREAM_PROTOCOL
    assert "a redirect to http://other.example/" in error.message
