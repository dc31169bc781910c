"""The openai-http adapter: submit, cancel, health, props, engine_version (OC-ADAPT-OAI 6000)."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from typing import Any

import httpx

from adapter_api import (
    End,
    EngineProps,
    EngineUnavailable,
    ErrorCode,
    HealthState,
    HealthStatus,
    InvalidRequest,
    MetricsFrame,
    StreamClock,
    StreamTable,
    TaskRequest,
    Token,
    TokenEvent,
    TokenStream,
    WorkerError,
    hookimpl,
)
from adapter_api.task import new_id
from adapters.http_util import (
    Posted,
    RetryBudget,
    SSEDecoder,
    error_from_exception,
    redact,
    try_and_retry,
)
from adapters.openai_http.answer import AnswerReader
from adapters.openai_http.attempt import Job
from adapters.openai_http.body import MAX_PIECE_BYTES, Body
from adapters.openai_http.config import OpenAIHttpConfig
from adapters.openai_http.connected import Connected, connect
from adapters.openai_http.outcome import Phase


class OpenAIHttpAdapter:
    """Streams completions from any OpenAI-compatible server.

    Args:
        config: The options, or just the base_url.
        **options: Fields of OpenAIHttpConfig, base_url among them, when no config is given.

    Raises:
        ValueError: If an option is wrong; the message names it.
        TypeError: If an option is unknown, or `config` is of another type.
    """

    Config = OpenAIHttpConfig

    def __init__(self, config: OpenAIHttpConfig | str | None = None, **options: Any) -> None:
        self.config = config = _config_of(config, options)
        self._endpoints = config.endpoints()
        self._streams = StreamTable()
        self._budget = RetryBudget()
        self._rng = random.Random(config.retry.seed)
        self._connected: Connected | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"OpenAIHttpAdapter({self.config!r})"

    # Hooks

    @hookimpl
    def submit(self, task: TaskRequest) -> TokenStream:
        """Run `task`; see adapter_api.WorkerAdapter.submit. Nothing is sent before it is opened."""
        clock = StreamClock(task.deadline_s)
        job = Job(task, clock, task.correlation_id or new_id(), self.config, self._endpoints)
        return self._streams.add(TokenStream(self._events(job), task, clock=clock))

    @hookimpl
    async def cancel(self, job_id: str) -> bool:
        """Cancel a job by closing its connection, which stops generation on every known server.

        Returns:
            True once the connection is closed; False if no such job is running.
        """
        return await self._streams.cancel(job_id)

    @hookimpl
    async def health(self) -> HealthStatus:
        """Return the server's state, without cost in tokens; an unreachable server is unhealthy."""
        try:
            server = self._connect().server
        except WorkerError as error:
            return HealthStatus(HealthState.UNHEALTHY, error.message)
        return await server.health()

    @hookimpl
    async def props(self) -> EngineProps:
        """Return models, context length, slots and version, as far as the server reports them."""
        return await self._connect().server.props()

    @hookimpl
    async def engine_version(self) -> str:
        """Return the engine's version, as exactly as the server reports it."""
        return await self._connect().server.engine_version()

    @hookimpl
    async def aclose(self) -> None:
        """Cancel every job and close every connection. Idempotent."""
        self._closed = True
        await self._streams.aclose()
        if self._connected is not None:
            await self._connected.aclose()

    async def __aenter__(self) -> "OpenAIHttpAdapter":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    # One job

    def _connect(self) -> Connected:
        if self._closed:
            raise _unavailable("the adapter is closed; make a new one")
        if self._connected is None:
            try:
                self._connected = connect(self.config, self._endpoints)
            except (ImportError, OSError, ValueError) as exc:  # an extra, a file, a proxy's URL
                raise InvalidRequest(
                    ErrorCode.INVALID_PARAMS,
                    f"no connection can be made with these options: {redact(str(exc))}",
                ) from exc
        if self._connected.client.is_closed:
            raise _unavailable("the httpx client that was given is closed")
        return self._connected

    async def _events(self, job: Job) -> AsyncIterator[TokenEvent | list[Token]]:
        """Yield everything that happens to one job, from the first request to End."""
        connected = self._connect()
        server, secrets = connected.server, connected.credentials.secrets
        posted = await self._accepted(job, connected)
        answer = AnswerReader(
            job.wanted,
            decoder=SSEDecoder(
                max_line_bytes=self.config.max_line_bytes,
                max_event_bytes=self.config.max_event_bytes,
            ),
            error_text=server.dialect.error_text,
            reasoning_tags=self.config.reasoning_tags,
            secrets=secrets,
        )
        started = False
        connected.begin()
        try:
            body = Body(posted, job.clock)
            piece = b"..."
            while piece and answer.phase is not Phase.CLOSED:
                piece = await body.read(answer.phase)
                if len(piece) > MAX_PIECE_BYTES:
                    piece = body.cut(piece)
                tokens = answer.feed(piece) if piece else answer.end()
                # Azure's first chunk has neither id nor choices, and does not name the model.
                if not started and (answer.facts.completion_id or answer.begun):
                    started = True
                    server.note_answer(answer.facts)
                    yield job.started(connected, answer)
                if tokens:
                    if job.first_piece_at is None:
                        job.note_progress()
                    yield tokens  # later ones begin a new wait by themselves
                elif answer.progressed:
                    job.note_progress()
            server.note_answer(answer.facts)
            verdict = answer.finish(always_finishes=server.dialect.always_finishes)
            if verdict.tokens:
                yield verdict.tokens
            metrics = job.metrics(answer)
            if answer.phase is Phase.CLOSED and not posted.ended():
                await body.settle()
        except (asyncio.CancelledError, GeneratorExit):
            connected.abandon()
            raise
        except httpx.HTTPError as exc:
            raise error_from_exception(exc, answering=True, secrets=secrets) from exc
        finally:
            connected.end()
            await posted.aclose()
        job.check(connected, verdict)
        if numbers := answer.facts.own_numbers():
            yield MetricsFrame(numbers)
        yield End(
            metrics,
            answer.finish_reason,
            verdict.proof,
            verdict.tool_calls,
            verdict.invalid_tool_calls,
            verdict.refused,
            verdict.message_extra,
        )

    def _accepted(self, job: Job, connected: Connected) -> Awaitable[Posted]:
        """Return the accepted answer of the first attempt that gets one."""
        self._budget.earn()
        attempt, on_retry = partial(job.attempt, connected), partial(job.note_retry, connected)
        policy = self.config.retry.limited_to(job.task.max_attempts)
        return try_and_retry(attempt, policy, job.clock, self._budget, self._rng, on_retry)


def _unavailable(why: str) -> EngineUnavailable:
    return EngineUnavailable(ErrorCode.POOL_UNAVAILABLE, why, retriable=False)


def _config_of(given: object, options: dict[str, Any]) -> OpenAIHttpConfig:
    """Return the config of an adapter, from a config, a base_url, or options."""
    if isinstance(given, str):
        return OpenAIHttpConfig(given, **options)
    if given is None and "base_url" in options:
        return OpenAIHttpConfig(**options)
    if not isinstance(given, OpenAIHttpConfig):
        raise TypeError(
            f"an adapter is made from a base_url or an OpenAIHttpConfig, not {type(given).__name__}"
            "; write OpenAIHttpAdapter(**options) for options in a mapping"
        )
    if options:
        raise TypeError("put the options into the OpenAIHttpConfig, not beside it")
    return given
