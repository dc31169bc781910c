"""An adapter that plays a recording through the decoder of openai-http."""

from pathlib import Path
from typing import Any

import attrs

from adapter_api import (
    EngineProps,
    HealthState,
    HealthStatus,
    TaskRequest,
    TokenStream,
    hookimpl,
)
from adapters.http_util import ReplayTransport, RetryPolicy
from adapters.openai_http.adapter import OpenAIHttpAdapter
from adapters.openai_http.config import Api, OpenAIHttpConfig

_HOST = "http://recording.invalid"
_API = "/v1/"


@attrs.frozen
class ReplayConfig:
    """What to play, and how to read it. What is not here is as in openai-http."""

    path: str = attrs.field(metadata={"help": "The recording"})
    speed: float = attrs.field(
        default=0.0,
        validator=attrs.validators.ge(0),
        metadata={"help": "0: without waiting, 1: as it was recorded, 2: twice as fast"},
    )
    model: str | None = attrs.field(
        default=None, metadata={"help": "The model of tasks that name none"}
    )
    api: Api = attrs.field(
        default="auto",
        metadata={"help": "Which endpoint: auto (by the task), completions or chat"},
    )
    dialect: str = attrs.field(
        default="auto", metadata={"help": "The server's name, or auto to find out"}
    )
    first_token_timeout_s: float | None = attrs.field(
        default=30.0, metadata={"help": "Limit for the first token"}
    )
    stall_timeout_s: float | None = attrs.field(
        default=30.0, metadata={"help": "Limit between two tokens"}
    )
    attempts: int = attrs.field(
        default=4, metadata={"help": "How often to ask, as the recorded job did"}
    )


@attrs.define(eq=False, init=False)
class ReplayAdapter:
    """Plays a recording, so that a failure seen once can be seen again.

    Args:
        config: What to play.
        **options: Fields of ReplayConfig, when no config is given.

    Raises:
        RecordingError: If the file is not a recording.
        OSError: If it cannot be read.
    """

    config: ReplayConfig
    _inner: OpenAIHttpAdapter = attrs.field(init=False, repr=False)
    _transport: ReplayTransport = attrs.field(init=False, repr=False)

    def __init__(self, config: ReplayConfig | None = None, /, **options: Any) -> None:
        self.__attrs_init__(ReplayConfig(**options) if config is None else config)
        config = self.config
        self._transport = ReplayTransport(Path(config.path), config.speed)
        # The prefix of the paths is the recorded server's, the waits of its retries are not.
        path = next((e.path for e in self._transport.exchanges if _API in e.path), _API)
        pause_s = 0.0 if config.speed == 0 else RetryPolicy().base_s
        self._inner = OpenAIHttpAdapter(
            OpenAIHttpConfig(
                _HOST + path.partition(_API)[0],
                model=config.model,
                api=config.api,
                dialect=config.dialect,
                first_token_timeout_s=config.first_token_timeout_s,
                stall_timeout_s=config.stall_timeout_s,
                retry=RetryPolicy(base_s=pause_s, attempts=config.attempts, seed=0),
                transport=self._transport,
            )
        )

    @hookimpl
    def submit(self, task: TaskRequest) -> TokenStream:
        """Play the answer to `task`; see OpenAIHttpAdapter.submit."""
        return self._inner.submit(task)

    @hookimpl
    async def cancel(self, job_id: str) -> bool:
        """Cancel a job. False if no such job is running."""
        return await self._inner.cancel(job_id)

    @hookimpl
    async def health(self) -> HealthStatus:
        """A recording is always well."""
        return HealthStatus(
            HealthState.HEALTHY, f"a recording of {len(self._transport.exchanges)} exchanges"
        )

    @hookimpl
    async def props(self) -> EngineProps:
        """What the recorded server told, as far as it was asked."""
        return await self._inner.props()

    @hookimpl
    async def engine_version(self) -> str:
        """The recorded server's version, as far as it was asked."""
        return await self._inner.engine_version()

    @hookimpl
    async def aclose(self) -> None:
        """Cancel every job."""
        await self._inner.aclose()
