"""One job of openai-http on its way: its clock, its attempts, and what is told of it."""

import logging
from time import monotonic

import attrs

from adapter_api import (
    EngineUnavailable,
    ErrorCode,
    Metrics,
    Started,
    StreamClock,
    TaskRequest,
    WorkerError,
    WorkerTimeout,
)
from adapters.http_util import Unanswered
from adapters.openai_http.config import OpenAIHttpConfig
from adapters.openai_http.server import Server
from adapters.openai_http.wire import Answer

logger = logging.getLogger("worker_adapters.openai_http")


@attrs.define(eq=False)
class Job:
    """What one submit carries through its attempts.

    Args:
        task: The job.
        clock: Its limits.
        correlation_id: What the server is told, and the log (AH-1003).
        config: The adapter's options.
    """

    task: TaskRequest
    clock: StreamClock
    correlation_id: str
    config: OpenAIHttpConfig
    attempts: int = attrs.field(default=0, init=False)
    first_token_at: float | None = attrs.field(default=None, init=False)

    @property
    def model(self) -> str | None:
        """The model's name, as far as anybody has given one."""
        return self.task.model or self.config.model

    # Its limits

    def await_key(self) -> None:
        """A new wait begins, for the key and then for the first token."""
        self.clock.allow(self.config.first_token_timeout_s, _keyless)

    def await_answer(self) -> None:
        """The same wait goes on, with a request on its way."""
        self.clock.rename(_unanswered)

    def await_token(self) -> None:
        """The same wait goes on, with an answer that has begun."""
        self.clock.rename(_tokenless)

    def await_more(self) -> None:
        """The engine has produced something; a new wait begins."""
        self.clock.allow(self.config.stall_timeout_s, _stalled)

    def note_first_token(self) -> None:
        """The first token is there."""
        self.first_token_at = monotonic()
        self.await_more()

    # What is told

    def started(self, server: Server, answer: Answer) -> Started:
        """The engine accepted it."""
        return Started(
            job_id=self.task.job_id,
            engine=server.dialect.engine,
            engine_version=server.version or "unknown",
            model=answer.model or self.model,
            seed=None if "seed" in server.refused_fields(self.model) else self.task.seed,
            replica_id=self.config.replica_id,
        )

    def metrics(self, answer: Answer) -> Metrics:
        """Its counts and times so far."""
        now, usage, first_at = monotonic(), answer.usage, self.first_token_at
        submitted_at = self.clock.started_at
        return Metrics(
            tokens_generated=usage.completion_tokens if usage else answer.index,
            prompt_tokens=usage.prompt_tokens if usage else None,
            time_to_first_token_ms=(
                None if first_at is None else round((first_at - submitted_at) * 1000, 3)
            ),
            decode_time_ms=0.0 if first_at is None else round((now - first_at) * 1000, 3),
            usage_source="engine" if usage else "counted",
            attempts=self.attempts,
        )

    def log_failure(
        self, server: Server, exc: BaseException, metrics: Metrics | None = None
    ) -> None:
        """How a job ended that has no End: by an error, a limit in time, or its reader's wish."""
        error = exc if isinstance(exc, WorkerError) else self.clock.stopped_by
        if error is None or error.code is ErrorCode.CANCELLED:
            self.log(logging.INFO, server, "the job was cancelled", metrics)
        else:
            human = f"the job failed with {error.code}"
            self.log(logging.WARNING, server, human, metrics, status=error.status)

    def log(
        self,
        level: int,
        server: Server,
        human: str,
        metrics: Metrics | None = None,
        **more: object,
    ) -> None:
        """One line with the fields of ORCH-3027; `human` is the sentence of ORCH-3300."""
        if not logger.isEnabledFor(level):
            return
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
        if metrics is not None:
            fields |= {
                "tokens_in": metrics.prompt_tokens,
                "tokens_out": metrics.tokens_generated,
                "latency_first_token_ms": metrics.time_to_first_token_ms,
                "decode_time_ms": metrics.decode_time_ms,
            }
        logger.log(level, "%s (job %s)", human, self.task.job_id, extra=fields)


def _keyless() -> WorkerError:
    return EngineUnavailable(
        ErrorCode.POOL_UNAVAILABLE,
        "the function that gives the key did not within first_token_timeout_s",
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
