"""The ledger: what happened to each job on its way, with a reason and a time for every step."""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Any, Literal

import attrs

StepKind = Literal["queue", "skip", "choose", "attempt", "retry", "end"]


@attrs.frozen
class Step:
    """One thing that happened to a job.

    Args:
        at_ms: When it began, in milliseconds after the job came; when it ended, for "end".
        kind: "queue" (it waited in line), "skip" (a replica was passed over), "choose" (a replica
            was chosen), "attempt" (it was asked), "retry" (a further attempt is granted, or why
            not), "end" (the job is over).
        replica_id: The replica, where there is one.
        reason: Why, or with what outcome; an error's code where there was one.
        took_ms: How long it took, where it took time.
        detail: One sentence for a person.
    """

    at_ms: int
    kind: StepKind
    replica_id: str | None
    reason: str
    took_ms: int | None = None
    detail: str = ""

    def __str__(self) -> str:
        words = [f"{self.at_ms:>7} ms", f"{self.kind:<7}", self.replica_id or "-", self.reason]
        if self.took_ms is not None:
            words.append(f"({self.took_ms} ms)")
        if self.detail:
            words.append(f"- {self.detail}")
        return "  ".join(words)


@attrs.frozen
class Explanation:
    """What became of a job.

    Args:
        job_id: The job.
        pool_id: Its pool.
        outcome: "ok", an error's code, or None while it runs.
        steps: What happened, in order.
        omitted: Steps that were left out, after the first ones, to keep memory bounded.
    """

    job_id: str
    pool_id: str
    outcome: str | None
    steps: tuple[Step, ...]
    omitted: int = 0

    def __str__(self) -> str:
        lines = [f"job {self.job_id} in pool {self.pool_id}: {self.outcome or 'running'}"]
        lines += [f"  {step}" for step in self.steps]
        if self.omitted:
            lines.append(f"  ({self.omitted} more steps were left out)")
        return "\n".join(lines)


class JobRecord:
    """The steps of one job, as they happen.

    Args:
        job_id: The job.
        pool_id: Its pool.
        max_steps: The most steps that are kept; the last place is for the end.
        clock: Seconds of a monotonic clock.
    """

    __slots__ = (
        "_began_at",
        "_clock",
        "_most",
        "_omitted",
        "_steps",
        "job_id",
        "outcome",
        "pool_id",
    )

    def __init__(
        self,
        job_id: str,
        pool_id: str,
        max_steps: int = 64,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.job_id = job_id
        self.pool_id = pool_id
        self.outcome: str | None = None
        self._clock = clock
        self._began_at = clock()
        self._most = max_steps
        self._steps: list[Step] = []
        self._omitted = 0

    def note(
        self,
        kind: StepKind,
        reason: str,
        replica_id: str | None = None,
        *,
        took_s: float | None = None,
        detail: str = "",
    ) -> None:
        """Note a step that ends now and took `took_s` seconds."""
        if self.outcome is not None or len(self._steps) >= self._most - 1:
            self._omitted += 1
            return
        began_at = self._clock() - (took_s or 0.0)
        at_ms = max(0, round((began_at - self._began_at) * 1000))
        took_ms = None if took_s is None else round(took_s * 1000)
        self._steps.append(Step(at_ms, kind, replica_id, reason, took_ms, detail))

    def end(self, outcome: str, detail: str = "") -> None:
        """The job is over; what is noted later is of no interest."""
        if self.outcome is None:
            took_ms = round((self._clock() - self._began_at) * 1000)
            self._steps.append(Step(took_ms, "end", None, outcome, took_ms, detail))
            self.outcome = outcome

    def ledger(self) -> tuple[dict[str, Any], ...]:
        """The steps so far as plain data, for the job's End or error."""
        return tuple(attrs.asdict(step) for step in self.explanation().steps)

    def explanation(self) -> Explanation:
        """The record so far, by the times at which steps began: a wait is noted when it ends."""
        steps = tuple(sorted(self._steps, key=lambda step: step.at_ms))
        return Explanation(self.job_id, self.pool_id, self.outcome, steps, self._omitted)


class Ledger:
    """The records of the latest jobs.

    Args:
        max_jobs: The most records; the oldest finished one goes first, else the oldest.
        max_steps: The most steps of each.
        clock: Seconds of a monotonic clock.
    """

    def __init__(
        self,
        max_jobs: int = 1000,
        max_steps: int = 64,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._max_jobs = max_jobs
        self._max_steps = max_steps
        self._clock = clock
        self._records: OrderedDict[str, JobRecord] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def open(self, job_id: str, pool_id: str) -> JobRecord:
        """Begin a record; it takes the place of an earlier one of that job_id."""
        self._records.pop(job_id, None)
        if len(self._records) >= self._max_jobs:
            self._forget_one()
        record = JobRecord(job_id, pool_id, self._max_steps, self._clock)
        self._records[job_id] = record
        return record

    def explain(self, job_id: str) -> Explanation | None:
        """What became of a job; None if it is unknown or forgotten."""
        record = self._records.get(job_id)
        return None if record is None else record.explanation()

    def _forget_one(self) -> None:
        finished = (job_id for job_id, record in self._records.items() if record.outcome)
        job_id = next(finished, None) or next(iter(self._records))
        del self._records[job_id]
