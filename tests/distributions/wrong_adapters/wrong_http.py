"""HTTP adapters that break one rule each, and one that keeps them all."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

import attrs

from adapter_api import (
    AuthenticationFailed,
    EngineProps,
    EngineUnavailable,
    HealthState,
    HealthStatus,
    InvalidRequest,
    TaskRequest,
    TokenEvent,
    TokenStream,
    WorkerTimeout,
    hookimpl,
)
from adapter_api.frames import from_frame, to_frame
from adapters.openai_http import OpenAIHttpAdapter

ASK_S = 0.5

_T = TypeVar("_T")


async def soon(answer: Awaitable[_T]) -> _T:
    """An answer that comes in time."""
    try:
        async with asyncio.timeout(ASK_S):
            return await answer
    except TimeoutError:
        raise WorkerTimeout("DECODE_TIMEOUT", "no answer in time") from None


class RightHttp(OpenAIHttpAdapter):
    """openai-http with less patience."""

    @hookimpl
    async def health(self) -> HealthStatus:
        try:
            return await soon(OpenAIHttpAdapter.health(self))
        except WorkerTimeout as error:
            return HealthStatus(HealthState.UNHEALTHY, error.message)

    @hookimpl
    async def props(self) -> EngineProps:
        return await soon(OpenAIHttpAdapter.props(self))

    @hookimpl
    async def engine_version(self) -> str:
        return await soon(OpenAIHttpAdapter.engine_version(self))


class Seedless(RightHttp):
    """Has no seed, and keeps the prompt in the object instead of in submit."""

    ABSENT: ClassVar[dict[str, str]] = {"seed": "the engine has none"}
    prompt: Any = None

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        self.prompt = task.prompt
        await asyncio.sleep(0)
        async with OpenAIHttpAdapter.submit(
            self, attrs.evolve(task, prompt=self.prompt, seed=None)
        ) as stream:
            async for event in stream:
                yield event


class Unreachable(RightHttp):
    """Says whose key was of no use, when there is no connection."""

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        try:
            async with OpenAIHttpAdapter.submit(self, task) as stream:
                async for event in stream:
                    yield event
        except EngineUnavailable as error:
            raise EngineUnavailable(error.code, f"lost, with {self.config.api_key}") from None


class HealthRaises(RightHttp):
    """Takes an engine that is down for an exception."""

    @hookimpl
    async def health(self) -> HealthStatus:
        found = await RightHttp.health(self)
        if not found.ready:
            raise ConnectionError(found.message)
        return found


class HealthHangs(RightHttp):
    """Waits for an answer for as long as it takes."""

    @hookimpl
    async def health(self) -> HealthStatus:
        found = await RightHttp.health(self)
        if found.message == "no answer in time":
            await asyncio.Event().wait()
        return found


class AlwaysReady(RightHttp):
    """Does not ask its engine."""

    @hookimpl
    async def health(self) -> HealthStatus:
        return HealthStatus(HealthState.HEALTHY)


class StartRaises(RightHttp):
    """Cannot be started, and not asked either, while its engine is down."""

    @hookimpl
    async def start(self) -> None:
        if not (await self.health()).live:
            raise ConnectionError("refused")


class PropsRaise(RightHttp):
    """Lets through what its client raises."""

    @hookimpl
    async def props(self) -> EngineProps:
        if not (await self.health()).ready:
            raise ConnectionError("refused")
        return await RightHttp.props(self)


class KeepsConnection(RightHttp):
    """Closes its connections when it is closed, and not before."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.kept: list[TokenStream] = []

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        stream = OpenAIHttpAdapter.submit(self, task)
        self.kept.append(stream)
        async for event in stream:
            yield event

    @hookimpl
    async def cancel(self, job_id: str) -> bool:
        return False


class Spools(RightHttp):
    """Reads whole answers into files, as fast as they come."""

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        with tempfile.TemporaryFile() as spool:
            written, read = asyncio.Semaphore(0), 0
            pump = asyncio.create_task(self.pump(task, spool, written))
            try:
                while await written.acquire() and not (pump.done() and pump.exception()):
                    spool.seek(read)
                    line = spool.readline()
                    if not line:
                        return
                    read = spool.tell()
                    yield from_frame(json.loads(line))
                await pump
            finally:
                pump.cancel()
                with suppress(BaseException):
                    await pump

    async def pump(self, task: TaskRequest, spool: Any, written: asyncio.Semaphore) -> None:
        try:
            async with OpenAIHttpAdapter.submit(self, task) as stream:
                async for event in stream:
                    spool.seek(0, 2)
                    spool.write(json.dumps(to_frame(event)).encode() + b"\n")
                    written.release()
        finally:
            asyncio.get_running_loop().call_soon(written.release)


class Insists(RightHttp):
    """Sends again whatever was refused."""

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        for left in (2, 1, 0):
            try:
                async with OpenAIHttpAdapter.submit(self, task) as stream:
                    async for event in stream:
                        yield event
                return
            except InvalidRequest:
                if not left:
                    raise


class RetriableAuth(RightHttp):
    """Hopes that its key becomes valid."""

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        try:
            async with OpenAIHttpAdapter.submit(self, task) as stream:
                async for event in stream:
                    yield event
        except AuthenticationFailed as error:
            error.retriable = True
            raise
