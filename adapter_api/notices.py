"""What observers are told. No prompt, no answer and no secret is in any of it.

Times are in milliseconds. Facts that nobody told are None.
"""

import attrs

from adapter_api.health import HealthState


@attrs.frozen
class AdapterNotice:
    """Which adapter it is about.

    Args:
        name: Its name in the registry.
        distribution: The distribution it comes from.
        version: That distribution's version.
        pool_id: The pool of its config, where it has one.
        replica_id: The replica of its config, where it has one.
    """

    name: str
    distribution: str
    version: str
    pool_id: str | None = None
    replica_id: str | None = None


@attrs.frozen
class JobNotice:
    """What is known of a job at this moment (ORCH-3027).

    Args:
        job_id: The task's job_id.
        session_id: The task's session_id.
        correlation_id: The task's correlation_id.
        adapter: Which adapter runs it.
        elapsed_ms: Since the job was sent.
        engine: The kind of engine, once it answered.
        engine_version: Its version.
        model: The model that answers, else the one that was asked for.
        pool_id: The adapter's pool.
        replica_id: Which replica answers, where the adapter tells; else the adapter's.
        tokens_in: Tokens of the prompt.
        tokens_out: Tokens of the answer: the engine's count, or the Tokens that were delivered.
        time_to_first_token_ms: Until the first Token.
        decode_time_ms: From the first Token to the end.
        attempts: Requests that were sent for the job, once it ended well.
        finish_reason: The engine's word for its end.
        code: The error it failed with.
        retriable: Whether the same task may succeed when it is sent again.
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
    attempts: int | None = None
    finish_reason: str | None = None
    code: str | None = None
    retriable: bool | None = None


@attrs.frozen
class HealthNotice:
    """An adapter's engine is not as it was at the health check before.

    Args:
        adapter: Which adapter asked.
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


@attrs.frozen
class ReplicaNotice:
    """A replica of a host changed its state.

    Args:
        pool_id: Its pool.
        replica_id: Its name there.
        before: The state before; None for a new replica.
        after: The state now; None for one that is gone.
        message: One sentence for a person.
    """

    pool_id: str
    replica_id: str
    before: str | None
    after: str | None
    message: str = ""


@attrs.frozen
class BreakerNotice:
    """A replica's circuit breaker changed (ORCH-3602).

    Args:
        pool_id: Its pool.
        replica_id: Its name there.
        before: "closed", "open" or "half_open".
        after: The same, now.
        retry_in_ms: When an open one lets a probe through.
        reason: Why: the error code that opened it, or "probe", "answered" or "replaced".
    """

    pool_id: str
    replica_id: str
    before: str
    after: str
    retry_in_ms: int | None = None
    reason: str = ""
