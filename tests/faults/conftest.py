"""The adapter on a client with room for a single connection, and what it makes of a job."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import httpx
import pytest

from adapter_api import End, Error, Started, TaskRequest, Token, WorkerError
from adapter_api.faults import LIMIT_S, FaultServer
from adapters.http_util import ClientOptions, RetryPolicy, StreamTransport, make_client
from adapters.openai_http import OpenAIHttpAdapter

KEY = "correct-horse-battery-staple-9000"
"""Looks like nothing in particular, so that only knowing it helps to keep it out of texts."""

PATIENT = {"first_token_timeout_s": 20.0, "stall_timeout_s": 20.0}
"""Limits that no job here reaches: what is over long before was not waiting for them."""

SHORT = {"first_token_timeout_s": LIMIT_S, "stall_timeout_s": LIMIT_S}
"""Limits for what ends by reaching them, or has to outlast them."""

SLACK_S = 2.0
"""What a slow or busy machine may add to any time."""

TRIES = 5
"""How often a job may be run: what is observed while the machine stands still proves nothing,
neither of the adapter nor of the server, which has pauses to keep."""

QUIET_S = 0.1
"""For how long, at a time, the loop may stand still while a job runs that proves something."""

_BEAT_S = 0.01


@attrs.frozen
class Outcome:
    """What became of a job.

    Args:
        text: The text that was delivered.
        started: The Started event, None if the job failed before it.
        end: The End event, None if the job failed.
        error: What it failed with.
        took_s: From submit to the last event.
        stood_s: The longest time for which the loop stood still meanwhile.
    """

    text: str
    started: Started | None
    end: End | None
    error: WorkerError | None
    took_s: float
    stood_s: float

    def took(self, least_s: float, most_s: float) -> bool:
        """Whether the time it took is right, but for a slow machine's share."""
        return least_s - 0.01 <= self.took_s <= most_s + SLACK_S

    @property
    def code(self) -> str | None:
        """The error's code."""
        return None if self.error is None else self.error.code


async def run(adapter: OpenAIHttpAdapter, task: TaskRequest) -> Outcome:
    """Submit a job and read it to its end."""
    pieces: list[str] = []
    started: Started | None = None
    end: End | None = None
    error: WorkerError | None = None
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    stream = adapter.submit(task)
    async with _watched() as stops_s:
        try:
            async for event in stream:
                match event:
                    case Started():
                        started = event
                    case Token(text=text, index=index):
                        assert text
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
    return Outcome("".join(pieces), started, end, error, took_s, max(stops_s))


@asynccontextmanager
async def _watched() -> AsyncIterator[list[float]]:
    """For how long the loop stood still, each time it was looked at."""
    loop = asyncio.get_running_loop()
    stops_s = [0.0]

    def beat(due_at: float) -> None:
        nonlocal timer
        stops_s.append(loop.time() - due_at)
        timer = loop.call_later(_BEAT_S, beat, loop.time() + _BEAT_S)

    timer = loop.call_later(_BEAT_S, beat, loop.time() + _BEAT_S)
    try:
        yield stops_s
    finally:
        timer.cancel()
        stops_s.append(loop.time() - timer.when())


@attrs.frozen
class Bench:
    """A server, and what a client needs for it: a single connection at a time."""

    server: FaultServer
    transport: StreamTransport
    client: httpx.AsyncClient

    def adapter(self, scenario: str, **options: Any) -> OpenAIHttpAdapter:
        """An adapter for a scenario, with quick retries, and PATIENT unless told otherwise."""
        return self.adapter_for(self.server.url(scenario), **options)

    def adapter_for(self, base_url: str, **options: Any) -> OpenAIHttpAdapter:
        """The same, for any address."""
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
        """Connections that some job holds."""
        return self.transport.open_connections - self.transport.idle_connections


def _no_tls() -> Any:
    raise AssertionError("no test here uses TLS")


MakeBench = Callable[..., Awaitable[Bench]]


@pytest.fixture
async def make_bench() -> AsyncIterator[MakeBench]:
    """A function that makes a Bench."""
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
    """A Bench."""
    return await make_bench()
