"""The gateway's jobs for the dashboard: those in flight, and the latest that have ended."""

import asyncio
from collections import deque
from time import time
from typing import Literal

import attrs

Phase = Literal["queue", "waiting", "generating"]

MAX_RECENT = 200
"""How many ended jobs are kept: some screens of the dashboard."""


@attrs.define(eq=False)
class Job:
    """One job in flight.

    Args:
        job_id: Its id, which is the request's id, too.
        pool_id: Its pool.
        model: The model's name as the client wrote it.
        key: The name of the client's key; empty without keys.
        priority: "interactive" or "batch".
        began_at: Seconds of the event loop's clock.
        phase: "queue", "waiting" (for the first token) or "generating".
        tokens: How many pieces were delivered.
        replica_id: The replica that answers, once it does.
        first_token_at: When the first piece came, on the same clock.
    """

    job_id: str
    pool_id: str
    model: str
    key: str
    priority: str
    began_at: float
    phase: Phase = "queue"
    tokens: int = 0
    replica_id: str | None = None
    first_token_at: float | None = None


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


class Board:
    """The jobs that the dashboard shows."""

    def __init__(self) -> None:
        self.running: dict[str, Job] = {}
        self.recent: deque[EndedJob] = deque(maxlen=MAX_RECENT)
        self.ended = 0
        self.failed = 0

    def begin(self, job: Job) -> None:
        """Show a job."""
        self.running[job.job_id] = job

    def end(self, job: Job, status: int, code: str) -> None:
        """Show a job among those that have ended.

        Args:
            job: The job.
            status: The HTTP status it was answered with.
            code: The error's code; empty if the answer is whole.
        """
        now = asyncio.get_running_loop().time()
        del self.running[job.job_id]
        self.ended += 1
        self.failed += bool(code)
        first = job.first_token_at
        self.recent.append(
            EndedJob(
                job.job_id,
                job.pool_id,
                job.model,
                job.key,
                job.replica_id,
                status,
                code,
                job.tokens,
                round(1000 * (now - job.began_at)),
                None if first is None else round(1000 * (first - job.began_at)),
                round(time(), 3),
            )
        )
