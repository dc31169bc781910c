"""The openai-http adapter: submit, cancel, health, props, engine_version (OC-ADAPT-OAI 6000)."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
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
    check_egress,
    code_for,
    error_from_exception,
    error_from_response,
    post,
    read_error_body,
    read_up_to,
    redact,
    try_and_retry,
)
from adapters.openai_http.advice import advice
from adapters.openai_http.body import EventBody
from adapters.openai_http.config import OpenAIHttpConfig
from adapters.openai_http.connected import Connected, connect
from adapters.openai_http.job import Job
from adapters.openai_http.refusals import refused_fields
from adapters.openai_http.server import Server
from adapters.openai_http.wire import Answer, encode, request_fields

MAX_ERROR_BYTES = 64 << 10
"""How much of an error body is read: more than any error message, less than a bomb."""

ERROR_BODY_S = 2.0
"""How long an error body may take to arrive after its status."""

SUCCESSES = frozenset(range(200, 300)) - {204, 205}
"""Statuses of an answer: some servers send 201. 204 and 205 have no body."""

MAX_REFUSALS = 3
"""How many times one job is sent again because the server refuses a field."""


class OpenAIHttpAdapter:
    """Streams completions from any OpenAI-compatible server.

    Args:
        config: The options, or just the base_url.
        **options: Fields of OpenAIHttpConfig, base_url among them, when no config is given.

    Raises:
        ValueError: If an option is wrong; the message names it.
        TypeError: If there is no such option, or `config` is something else.
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
        job = Job(task, clock, task.correlation_id or new_id(), self.config)
        job.await_key()  # so that one timer does for all
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
        """How the server is, without cost in tokens. An unreachable one is an answer."""
        try:
            server = self._connect().server
        except WorkerError as error:
            return HealthStatus(HealthState.UNHEALTHY, error.message)
        return await server.health()

    @hookimpl
    async def props(self) -> EngineProps:
        """Models, context length, slots and version, as far as the server tells them."""
        return await self._connect().server.props()

    @hookimpl
    async def engine_version(self) -> str:
        """The engine's version, as exactly as the server tells it."""
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
            raise EngineUnavailable(
                ErrorCode.POOL_UNAVAILABLE,
                "the adapter is closed; make a new one",
                retriable=False,
            )
        if self._connected is None:
            try:
                self._connected = connect(self.config, self._endpoints)
            except (ImportError, OSError, ValueError) as exc:  # an extra, a file, a proxy's URL
                raise InvalidRequest(
                    ErrorCode.INVALID_PARAMS,
                    f"no connection can be made with these options: {redact(str(exc))}",
                ) from exc
        if self._connected.client.is_closed:
            raise EngineUnavailable(
                ErrorCode.POOL_UNAVAILABLE,
                "the httpx client that was given is closed",
                retriable=False,
            )
        return self._connected

    async def _events(self, job: Job) -> AsyncIterator[TokenEvent | list[Token]]:
        """Everything that happens to one job, from the first request to End."""
        connected = self._connect()
        credentials, server = connected.credentials, connected.server
        posted = await self._accepted(job, server)
        answer = Answer(error_text=server.dialect.error_text, secrets=credentials.secrets)
        decoder = SSEDecoder(
            max_line_bytes=self.config.max_line_bytes, max_event_bytes=self.config.max_event_bytes
        )
        body = EventBody(posted, job.clock, credentials.secrets, decoder)
        started = False
        try:
            while not answer.done and (batch := await body.batch()) is not None:
                if isinstance(batch, bytes):
                    tokens = answer.read_plain(batch)
                    if tokens:
                        if job.first_token_at is None:
                            job.note_first_token()
                        yield tokens
                        if answer.finish_reason is not None:
                            body.finish(resumed=answer.resumed)
                        continue
                    batch = body.events_of(batch)
                for event in batch:
                    token = answer.read(event)
                    # Azure's first chunk has neither id nor choices, and says nothing of the model.
                    if not started and (answer.completion_id or answer.seen):
                        started = True
                        server.note_answer(answer)
                        yield job.started(server, answer)
                    if token is not None:
                        if job.first_token_at is None:
                            job.note_first_token()
                        yield token
                        continue
                    if answer.moved:
                        answer.moved = False
                        job.await_more()
                    if answer.done:
                        break
                if answer.finish_reason is not None:
                    body.finish(resumed=answer.resumed)
            server.note_answer(answer)
            proof = answer.proof(always_finishes=server.dialect.always_finishes)
            metrics = job.metrics(answer)
            if answer.done:
                await body.settle()
        except BaseException as exc:
            job.log_failure(server, exc, job.metrics(answer))
            raise
        finally:
            await posted.aclose()
        job.log(logging.INFO, server, "the answer is whole", metrics)
        yield End(metrics, answer.finish_reason, proof)

    async def _accepted(self, job: Job, server: Server) -> Posted:
        """The answer, status 200, of the first attempt that gets one."""
        self._budget.earn()
        clock, config = job.clock, self.config

        def on_retry(error: WorkerError, attempt: int, wait_s: float) -> None:
            clock.allow(None)  # waiting before the next request is charged to the deadline alone
            human = (
                f"attempt {attempt} failed with {error.code}; the next follows in {wait_s:.3f} s"
            )
            job.log(logging.WARNING, server, human, status=error.status)

        attempt = partial(self._attempt, job)
        policy = config.retry.at_most(job.task.max_attempts)
        try:
            return await try_and_retry(attempt, policy, clock, self._budget, self._rng, on_retry)
        except BaseException as exc:
            job.log_failure(server, exc)
            raise

    async def _attempt(self, job: Job) -> Posted:
        """One attempt: a request, sent again only without what the server refuses by name, or with
        a new token."""
        connected = self._connect()
        credentials, server = connected.credentials, connected.server
        task = job.task
        chat = self._uses_chat(task)
        model = job.model
        url = self._endpoints.chat if chat else self._endpoints.completions
        check_egress(url, self.config.egress_allow)
        refusals = 0
        renewed = False
        while True:
            fields = request_fields(
                task, chat=chat, model=model, without=server.refused_fields(model)
            )
            content = encode(fields)
            # Asking for the key is charged to the wait for the first token.
            job.await_key()
            key_headers = await credentials.headers()
            posted = await self._post(job, url, key_headers, content)
            if posted.status in SUCCESSES:
                return posted
            status, headers = posted.status, posted.headers
            secrets = credentials.secrets
            # If the body takes too long, the status is what the job ends with.
            job.clock.rename(partial(error_from_response, status, headers, b"", secrets=secrets))
            error_body = await _read_error(posted)
            read = read_error_body(error_body, secrets)
            refused = refused_fields(status, read, fields, chat=chat)
            if refused and not self.config.strict and refusals < MAX_REFUSALS:
                refusals += 1
                server.note_refusal(model, refused)
                names = ", ".join(sorted(refused))
                job.log(logging.WARNING, server, f"the server refuses {names}; asked without")
            elif (
                status == 401
                and not renewed
                and credentials.renew(key_headers.get("Authorization"))
            ):
                renewed = True
                job.log(logging.WARNING, server, "the token was refused; asked for a new one")
            else:
                hint = advice(
                    status,
                    code_for(status, read),
                    read,
                    headers,
                    key=credentials.advice,
                    chat=chat,
                    from_prompt=task.messages is None,
                )
                raise error_from_response(status, headers, read, secrets=secrets, hint=hint)

    def _uses_chat(self, task: TaskRequest) -> bool:
        if task.messages is None:
            pasted_chat = self._endpoints.pasted == "chat"
            return self.config.api == "chat" or (self.config.api == "auto" and pasted_chat)
        if self.config.api == "completions":
            raise InvalidRequest(
                ErrorCode.INVALID_PARAMS,
                "api='completions' cannot send messages: set api to 'auto' or 'chat', or give the "
                "task a prompt",
            )
        return True

    async def _post(
        self, job: Job, url: httpx.URL, key_headers: dict[str, str], content: bytes
    ) -> Posted:
        """Send one request and wait for the head of its answer."""
        connected = self._connect()
        server = connected.server
        headers = {
            "Accept": self.config.accept,
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            **self.config.headers,
            **key_headers,
        }
        job.attempts += 1
        job.await_answer()
        try:
            posted = await post(
                connected.client,
                url,
                headers=headers,
                correlation_id=job.correlation_id,
                content=content,
                connect_timeout_s=self.config.connect_timeout_s,
            )
        except httpx.HTTPError as exc:
            raise error_from_exception(exc, secrets=connected.credentials.secrets) from exc
        if posted.resent:
            job.attempts += 1
            job.log(logging.WARNING, server, "an idle connection had been closed; sent again")
        job.await_token()
        server.note_headers(posted.headers)
        return posted


def _config_of(given: object, options: dict[str, Any]) -> OpenAIHttpConfig:
    """The config an adapter is made with, whichever way it was given."""
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
        raise TypeError("options belong into the OpenAIHttpConfig that was given")
    return given


async def _read_error(posted: Posted) -> bytes:
    """The body of a refusal, as far as it comes in time; the connection is given back."""
    try:
        async with asyncio.timeout(ERROR_BODY_S):
            return await read_up_to(posted.read, MAX_ERROR_BYTES)
    except (TimeoutError, httpx.HTTPError):
        return b""  # the status says enough
    finally:
        await posted.aclose()
