"""A scripted adapter: deterministic, with faults on demand (ORCH-3058)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from adapter_api import (
    End,
    EngineProps,
    ErrorCode,
    HealthStatus,
    Metrics,
    Started,
    StreamClock,
    TaskRequest,
    Token,
    TokenEvent,
    TokenStream,
    WorkerError,
    WorkerTimeout,
    hookimpl,
)
from adapters.mock.config import MockConfig

ENGINE = "mock"


class MockAdapter:
    """Plays the script of its config.

    Args:
        config: The script; without one, a short text.
        **options: Fields of MockConfig, when no config is given.
    """

    Config = MockConfig

    def __init__(self, config: MockConfig | None = None, /, **options: Any) -> None:
        if config is not None and options:
            raise TypeError("options belong into the MockConfig that was given")
        self.config = config if config is not None else MockConfig(**options)

    def __repr__(self) -> str:
        return f"MockAdapter({self.config!r})"

    @hookimpl
    def submit(self, task: TaskRequest) -> TokenStream:
        """Play the script for `task`; see adapter_api.WorkerAdapter.submit."""
        clock = StreamClock(task.deadline_s)
        return TokenStream(self._events(task, clock), task, clock=clock)

    @hookimpl
    async def health(self) -> HealthStatus:
        """What the script says."""
        status = HealthStatus(self.config.health, "scripted")
        live = status.live if self.config.live is None else self.config.live
        ready = status.ready if self.config.ready is None else self.config.ready
        return HealthStatus(self.config.health, "scripted", live=live, ready=ready)

    @hookimpl
    async def props(self) -> EngineProps:
        """The engine "mock" and its scripted version."""
        return EngineProps(engine=ENGINE, engine_version=self.config.engine_version)

    @hookimpl
    async def engine_version(self) -> str:
        """The scripted version."""
        return self.config.engine_version

    async def _events(self, task: TaskRequest, clock: StreamClock) -> AsyncIterator[TokenEvent]:
        config = self.config
        texts = self._texts(task)
        clock.allow(config.first_token_timeout_s, _silent)
        if config.error_code is not None and config.error_after == 0:
            raise self._error()
        yield Started(
            task.job_id,
            engine=ENGINE,
            engine_version=config.engine_version,
            model=task.model,
            seed=task.seed,
            replica_id=config.replica_id,
        )
        index = 0
        for text in texts[: task.max_tokens]:
            await self._wait(index)
            yield Token(text, index)
            index += 1
            clock.allow(config.stall_timeout_s, _silent)
        await self._wait(index)
        cut = len(texts) > task.max_tokens
        yield End(
            Metrics(tokens_generated=index),
            finish_reason="length" if cut else config.finish_reason,
            proof="finish_reason",
        )

    def _texts(self, task: TaskRequest) -> tuple[str, ...]:
        if not self.config.echo:
            return self.config.tokens
        if task.prompt is not None:
            words = task.prompt.split()
        else:
            words = [str(message.content) for message in task.messages or ()]
        return tuple(word if i == 0 else f" {word}" for i, word in enumerate(words))

    async def _wait(self, index: int) -> None:
        """What the script has before token `index`: the error, the stall, the delay."""
        if self.config.error_code is not None and index >= self.config.error_after:
            raise self._error()
        if self.config.stall_after is not None and index >= self.config.stall_after:
            await asyncio.Event().wait()
        await asyncio.sleep(self.config.delay_s)

    def _error(self) -> WorkerError:
        assert self.config.error_code is not None
        return WorkerError.of(
            self.config.error_code, "scripted", retry_after_ms=self.config.retry_after_ms
        )


def _silent() -> WorkerError:
    return WorkerTimeout(ErrorCode.DECODE_TIMEOUT, "no token came in time (scripted)")
