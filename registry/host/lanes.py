"""The jobs that wait before a pool, in the order in which they are served."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Generic, Literal, TypeVar, get_args

import attrs

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
        """Return where the turn stands."""
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

    def __len__(self) -> int:
        return sum(self.fresh.values()) + sum(self.back.values())

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

    def remove(self, turn: _T) -> bool:
        """Take a turn out; False if it was not there."""
        lane = turn.lane
        if lane is None:
            return False
        turn.lane = None
        del lane.of(turn)[turn]
        (self.back if turn.is_back else self.fresh)[turn.priority] -= 1
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
