"""Who waits for a replica, in which order, and who must go when too many do."""

from collections.abc import Iterator
from itertools import chain
from typing import Generic, Literal, Protocol, TypeVar

Priority = Literal["interactive", "batch"]
Full = Literal["reject", "drop_oldest_batch"]

PRIORITIES: tuple[Priority, ...] = ("interactive", "batch")
"""From the first served to the last."""

NEW_SHARE = 0.2
"""The weight of the newest service time in the usual one."""

FIRST_GUESS_S = 1.0
"""The usual service time while none was measured."""


class Ticket(Protocol):
    """What can wait."""

    @property
    def priority(self) -> Priority:
        """Its place among the others."""
        ...


_T = TypeVar("_T", bound=Ticket)


class AdmissionQueue(Generic[_T]):
    """A bounded line with two priorities, each first come, first served.

    Args:
        most: The most tickets in it.
        full: What happens when one more comes: "reject" refuses it; "drop_oldest_batch" makes
            room for an interactive one by giving up the oldest batch ticket, if there is one.

    Raises:
        ValueError: If `most` is negative, or `full` is neither.
    """

    def __init__(self, most: int, full: Full = "reject") -> None:
        self._lines: dict[Priority, dict[_T, None]] = {priority: {} for priority in PRIORITIES}
        self._service_s = FIRST_GUESS_S
        self._measured = False
        self.limit(most, full)

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[_T]:
        """Those who wait, in the order in which they are served."""
        return chain.from_iterable(self._lines.values())

    def count(self, priority: Priority) -> int:
        """How many of that priority wait."""
        return len(self._lines[priority])

    def limit(self, most: int, full: Full) -> list[_T]:
        """Go by other limits. Who waits keeps the place.

        Returns:
            Those who have none any more.

        Raises:
            ValueError: If `most` is negative, or `full` is neither.
        """
        if most < 0:
            raise ValueError(f"most must be 0 or more, got {most!r}")
        if full not in ("reject", "drop_oldest_batch"):
            raise ValueError(f'full must be "reject" or "drop_oldest_batch", got {full!r}')
        self.most = most
        self.full = full
        outside = list(self)[most:]  # the last to be served
        for ticket in outside:
            self.remove(ticket)
        return outside

    def push(self, ticket: _T) -> _T | None:
        """Join the line.

        Returns:
            Who has no place: an older batch ticket that was dropped, the newcomer itself, or None.
        """
        dropped = None
        if len(self) >= self.most:
            batch = self._lines["batch"]
            if self.full == "reject" or ticket.priority == "batch" or not batch:
                return ticket
            dropped = next(iter(batch))
            del batch[dropped]
        self._lines[ticket.priority][ticket] = None
        return dropped

    def remove(self, ticket: _T) -> bool:
        """Leave the line; False if it was not in it."""
        line = self._lines[ticket.priority]
        if ticket not in line:
            return False
        del line[ticket]
        return True

    def served(self, took_s: float) -> None:
        """A job that was answered held its replica for that long."""
        if self._measured:
            self._service_s += NEW_SHARE * (took_s - self._service_s)
        else:
            self._service_s, self._measured = took_s, True

    def wait_s(self, at_once: float) -> float:
        """About how long until those who wait now are served, in seconds.

        Args:
            at_once: How many jobs are served at the same time.
        """
        return max(1.0, len(self) / at_once) * self._service_s
