"""Jobs that are cancelled at a certain step, and places where they run."""

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from adapter_api import Cancelled, End, Started, TaskRequest, Token
from adapter_api.faults import Request, Script, ScriptServer, Wire
from adapters.http_util import RetryBudget, RetryPolicy, StreamTransport
from adapters.openai_http import OpenAIHttpAdapter
from tests.certificates import tls_pair
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
    server_context, client_context = tls_pair() if tls else (None, ssl.create_default_context())
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
