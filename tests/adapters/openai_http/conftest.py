"""What the adapter's tests share."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from adapter_api import TaskRequest
from adapters.openai_http import OpenAIHttpAdapter, RetryPolicy
from tests.script_server import ScriptServer, Script

FAST_RETRY = RetryPolicy(base_s=0.01, cap_s=0.02, seed=1)


@asynccontextmanager
async def _serving(
    script: Script, **options: Any
) -> AsyncIterator[tuple[ScriptServer, OpenAIHttpAdapter]]:
    options.setdefault("retry", FAST_RETRY)
    async with (
        ScriptServer(script) as server,
        OpenAIHttpAdapter(server.base_url, **options) as adapter,
    ):
        yield server, adapter
    assert server.failures == []


Serving = Callable[..., Any]


@pytest.fixture
def serving() -> Serving:
    """`async with serving(script, **options) as (server, adapter)`."""
    return _serving


@pytest.fixture
def task() -> TaskRequest:
    """A job with everything set."""
    return TaskRequest(
        model="m", prompt="hi", max_tokens=5, temperature=0.5, seed=7, job_id="job-1"
    )
