"""The jobs of a host: those under way, and the records of the latest ones.

A record has a reason and a time for every step of a job.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Generic, TypeVar
from weakref import ref

from adapter_api.ledger import Explanation, Step, StepKind
from adapter_api.stream import TokenStream

_J = TypeVar("_J")

MAX_STEPS = 64
"""The most steps that are kept of a job; the last place is for its end."""

MAX_JOBS = 1000
"""The most jobs that are kept: the oldest finished one goes first, else the oldest."""


class JobRecord:
    """The steps of one job, as they happen.

    Args:
        job_id: The job.
        pool_id: Its pool.
        max_steps: The most steps that are kept.
    """

    __slots__ = ("_began_at", "_max_steps", "_omitted", "_steps", "job_id", "outcome", "pool_id")

    def __init__(self, job_id: str, pool_id: str, max_steps: int = MAX_STEPS) -> None:
        self.job_id = job_id
        self.pool_id = pool_id
        self.outcome: str | None = None
        self._began_at = asyncio.get_running_loop().time()
        self._max_steps = max_steps
        self._steps: list[tuple[float, StepKind, str | None, str, float | None, str]] = []
        self._omitted = 0

    def note(
        self,
        kind: StepKind,
        reason: str,
        replica_id: str | None = None,
        *,
        now: float | None = None,
        took_s: float | None = None,
        detail: str = "",
    ) -> None:
        """Note a step that ends now and took `took_s` seconds."""
        if self.outcome is not None or len(self._steps) >= self._max_steps - 1:
            self._omitted += 1
            return
        if now is None:
            now = asyncio.get_running_loop().time()
        self._steps.append((now - (took_s or 0.0), kind, replica_id, reason, took_s, detail))

    def end(self, outcome: str, detail: str = "") -> None:
        """Note the end; what is noted later is left out."""
        if self.outcome is None:
            now = asyncio.get_running_loop().time()
            took_s = now - self._began_at
            self._steps.append((now, "end", None, outcome, took_s, detail))
            self.outcome = outcome

    def ledger(self) -> tuple[Mapping[str, Any], ...]:
        """Return the steps so far as plain data, for the job's End or error.

        They are in the order in which they began: a wait is noted when it ends.
        """
        began_at, steps = self._began_at, []
        for at, kind, replica_id, reason, took_s, detail in self._steps:
            steps.append(
                {
                    "at_ms": max(0, round((at - began_at) * 1000)),
                    "kind": kind,
                    "replica_id": replica_id,
                    "reason": reason,
                    "took_ms": None if took_s is None else round(took_s * 1000),
                    "detail": detail,
                }
            )
        if len(steps) > 3:  # fewer are in order: choose, attempt, end
            steps.sort(key=itemgetter("at_ms"))
        return tuple(steps)

    def explanation(self) -> Explanation:
        """Return the record so far."""
        steps = tuple(Step(**step) for step in self.ledger())
        return Explanation(self.job_id, self.pool_id, self.outcome, steps, self._omitted)


class Ledger:
    """The records of the latest jobs.

    Args:
        max_jobs: The most records.
        max_steps: The most steps of each.
    """

    def __init__(self, max_jobs: int = MAX_JOBS, max_steps: int = MAX_STEPS) -> None:
        self._max_jobs = max_jobs
        self._max_steps = max_steps
        self._running: OrderedDict[str, JobRecord] = OrderedDict()
        self._finished: OrderedDict[str, JobRecord] = OrderedDict()

    def __len__(self) -> int:
        return len(self._running) + len(self._finished)

    def open(self, job_id: str, pool_id: str) -> JobRecord:
        """Begin a record; it replaces an earlier one of that job_id."""
        if self._running.pop(job_id, None) is None:
            self._finished.pop(job_id, None)
        if len(self) >= self._max_jobs:
            (self._finished or self._running).popitem(last=False)
        record = self._running[job_id] = JobRecord(job_id, pool_id, self._max_steps)
        return record

    def close(self, record: JobRecord) -> None:
        """Note that a job is over: its record is among the first to go."""
        if self._running.get(record.job_id) is record:
            del self._running[record.job_id]
            self._finished[record.job_id] = record

    def explain(self, job_id: str) -> Explanation | None:
        """Return what happened to a job; None if it is unknown or forgotten."""
        record = self._running.get(job_id) or self._finished.get(job_id)
        return None if record is None else record.explanation()


class Running(Generic[_J]):
    """The jobs under way, by pool and id. It keeps neither a job nor its stream alive."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[str, str], list[tuple[ref[TokenStream], ref[_J]]]] = {}

    def add(self, pool_id: str, stream: TokenStream, job: _J) -> None:
        """Remember a job until its stream is gone."""
        key = (pool_id, stream.job_id)

        def forget(gone: "ref[TokenStream]") -> None:
            left = [entry for entry in self._jobs.get(key, ()) if entry[0] is not gone]
            if left:
                self._jobs[key] = left
            else:
                self._jobs.pop(key, None)

        self._jobs.setdefault(key, []).append((ref(stream, forget), ref(job)))

    def of(self, pool_id: str, job_id: str) -> list[tuple[TokenStream, _J]]:
        """Return the jobs of that id with their streams; usually one, or none."""
        found = [(stream(), job()) for stream, job in self._jobs.get((pool_id, job_id), ())]
        return [(stream, job) for stream, job in found if stream is not None and job is not None]

    def streams(self) -> list[TokenStream]:
        """Return the streams of all of them."""
        entries = [entry for entries in self._jobs.values() for entry in entries]
        return [stream for entry in entries if (stream := entry[0]()) is not None]
