"""Waking the task that reads a connection, at once.

A future runs its callbacks in the next turn of the event loop: one more system call and two more
objects for each token. Here the waiting task goes on inside of the call that brings its bytes,
which asyncio allows where no other task is running: a Task takes everything for a future that
behaves like one (`_asyncio_future_blocking`), and leaves it to that when to wake it.
"""

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any


class Wakeup:
    """Awaited by one task at a time, again and again; `wake` lets it go on before it returns.

    What calls `wake` must have nothing left to do that the woken task could upset.

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
        """Let the task that waits, if any, go on. Within another task: in the next turn."""
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

    # What asyncio.Task asks of a future.

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
