"""Timeouts that do not count time in which other processes had the CPUs."""

import asyncio
import os
from contextlib import suppress
from types import TracebackType
from typing import Self

_THREADS = "/proc/self/task"


def delayed_s() -> float:
    """Return how long this process's threads were ready to run while others had the CPUs.

    In seconds. Linux counts it (/proc/PID/task/TID/schedstat); elsewhere it is 0.0.
    """
    total_ns = 0
    with suppress(OSError):  # another system
        for thread in os.listdir(_THREADS):
            with suppress(OSError), open(f"{_THREADS}/{thread}/schedstat") as file:  # it ended
                total_ns += int(file.read().split()[1])
    return total_ns / 1e9


class FairTimeout:
    """A timeout like `asyncio.timeout` that does not count waiting for a CPU.

    So a limit can be short and still fair on a busy machine. Waiting, blocking and computing count.

    Args:
        limit_s: The limit in seconds; None to measure only.

    Raises:
        TimeoutError: At its end, if the limit passed before.
    """

    def __init__(self, limit_s: float | None = None) -> None:
        self._limit_s = limit_s
        self._scope = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self.took_s = 0.0
        """Set on leaving: for how long it was entered, without `preempted_s`."""
        self.preempted_s = 0.0
        """Set on leaving: for how long the process waited for a processor."""

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._delayed_s, self._began = delayed_s(), self._loop.time()
        await self._scope.__aenter__()
        self._look()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._measure()
        await self._scope.__aexit__(kind, exc, trace)

    def _measure(self) -> None:
        passed_s = self._loop.time() - self._began
        self.preempted_s = min(passed_s, max(0.0, delayed_s() - self._delayed_s))
        self.took_s = passed_s - self.preempted_s

    def _look(self) -> None:
        """End the wait if the limit has passed; otherwise look again when it may have."""
        if self._limit_s is None:
            return
        self._measure()
        if self.took_s < self._limit_s:
            self._timer = self._loop.call_later(self._limit_s - self.took_s, self._look)
        else:
            self._scope.reschedule(self._loop.time())


async def sleep_fairly(seconds: float) -> None:
    """Sleep for this many seconds, not counting time spent waiting for a CPU."""
    with suppress(TimeoutError):
        async with FairTimeout(seconds):
            await asyncio.Event().wait()
