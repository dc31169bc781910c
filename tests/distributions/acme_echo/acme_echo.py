"""An adapter that says the prompt again, word by word."""

from collections.abc import AsyncIterator

import attrs

from adapter_api import (
    End,
    HealthState,
    HealthStatus,
    Metrics,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    hookimpl,
)


@attrs.frozen
class EchoConfig:
    """How to echo."""

    separator: str = attrs.field(
        default=" ", metadata={"env": "ACME_SEPARATOR", "help": "What parts the words."}
    )
    times: int = attrs.field(default=1, metadata={"env": "ACME_TIMES"})
    api_key: str | None = attrs.field(
        default=None, repr=False, metadata={"env": "ACME_KEY", "secret": True}
    )


@attrs.define(eq=False)
class EchoAdapter:
    """The adapter."""

    config: EchoConfig

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(task.job_id, "echo", "1.2")
        words = (task.prompt or "").split(self.config.separator) * self.config.times
        for index, word in enumerate(words):
            yield Token(word, index)
        yield End(Metrics(len(words)), "stop", "finish_reason")

    @hookimpl
    async def health(self) -> HealthStatus:
        return HealthStatus(HealthState.HEALTHY)
