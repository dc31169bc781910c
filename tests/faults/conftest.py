"""The adapter on a client limited to one connection, and the outcome of a job, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import httpx
import pytest

from adapter_api import End, Error, Started, TaskRequest, Token, WorkerError
from adapter_api.faults import LIMIT_S, FaultServer
from adapters.http_util import ClientOptions, RetryPolicy, StreamTransport, make_client
from adapters.openai_http import OpenAIHttpAdapter
from tests.virtual_time import pytest_asyncio_loop_factories, virtual_clock

__all__ = ["pytest_asyncio_loop_factories", "virtual_clock"]

KEY = "correct-horse-battery-staple-9000"
"""Matches no pattern of known keys, so only a redactor that knows it can remove it."""

PATIENT = {"first_token_timeout_s": 20.0, "stall_timeout_s": 20.0}
"""Limits that no job here reaches."""

SHORT = {"first_token_timeout_s": LIMIT_S, "stall_timeout_s": LIMIT_S}
"""Limits for jobs that end by reaching them, or must outlast them."""


@attrs.frozen
class Outcome:
    """The outcome of a job.

    Args:
        text: The delivered text.
        started: The Started event, None if the job failed before it.
        end: The End event, None if the job failed.
        error: The job's error, if it failed.
        took_s: From submit to the last event, in virtual time.
    """

    text: str
    started: Started | None
    end: End | None
    error: WorkerError | None
    took_s: float

    def took(self, min_s: float, max_s: float) -> bool:
        """Return whether it took at least `min_s` and at most `max_s`."""
        return min_s - 0.01 <= self.took_s <= max_s

    @property
    def code(self) -> str | None:
        """Return the error's code."""
        return None if self.error is None else self.error.code


async def run(adapter: Any, task: TaskRequest) -> Outcome:
    """Submit a job and read it to its end."""
    pieces: list[str] = []
    started: Started | None = None
    end: End | None = None
    error: WorkerError | None = None
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    stream = adapter.submit(task)
    try:
        async for event in stream:
            match event:
                case Started():
                    started = event
                case Token(text=text, index=index):
                    assert text or type(event) is not Token
                    assert index == len(pieces)
                    pieces.append(text)
                case End():
                    end = event
                case Error():
                    error = event.error
                    break
    except WorkerError as failure:
        assert started is None, "a failure after Started is an event"
        error = failure
    took_s = loop.time() - began_at
    await stream.aclose()
    return Outcome("".join(pieces), started, end, error, took_s)


@attrs.frozen
class Bench:
    """A server and a client with at most one connection."""

    server: FaultServer
    transport: StreamTransport
    client: httpx.AsyncClient

    def adapter(self, scenario: str, **options: Any) -> OpenAIHttpAdapter:
        """Return an adapter for a scenario, with short retry delays and PATIENT limits."""
        return self.adapter_for(self.server.url(scenario), **options)

    def adapter_for(self, base_url: str, **options: Any) -> OpenAIHttpAdapter:
        """Return the same adapter for any address."""
        return OpenAIHttpAdapter(
            base_url,
            **{
                "client": self.client,
                "api_key": KEY,
                **PATIENT,
                "retry": RetryPolicy(base_s=0.01, cap_s=0.02, seed=1),
                **options,
            },
        )

    @property
    def in_use(self) -> int:
        """Return the number of connections that jobs hold."""
        return self.transport.open_connections - self.transport.idle_connections


def _no_tls() -> Any:
    raise AssertionError("no test here uses TLS")


MakeBench = Callable[..., Awaitable[Bench]]


@pytest.fixture
async def make_bench() -> AsyncIterator[MakeBench]:
    """Return a function that makes a Bench."""
    made: list[Bench] = []

    async def make(*, fault_gets: bool = False) -> Bench:
        server = await FaultServer(fault_gets=fault_gets).__aenter__()
        options = ClientOptions(max_connections=1)
        transport = StreamTransport(ssl_context=_no_tls, max_connections=1)
        made.append(Bench(server, transport, make_client(options, transport)))
        return made[-1]

    yield make
    for bench in made:
        await bench.client.aclose()
        await bench.server.__aexit__(None, None, None)


@pytest.fixture
async def bench(make_bench: MakeBench) -> Bench:
    """Return a Bench."""
    return await make_bench()
