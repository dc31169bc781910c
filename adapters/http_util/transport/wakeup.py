"""Wakes the task that reads a connection without a turn of the event loop.

A future runs its callbacks in the next turn: one more system call and two more objects for each
token. Here the waiting task resumes inside the call that brings its bytes. asyncio allows this
where no other task is running: a Task treats everything with `_asyncio_future_blocking` as a
future, and lets it decide when to wake the task.
"""

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any


class Wakeup:
    """An awaitable for one task at a time, reusable; `wake` resumes the task before it returns.

    The caller of `wake` must have finished its own work, which the woken task could disturb.

    Args:
        loop: The loop of the task.

    Cancellation:
        Cancelling the task ends its wait, as with a future.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_cancelled", "_context", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._callback: Callable[[Wakeup], object] | None = None
        self._context: Context | None = None
        self._cancelled: tuple[object, ...] | None = None
        self._asyncio_future_blocking = False

    def wake(self) -> None:
        """Resume the waiting task, if any. Within another task, it resumes in the next turn."""
        callback, context = self._callback, self._context
        if callback is None:
            return
        self._callback = self._context = None
        if context is not None and asyncio.current_task(self._loop) is None:
            context.run(callback, self)
        else:
            self._loop.call_soon(callback, self, context=context)

    def __await__(self) -> Generator[Any, None, None]:
        self._cancelled = None
        self._asyncio_future_blocking = True
        yield self

    # What asyncio.Task expects of a future.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(
        self, callback: Callable[["Wakeup"], object], *, context: Context | None = None
    ) -> None:
        self._callback, self._context = callback, context

    def cancel(self, msg: object = None) -> bool:
        callback, context = self._callback, self._context
        if callback is None:
            return False
        self._callback = self._context = None
        self._cancelled = () if msg is None else (msg,)
        self._loop.call_soon(callback, self, context=context)
        return True

    def result(self) -> None:
        if self._cancelled is not None:
            raise asyncio.CancelledError(*self._cancelled)
