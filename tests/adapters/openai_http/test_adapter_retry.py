"""The adapter over real sockets: what is sent again, and what is not."""

import logging
from typing import Any

import attrs
import pytest

from adapter_api import (
    AuthenticationFailed,
    CapacityExceeded,
    ContentFiltered,
    EngineUnavailable,
    ErrorCode,
    InvalidRequest,
    NotFound,
    TaskRequest,
    WorkerError,
    WorkerReset,
)
from adapter_api.faults import Request, Wire
from adapters.openai_http import OpenAIHttpAdapter, RetryPolicy
from tests.adapters.openai_http.conftest import FAST_RETRY, Serving
from tests.adapters.openai_http.jobs import MESSAGES, OK, PROMPT, events_of, failure_of, records_of
from tests.fake_openai import (
    FakeOpenAI,
    answers,
    fails,
    in_turn,
    well,
)
from tests.openai_chunks import piece
from tests.virtual_time import now_s

# Retry


async def test_requests_to_busy_servers_are_repeated(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """WA-INT-3003, OC-ADAPT-OAI 6030, ORCH-3027, ORCH-3300: 503, 429 and 502 are repeated and
    logged with their reason, in sentences without ids."""
    caplog.set_level(logging.INFO, "worker_adapters")
    task = TaskRequest(prompt="x", job_id="job-9", session_id="s-9", correlation_id="c-9")
    async with serving(in_turn(fails(503), fails(429), fails(502), well)) as (server, adapter):
        events = await events_of(adapter, task)
        assert len(server.requests) == 4
    assert events[-1].metrics.attempts == 4
    records = records_of(caplog)
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
        error = await failure_of(adapter)
        assert len(server.requests) == 4
    assert isinstance(error, EngineUnavailable)
    assert (error.status, error.retriable) == (503, True)
    records = records_of(caplog)
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
            await failure_of(adapter)
        waits[seed].append([r["human"].rsplit(" in ")[-1] for r in records_of(caplog)[:3]])
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
        error = await failure_of(adapter)
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
        events = await events_of(adapter)
    assert events[-1].metrics.time_to_first_token_ms >= least_s * 1000


@pytest.mark.parametrize(("seconds", "deadline_s"), [("50", 30.0), ("3600", None)])
async def test_a_wait_that_does_not_fit_is_not_begun(
    serving: Serving, seconds: str, deadline_s: float | None
) -> None:
    """Retry-After beyond the deadline, or beyond a minute, fails at once with retry_after_ms."""
    async with serving(answers({}, 503, {"Retry-After": seconds})) as (server, adapter):
        began = now_s()
        error = await failure_of(adapter, TaskRequest(prompt="x", deadline_s=deadline_s))
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
        error = await failure_of(adapter)
        assert len(server.requests) == 1
    assert error.retriable
    assert error.tokens_emitted == 1


async def test_an_unreachable_server_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """Connect failures are repeated within the policy, then POOL_UNAVAILABLE."""
    async with FakeOpenAI() as server:
        url = server.base_url
    async with OpenAIHttpAdapter(url, retry=attrs.evolve(FAST_RETRY, attempts=3)) as adapter:
        error = await failure_of(adapter)
    assert error.code is ErrorCode.POOL_UNAVAILABLE
    place = url.removeprefix("http://")
    assert error.message == f"cannot connect: {place}: connection refused; is the server running?"
    assert [record["attempts"] for record in records_of(caplog)] == [1, 2]


async def test_a_connection_that_was_closed_while_idle_is_replaced(serving: Serving) -> None:
    """The request is resent once, because not one byte of an answer came; counted as an attempt."""

    async def script(request: Request, wire: Wire) -> None:
        if request.connection.requests == 2:
            await wire.close()  # as if the request and the server's FIN had crossed
        else:
            await well(request, wire)

    async with serving(script) as (server, adapter):
        await adapter.submit(PROMPT).text()
        events = await events_of(adapter)
        assert len(server.requests) == 3
    assert events[-1].metrics.attempts == 2


async def test_a_fresh_connection_that_breaks_is_not_repeated(serving: Serving) -> None:
    """The engine may have begun to work: WORKER_RESET, for the caller to decide."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.close()

    async with serving(script) as (server, adapter):
        error = await failure_of(adapter)
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
        assert hint in (await failure_of(adapter, task)).message
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "words", ["The model `m` does not exist", "The API deployment does not exist", "too long"]
)
async def test_other_refusals_have_no_hint(serving: Serving, words: str) -> None:
    """A missing model is not a missing endpoint."""
    status = 400 if words == "too long" else 404
    async with serving(fails(status, words)) as (_, adapter):
        assert (await failure_of(adapter)).message.endswith(words)
