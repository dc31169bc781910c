"""A loop whose time passes only when there is nothing else to do.

It runs real code with real timers. A virtual minute takes only as long as its work, and the same
program gives the same times on a machine of any speed.
"""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from time import perf_counter
from typing import TypeVar, TypeVarTuple, Unpack

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still, and jumps to the next timer when all tasks wait.

    Args:
        began_at: The time at the beginning, in seconds.
    """

    grace_s = 0.0
    """How long it waits for input before it jumps, in real seconds."""

    def __init__(self, began_at: float = 1000.0) -> None:
        self.now_s = began_at
        self.threads = 0
        super().__init__(_Jump(self))

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self.now_s

    def has_work_elsewhere(self) -> bool:
        """Return whether threads that may hang work for a task: time then passes as it does."""
        return False

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[_Ts]], _T], *args: *_Ts
    ) -> "asyncio.Future[_T]":
        """Run a function in a thread; the clock does not jump until it has returned."""
        self.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._joined)
        return future

    async def shutdown_default_executor(self, *args: float | None) -> None:
        """Wait for the threads of the default executor; the clock does not jump meanwhile."""
        self.threads += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self.threads -= 1

    def _joined(self, _: object) -> None:
        self.threads -= 1


class _Jump(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return the ready events; if there are none, advance the clock by the wait.

        Raises:
            RuntimeError: If nothing is ready and no timer runs, so that nothing can ever happen.
        """
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self._loop.threads:
            return super().select(None)
        if self._loop.has_work_elsewhere():
            began_s = perf_counter()
            ready = super().select(timeout)
            self._loop.now_s += perf_counter() - began_s
            return ready
        if self._loop.grace_s:
            ready = super().select(self._loop.grace_s)
        if not ready:
            if timeout is None:
                raise RuntimeError("everything on the virtual loop waits, and no timer runs")
            self._loop.now_s += max(0.0, timeout)
        return ready
