"""Daemon threads for calls that may hang: bounded, and separate from asyncio's shared executor.

A hung call in the shared executor would occupy a thread that others need, such as asyncio's own
name resolution, and would delay the end of the process.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from threading import Lock, Thread
from typing import Any, TypeVar
from weakref import WeakSet

_T = TypeVar("_T")
_all: "WeakSet[DaemonThreads]" = WeakSet()


class DaemonThreads:
    """Runs blocking functions, each in a thread; calls beyond the bound wait in order.

    Args:
        max_threads: The maximum number of concurrent calls.
        name: The name of the threads.
    """

    def __init__(self, max_threads: int, name: str) -> None:
        self._max_threads = max_threads
        self._name = name
        self._forget()
        _all.add(self)

    def _forget(self) -> None:
        self._lock = Lock()
        self._running = 0
        self._waiting: deque[Callable[[], None]] = deque()

    async def call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call `function(*args)` in a thread, in a copy of the current context.

        Returns:
            The function's result.

        Raises:
            Exception: The function's own exception.

        Cancellation:
            The wait ends at once. A call that has begun continues, and its result is dropped.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[_T] = loop.create_future()
        context = copy_context()

        def work() -> None:
            if outcome.cancelled():
                return
            settle: Callable[[Any], None] = outcome.set_result
            value: object = None
            try:
                value = context.run(function, *args)
            except BaseException as exc:
                settle, value = outcome.set_exception, _as_exception(exc)
            with suppress(RuntimeError):  # the loop may be closed by now
                loop.call_soon_threadsafe(_unless_done, outcome, settle, value)

        self._start(work)
        return await outcome

    def _start(self, work: Callable[[], None]) -> None:
        with self._lock:
            if self._running >= self._max_threads:
                self._waiting.append(work)
                return
            self._running += 1
        Thread(target=self._run, args=(work,), name=self._name, daemon=True).start()

    def _run(self, work: Callable[[], None]) -> None:
        while True:
            work()
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                work = self._waiting.popleft()


def _forget_all() -> None:
    """Forget the threads of the parent process, which a child does not have."""
    for threads in _all:
        threads._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _as_exception(exc: BaseException) -> Exception:
    """Return an error that a future can hold, also for SystemExit and StopIteration."""
    if isinstance(exc, Exception) and not isinstance(exc, StopIteration):
        return exc
    return RuntimeError(f"the function raised {type(exc).__name__}")


def _unless_done(
    outcome: "asyncio.Future[Any]", settle: Callable[[Any], None], value: object
) -> None:
    if not outcome.done():
        settle(value)
