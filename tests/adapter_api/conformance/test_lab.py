"""The lab's servers expose an adapter that trusts its server."""

import asyncio
import gc
import json
import re
import socket
import warnings
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import attrs
import httpx
import pytest

from adapter_api import (
    End,
    EngineUnavailable,
    HealthState,
    HealthStatus,
    Metrics,
    NotFound,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    WorkerError,
    hookimpl,
)
from adapter_api.conformance import CHECKS, Report, Status, Violation, examine, with_needs
from adapter_api.conformance.checks import faults
from adapter_api.conformance.jobs import Outcome, in_time, run
from adapter_api.conformance.lab import Lab
from adapter_api.faults import SCENARIOS, FaultServer
from adapters.openai_http import OpenAIHttpAdapter, OpenAIHttpConfig, RetryPolicy
from registry import BoundAdapter


@attrs.frozen
class NaiveConfig:
    """The server's address."""

    base_url: str


@attrs.define(eq=False)
class NaiveAdapter:
    """A first draft: it reads lines, and trusts them."""

    config: NaiveConfig

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        """Take every end for the end of the answer."""
        client = httpx.AsyncClient(trust_env=False, timeout=None, verify=False)
        url = f"{self.config.base_url}/v1/completions"
        body = {"prompt": task.prompt, "model": task.model, "max_tokens": task.max_tokens}
        async with client, client.stream("POST", url, json=body) as response:
            if response.status_code == 404:
                raise NotFound("UPSTREAM_NOT_FOUND", "there is no such model")
            yield Started(task.job_id, "naive", "1")
            count = 0
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    choices = json.loads(line[6:])["choices"]
                    if choices and choices[0]["text"]:
                        yield Token(choices[0]["text"], count)
                        count += 1
                if line == "data: [DONE]":
                    break
            yield End(Metrics(count), "length", "finish_reason")

    @hookimpl
    async def health(self) -> HealthStatus:
        """Always healthy."""
        return HealthStatus(HealthState.HEALTHY)


def _make(**options: Any) -> BoundAdapter:
    config = NaiveConfig(**options)
    return BoundAdapter(NaiveAdapter(config), name="naive", config=config)


class _OtherAdapter(OpenAIHttpAdapter):
    """Never retries, and drops the delay that a server asks for."""

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        """Submit like openai-http, but for the error."""
        try:
            async with OpenAIHttpAdapter.submit(self, task) as stream:
                async for event in stream:
                    yield event
        except WorkerError as error:
            error.retry_after_ms = None
            raise


def _make_other(**options: Any) -> BoundAdapter:
    config = OpenAIHttpConfig(retry=RetryPolicy(attempts=1), **options)
    return BoundAdapter(_OtherAdapter(config), name="other", config=config)


def _remarks(report: Report) -> dict[str, tuple[Status, str]]:
    return {result.check: (result.status, result.remark) for result in report.results}


def test_a_cut_answer_taken_for_whole_is_a_lie() -> None:
    """The verdict names the faults and what the adapter made of them (WA-INT-3002)."""
    names = ("faults-answers-that-end-too-early", "proxy-cuts")
    found = _remarks(examine(_make, checks=with_needs(names)))
    status, remark = found["faults-answers-that-end-too-early"]
    assert status is Status.FAILED
    _, lie, *others = re.split("faults: |; ", remark)
    assert lie.startswith("it reported a broken answer as whole (polite-end, ")
    assert any(re.fullmatch(r"it crashed with ReadError \(.*rst-mid-chunk.*\)", o) for o in others)
    status, remark = found["proxy-cuts"]
    assert status is Status.FAILED
    assert "it reported a broken answer as whole (end after 0 pieces, " in remark


def test_what_may_be_done_otherwise_is_reported() -> None:
    """Other request counts and missing waits are in the remark (WA-INT-3003)."""
    found = _remarks(examine(_make_other, checks=with_needs(["faults-retries"])))
    status, remark = found["faults-retries"]
    assert status is Status.PASSED
    assert "once-429 (refused with ADMISSION_REJECT, 1 request, not 2)" in remark
    assert "not as docs/reference/faults.md says" in remark


def test_an_adapter_may_refuse_to_start_without_its_engine() -> None:
    """A WorkerError of start() is an answer: BoundAdapter reports the engine unhealthy."""

    class Cautious(OpenAIHttpAdapter):
        @hookimpl
        async def start(self) -> None:
            if "/engine" not in self.config.base_url:
                raise EngineUnavailable("POOL_UNAVAILABLE", "there is no engine")

    def make(**options: Any) -> BoundAdapter:
        config = OpenAIHttpConfig(**options)
        return BoundAdapter(Cautious(config), name="cautious", config=config)

    found = _remarks(examine(make, checks=with_needs(["lab-health", "lab-props"])))
    for name in ("lab-health", "lab-props"):
        assert found[name][0] is Status.PASSED
        assert "does not listen" in found[name][1]


@pytest.mark.parametrize(
    ("name", "error", "differs"),
    [
        ("wait-too-long-seconds", {"retry_after_ms": 30_000}, ""),
        ("wait-too-long-seconds", {}, "retry_after_ms None, not 30000"),
        ("wait-until-deadline", {"code": "POOL_UNAVAILABLE", "retry_after_ms": 200},
         "1 request, not 3, after 0.0 s, not 0.4 s"),
    ],
)  # fmt: skip
def test_differences(name: str, error: dict[str, Any], differs: str) -> None:
    """Each difference is named together with openai-http's behaviour."""
    found = WorkerError.of(**{"code": "ADMISSION_REJECT", "message": "later", **error})
    outcome = Outcome("", None, None, found, took_s=0.01)
    assert faults._wrong(SCENARIOS[name], outcome) == ""
    assert faults._differs(SCENARIOS[name], outcome, 1) == differs


@pytest.mark.parametrize(
    ("error", "wrong"),
    [
        (WorkerError.of("INTERNAL", "Token index 3, expected 0"), "it made INTERNAL: Token index"),
        (WorkerError.of("UPSTREAM_AUTH", "no", retriable=True), "it made UPSTREAM_AUTH retriable"),
        (WorkerError.of("UPSTREAM_NOT_FOUND", "elsewhere", retriable=True), ""),
    ],
)
def test_errors_that_no_adapter_may_make(error: WorkerError, wrong: str) -> None:
    """They are explained even without a cause (WA-INT-3003)."""
    outcome = Outcome("", None, None, error)
    assert faults._wrong(SCENARIOS["status-401"], outcome).startswith(wrong)
    assert bool(faults._wrong(SCENARIOS["status-401"], outcome)) is bool(wrong)


async def test_the_lab_engine_is_an_engine() -> None:
    """It answers, counts, and refuses long prompts and unknown models."""
    with Lab() as lab:
        adapter = _make(base_url=lab.engine_url)
        outcome = await run(adapter, TaskRequest(prompt="x", model="no-such-model"))
        assert outcome.error is not None
        assert outcome.error.code == "UPSTREAM_NOT_FOUND"
        with pytest.raises(Violation, match="a job did not end within"):
            task = TaskRequest(prompt="x", max_tokens=200)
            await run(adapter, task, limit_s=0.05)
        await adapter.aclose()


@pytest.mark.parametrize("turns", range(5))
async def test_no_connection_is_lost_when_a_server_closes(turns: int) -> None:
    """Connections that were accepted and have no protocol yet are closed, too."""
    clients: list[socket.socket] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with FaultServer() as server:
            port = httpx.URL(server.base_url).port
            clients += [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
            for _ in range(turns):
                await asyncio.sleep(0)
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
    for client in clients:
        client.settimeout(5)
        with client, suppress(ConnectionResetError):
            assert client.recv(1) == b""


async def test_what_must_be_quick_is_given_up_in_time() -> None:
    """A call that does not return is a violation, and does not hang the kit."""
    with pytest.raises(Violation, match=r"waiting did not return within 0\.05 s"):
        await in_time(asyncio.Event().wait(), "waiting", 0.05)


def test_needs_are_selected_too() -> None:
    """A selection keeps the order of the checks."""
    names = [check.name for check in with_needs(["proxy-cuts"])]
    assert names == ["answers", "proxied", "proxy-cuts"]
    assert with_needs([check.name for check in CHECKS]) == CHECKS
