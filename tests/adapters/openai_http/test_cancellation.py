"""Cancelling at every await point leaves nothing behind (WA-INT-3002, ORCH-3026, AH-1004).

A job is let go for k steps of the event loop and then cancelled, for every k from before the
connect to after the end, in several ways, over plain TCP, over TLS, by a name that is looked up, in
the backoff of a retry, and while it queues for a connection. A step is one callback: many of them
run in one turn of the loop.
"""

import asyncio
import gc
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trustme

from adapter_api import Cancelled, End, Started, TaskRequest, Token, WorkerError
from adapter_api.faults import Request, Script, ScriptServer, Wire
from adapters.http_util import RetryBudget, RetryPolicy, StreamTransport
from adapters.openai_http import OpenAIHttpAdapter
from tests.openai_chunks import piece

WAYS = ("task", "stream", "adapter", "all")


async def slow_answer(request: Request, wire: Wire) -> None:
    """A whole answer with some turns of the loop between its pieces."""

    async def turns() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    await turns()
    await wire.stream_head()
    for payload in (piece("a"), piece("b"), piece("c"), piece("", "stop"), "[DONE]"):
        await turns()
        await wire.event(payload)
    await turns()
    await wire.end()


async def busy_then_whole(request: Request, wire: Wire) -> None:
    """Every second request is refused as busy."""
    if request.connection.requests % 2:
        await wire.reply({"error": "busy"}, 503)
    else:
        await slow_answer(request, wire)


class Steps:
    """Counts the callbacks of the event loop, and acts before a certain one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._left = -1
        self._action: Callable[[], object] = lambda: None
        run = asyncio.Handle._run

        def counted(handle: asyncio.Handle) -> None:
            if self._left == 0:
                self._action()
            self._left -= 1
            run(handle)

        monkeypatch.setattr(asyncio.Handle, "_run", counted)

    def after(self, count: int, action: Callable[[], object]) -> None:
        """Call `action` when `count` callbacks have run."""
        self._left, self._action = count, action

    def stop(self) -> None:
        """No action any more."""
        self._left = -1


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """The callbacks of this test's loop."""
    return Steps(monkeypatch)


class Job:
    """One job that runs in a task of its own, and what became of it."""

    def __init__(self, place: "Place") -> None:
        self.place = place
        self.stream = place.adapter.submit(TaskRequest(prompt="x"))
        self.events: list[Any] = []
        self.phase = ""
        self._acknowledged = False
        self._seen = len(place.server.connections), len(place.server.requests)
        self._cancels: list[asyncio.Task[bool]] = []
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async with self.stream:
                async for event in self.stream:
                    assert not (self._acknowledged and isinstance(event, Token)), "a late token"
                    self.events.append(event)
                    await asyncio.sleep(0)  # it may also be cancelled while no task waits for it
        except Cancelled:
            pass

    @property
    def ended(self) -> bool:
        """Return whether the answer came whole."""
        return bool(self.events) and isinstance(self.events[-1], End)

    def cancel(self, way: str) -> None:
        """Cancel it, and note how far it was."""
        self.phase = self._phase()
        if way in ("stream", "all"):
            self._cancels.append(asyncio.create_task(self._cancel(self.stream.cancel())))
        if way in ("adapter", "all"):
            cancelling = self.place.adapter.cancel(self.stream.job_id)
            self._cancels.append(asyncio.create_task(self._cancel(cancelling)))
        if way in ("task", "all"):
            self.task.cancel()

    async def _cancel(self, cancelling: Any) -> bool:
        cancelled: bool = await cancelling
        self._acknowledged = True
        if cancelled:  # true means that the connection is closed
            assert self.place.in_use <= self.place.others
        return cancelled

    def _phase(self) -> str:
        server = self.place.server
        if self.ended:
            return "ended"
        if any(isinstance(event, Token) for event in self.events):
            return "tokens"
        if any(isinstance(event, Started) for event in self.events):
            return "started"
        if len(server.requests) > self._seen[1]:
            return "asked"
        return "connected" if len(server.connections) > self._seen[0] else "begun"

    async def done(self) -> None:
        """Wait for its end, and check it."""
        _, late = await asyncio.wait([self.task, *self._cancels], timeout=2)
        assert not late, "a task hangs"
        for cancelling in self._cancels:
            cancelling.result()
        if not self.task.cancelled():
            assert self.task.exception() is None
            assert self.task.cancelling() == 0
            assert self.ended or self._acknowledged
        if self.ended:
            assert [e.text for e in self.events if isinstance(e, Token)] == ["a", "b", "c"]


class Place:
    """A server, an adapter, and what must hold for them."""

    def __init__(
        self, server: ScriptServer, adapter: OpenAIHttpAdapter, transport: StreamTransport
    ) -> None:
        self.server = server
        self.adapter = adapter
        self.transport = transport
        self.others = 0
        self._tasks = asyncio.all_tasks()

    @property
    def in_use(self) -> int:
        """Connections that belong to a job."""
        return self.transport.open_connections - self.transport.idle_connections

    async def close_idle(self) -> None:
        """The next job has to connect."""
        for idle in [
            idle for pool in self.transport._pools.values() for idle in pool._idle.values()
        ]:
            for connection in list(idle):
                await connection.aclose()

    async def nothing_is_left(self) -> None:
        """No connection in use, the server saw each of the others closed, no task; and it works."""
        assert self.in_use == 0
        async with asyncio.timeout(2):
            while asyncio.all_tasks() - self._tasks - self.server.tasks:
                await asyncio.sleep(0)  # what is left may be the server's accepting
            while sum(not c.gone.is_set() for c in self.server.connections) > (
                self.transport.idle_connections
            ):
                await asyncio.sleep(0.0005)
            assert await self.adapter.submit(TaskRequest(prompt="x")).text()
        gone = [c for c in self.server.connections if c.gone.is_set()]
        for connection in gone:
            self.server.connections.remove(connection)


@asynccontextmanager
async def at(
    script: Script, *, tls: bool = False, host: str = "127.0.0.1", max_connections: int = 50
) -> AsyncIterator[Place]:
    """A place where jobs run. At its end nothing is open, and the event loop has no complaints."""
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    server_context, client_context = None, ssl.create_default_context()
    if tls:
        authority = trustme.CA()
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(server_context)
        authority.configure_trust(client_context)
    transport = StreamTransport(ssl_context=lambda: client_context, max_connections=max_connections)
    async with ScriptServer(script, tls=server_context) as server:
        url = server.base_url.replace("127.0.0.1", host)
        retry = RetryPolicy(base_s=0.002, cap_s=0.002, seed=1)
        async with OpenAIHttpAdapter(url, transport=transport, retry=retry) as adapter:
            # Every other request is refused in one of the places: more than any budget allows.
            adapter._budget = RetryBudget(1e6, 1e6)
            yield Place(server, adapter, transport)
            assert transport.open_connections == transport.idle_connections
        assert transport.open_connections == 0
        assert await server.all_closed()
    assert server.failures == []
    gc.collect()
    await asyncio.sleep(0)
    assert problems == []


# With room for one connection, each that is lost stops everything.
PLACES: dict[str, Callable[[], Any]] = {
    "plain": lambda: at(slow_answer, max_connections=1),
    "tls": lambda: at(slow_answer, max_connections=1, tls=True),
    "name": lambda: at(slow_answer, max_connections=1, host="localhost"),
    "retry": lambda: at(busy_then_whole, max_connections=1),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "used"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place_name", PLACES)
async def test_cancel_after_every_step(
    place_name: str, way: str, fresh: bool, steps: Steps
) -> None:
    """Every callback from the first to the end, on a fresh connection and on a used one."""
    phases: set[str] = set()
    async with PLACES[place_name]() as place:
        for count in range(1000):
            if fresh:
                await place.close_idle()
            job = Job(place)
            steps.after(count, lambda job=job: job.cancel(way))  # type: ignore[misc]
            await asyncio.wait([job.task], timeout=2)
            steps.stop()
            await job.done()
            await place.nothing_is_left()
            phases.add(job.phase)
            if job.phase in ("", "ended"):
                break
    assert phases >= {"begun", "asked", "tokens", "ended"}
    assert count >= 30


@pytest.mark.parametrize(
    ("stride", "pauses"), [(9, 3), pytest.param(2, 6, marks=pytest.mark.exhaustive)]
)
@pytest.mark.parametrize("place_name", ["plain", "tls"])
async def test_cancelling_again_while_it_cleans_up(
    place_name: str, stride: int, pauses: int, steps: Steps
) -> None:
    """Impatience leaks nothing: the task is cancelled a second time while it ends."""
    async with PLACES[place_name]() as place:
        for count in range(0, 60, stride):
            for pause in range(pauses):
                await place.close_idle()
                job = Job(place)

                def twice(job: Job = job, pause: int = pause) -> None:
                    job.cancel("task")
                    steps.after(pause, job.task.cancel)

                steps.after(count, twice)
                await asyncio.wait([job.task], timeout=2)
                steps.stop()
                await job.done()
                async with asyncio.timeout(1):  # the closing continues by itself
                    while place.in_use:
                        await asyncio.sleep(0)
                await place.nothing_is_left()


@pytest.mark.parametrize("rounds", [10, pytest.param(60, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("way", WAYS)
async def test_cancel_while_queued_for_a_connection(way: str, rounds: int) -> None:
    """With one connection for many jobs, cancelling some never costs the others their turn."""
    rng = random.Random(5)
    async with at(slow_answer, max_connections=1) as place:
        place.others = 1
        for _ in range(rounds):
            jobs = [Job(place) for _ in range(6)]
            for _ in range(rng.randrange(40)):
                await asyncio.sleep(0)
            doomed = rng.sample(jobs, 3)
            for job in doomed:
                job.cancel(way)
            async with asyncio.timeout(3):
                for job in jobs:
                    await job.done()
            assert all(job.ended for job in jobs if job not in doomed)
            await place.nothing_is_left()


@pytest.mark.parametrize("rounds", [8, pytest.param(100, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_cancel_at_random_moments_of_many_jobs(tls: bool, rounds: int) -> None:
    """Many jobs, a random way and moment each, twenty at a time for ten connections."""
    rng = random.Random(11)
    async with at(slow_answer, tls=tls, max_connections=10) as place:
        place.others = 10

        async def one() -> None:
            job = Job(place)
            await asyncio.sleep(rng.uniform(0, 0.02 if tls else 0.01))
            job.cancel(rng.choice(WAYS))
            await job.done()

        for _ in range(rounds):
            await asyncio.gather(*(one() for _ in range(20)))
            assert place.transport.open_connections <= 10
            assert place.in_use == 0
        await place.nothing_is_left()


@contextmanager
def silent_port(*, accepts: bool) -> Iterator[int]:
    """A port that takes a connection and says nothing, or does not even take it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100 if accepts else 0)
        port: int = listener.getsockname()[1]
        fillers = [] if accepts else [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        try:
            yield port
        finally:
            for filler in fillers:
                filler.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("accepts", [True, False], ids=["mute", "full"])
async def test_cancel_while_the_server_is_silent(scheme: str, accepts: bool) -> None:
    """A connect, a handshake or an answer that never comes is given up at once; no socket stays."""
    context = ssl.create_default_context()
    transport = StreamTransport(ssl_context=lambda: context, max_connections=20)
    with silent_port(accepts=accepts) as port:
        async with (
            ScriptServer(slow_answer) as unused,
            OpenAIHttpAdapter(f"{scheme}://127.0.0.1:{port}", transport=transport) as adapter,
        ):
            place = Place(unused, adapter, transport)
            place.others = 20
            for way in WAYS:
                jobs = [Job(place) for _ in range(25)]  # more than there is room for
                await asyncio.sleep(0.02)
                for job in jobs:
                    job.cancel(way)
                for job in jobs:
                    await job.done()
                assert transport.open_connections == 0
            # httpx's own pool is left without slots by this.
            with pytest.raises(WorkerError, match="deadline"):
                await adapter.submit(TaskRequest(prompt="x", deadline_s=0.1)).text()
            assert transport.open_connections == 0


async def test_a_server_that_never_stops_sending_is_cut_off() -> None:
    """After cancel() returns the connection is closed, however eager the server."""

    async def endless(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        while not wire.gone:
            await wire.event(piece("x" * 500))
            await asyncio.sleep(0)

    async with at(endless) as place:
        for way in WAYS:
            job = Job(place)
            while len(job.events) < 5:
                await asyncio.sleep(0)
            job.cancel(way)
            await job.done()
            assert place.transport.open_connections == 0
            await asyncio.wait_for(place.server.connections[-1].gone.wait(), 1)


async def test_cancelling_what_ended_or_never_was_is_false() -> None:
    """ORCH-3026: unknown ids, and jobs whose answer is whole; both may be cancelled in peace."""
    async with at(slow_answer) as place:
        assert not await place.adapter.cancel("no such job")
        job = Job(place)
        await job.done()
        assert job.ended
        assert not await place.adapter.cancel(job.stream.job_id)
        assert not await job.stream.cancel()
        assert place.transport.idle_connections == 1
