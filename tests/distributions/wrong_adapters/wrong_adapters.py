"""Adapters that break one rule each.

Their entry points have the names of the checks they fail.
"""

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import attrs
from right_adapter import RightAdapter

from adapter_api import (
    End,
    EngineProps,
    EngineUnavailable,
    HealthStatus,
    InvalidRequest,
    Metrics,
    MetricsFrame,
    Reasoning,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    ToolCall,
    WorkerReset,
    hookimpl,
)

block = time.sleep


class Editor(RightAdapter):
    """Changes the right adapter's events one by one."""

    def edit(self, event: TokenEvent) -> list[TokenEvent]:
        raise NotImplementedError

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        async for event in RightAdapter.submit(self, task):
            for edited in self.edit(event):
                yield edited


class Answers(Editor):
    """Fails like a program with a mistake, not like an adapter."""

    def edit(self, event: TokenEvent) -> list[TokenEvent]:
        if isinstance(event, Token) and event.index == 3:
            raise KeyError("choices")
        return [event]


class Order(Editor):
    """Tells its metrics before the Tokens."""

    def edit(self, event: TokenEvent) -> list[TokenEvent]:
        return [event, MetricsFrame({})] if isinstance(event, Started) else [event]


class Indexes(Editor):
    """Counts from one."""

    def edit(self, event: TokenEvent) -> list[TokenEvent]:
        return [attrs.evolve(event, index=event.index + 1) if isinstance(event, Token) else event]


class Texts(Editor):
    """Passes on the empty deltas of its engine."""

    def edit(self, event: TokenEvent) -> list[TokenEvent]:
        empty = isinstance(event, Token) and event.index == 2
        return [attrs.evolve(event, text="") if empty else event]


class Terminal(Editor):
    """Ends without a last word."""

    def edit(self, event: TokenEvent) -> list[TokenEvent]:
        return [] if isinstance(event, End) else [event]


class Proof(Editor):
    """Takes an aborted answer for a whole one."""

    def edit(self, event: TokenEvent) -> list[TokenEvent]:
        return [attrs.evolve(event, finish_reason="abort") if isinstance(event, End) else event]


class Identity(Editor):
    """Makes job ids of its own."""

    def edit(self, event: TokenEvent) -> list[TokenEvent]:
        return [attrs.evolve(event, job_id="mine") if isinstance(event, Started) else event]


class Numbers(Editor):
    """Counts what it did not send."""

    def edit(self, event: TokenEvent) -> list[TokenEvent]:
        return [attrs.evolve(event, metrics=Metrics(999)) if isinstance(event, End) else event]


class Frames(Editor):
    """Puts a tuple into its metrics, which JSON makes a list of."""

    def edit(self, event: TokenEvent) -> list[TokenEvent]:
        strange = MetricsFrame({"batch": (1, 2)})
        return [strange, event] if isinstance(event, End) else [event]


class Repeatable(RightAdapter):
    """Forgets the seed."""

    async def words(self, task: TaskRequest) -> AsyncIterator[str]:
        for _ in range(task.max_tokens or 16):
            await asyncio.sleep(0)
            yield f"{random.random()} "


class Messages(RightAdapter):
    """Knows prompts only, and does not declare it."""

    async def words(self, task: TaskRequest) -> AsyncIterator[str]:
        if task.messages is not None:
            raise InvalidRequest("INVALID_PARAMS", "messages are not supported")
        async for word in RightAdapter.words(self, task):
            yield word


class Tools(RightAdapter):
    """Passes on calls whose arguments are broken."""

    def call(self, task: TaskRequest) -> ToolCall:
        return ToolCall("call_1", task.tools[0].name, '{"city": "Os')


class Thinks(Editor):
    """Shows its reasoning to everyone."""

    def edit(self, event: TokenEvent) -> list[TokenEvent]:
        if isinstance(event, Token) and event.index == 0 and type(event) is Token:
            return [Reasoning("", 0, reasoning=event.text)]
        return [event]


class Closing(RightAdapter):
    """Yields another Token when it is closed."""

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        count = 0
        try:
            async for event in RightAdapter.submit(self, task):
                count += isinstance(event, Token)
                yield event
        except GeneratorExit:
            yield End(Metrics(count), "stop", "finish_reason")


class Cancel(RightAdapter):
    """Waits for the engine to confirm that a running job has ended."""

    running: ClassVar[set[str]] = set()

    async def words(self, task: TaskRequest) -> AsyncIterator[str]:
        self.running.add(task.job_id)
        async for word in RightAdapter.words(self, task):
            yield word
        self.running.discard(task.job_id)

    @hookimpl
    async def cancel(self, job_id: str) -> bool:
        while job_id in self.running:
            await asyncio.sleep(0.01)
        return False


class CancelStops(RightAdapter):
    """Lets its engine compute on to the end."""

    async def words(self, task: TaskRequest) -> AsyncIterator[str]:
        engine = asyncio.create_task(asyncio.sleep(0.6 if task.max_tokens > 10_000 else 0))
        async for word in RightAdapter.words(self, task):
            yield word
        await engine


class CancelUnknown(RightAdapter):
    """Returns True from cancel for every id."""

    @hookimpl
    async def cancel(self, job_id: str) -> bool:
        return True


class CancelAnywhere(RightAdapter):
    """Takes a lock while a job begins, and keeps it if the job is cancelled there."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.lock = asyncio.Lock()

    async def words(self, task: TaskRequest) -> AsyncIterator[str]:
        await self.lock.acquire()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.lock.release()
        async for word in RightAdapter.words(self, task):
            yield word


class ReaderCancelled(RightAdapter):
    """Swallows cancellation, and takes it back as if it were its own."""

    async def words(self, task: TaskRequest) -> AsyncIterator[str]:
        for _ in range(task.max_tokens or 16):
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                reader = asyncio.current_task()
                assert reader is not None
                reader.uncancel()
            yield "tick "


class Concurrent(RightAdapter):
    """Keeps the job in the object instead of in submit."""

    task: Any = None

    async def words(self, task: TaskRequest) -> AsyncIterator[str]:
        self.task = task
        await asyncio.sleep(0)
        async for word in RightAdapter.words(self, self.task):
            yield word


class SlowReader(RightAdapter):
    """Reads from its engine as fast as it can, into a queue without a bound."""

    async def words(self, task: TaskRequest) -> AsyncIterator[str]:
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        pump = asyncio.create_task(self.pump(task, queue))
        try:
            while (word := await queue.get()) is not None:
                yield word
        finally:
            pump.cancel()

    async def pump(self, task: TaskRequest, queue: asyncio.Queue[str | None]) -> None:
        async for word in RightAdapter.words(self, task):
            queue.put_nowait(word * 1000)
        queue.put_nowait(None)


class Deadline(RightAdapter):
    """Takes the deadline for a hint, and blocks."""

    async def words(self, task: TaskRequest) -> AsyncIterator[str]:
        if task.deadline_s is not None:
            block(1.5)
        async for word in RightAdapter.words(self, task):
            yield word


class EventLoop(RightAdapter):
    """Calls blocking code; not always, as caches are sometimes warm."""

    jobs = 0

    async def words(self, task: TaskRequest) -> AsyncIterator[str]:
        self.jobs += 1
        if self.jobs in (2, 3, 4):
            block(0.6)
        async for word in RightAdapter.words(self, task):
            yield word


class FailingJobs(RightAdapter):
    """Lets its own mistakes through where the engine refuses."""

    async def words(self, task: TaskRequest) -> AsyncIterator[str]:
        if len(task.prompt or "") > 50_000:
            raise IndexError("list index out of range")
        async for word in RightAdapter.words(self, task):
            yield word


class _Held(EngineUnavailable):
    """An error that holds on to what only this process has."""

    def __init__(self) -> None:
        super().__init__("POOL_UNAVAILABLE", "the prompt is too long for this engine")
        self.lock = threading.Lock()


class ErrorPickles(RightAdapter):
    """Raises errors that cannot leave the process."""

    async def words(self, task: TaskRequest) -> AsyncIterator[str]:
        if len(task.prompt or "") > 50_000:
            raise _Held
        async for word in RightAdapter.words(self, task):
            yield word


class Declarations(RightAdapter):
    """Misspells what it declares absent."""

    ABSENT: ClassVar[dict[str, str]] = {"sead": "the engine has none"}


class Health(RightAdapter):
    """Takes a dead engine for an exception."""

    @hookimpl
    async def health(self) -> HealthStatus:
        raise ConnectionError("refused")


class Props(RightAdapter):
    """Fails where its engine does not report it."""

    @hookimpl
    async def props(self) -> EngineProps:
        raise KeyError("n_ctx")


class EngineVersion(RightAdapter):
    """Returns nothing where its engine does not report it."""

    @hookimpl
    async def engine_version(self) -> str:
        return ""


class Lifecycle(RightAdapter):
    """Needs to be started before it can be closed."""

    client: Any = None

    @hookimpl
    async def start(self) -> None:
        self.client = {"open": True}

    @hookimpl
    async def aclose(self) -> None:
        self.client.clear()


class Independence(RightAdapter):
    """Shares its connection among all objects of the class."""

    client: ClassVar[object] = None

    @hookimpl
    async def start(self) -> None:
        type(self).client = object()

    @hookimpl
    async def aclose(self) -> None:
        type(self).client = None

    async def words(self, task: TaskRequest) -> AsyncIterator[str]:
        async for word in RightAdapter.words(self, task):
            if self.client is None:
                raise WorkerReset("WORKER_RESET", "the connection is closed")
            yield word


class Leaks(RightAdapter):
    """Never stops its heartbeat."""

    @hookimpl
    async def start(self) -> None:
        self.heartbeat = asyncio.create_task(asyncio.sleep(3600))


@attrs.frozen
class OpenConfig:
    """Options that show."""

    api_key: str = "none"


class Secrets(RightAdapter):
    """Shows its key in its config's repr."""

    config: OpenConfig
