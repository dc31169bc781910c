"""The notices that observers receive. No notice holds a prompt, an answer or a secret.

Times are in milliseconds. A fact that is not known is None.
"""

from enum import StrEnum
from typing import Literal, NamedTuple

from adapter_api.health import HealthState


class BreakerState(StrEnum):
    """The state of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class ReplicaState(StrEnum):
    """The state of a replica in one word."""

    UNKNOWN = "unknown"
    READY = "ready"
    BUSY = "busy"
    LOADING = "loading"
    DOWN = "down"
    DRAINING = "draining"


class AdapterNotice(NamedTuple):
    """Identity of an adapter.

    Args:
        name: Its name in the registry; "host" for a pool of a host.
        distribution: The distribution it comes from.
        version: That distribution's version.
        pool_id: The pool it is bound to in a host, else the pool of its config.
        replica_id: The replica it is bound as in a host, else the replica of its config.
    """

    name: str
    distribution: str
    version: str
    pool_id: str | None = None
    replica_id: str | None = None


class JobNotice(NamedTuple):
    """State of a job at one of its events (ORCH-3027).

    Args:
        job_id: The task's job_id.
        session_id: The task's session_id.
        correlation_id: The task's correlation_id.
        adapter: The owner of the job: an adapter that is used alone, or a pool of a host.
        elapsed_ms: Time since the job was submitted.
        engine: The kind of engine, once it answered.
        engine_version: The engine's version.
        model: The model that answers, else the requested one.
        pool_id: The owner's pool.
        replica_id: The replica of the latest attempt.
        tokens_in: Tokens of the prompt.
        tokens_out: Tokens of the answer: the engine's count, or the delivered Token events.
        time_to_first_token_ms: Time until the first Token.
        decode_time_ms: Time from the first Token to the end.
        attempts: Requests sent for the job so far; 0 while it waits for a replica.
        tool_calls: Complete tool calls of the answer.
        invalid_tool_calls: Its other tool calls: cut, or not JSON.
        cached_tokens: Tokens of the prompt that the engine had in its cache.
        reasoning_tokens: Tokens of the answer that are reasoning.
        finish_reason: The engine's finish_reason.
        code: The code of the error that ended the job.
        retriable: Whether sending the same task again may succeed.
        operation: "chat" for a task with messages, "text_completion" for one with a prompt.
        usage_source: "engine" if the engine counted the tokens, "counted" if we did.
    """

    job_id: str
    session_id: str | None
    correlation_id: str | None
    adapter: AdapterNotice
    elapsed_ms: float = 0.0
    engine: str | None = None
    engine_version: str | None = None
    model: str | None = None
    pool_id: str | None = None
    replica_id: str | None = None
    tokens_in: int | None = None
    tokens_out: int = 0
    time_to_first_token_ms: float | None = None
    decode_time_ms: float | None = None
    attempts: int = 0
    tool_calls: int = 0
    invalid_tool_calls: int = 0
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    finish_reason: str | None = None
    code: str | None = None
    retriable: bool | None = None
    operation: Literal["chat", "text_completion"] = "chat"
    usage_source: str | None = None


class AttemptNotice(NamedTuple):
    """State of one request of a job to one replica.

    Args:
        job_id: The task's job_id.
        session_id: The task's session_id.
        correlation_id: The task's correlation_id.
        adapter: The adapter that makes the attempt.
        owner: The owner of the job, as in JobNotice: the same adapter, or a pool of a host.
        number: The attempt's number within the job, from 1.
        elapsed_ms: Time since the attempt started.
        engine: The kind of engine, once it answered.
        engine_version: The engine's version.
        model: The model that answers, else the requested one.
        tokens_out: Token events the replica delivered.
        code: The code of the error that ended the attempt; None if the answer is whole.
        retriable: Whether sending the same task again may succeed.
        status: The HTTP status behind the error.
        retry_after_ms: The delay that the engine requests.
    """

    job_id: str
    session_id: str | None
    correlation_id: str | None
    adapter: AdapterNotice
    owner: AdapterNotice
    number: int
    elapsed_ms: float = 0.0
    engine: str | None = None
    engine_version: str | None = None
    model: str | None = None
    tokens_out: int = 0
    code: str | None = None
    retriable: bool | None = None
    status: int | None = None
    retry_after_ms: int | None = None


class HealthNotice(NamedTuple):
    """A health check that found another state than the one before.

    Args:
        adapter: The adapter that was checked.
        before: The state before; None at the first check.
        after: The state now.
        live: Whether the process answers.
        ready: Whether it accepts work.
    """

    adapter: AdapterNotice
    before: HealthState | None
    after: HealthState
    live: bool
    ready: bool


class ReplicaNotice(NamedTuple):
    """A change of a replica's state in a host.

    Args:
        pool_id: Its pool.
        replica_id: Its name there.
        before: The state before; None for a new replica.
        after: The state now; None for a removed one.
        message: One sentence for a person.
    """

    pool_id: str
    replica_id: str
    before: str | None
    after: str | None
    message: str = ""


class BreakerNotice(NamedTuple):
    """A change of a replica's circuit breaker (ORCH-3602).

    Args:
        pool_id: Its pool.
        replica_id: Its name there.
        before: "closed", "open" or "half_open".
        after: The state now.
        retry_in_ms: Time until an open breaker lets a probe through.
        reason: The error code that opened it, or "probe", "answered" or "replaced".
    """

    pool_id: str
    replica_id: str
    before: str
    after: str
    retry_in_ms: int | None = None
    reason: str = ""
