"""An adapter that keeps the whole contract. Those in wrong_adapters differ in one thing each."""

import asyncio
import random
from collections.abc import AsyncIterator

import attrs

from adapter_api import (
    End,
    EngineProps,
    EngineUnavailable,
    HealthState,
    HealthStatus,
    Metrics,
    Reasoning,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    ToolCall,
    ToolCallDelta,
    hookimpl,
)


@attrs.frozen
class RightConfig:
    """The answers."""

    api_key: str = attrs.field(default="none", repr=False, metadata={"secret": True})


@attrs.define(eq=False)
class RightAdapter:
    """Answers with words that the prompt and the seed decide."""

    config: RightConfig

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        """Answer."""
        if task.model == "no-such-model":
            raise EngineUnavailable("POOL_UNAVAILABLE", "there is no such model")
        yield Started(task.job_id, "right", "1.0", seed=task.seed)
        count = 0
        if task.include_reasoning:
            yield Reasoning("", count, reasoning="Easy.")
            count += 1
        if task.tools and task.tool_choice not in (None, "none"):
            call = self.call(task)
            first, rest = call.arguments[:3], call.arguments[3:]
            yield ToolCallDelta("", count, call=0, id=call.id, name=call.name, arguments=first)
            yield ToolCallDelta("", count + 1, call=0, arguments=rest)
            yield End(Metrics(count + 2), "tool_calls", "finish_reason", tool_calls=(call,))
            return
        async for text in self.words(task):
            yield Token(text, count)
            count += 1
        yield End(Metrics(count), "stop", "finish_reason")

    def call(self, task: TaskRequest) -> ToolCall:
        """Return a call of the first tool."""
        return ToolCall("call_1", task.tools[0].name, '{"city": "Oslo"}')

    async def words(self, task: TaskRequest) -> AsyncIterator[str]:
        """The answer's words, one at a time."""
        source = random.Random(f"{task.seed} {task.prompt or task.messages}")
        for _ in range(task.max_tokens or 16):
            await asyncio.sleep(0)
            yield source.choice(("tick ", "tock ", "bim ", "bam "))

    @hookimpl
    async def health(self) -> HealthStatus:
        """Always well."""
        return HealthStatus(HealthState.HEALTHY)

    @hookimpl
    async def props(self) -> EngineProps:
        """Describe the engine."""
        return EngineProps("right", "1.0", models=("right",))

    @hookimpl
    async def engine_version(self) -> str:
        """Its version."""
        return "1.0"

    @hookimpl
    async def start(self) -> None:
        """Nothing to acquire."""

    @hookimpl
    async def aclose(self) -> None:
        """Nothing to release."""

    @hookimpl
    async def cancel(self, job_id: str) -> bool:
        """Closing the stream is enough."""
        return False
