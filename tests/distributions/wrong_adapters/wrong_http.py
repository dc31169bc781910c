"""HTTP adapters that break one rule each, and one that keeps them all."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, ClassVar, TypeVar

import attrs

from adapter_api import (
    AuthenticationFailed,
    End,
    EngineProps,
    EngineUnavailable,
    Error,
    HealthState,
    HealthStatus,
    InvalidRequest,
    Metrics,
    TaskRequest,
    Token,
    TokenEvent,
    TokenStream,
    ToolCall,
    ToolCallDelta,
    WorkerReset,
    WorkerTimeout,
    hookimpl,
)
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
        if not (await OpenAIHttpAdapter.health(self)).live:
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


class Insists(RightHttp):
    """Sends again what was refused with 405."""

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        for left in (2, 1, 0):
            try:
                async with OpenAIHttpAdapter.submit(self, task) as stream:
                    async for event in stream:
                        yield event
                return
            except InvalidRequest as error:
                if not left or "405" not in error.message:
                    raise


class RetriableAuth(RightHttp):
    """Hopes that a proxy's key becomes valid."""

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        try:
            async with OpenAIHttpAdapter.submit(self, task) as stream:
                async for event in stream:
                    yield event
        except AuthenticationFailed as error:
            error.retriable = "407" in error.message
            raise


class HttpEditor(RightHttp):
    """Changes openai-http's events one by one."""

    def edit(self, event: TokenEvent) -> TokenEvent:
        raise NotImplementedError

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        async with OpenAIHttpAdapter.submit(self, task) as stream:
            async for event in stream:
                yield self.edit(event)


class Miscounts(HttpEditor):
    """Gives its own count for the engine's."""

    def edit(self, event: TokenEvent) -> TokenEvent:
        if not isinstance(event, End):
            return event
        metrics = attrs.evolve(event.metrics, tokens_generated=event.metrics.tokens_generated + 1)
        return attrs.evolve(event, metrics=metrics)


class NeverCut(HttpEditor):
    """Reports every answer as complete."""

    def edit(self, event: TokenEvent) -> TokenEvent:
        return attrs.evolve(event, finish_reason="stop") if isinstance(event, End) else event


class Strips(HttpEditor):
    """Drops the line feed at the end of a word."""

    def edit(self, event: TokenEvent) -> TokenEvent:
        if isinstance(event, Token) and event.text.startswith(" "):
            return attrs.evolve(event, text=event.text.removesuffix("\n"))
        return event


class Abridges(HttpEditor):
    """Repeats its last text in answers that are too long for it."""

    def edit(self, event: TokenEvent) -> TokenEvent:
        long = isinstance(event, Token) and event.index >= 100
        return attrs.evolve(event, text=" al") if long else event


class ChangesTask(RightHttp):
    """Does not send what the task says."""

    def change(self, task: TaskRequest) -> TaskRequest:
        raise NotImplementedError

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        async with OpenAIHttpAdapter.submit(self, self.change(task)) as stream:
            async for event in stream:
                yield event


class LastMessage(ChangesTask):
    """Sends the last message only."""

    def change(self, task: TaskRequest) -> TaskRequest:
        if task.messages is None or task.tools:
            return task
        return attrs.evolve(task, messages=task.messages[-1:])


class NoStop(ChangesTask):
    """Sends no stop texts."""

    def change(self, task: TaskRequest) -> TaskRequest:
        return attrs.evolve(task, stop=())


class EmptyCalls(HttpEditor):
    """Loses the arguments of calls."""

    def edit(self, event: TokenEvent) -> TokenEvent:
        if isinstance(event, ToolCallDelta):
            return attrs.evolve(event, arguments="{}" if event.name else "")
        if isinstance(event, End):
            calls = tuple(attrs.evolve(call, arguments="{}") for call in event.tool_calls)
            return attrs.evolve(event, tool_calls=calls)
        return event


class FirstFails(HttpEditor):
    """Loses the end of its first answer, but not of the lab's engine."""

    begun = False

    def edit(self, event: TokenEvent) -> TokenEvent:
        if isinstance(event, End) and not self.begun and "/engine" not in self.config.base_url:
            self.begun = True
            raise WorkerReset("WORKER_RESET", "the connection was closed")
        return event


class TakesCutCalls(RightHttp):
    """Takes as much of a call as has come for the call."""

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        pieces: list[ToolCallDelta] = []
        async with OpenAIHttpAdapter.submit(self, task) as stream:
            async for event in stream:
                if isinstance(event, ToolCallDelta):
                    pieces.append(event)
                if not isinstance(event, Error) or not pieces or pieces[0].name != "get_weather":
                    yield event
                    continue
                arguments = "".join(piece.arguments for piece in pieces)
                call = ToolCall(pieces[0].id or "", pieces[0].name or "", arguments)
                metrics = Metrics(len(pieces))
                yield End(metrics, "tool_calls", "finish_reason", tool_calls=(call,))
                return
