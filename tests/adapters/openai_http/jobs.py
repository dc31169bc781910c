"""Jobs that the tests of the adapter run, and what comes of them."""

from typing import Any

import pytest

from adapter_api import TaskRequest, WorkerError
from adapters.openai_http import OpenAIHttpAdapter

PROMPT = TaskRequest(prompt="hi")
MESSAGES = TaskRequest(messages=[{"role": "user", "content": "hi"}])
OK = "Hello world"


async def failure_of(adapter: OpenAIHttpAdapter, task: TaskRequest = PROMPT) -> WorkerError:
    """Run a job that must fail, and return its error."""
    with pytest.raises(WorkerError) as caught:
        await adapter.submit(task).text()
    return caught.value


async def events_of(adapter: OpenAIHttpAdapter, task: TaskRequest = PROMPT) -> list[Any]:
    """Run a job and return its events."""
    return [event async for event in adapter.submit(task)]


def records_of(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return what the adapter logged."""
    return [vars(r) for r in caplog.records if r.name == "worker_adapters.openai_http"]
