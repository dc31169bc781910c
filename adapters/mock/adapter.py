"""A scripted adapter: deterministic, with faults on demand (ORCH-3058)."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import attrs

from adapter_api import (
    End,
    EngineProps,
    EngineUnavailable,
    ErrorCode,
    HealthStatus,
    InvalidToolCall,
    Message,
    Metrics,
    Reasoning,
    Refusal,
    Started,
    StreamClock,
    StreamTable,
    TaskRequest,
    Token,
    TokenEvent,
    TokenStream,
    Tool,
    ToolCall,
    ToolCallDelta,
    WorkerError,
    hookimpl,
)
from adapters.mock.config import MockConfig

ENGINE = "mock"


class MockAdapter:
    """Plays the script of its config.

    Args:
        config: The script; without one, a short text.
        **options: Fields of MockConfig, when no config is given.

    Raises:
        ValueError: If an option is wrong; the message names it.
    """

    config: MockConfig

    def __init__(self, config: MockConfig | None = None, /, **options: Any) -> None:
        if config is not None and options:
            raise TypeError("put the options into the MockConfig, not beside it")
        self.config = MockConfig(**options) if config is None else config
        self._streams = StreamTable()
        self._closed = False

    def __repr__(self) -> str:
        return f"MockAdapter(config={self.config!r})"

    # Hooks

    @hookimpl
    def submit(self, task: TaskRequest) -> TokenStream:
        """Play the script for `task`; see adapter_api.WorkerAdapter.submit."""
        clock = StreamClock(task.deadline_s)
        return self._streams.add(TokenStream(self._events(task, clock), task, clock=clock))

    @hookimpl
    async def cancel(self, job_id: str) -> bool:
        """Cancel a job. False if no such job is running."""
        return await self._streams.cancel(job_id)

    @hookimpl
    async def health(self) -> HealthStatus:
        """Return the scripted health."""
        config = self.config
        status = HealthStatus(config.health, "scripted")
        return attrs.evolve(
            status,
            live=status.live if config.live is None else config.live,
            ready=status.ready if config.ready is None else config.ready,
        )

    @hookimpl
    async def props(self) -> EngineProps:
        """Return the engine "mock", with the scripted version and model."""
        config = self.config
        return EngineProps(ENGINE, config.engine_version, models=(config.model,))

    @hookimpl
    async def engine_version(self) -> str:
        """Return the scripted version."""
        return self.config.engine_version

    @hookimpl
    async def aclose(self) -> None:
        """Cancel every job; later ones are refused. Idempotent."""
        self._closed = True
        await self._streams.aclose()

    async def __aenter__(self) -> "MockAdapter":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    # The script

    async def _events(self, task: TaskRequest, clock: StreamClock) -> AsyncIterator[TokenEvent]:
        config = self.config
        if self._closed:
            raise EngineUnavailable(
                ErrorCode.POOL_UNAVAILABLE,
                "the adapter is closed; make a new one",
                retriable=False,
            )
        if config.error_code is not None and config.error_after == 0:
            raise self._error(config.error_code)
        clock.allow(config.first_token_timeout_s)
        yield Started(
            task.job_id,
            engine=ENGINE,
            engine_version=config.engine_version,
            model=task.model or config.model,
            seed=task.seed,
            replica_id=config.replica_id,
        )
        pieces = list(self._pieces(task))
        count = len(pieces) if task.max_tokens is None else min(len(pieces), task.max_tokens)
        for index in range(count):
            await self._faults(index)
            await asyncio.sleep(config.delay_s)
            yield attrs.evolve(pieces[index], index=index)
            if index == 0:
                clock.allow(config.stall_timeout_s)
        await self._faults(count)
        yield self._end(task, pieces[:count], cut=count < len(pieces))

    def _pieces(self, task: TaskRequest) -> Iterator[Token]:
        """Yield the tokens of the whole answer; their indexes do not count yet."""
        if task.include_reasoning:
            yield from (Reasoning("", 0, reasoning=text) for text in self.config.reasoning)
        texts = _words(task) if self.config.echo else self.config.tokens
        kind = Refusal if self.config.refuses else Token
        yield from (kind(text, 0) for text in texts)
        for number, call in enumerate(self._calls(task)):
            yield ToolCallDelta("", 0, call=number, id=call.id, name=call.name)
            yield ToolCallDelta("", 0, call=number, arguments=call.arguments)

    def _calls(self, task: TaskRequest) -> tuple[ToolCall, ...]:
        """Return the calls of the answer: the scripted ones, or one that the task demands."""
        if not task.tools or task.tool_choice == "none":
            return ()
        if self.config.tool_calls or task.tool_choice in (None, "auto"):
            return self.config.tool_calls  # type: ignore[return-value]  # converted
        names = [tool.name if isinstance(tool, Tool) else _name(tool) for tool in task.tools]
        chosen = task.tool_choice
        named = _name(chosen) if isinstance(chosen, Mapping) else names[0]
        return (ToolCall("call_0", named, "{}"),)

    def _end(self, task: TaskRequest, said: list[Token], *, cut: bool) -> End:
        count, calls = len(said), self._calls(task)
        words = "".join(token.text for token in said) if self.config.refuses else ""
        extra = {"refusal": words} if words else {}
        reason = "length" if cut else "tool_calls" if calls else self.config.finish_reason
        metrics = Metrics(count, time_to_first_token_ms=0.0 if count else None)  # always the same
        if not calls:
            return End(metrics, reason, "finish_reason", refused=bool(words), message_extra=extra)
        delivered = max(0, count - len(list(self._pieces(task))) + 2 * len(calls))
        begun = calls[delivered // 2 : (delivered + 1) // 2]
        return End(
            metrics,
            finish_reason=reason,
            proof="finish_reason",
            tool_calls=calls[: delivered // 2],
            invalid_tool_calls=tuple(
                InvalidToolCall(call.id, call.name, "", reason="cut") for call in begun
            ),
            refused=bool(words),
            message_extra=extra,
        )

    async def _faults(self, index: int) -> None:
        """Raise the error, or begin the stall, that the script has after `index` tokens."""
        config = self.config
        if config.error_code is not None and index >= config.error_after:
            raise self._error(config.error_code)
        if config.stall_after is not None and index >= config.stall_after:
            await asyncio.Event().wait()

    def _error(self, code: str) -> WorkerError:
        return WorkerError.of(code, "scripted", retry_after_ms=self.config.retry_after_ms)


def _name(wire: Mapping[str, Any]) -> str:
    """Return the name in the wire's form of a tool or a tool choice."""
    return str(wire.get("function", wire).get("name", ""))


def _words(task: TaskRequest) -> tuple[str, ...]:
    """Return the words of the task, each but the first with the space before it."""
    text = task.prompt if task.messages is None else " ".join(map(_said, task.messages))
    return tuple(f" {word}" if i else word for i, word in enumerate((text or "").split()))


def _said(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return " ".join(str(part.get("text", "")) for part in message.content or ())
