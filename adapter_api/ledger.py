"""The ledger: the steps of a job through a host, with reasons and times."""

from typing import Literal

import attrs

StepKind = Literal["queue", "skip", "choose", "attempt", "answer", "retry", "fallback", "end"]


@attrs.frozen
class Step:
    """One step of a job through a host.

    Args:
        at_ms: When it began, in milliseconds after the job was submitted; for "end", when it ended.
        kind: "queue" (it waited in the queue), "skip" (a replica was skipped), "choose" (a replica
            was chosen), "attempt" (the job was sent to it), "answer" (its answer is unusual),
            "retry" (a further attempt is granted, or the reason why not), "fallback" (the job moves
            to another pool), "end" (the job is over).
        replica_id: The replica, where there is one.
        reason: The reason or the outcome; an error's code where there was one.
        took_ms: Its duration, if it took time.
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
    """The record of a job.

    Args:
        job_id: The job.
        pool_id: Its pool.
        outcome: "ok", an error's code, or None while it runs.
        steps: The steps, in order.
        omitted: How many steps after the first ones were left out to bound the memory.
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
