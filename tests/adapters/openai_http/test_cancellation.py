"""Cancelling at every await point leaves nothing behind (WA-INT-3002, ORCH-3026, AH-1004).

A job is let go for k turns of the event loop and then cancelled, for every k from before the
connect to after the end, in three ways, over plain TCP, over TLS, in the backoff of a retry, and
while it queues for a connection.
"""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme

from adapter_api import Cancelled, End, TaskRequest, Token, WorkerError
from adapters.http_util import RetryPolicy, StreamTransport
from adapters.openai_http import OpenAIHttpAdapter
from tests.openai_chunks import piece, whole_answer
from tests.script_server import Request, Script, ScriptServer, Wire

TURNS = 70
WAYS = ("task", "stream", "adapter")


async def slow_answer(request: Request, wire: Wire) -> None:
    """A whole answer with a turn of the loop between its pieces."""
    await asyncio.sleep(0)
    await wire.stream_head()
    for text in ("a", "b", "c"):
        await asyncio.sleep(0)
        await wire.event(piece(text))
    await asyncio.sleep(0)
    await wire.event(piece("", "stop"))
    await wire.event("[DONE]")
    await asyncio.sleep(0)
    await wire.end()


async def busy_then_whole(request: Request, wire: Wire) -> None:
    """Every second request is refused as busy."""
    if request.connection.requests % 2:
        await wire.answer({"error": "busy"}, 503)
    else:
        await whole_answer(wire)


class Job:
    """One job that runs in a task of its own, and what became of it."""

    def __init__(self, adapter: OpenAIHttpAdapter) -> None:
        self.adapter = adapter
        self.stream = adapter.submit(TaskRequest(prompt="x"))
        self.events: list[Any] = []
        self.cancelled = False
        self.tokens_after_cancel = 0
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for event in self.stream:
                if self.cancelled and isinstance(event, Token):
                    self.tokens_after_cancel += 1
                self.events.append(event)
        except Cancelled:
            pass

    async def cancel(self, way: str) -> None:
        """Cancel it in one of three ways, and check what can be seen of that."""
        if way == "task":
            self.task.cancel()
        elif way == "stream":
            await self.stream.cancel()
        else:
            await self.adapter.cancel(self.stream.job_id)
        self.cancelled = way != "task"
        await asyncio.wait([self.task], timeout=2)
        assert self.task.done(), "the reader hangs"
        assert self.tokens_after_cancel == 0
        if way == "task":
            assert self.task.cancelled() or self._ended()
        else:
            assert self.task.exception() is None
            assert self.task.cancelling() == 0

    def _ended(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], End)


def _transport(adapter: OpenAIHttpAdapter) -> StreamTransport:
    transport = adapter.config.transport
    assert isinstance(transport, StreamTransport)
    return transport


@asynccontextmanager
async def _place(
    script: Script, *, tls: bool = False, max_connections: int = 50
) -> AsyncIterator[tuple[ScriptServer, OpenAIHttpAdapter]]:
    server_context, client_context = None, ssl.create_default_context()
    if tls:
        authority = trustme.CA()
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(server_context)
        authority.configure_trust(client_context)
    transport = StreamTransport(ssl_context=lambda: client_context, max_connections=max_connections)
    async with ScriptServer(script, tls=server_context) as server:
        retry = RetryPolicy(base_s=0.002, cap_s=0.002, seed=1)
        async with OpenAIHttpAdapter(server.base_url, transport=transport, retry=retry) as adapter:
            yield server, adapter
    assert transport.open_connections == 0
    assert server.failures == []


async def _nothing_is_left(server: ScriptServer, adapter: OpenAIHttpAdapter) -> None:
    transport = _transport(adapter)
    assert transport.open_connections == transport.idle_connections
    async with asyncio.timeout(2):
        while sum(not c.gone.is_set() for c in server.connections) > transport.idle_connections:
            await asyncio.sleep(0.001)
        assert await adapter.submit(TaskRequest(prompt="x")).text()
    server.connections[:] = [c for c in server.connections if not c.gone.is_set()]


PLACES: dict[str, Callable[[], Any]] = {
    "plain": lambda: _place(slow_answer),
    "tls": lambda: _place(slow_answer, tls=True),
    "retry": lambda: _place(busy_then_whole),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", PLACES)
async def test_cancel_after_every_turn_of_the_loop(place: str, way: str) -> None:
    """Each turn is tried on a fresh connection and on one that was used before."""
    ended = 0
    async with PLACES[place]() as (server, adapter):
        for turns in range(TURNS):
            for fresh in (True, False):
                if fresh:
                    for idle in list(_transport(adapter)._idle.values()):
                        for connection in list(idle):
                            await connection.aclose()
                job = Job(adapter)
                for _ in range(turns):
                    await asyncio.sleep(0)
                await job.cancel(way)
                ended += job._ended()
                await _nothing_is_left(server, adapter)
    assert ended < 2 * TURNS  # at least some were really cancelled


@pytest.mark.parametrize("way", WAYS)
async def test_cancel_while_queued_for_a_connection(way: str) -> None:
    """With one connection for many jobs, cancelling some never costs the others their turn."""
    rng = random.Random(5)
    async with _place(slow_answer, max_connections=1) as (server, adapter):
        for _ in range(40):
            jobs = [Job(adapter) for _ in range(6)]
            for _ in range(rng.randrange(30)):
                await asyncio.sleep(0)
            doomed = rng.sample(jobs, 3)
            await asyncio.gather(*(job.cancel(way) for job in doomed))
            rest = [job.task for job in jobs if job not in doomed]
            _, late = await asyncio.wait(rest, timeout=3)
            assert not late
            await _nothing_is_left(server, adapter)


async def test_cancel_at_random_moments_of_many_jobs() -> None:
    """Two thousand jobs, a random way and moment each, twenty at a time."""
    rng = random.Random(11)
    async with _place(slow_answer, max_connections=10) as (server, adapter):

        async def one() -> None:
            job = Job(adapter)
            await asyncio.sleep(rng.uniform(0, 0.008))
            await job.cancel(rng.choice(WAYS))

        for _ in range(100):
            await asyncio.gather(*(one() for _ in range(20)))
            assert _transport(adapter).open_connections <= 10
        await _nothing_is_left(server, adapter)


async def test_cancel_while_the_server_does_not_accept() -> None:
    """A connect that hangs (full backlog) is given up at once, and leaves no socket."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        transport = StreamTransport(ssl_context=ssl.create_default_context)
        async with OpenAIHttpAdapter(f"http://127.0.0.1:{port}", transport=transport) as adapter:
            for way in WAYS:
                job = Job(adapter)
                await asyncio.sleep(0.02)
                await job.cancel(way)
                assert transport.open_connections == 0
            # httpx's own pool is left without slots by twenty of these.
            with pytest.raises(WorkerError):
                await adapter.submit(TaskRequest(prompt="x", deadline_s=0.2)).text()
            assert transport.open_connections == 0
        for filler in fillers:
            filler.close()


async def test_a_server_that_never_stops_sending_is_cut_off() -> None:
    """After cancel() returns the connection is closed, however eager the server."""

    async def endless(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        while not wire.gone:
            await wire.event(piece("x"))

    async with _place(endless) as (server, adapter):
        for way in WAYS:
            job = Job(adapter)
            while len(job.events) < 5:
                await asyncio.sleep(0)
            await job.cancel(way)
            assert await asyncio.wait_for(server.connections[-1].gone.wait(), 1)
            assert _transport(adapter).open_connections == 0
