"""The gateway's jobs: those in flight, and the ended ones for the dashboard."""

from time import time
from typing import Self

import attrs

from adapter_api import Metrics
from registry.serving import Job

MAX_RECENT = 200
"""How many ended jobs are kept: some screens of the dashboard."""


@attrs.define(eq=False)
class GatewayJob(Job):
    """One request's job in flight.

    Args:
        model: The model's name as the client wrote it.
        key: The name of the client's key; empty without keys.

    Attributes:
        tokens: How many pieces were delivered.
        used_tokens: The tokens of prompt and answer, once a whole answer reports them.
        replica_id: The replica that answers, once it does.
        first_token_at: When the first piece came, in seconds of the loop's clock.
    """

    model: str = attrs.field(kw_only=True)
    key: str = attrs.field(default="", kw_only=True)
    tokens: int = attrs.field(default=0, init=False)
    used_tokens: int = attrs.field(default=0, init=False)
    replica_id: str | None = attrs.field(default=None, init=False)
    first_token_at: float | None = attrs.field(default=None, init=False)

    def note_end(self, metrics: Metrics) -> None:
        """Note the tokens of a whole answer."""
        self.used_tokens = (metrics.prompt_tokens or 0) + metrics.tokens_generated


@attrs.frozen
class EndedJob:
    """One job that has ended.

    Args:
        job_id: Its id.
        pool_id: Its pool.
        model: The model's name as the client wrote it.
        key: The name of the client's key; empty without keys.
        replica_id: The replica that answered, if one did.
        status: The HTTP status of the answer; 0 if the client left before it.
        code: The error it failed with; empty if the answer is whole.
        tokens: How many pieces were delivered.
        took_ms: From the request to the end.
        first_token_ms: From the request to the first piece; None without one.
        ended_at_s: When, in seconds since the epoch.
    """

    job_id: str
    pool_id: str
    model: str
    key: str
    replica_id: str | None
    status: int
    code: str
    tokens: int
    took_ms: int
    first_token_ms: int | None
    ended_at_s: float

    @classmethod
    def of(cls, job: GatewayJob, status: int, now: float) -> Self:
        """Return a job that has just ended.

        Args:
            job: The job.
            status: The HTTP status it was answered with.
            now: The time on the loop's clock.
        """
        first_at = job.first_token_at
        return cls(
            job.job_id,
            job.pool_id,
            job.model,
            job.key,
            job.replica_id,
            status,
            "" if job.outcome == "ok" else job.outcome or "",
            job.tokens,
            round(1000 * (now - job.since)),
            None if first_at is None else round(1000 * (first_at - job.since)),
            round(time(), 3),
        )
