"""Helpers for the adapter's tests."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from adapter_api import TaskRequest
from adapter_api.faults import FaultServer
from adapters.openai_http import OpenAIHttpAdapter, RetryPolicy
from tests.fake_openai import ANYTHING, FakeOpenAI, Handler
from tests.virtual_time import pytest_asyncio_loop_factories, virtual_clock

__all__ = ["pytest_asyncio_loop_factories", "virtual_clock"]

FAST_RETRY = RetryPolicy(base_s=0.01, cap_s=0.02, seed=1)

Serving = Callable[..., Any]


@asynccontextmanager
async def _serving(
    routes: Mapping[str, Handler] | Handler | None = None, **options: Any
) -> AsyncIterator[tuple[FakeOpenAI, OpenAIHttpAdapter]]:
    if callable(routes):
        routes = {ANYTHING: routes}
    options.setdefault("retry", FAST_RETRY)
    async with (
        FakeOpenAI(routes) as server,
        OpenAIHttpAdapter(server.base_url, **options) as adapter,
    ):
        yield server, adapter
    assert server.failures == []


@pytest.fixture
def serving() -> Serving:
    """`async with serving(routes, **options) as (server, adapter)`: a server with these handlers,
    or one handler for everything, and an adapter for it."""
    return _serving


@pytest.fixture
async def server() -> AsyncIterator[FaultServer]:
    """The fault server."""
    async with FaultServer() as server:
        yield server


@pytest.fixture
def task() -> TaskRequest:
    """A job with everything set."""
    return TaskRequest(
        model="m", prompt="hi", max_tokens=5, temperature=0.5, seed=7, job_id="job-1"
    )
