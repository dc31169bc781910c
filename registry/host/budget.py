"""The retry budget of a pool: what bounds the load that failures add to themselves."""

from collections import deque

WINDOW_S = 10
"""Over how many seconds jobs and attempts are compared: when a replica breaks, all of its jobs fail
in one moment, and the pool's jobs of the seconds before pay for moving them."""


class RetryBudget:
    """Attempts beyond the first, as a share of the jobs, and a few per second in any case.

    In any ten seconds no more are granted than `ratio` of the jobs that came in them, and
    `floor_per_s` for each second.

    Args:
        ratio: What each job adds.
        floor_per_s: What each second adds.
    """

    def __init__(self, ratio: float = 0.2, floor_per_s: float = 1.0) -> None:
        self._ratio = ratio
        self._reserve = floor_per_s * WINDOW_S
        self._seconds: deque[list[int]] = deque()  # second, jobs, granted attempts
        self._jobs = self._granted = 0

    def deposit(self, now: float) -> None:
        """A job was submitted."""
        self._second(now)[1] += 1
        self._jobs += 1

    def withdraw(self, now: float) -> bool:
        """Take one attempt; False if none is left."""
        second = self._second(now)
        if self._granted + 1 > self._ratio * self._jobs + self._reserve:
            return False
        second[2] += 1
        self._granted += 1
        return True

    def _second(self, now: float) -> list[int]:
        """The present second, after forgetting those out of the window."""
        seconds = self._seconds
        while seconds and seconds[0][0] <= now - WINDOW_S - 1:
            _, jobs, granted = seconds.popleft()
            self._jobs -= jobs
            self._granted -= granted
        if not seconds or seconds[-1][0] < int(now):
            seconds.append([int(now), 0, 0])
        return seconds[-1]
