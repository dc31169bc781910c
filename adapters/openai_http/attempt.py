"""The attempts of one job: its clock, its requests, refusals and the renewal of its key."""

import asyncio
import logging
from collections.abc import Awaitable
from functools import partial
from typing import Any

import attrs
import httpx

from adapter_api import (
    EngineUnavailable,
    ErrorCode,
    InvalidRequest,
    Metrics,
    Started,
    StreamClock,
    TaskRequest,
    WorkerError,
    WorkerTimeout,
)
from adapter_api.propagation import request_headers
from adapters.http_util import (
    Posted,
    Unanswered,
    check_egress,
    code_for,
    error_from_exception,
    error_from_response,
    post,
    read_error_body,
    read_up_to,
)
from adapters.openai_http.advice import advice
from adapters.openai_http.answer import AnswerReader
from adapters.openai_http.config import OpenAIHttpConfig
from adapters.openai_http.connected import Connected
from adapters.openai_http.endpoints import Endpoints
from adapters.openai_http.outcome import Verdict, Wanted
from adapters.openai_http.refusals import refused_fields
from adapters.openai_http.request import encode, request_fields
from adapters.openai_http.tool_choice import ignored_choice

logger = logging.getLogger("worker_adapters.openai_http")

MAX_ERROR_BYTES = 64 << 10
"""The maximum size read of an error body: more than any error message."""

ERROR_BODY_S = 2.0
"""How long an error body may take to arrive after its status."""

MAX_REFUSALS = 3
"""How many times a job is sent again because the server refuses a field."""


SUCCESSES = frozenset(range(200, 300)) - {204, 205}
"""Statuses of an answer: some servers send 201. 204 and 205 have no body."""


@attrs.define(eq=False)
class Job:
    """One job with its attempts.

    Args:
        task: The job.
        clock: Its limits.
        correlation_id: Sent to the server and logged (AH-1003).
        config: The adapter's options.
        endpoints: The server's URLs.
    """

    task: TaskRequest
    clock: StreamClock
    correlation_id: str
    config: OpenAIHttpConfig
    endpoints: Endpoints
    attempts: int = attrs.field(default=0, init=False)
    first_piece_at: float | None = attrs.field(default=None, init=False)

    @property
    def model(self) -> str | None:
        """The model's name: the task's, or else the config's."""
        return self.task.model or self.config.model

    @property
    def wanted(self) -> Wanted:
        """The parts of the answer that the job wants in addition to text."""
        task = self.task
        history, logprobs = bool(task.tools), task.logprobs is not None
        return Wanted(task.include_reasoning, history, logprobs, task.max_tokens, task.job_id)

    @property
    def uses_chat(self) -> bool:
        """True if the task goes to the chat endpoint.

        Raises:
            InvalidRequest: If it has to, and the options forbid it.
        """
        task, api = self.task, self.config.api
        if task.messages is None and not task.tools:
            return api == "chat" or (api == "auto" and self.endpoints.pasted == "chat")
        if api == "completions":
            what = "tools" if task.messages is None else "messages"
            raise InvalidRequest(
                ErrorCode.INVALID_PARAMS,
                f"api='completions' cannot send {what}: set api to 'auto' or 'chat', or give the "
                "task only a prompt",
            )
        return True

    # Its limits

    def note_progress(self) -> None:
        """Begin a new wait, because the engine generated something."""
        if self.first_piece_at is None:
            self.first_piece_at = self.clock.now()
        self.clock.allow(self.config.stall_timeout_s, _stalled)

    # One attempt

    async def attempt(self, connected: Connected) -> Posted:
        """Return the accepted answer to one attempt.

        The request is sent again, in the same attempt, only without the fields that the server
        refuses by name, or with a new token.

        Raises:
            WorkerError: The refusal.
        """
        server, credentials = connected.server, connected.credentials
        chat, model, tools = self.uses_chat, self.model, bool(self.task.tools)
        url = self.endpoints.chat if chat else self.endpoints.completions
        check_egress(url, self.config.egress_allow, self.config.proxy)
        refusals, renewed = 0, False
        while True:
            fields = request_fields(
                self.task,
                chat=chat,
                model=model,
                dialect=server.dialect,
                without=server.refused_fields(model, tools=tools),
            )
            content = encode(fields)
            # Getting the key is charged to the wait for the first piece.
            self.clock.allow(self.config.first_token_timeout_s, _keyless)
            key_headers = credentials.fixed
            if key_headers is None:
                key_headers = await credentials.headers()
            self.attempts += 1
            self.clock.rename(_unanswered)
            try:
                posted = await self._post(connected, url, key_headers, content)
            except httpx.HTTPError as exc:
                raise error_from_exception(exc, secrets=credentials.secrets) from exc
            self.clock.rename(_tokenless)
            if posted.resent:
                self.attempts += 1
                self.note(connected, "the server had closed an idle connection; sent again")
            headers = posted.headers
            server.note_headers(headers)
            if posted.status in SUCCESSES:
                return posted
            status, body = posted.status, await self._read_refusal(posted, credentials.secrets)
            read = read_error_body(body, credentials.secrets)
            refused = refused_fields(status, read, set(fields) - set(self.task.extra), chat=chat)
            if refused and not self.config.strict and refusals < MAX_REFUSALS:
                refusals += 1
                server.note_refusal(model, refused, tools=tools)
                self.note(connected, f"the server refuses {', '.join(sorted(refused))}; left out")
            elif (
                status == 401
                and not renewed
                and credentials.renew(key_headers.get("Authorization"))
            ):
                renewed = True
                self.note(connected, "the token was refused; a new one was requested")
            else:
                recommended = advice(
                    status,
                    code_for(status, read),
                    read,
                    headers,
                    key=credentials.advice,
                    chat=chat,
                    from_prompt=self.task.messages is None,
                )
                raise error_from_response(
                    status, headers, read, secrets=credentials.secrets, hint=recommended
                )

    async def _read_refusal(self, posted: Posted, secrets: tuple[str, ...]) -> bytes:
        """Return the part of a refusal's body that arrives in time, and release the connection."""
        # If the body takes too long, the job ends with the status alone.
        status, headers = posted.status, posted.headers
        self.clock.rename(partial(error_from_response, status, headers, b"", secrets=secrets))
        try:
            async with asyncio.timeout(ERROR_BODY_S):
                return await read_up_to(posted.read, MAX_ERROR_BYTES)
        except (TimeoutError, httpx.HTTPError):
            return b""  # the status is enough
        finally:
            await posted.aclose()

    def _post(
        self, connected: Connected, url: httpx.URL, key_headers: dict[str, str], content: bytes
    ) -> Awaitable[Posted]:
        """Send one request and wait for the head of its answer."""
        return post(
            connected.client,
            url,
            headers=connected.headers(key_headers),
            correlation_id=self.correlation_id,
            content=content,
            connect_timeout_s=self.config.connect_timeout_s,
            trace=request_headers(self.task.job_id),
            secrets=connected.credentials.secrets,
        )

    # What is reported

    def note_retry(
        self, connected: Connected, error: WorkerError, number: int, wait_s: float
    ) -> None:
        """Report that attempt `number` failed and the next one follows in `wait_s` seconds."""
        self.clock.note_retry(error)
        self.clock.allow(None)  # waiting before the next request is charged to the deadline alone
        self.note(
            connected,
            f"attempt {number} failed with {error.code}; the next follows in {wait_s:.3f} s",
            status=error.status,
        )

    def started(self, connected: Connected, answer: AnswerReader) -> Started:
        """Return the Started event of an accepted job."""
        server = connected.server
        refused = server.refused_fields(self.model, tools=bool(self.task.tools))
        return Started(  # by position, as in `metrics`: names cost a quarter of the call
            self.task.job_id,
            server.dialect.engine,
            server.version or "unknown",
            answer.facts.model or self.model,
            None if "seed" in refused else self.task.seed,
            self.config.replica_id,
        )

    def metrics(self, answer: AnswerReader) -> Metrics:
        """Return the job's counts and times so far."""
        now, usage, first_at = self.clock.now(), answer.facts.usage, self.first_piece_at
        first_token_ms, decode_ms = None, 0.0
        if first_at is not None:
            first_token_ms = round((first_at - self.clock.started_at) * 1000, 3)
            decode_ms = round((now - first_at) * 1000, 3)
        if usage is None:
            return Metrics(answer.tokens, None, first_token_ms, decode_ms, "counted", self.attempts)
        return Metrics(
            usage.completion_tokens,
            usage.prompt_tokens,
            first_token_ms,
            decode_ms,
            "engine",
            self.attempts,
            (),
            usage.cached_tokens,
            usage.reasoning_tokens,
        )

    def check(self, connected: Connected, verdict: Verdict) -> None:
        """Log unusual properties of a whole answer, which are not errors."""
        calls = (*verdict.tool_calls, *verdict.invalid_tool_calls)
        if ignored := ignored_choice(self.task, calls):
            self.note(connected, ignored)
        elif verdict.lost_calls and self.task.tools:
            self.note(
                connected,
                "the server says that a tool was called, but sent no call; it may have no parser "
                "for this model's calls",
            )
        if verdict.unread:
            names = ", ".join(verdict.unread)
            self.note(connected, f"the answer holds more than was delivered: {names}")
        if verdict.said_nothing and not self.task.include_reasoning:
            self.note(
                connected,
                "the answer is reasoning without any text; use answer(), or the server without its "
                "reasoning parser",
            )

    def note(self, connected: Connected, human: str, **more: Any) -> None:
        """Log one line with the fields of ORCH-3027; `human` is the sentence of ORCH-3300."""
        if not logger.isEnabledFor(logging.WARNING):
            return
        server = connected.server
        fields = {
            "human": human,
            "job_id": self.task.job_id,
            "session_id": self.task.session_id,
            "correlation_id": self.correlation_id,
            "engine": server.dialect.engine,
            "engine_version": server.version,
            "pool_id": self.config.pool_id,
            "replica_id": self.config.replica_id,
            "attempts": self.attempts,
            **more,
        }
        logger.warning("%s (job %s)", human, self.task.job_id, extra=fields)


def _keyless() -> WorkerError:
    return EngineUnavailable(
        ErrorCode.POOL_UNAVAILABLE,
        "the function for the key did not return within first_token_timeout_s",
    )


def _unanswered() -> WorkerError:
    return Unanswered(
        ErrorCode.POOL_UNAVAILABLE,
        "the server did not begin to answer within first_token_timeout_s",
    )


def _tokenless() -> WorkerError:
    return WorkerTimeout(
        ErrorCode.DECODE_TIMEOUT, "the server sent no token within first_token_timeout_s"
    )


def _stalled() -> WorkerError:
    return WorkerTimeout(
        ErrorCode.DECODE_TIMEOUT, "the server sent no further token within stall_timeout_s"
    )
