"""A scripted adapter: deterministic, with faults on demand (ORCH-3058)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import attrs

from adapter_api import (
    End,
    EngineProps,
    EngineUnavailable,
    ErrorCode,
    HealthStatus,
    Message,
    Metrics,
    Started,
    StreamClock,
    StreamTable,
    TaskRequest,
    Token,
    TokenEvent,
    TokenStream,
    WorkerError,
    hookimpl,
)
from adapters.mock.config import MockConfig

ENGINE = "mock"


@attrs.define(eq=False, init=False)
class MockAdapter:
    """Plays the script of its config.

    Args:
        config: The script; without one, a short text.
        **options: Fields of MockConfig, when no config is given.

    Raises:
        ValueError: If an option is wrong; the message names it.
    """

    config: MockConfig
    _streams: StreamTable = attrs.field(factory=StreamTable, init=False, repr=False)
    _closed: bool = attrs.field(default=False, init=False, repr=False)

    def __init__(self, config: MockConfig | None = None, /, **options: Any) -> None:
        if config is not None and options:
            raise TypeError("options belong into the MockConfig that was given")
        self.__attrs_init__(MockConfig(**options) if config is None else config)

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
        """What the script says."""
        config = self.config
        status = HealthStatus(config.health, "scripted")
        return attrs.evolve(
            status,
            live=status.live if config.live is None else config.live,
            ready=status.ready if config.ready is None else config.ready,
        )

    @hookimpl
    async def props(self) -> EngineProps:
        """The engine "mock", with the scripted version and model."""
        config = self.config
        return EngineProps(ENGINE, config.engine_version, models=(config.model,))

    @hookimpl
    async def engine_version(self) -> str:
        """The scripted version."""
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
        texts = _words(task) if config.echo else config.tokens
        count = len(texts) if task.max_tokens is None else min(len(texts), task.max_tokens)
        for index in range(count):
            await self._faults(index)
            await asyncio.sleep(config.delay_s)
            yield Token(texts[index], index)
            if index == 0:
                clock.allow(config.stall_timeout_s)
        await self._faults(count)
        yield End(
            Metrics(count, time_to_first_token_ms=0.0 if count else None),  # the same in every run
            finish_reason="length" if count < len(texts) else config.finish_reason,
            proof="finish_reason",
        )

    async def _faults(self, index: int) -> None:
        """The error or the stall that the script has after `index` tokens."""
        config = self.config
        if config.error_code is not None and index >= config.error_after:
            raise self._error(config.error_code)
        if config.stall_after is not None and index >= config.stall_after:
            await asyncio.Event().wait()

    def _error(self, code: str) -> WorkerError:
        return WorkerError.of(code, "scripted", retry_after_ms=self.config.retry_after_ms)


def _words(task: TaskRequest) -> tuple[str, ...]:
    """The words of the task, each but the first with the space before it."""
    text = task.prompt if task.messages is None else " ".join(map(_said, task.messages))
    return tuple(f" {word}" if i else word for i, word in enumerate((text or "").split()))


def _said(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return " ".join(str(part.get("text", "")) for part in message.content or ())
