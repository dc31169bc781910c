"""An adapter that plays a recording through the decoder of openai-http."""

import asyncio
from collections.abc import Sequence
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
from adapter_api.validators import number
from adapters.http_util import ReplayTransport, RetryPolicy
from adapters.http_util.recording.exchange import Exchange
from adapters.openai_http.adapter import OpenAIHttpAdapter
from adapters.openai_http.config import Api, OpenAIHttpConfig
from adapters.openai_http.endpoints import resolve
from adapters.openai_http.validators import tags, to_tags

_NOWHERE = "recording.invalid"
_ENDPOINTS = ("/chat/completions", "/completions", "/models")


@attrs.frozen
class ReplayConfig:
    """The recording to play, and the options for reading it, as in openai-http."""

    path: str = attrs.field(metadata={"help": "The recording"})
    speed: float = attrs.field(
        default=0.0,
        validator=number(0),
        metadata={"help": "0: without waiting, 1: at the recorded speed, 2: twice as fast"},
    )
    model: str | None = attrs.field(
        default=None, metadata={"help": "The model of tasks without one"}
    )
    api: Api = attrs.field(
        default="auto",
        metadata={"help": "The endpoint: auto (by the task), completions or chat"},
    )
    dialect: str = attrs.field(
        default="auto", metadata={"help": "The kind of server, or auto to detect it"}
    )
    first_token_timeout_s: float | None = attrs.field(
        default=30.0, metadata={"help": "Limit for the first token"}
    )
    stall_timeout_s: float | None = attrs.field(
        default=30.0, metadata={"help": "Limit between two tokens"}
    )
    attempts: int = attrs.field(
        default=4,
        metadata={"help": "Maximum requests for one job, as in the recorded run"},
    )
    strict: bool = attrs.field(
        default=False, metadata={"help": "Fail when the server refuses a field, as in openai-http"}
    )
    reasoning_tags: tuple[str, str] | None = attrs.field(
        default=None,
        converter=to_tags,
        validator=tags,
        metadata={"help": "Tags around reasoning at the beginning of the text, as in openai-http"},
    )


@attrs.frozen
class _Paced(RetryPolicy):
    """A retry policy whose delays scale with the speed of the replay."""

    speed: float = 0.0

    async def pause(self, wait_s: float) -> None:
        await asyncio.sleep(wait_s / self.speed if self.speed else 0.0)


@attrs.define(eq=False, init=False)
class ReplayAdapter:
    """Plays a recording, so that a failure can be reproduced.

    Args:
        config: The recording and its options.
        **options: Fields of ReplayConfig, when no config is given.

    Raises:
        RecordingError: If the file is not a recording, or cannot be read.
    """

    config: ReplayConfig
    _inner: OpenAIHttpAdapter = attrs.field(init=False, repr=False)
    _transport: ReplayTransport = attrs.field(init=False, repr=False)

    def __init__(self, config: ReplayConfig | None = None, /, **options: Any) -> None:
        self.config = config = ReplayConfig(**options) if config is None else config
        self._transport = ReplayTransport(config.path, config.speed)
        self._inner = OpenAIHttpAdapter(
            OpenAIHttpConfig(
                _base_url(self._transport.exchanges),
                model=config.model,
                api=config.api,
                dialect=config.dialect,
                first_token_timeout_s=config.first_token_timeout_s,
                stall_timeout_s=config.stall_timeout_s,
                retry=_Paced(attempts=config.attempts, seed=0, speed=config.speed),
                strict=config.strict,
                reasoning_tags=config.reasoning_tags,
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
        """Return the recorded server's health; healthy if the recording has no health check."""
        if any(exchange.method == "GET" for exchange in self._transport.exchanges):
            return await self._inner.health()
        count = len(self._transport.exchanges)
        return HealthStatus(HealthState.HEALTHY, f"a recording of {count} exchanges")

    @hookimpl
    async def props(self) -> EngineProps:
        """Return the properties that the recording contains."""
        return await self._inner.props()

    @hookimpl
    async def engine_version(self) -> str:
        """Return the recorded server's version, if the recording contains it."""
        return await self._inner.engine_version()

    @hookimpl
    async def aclose(self) -> None:
        """Cancel every job."""
        await self._inner.aclose()


def _base_url(exchanges: Sequence[Exchange]) -> str:
    """Return the recorded server's address. Nothing is sent there, but its host may identify the
    dialect, and paths are matched."""
    for exchange in exchanges:
        path, separator, query = exchange.path.partition("?")
        endpoint = next((name for name in _ENDPOINTS if path.endswith(name)), None)
        if endpoint is None:
            continue
        # The URL of the model list: that of the chat endpoint would send prompts there, too.
        path = path.removesuffix(endpoint) + "/models"
        url = f"http://{exchange.headers.get('host', _NOWHERE)}{path}{separator}{query}"
        try:
            resolve(url)
        except ValueError:  # recorded by another client, or changed by hand
            continue
        return url
    return f"http://{_NOWHERE}"
