"""Alarms: one timer of an event loop for the limits of all its jobs.

Nearly every limit is cancelled before it passes. asyncio creates a timer object for each limit, in
a heap whose comparisons are Python calls. Here a limit is a short list, compared in C, and a
cancelled one stays until it is due or until most others are cancelled, too.
"""

import asyncio
from contextvars import Context, copy_context
from heapq import heapify, heappop, heappush
from itertools import count
from threading import local
from typing import Any, Protocol
from weakref import ref

MIN_CHECKED = 64
"""Up to this number of alarms of a loop, cancelled ones are not removed."""

Alarm = list[Any]
"""Due time, number, owner and context; owner and context are None once it is cancelled."""

_numbers = count()  # so that no two alarms compare equal
_here = local()


class Ringing(Protocol):
    """An object that is called when an alarm is due."""

    def ring(self) -> None:
        """Note that the alarm is due."""


def set_alarm(due: float, owner: Ringing) -> Alarm:
    """Call `owner.ring()` at `due`, in seconds of the running loop's clock."""
    loop = asyncio.get_running_loop()
    latest: ref[Alarms] | None = getattr(_here, "alarms", None)
    alarms = None if latest is None else latest()
    if alarms is None or alarms.loop is not loop:
        alarms = Alarms(loop)
        _here.alarms = ref(alarms)
    return alarms.add(due, owner)


def cancel_alarm(alarm: Alarm) -> None:
    """Cancel an alarm. Any thread may call this."""
    alarm[2:] = (None, None)  # it may stay for long, and holds nothing of the job


class Alarms:
    """The alarms of one event loop, whose timer keeps them alive while any is set.

    Args:
        loop: The loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._heap: list[Alarm] = []
        self._max_unchecked = MIN_CHECKED
        self._timer: asyncio.TimerHandle | None = None

    def add(self, due: float, owner: Ringing) -> Alarm:
        """Return a new alarm for `owner`, due at `due`."""
        heap = self._heap
        if len(heap) >= self._max_unchecked:
            heap[:] = [alarm for alarm in heap if alarm[2] is not None]
            heapify(heap)
            self._max_unchecked = max(MIN_CHECKED, 2 * len(heap))
        alarm: Alarm = [due, next(_numbers), owner, copy_context()]
        heappush(heap, alarm)
        if heap[0] is alarm:
            self._wait_for(alarm)
        return alarm

    def _wait_for(self, alarm: Alarm) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(alarm[0], self._ring, context=Context())

    def _ring(self) -> None:
        self._timer = None
        loop, heap = self.loop, self._heap
        now = loop.time()
        try:
            while heap and (heap[0][2] is None or heap[0][0] <= now):
                _, _, owner, context = heappop(heap)
                if owner is None:
                    continue
                try:
                    context.run(owner.ring)
                except Exception as exc:
                    loop.call_exception_handler({"message": "an alarm failed", "exception": exc})
        finally:  # KeyboardInterrupt ends this, but not the limits of the other jobs
            if heap and self._timer is None:
                self._wait_for(heap[0])
