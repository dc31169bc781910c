"""The fault server finds out an adapter that trusts its server."""

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
    HealthState,
    HealthStatus,
    Metrics,
    NotFound,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    hookimpl,
)
from adapter_api.conformance import CHECKS, Result, Status, Violation, judge_all
from adapter_api.conformance.faults import FaultServer
from adapter_api.conformance.lab import FAULT_CHECKS, HttpSubject, Lab
from adapter_api.conformance.subject import in_time, run
from registry import BoundAdapter


@attrs.frozen
class NaiveConfig:
    """Where the server is."""

    base_url: str


@attrs.define(eq=False)
class NaiveAdapter:
    """What is written in a first hour: it reads lines, and believes them."""

    config: NaiveConfig

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        """Every way to end is an end."""
        client = httpx.AsyncClient(trust_env=False, timeout=None)
        url = f"{self.config.base_url}/v1/completions"
        body = {"prompt": task.prompt, "model": task.model, "max_tokens": task.max_tokens}
        async with client, client.stream("POST", url, json=body) as response:
            if response.status_code == 404:
                raise NotFound("UPSTREAM_NOT_FOUND", "there is no such model")
            yield Started(task.job_id, "naive", "1")
            count = 0
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    text = json.loads(line[6:])["choices"][0]["text"]
                    if text:
                        yield Token(text, count)
                        count += 1
                if line == "data: [DONE]":
                    break
            yield End(Metrics(count), "stop", "finish_reason")

    @hookimpl
    async def health(self) -> HealthStatus:
        """Always well."""
        return HealthStatus(HealthState.HEALTHY)


def _make(**options: Any) -> BoundAdapter:
    return BoundAdapter(NaiveAdapter(NaiveConfig(**options)), name="naive")


@pytest.fixture(scope="module")
def naive() -> dict[str, Result]:
    """What the fault server says of it."""
    with Lab() as lab:
        results = judge_all(FAULT_CHECKS[:3], HttpSubject.in_lab(lab, _make))
    return {result.check: result for result in results}


def test_a_naive_adapter_is_not_understood_to_be_well(naive: dict[str, Result]) -> None:
    """It fails on usage events already, which have no choices."""
    assert naive["faults-understood"].status is Status.FAILED
    assert naive["faults-answers-that-end-too-early"].status is Status.BLOCKED


async def test_a_cut_answer_taken_for_whole_is_a_lie() -> None:
    """The verdict names the faults, and what the adapter made of them (WA-INT-3002)."""
    chapter = next(c for c in FAULT_CHECKS if c.name == "faults-answers-that-end-too-early")
    with Lab() as lab, pytest.raises(Violation) as caught:
        await chapter.run(HttpSubject.in_lab(lab, _make))
    _, lie, *others = re.split("faults: |; ", str(caught.value))
    assert lie.startswith("it took a broken answer for a whole one (polite-end, ")
    assert any(re.fullmatch(r"it crashed with ReadError \(.*rst-mid-chunk.*\)", o) for o in others)


async def test_the_lab_engine_is_an_engine() -> None:
    """It answers, counts, refuses what is too long and models it does not have."""
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
async def test_no_connection_is_lost_when_the_lab_closes(turns: int) -> None:
    """Also those that have been accepted, and have no protocol yet."""
    clients: list[socket.socket] = []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        async with FaultServer() as server:
            port = httpx.URL(server.base_url).port
            clients += [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
            for _ in range(turns):
                await asyncio.sleep(0)
        gc.collect()
    assert [str(warning.message) for warning in told] == []
    for client in clients:
        client.settimeout(5)
        with client, suppress(ConnectionResetError):
            assert client.recv(1) == b""


async def test_what_must_be_quick_is_given_up_in_time() -> None:
    """A call that does not return is a violation, and does not hang the kit."""
    import asyncio

    with pytest.raises(Violation, match=r"waiting did not return within 0\.05 s"):
        await in_time(asyncio.Event().wait(), "waiting", 0.05)


def test_the_general_checks_run_in_the_lab_too() -> None:
    """The lab's engine is good enough to prove what needs no fault: the naive adapter's mistakes
    are those of its stream."""
    with Lab() as lab:
        subject = HttpSubject.in_lab(lab, _make)
        [first] = judge_all(CHECKS[:1], subject)
    assert first.status is Status.FAILED
    assert "IndexError" in first.remark
