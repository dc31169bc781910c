"""The jobs of a host: waiting jobs, and the records of the latest ones."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import cache
from operator import attrgetter, itemgetter
from typing import Any, Generic, Literal, TypeVar, get_args

import attrs

from adapter_api.errors import ErrorCode, WorkerError, WorkerTimeout
from adapter_api.events import TokenEvent
from adapter_api.ledger import Explanation, Step, StepKind
from adapter_api.limits import StreamClock

Priority = Literal["interactive", "batch"]

PRIORITIES: tuple[Priority, ...] = get_args(Priority)
"""From the first served to the last."""


@attrs.define(eq=False)
class Ticket:
    """A place among the waiting jobs.

    Args:
        priority: Its place among the others.
        is_back: Whether the job had a replica before.
        number: Counts the tickets in the order in which they came.
    """

    priority: Priority
    is_back: bool
    number: int
    lane: "Lane[Any] | None" = attrs.field(default=None, init=False)


_T = TypeVar("_T", bound=Ticket)


class Lane(Generic[_T]):
    """The jobs of one priority that wait for the same replicas."""

    __slots__ = ("back", "fresh", "key")

    def __init__(self, key: str | None) -> None:
        self.key = key
        self.back: OrderedDict[_T, None] = OrderedDict()
        self.fresh: OrderedDict[_T, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self.back) + len(self.fresh)

    def __iter__(self) -> Iterator[_T]:
        yield from self.back
        yield from self.fresh

    def of(self, turn: _T) -> OrderedDict[_T, None]:
        """Return the position of a turn."""
        return self.back if turn.is_back else self.fresh

    @property
    def first(self) -> int:
        """The number of the turn that came first; jobs that came back go first."""
        return -1 if self.back else next(iter(self.fresh)).number


class Lanes(Generic[_T]):
    """The waiting jobs, by priority and by the replicas they wait for."""

    def __init__(self) -> None:
        self._lanes: dict[Priority, dict[str | None, Lane[_T]]] = {p: {} for p in PRIORITIES}
        self.fresh: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)
        self.back: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)
        self.size = 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[_T]:
        for lanes in self._lanes.values():
            for lane in lanes.values():
                yield from lane

    def count(self, priority: Priority) -> int:
        """Return how many of that priority wait."""
        return self.fresh[priority] + self.back[priority]

    def add(self, turn: _T, key: str | None) -> None:
        """Put a turn at the end of its lane."""
        lanes = self._lanes[turn.priority]
        lane = lanes.get(key)
        if lane is None:
            lane = lanes[key] = Lane(key)
        turn.lane = lane
        lane.of(turn)[turn] = None
        (self.back if turn.is_back else self.fresh)[turn.priority] += 1
        self.size += 1

    def remove(self, turn: _T) -> bool:
        """Remove a turn; False if it was not there."""
        lane = turn.lane
        if lane is None:
            return False
        turn.lane = None
        del lane.of(turn)[turn]
        (self.back if turn.is_back else self.fresh)[turn.priority] -= 1
        self.size -= 1
        if not lane:
            del self._lanes[turn.priority][lane.key]
        return True

    def of(self, priority: Priority) -> list[Lane[_T]]:
        """Return the lanes of a priority, by the turn that came first."""
        lanes = self._lanes[priority]
        if len(lanes) < 2:
            return list(lanes.values())
        return sorted(lanes.values(), key=lambda lane: lane.first)

    def oldest_batch(self) -> _T | None:
        """Return the batch job that has waited longest; not one that came back."""
        firsts = [next(iter(ln.fresh)) for ln in self._lanes["batch"].values() if ln.fresh]
        return min(firsts, key=lambda turn: turn.number, default=None)

    def last(self) -> _T:
        """Return the job that would be served last; not one that came back."""
        priority: Priority = "batch" if self.fresh["batch"] else "interactive"
        lasts = [next(reversed(ln.fresh)) for ln in self._lanes[priority].values() if ln.fresh]
        return max(lasts, key=lambda turn: turn.number)


# Errors


def of_the_job(
    error: WorkerError, limits: StreamClock, asked: Sequence[str], unused: Sequence[str]
) -> WorkerError:
    """Return the last attempt's error as that of the whole job.

    Args:
        error: The attempt's error.
        limits: The job's clock; the adapter knows only the part of the deadline that it was given.
        asked: The replica of each attempt.
        unused: Why fallback pools could not be used.
    """
    if error.code is ErrorCode.DEADLINE_UNMET and limits.deadline_at is not None:
        given_s = limits.deadline_at - limits.started_at
        error = WorkerTimeout(
            ErrorCode.DEADLINE_UNMET, f"the job did not end within its deadline of {given_s:g} s"
        )
    if len(asked) < 2 and not unused:
        return error
    fields = error.fields()
    if len(asked) > 1:
        fields["message"] += f" (the last of {len(asked)} attempts, on {', '.join(asked)})"
    if unused:
        fields["message"] += f"; no fallback: {'; '.join(unused)}"
    return WorkerError.of(**fields)


def too_late(limit_s: float, head: Sequence[TokenEvent]) -> WorkerError:
    """Return the error of an attempt that sent no token in time, after the events `head`."""
    code = ErrorCode.DECODE_TIMEOUT if head else ErrorCode.POOL_UNAVAILABLE
    return WorkerError.of(code, f"the replica sent no token within the pool's {limit_s:g} s")


# Records

MAX_STEPS = 64
"""The maximum number of steps kept of a job; the last place is for its end."""

MAX_JOBS = 1000
"""The maximum number of ended jobs kept, in addition to the jobs in flight."""


class JobRecord:
    """The steps of one job, as they happen.

    Args:
        job_id: The job.
        pool_id: Its pool.
        max_steps: The maximum number of steps kept.
        now: The time.
    """

    __slots__ = (
        "_began_at",
        "_max_steps",
        "_omitted",
        "_steps",
        "asked",
        "job_id",
        "outcome",
        "pool_id",
    )

    def __init__(self, job_id: str, pool_id: str, max_steps: int, now: float) -> None:
        self.job_id = job_id
        self.pool_id = pool_id
        self.outcome: str | None = None
        self.asked: list[str] = []  # the replica of each attempt
        self._began_at = now
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

    def end(self, outcome: str, detail: str = "", now: float | None = None) -> None:
        """Note the end; later steps are ignored."""
        if self.outcome is None:
            if now is None:
                now = asyncio.get_running_loop().time()
            took_s = now - self._began_at
            self._steps.append((now, "end", None, outcome, took_s, detail))
            self.outcome = outcome

    def ledger(self) -> tuple[Mapping[str, Any], ...]:
        """Return the steps so far as plain data, for the job's End or error.

        They are in the order in which they began: a wait is noted when it ends.
        """
        began_at = self._began_at
        steps = [
            {
                "at_ms": round((at - began_at) * 1000) if at > began_at else 0,
                "kind": kind,
                "replica_id": replica_id,
                "reason": reason,
                "took_ms": None if took_s is None else round(took_s * 1000),
                "detail": detail,
            }
            for at, kind, replica_id, reason, took_s, detail in self._steps
        ]
        if len(steps) > 3:  # fewer are in order: choose, attempt, end
            steps.sort(key=itemgetter("at_ms"))
        return tuple(steps)

    def explanation(self) -> Explanation:
        """Return the record so far."""
        steps = tuple(Step(**step) for step in self.ledger())
        return Explanation(self.job_id, self.pool_id, self.outcome, steps, self._omitted)


class Ledger:
    """The records of the jobs in flight, and of the latest that have ended.

    Args:
        max_jobs: The maximum number of ended jobs.
        max_steps: The maximum number of steps of each.
    """

    def __init__(self, max_jobs: int = MAX_JOBS, max_steps: int = MAX_STEPS) -> None:
        self._max_jobs = max_jobs
        self._max_steps = max_steps
        self._running: dict[str, JobRecord] = {}
        self._finished: OrderedDict[str, JobRecord] = OrderedDict()

    def __len__(self) -> int:
        return len(self._running) + len(self._finished)

    def open(self, job_id: str, pool_id: str, now: float) -> JobRecord:
        """Begin a record; it replaces an earlier one of that job_id."""
        self._finished.pop(job_id, None)
        record = self._running[job_id] = JobRecord(job_id, pool_id, self._max_steps, now)
        return record

    def close(self, record: JobRecord) -> None:
        """Note that a job has ended; the oldest ended one is forgotten if there are too many."""
        if self._running.get(record.job_id) is record:
            del self._running[record.job_id]
            self._finished[record.job_id] = record
            if len(self._finished) > self._max_jobs:
                self._finished.popitem(last=False)

    def explain(self, job_id: str) -> Explanation | None:
        """Return what happened to a job; None if it is unknown or forgotten."""
        record = self._record(job_id)
        return None if record is None else record.explanation()

    def outcome(self, job_id: str) -> str | None:
        """Return how a job ended; None while it runs, or if it is unknown."""
        record = self._record(job_id)
        return None if record is None else record.outcome

    def attempted_replicas(self, job_id: str) -> tuple[str, ...]:
        """Return the replica of each attempt of a job so far; empty if it is unknown."""
        record = self._record(job_id)
        return () if record is None else tuple(record.asked)

    def _record(self, job_id: str) -> JobRecord | None:
        return self._running.get(job_id) or self._finished.get(job_id)


_V = TypeVar("_V")


@cache
def _draft_of(cls: type) -> tuple[Callable[..., Any], Callable[[Any], Any]] | None:
    """Return a class of the same layout whose attributes can be set, and what reads all fields of
    `cls`; None if its layout has more than its fields."""
    names = [field.name for field in attrs.fields(cls)]
    draft_class = attrs.make_class(
        "Draft", names, slots=True, weakref_slot=False, eq=False, repr=False
    )
    draft = draft_class(*names)
    try:
        draft.__class__ = cls
    except TypeError:
        return None
    return draft_class, attrgetter(*names)


def copied(value: _V, **changes: object) -> _V:
    """Return a copy of an attrs object with unchecked changes.

    A draft of the same layout is filled and then becomes a `_V`. Setting each attribute of a frozen
    class would cost a call, and make the copy seven times as expensive.
    """
    cls: Any = value.__class__
    made = _draft_of(cls)
    if made is None:
        twin = copy(value)
        for name, changed in changes.items():
            object.__setattr__(twin, name, changed)
        return twin
    draft = made[0](*made[1](value))
    for name, changed in changes.items():
        setattr(draft, name, changed)
    draft.__class__ = cls
    return draft  # type: ignore[no-any-return]
