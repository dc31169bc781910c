"""Interruption: ends a reader's wait inside an adapter's code.

It works like `asyncio.timeout`: the task is cancelled, and the cancellation is revoked where it is
caught. An adapter may swallow a cancellation and keep waiting. So every wait for an adapter runs
through `Interruption.drive`, which receives each future that the adapter waits for. RELEASE_S after
an ignored cancellation it abandons the adapter: the reader continues, and the adapter's code keeps
running in a task of its own.
"""

import asyncio
import logging
import types
from collections.abc import Generator
from contextlib import suppress
from functools import partial
from typing import Any

from adapter_api.errors import WorkerError

logger = logging.getLogger("worker_adapters.stream")

_Future = asyncio.Future  # looked up with each wait

RELEASE_S = 2.0
"""How long an adapter may take to return after a cancellation; closing a connection takes less."""

STARTING: Any = object()
"""Stands for the reader until the adapter's code waits for the first time."""


def cancels_of(task: Any) -> int:
    """Return how many cancellations a running task has received already.

    One that came while it ran, such as Ctrl-C, is received at its next wait.
    """
    count: int = task.cancelling()
    return count - 1 if count and getattr(task, "_must_cancel", False) else count


class Latch:
    """A one-shot asyncio.Event that takes a fifth of its memory: each stream has one."""

    __slots__ = ("_waiters", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._waiters: tuple[asyncio.Future[None], ...] = ()

    def set(self) -> None:
        """Wake all waiters."""
        self.is_set = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters = ()

    async def wait(self) -> None:
        """Wait until it is set."""
        if not self.is_set:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters += (waiter,)
            await waiter


class Abandoned(BaseException):
    """The adapter did not return in time. Never propagates out of TokenStream."""


class Interruption:
    """Interrupts the task that waits for a job's next event.

    Attributes:
        reader: The task that waits for the adapter, STARTING, or None.
        stopped_by: The error that ends the job, once it was interrupted.
        was_destroyed: The reader's coroutine was destroyed while it waited.
        was_thrown: An exception, usually a cancellation, went into the adapter's code.
    """

    __slots__ = (
        "_abandon_timer",
        "_abandoned",
        "_before",
        "_interrupted",
        "reader",
        "stopped_by",
        "was_destroyed",
        "was_thrown",
    )

    def __init__(self) -> None:
        self.reader: asyncio.Task[object] | None = None
        self.stopped_by: WorkerError | None = None
        self.was_thrown = False
        self.was_destroyed = False
        self._interrupted = False
        self._before = 0
        self._abandon_timer: asyncio.TimerHandle | None = None
        self._abandoned = False

    def interrupt(self, error: WorkerError) -> WorkerError:
        """End the job with `error`, now. Return the error that ends it: the first one given."""
        self.stopped_by = stopped_by = self.stopped_by or error
        reader = self.reader
        if reader is None or self._interrupted:
            return stopped_by
        if reader is STARTING or reader is asyncio.current_task():
            # The adapter's own code stops its job. If it cancelled its own task and did not wait
            # before the next event, the cancellation would arrive later, outside the stream.
            asyncio.get_running_loop().call_soon(self.interrupt, error)
            return stopped_by
        self._interrupted = True
        reader.cancel()
        return stopped_by

    def uncancel_reader(self) -> bool:
        """Uncancel the reader if `interrupt` cancelled it.

        Returns:
            Whether the task was also cancelled from elsewhere during this wait, before or after
            `interrupt`: that cancellation must propagate.
        """
        reader, ours = self.reader, self._interrupted
        self._interrupted = False
        if reader is None or reader is STARTING:
            return False
        return (reader.uncancel() if ours else reader.cancelling()) > self._before

    @property
    def is_cancelled(self) -> bool:
        """Return whether this wait was cancelled, by `interrupt` or from elsewhere."""
        reader = self.reader
        return reader is not None and reader is not STARTING and reader.cancelling() > self._before

    @types.coroutine
    def drive(self, step: Any, future: Any) -> Generator[Any, Any, Any]:
        """Wait for an awaitable of the adapter that was started with `step.send(None)`.

        Args:
            step: An awaitable with `send`, `throw` and `close`.
            future: The result of `send`.

        Raises:
            Abandoned: If the adapter continues waiting for RELEASE_S after a cancellation.
        """
        self.was_thrown = False
        try:
            while True:
                if type(future) is not _Future and isinstance(future, _Future):
                    yield from self._wait_cancellably(step, future)
                    future = step.send(None)
                    continue
                try:
                    sent = yield future
                except GeneratorExit:
                    self._destroy(step)
                    raise
                except Exception as exc:
                    future = step.throw(exc)
                except asyncio.CancelledError as exc:
                    self._note_cancelled(step)
                    future = step.throw(exc)
                    self._bound_release()
                else:
                    future = step.send(sent)
        except StopIteration as stop:
            return stop.value
        finally:
            if self._abandon_timer is not None:
                self._abandon_timer.cancel()
                self._abandon_timer = None

    async def drive_within(self, step: Any, future: Any, limit_s: float) -> Any:
        """Drive `step` in the current task, and abandon it after `limit_s` seconds.

        Raises:
            Abandoned: If it takes longer.
        """
        self.reader = asyncio.current_task()
        self._before = -1  # counts as cancelled from the beginning
        self.abandon_after(limit_s)
        return await self.drive(step, future)

    def _wait_cancellably(self, step: Any, future: Any) -> Generator[Any, Any, None]:
        """Wait for a future that may outlive its cancellation, such as a Task.

        Cancelling a task that waits for another task wakes it only when the other one ends. Here it
        wakes at once, and continues waiting.
        """
        future._asyncio_future_blocking = False
        while not future.done():
            mine: Any = asyncio.get_running_loop().create_future()
            wake = partial(_wake, mine)
            future.add_done_callback(wake)
            mine._asyncio_future_blocking = True
            try:
                yield mine
            except GeneratorExit:
                self._destroy(step)
                raise
            except asyncio.CancelledError:
                self._note_cancelled(step)
                self._bound_release()
                future.cancel()
            finally:
                future.remove_done_callback(wake)

    def _destroy(self, step: Any) -> None:
        """Handle the destruction of the reader's coroutine, and of the adapter's with it."""
        self.was_destroyed = True
        with suppress(Exception):  # of a cleanup that waits, for which it is too late
            step.close()

    def _note_cancelled(self, step: Any) -> None:
        """Handle the reader's cancellation, which goes to the adapter's code next."""
        if self._abandoned:
            _leave_alone(step)
            raise Abandoned
        self.was_thrown = True

    def _bound_release(self) -> None:
        """Give an adapter that keeps waiting after its cancellation RELEASE_S to return."""
        if self._abandon_timer is None:
            self.abandon_after(RELEASE_S)

    def abandon_after(self, limit_s: float) -> None:
        """Start a timer that ends the wait if the adapter does not."""
        self._abandon_timer = asyncio.get_running_loop().call_later(limit_s, self._abandon)

    def _abandon(self) -> None:
        reader = self.reader
        if reader is None or not self.is_cancelled:  # it was asyncio.timeout in the adapter's code
            self._abandon_timer = None
            return
        self._abandoned = True
        reader.cancel()
        reader.uncancel()


def _wake(future: "asyncio.Future[None]", _: object) -> None:
    if not future.done():
        future.set_result(None)


def _leave_alone(step: Any) -> None:
    orphan = asyncio.get_running_loop().create_task(_finish(step))
    _orphans.add(orphan)
    orphan.add_done_callback(_orphans.discard)


_orphans: set["asyncio.Task[None]"] = set()  # the loop itself holds tasks weakly


async def _finish(step: Any) -> None:
    """Run the rest of an abandoned step; its outcome is only logged."""
    try:
        await _rest_of(step)
    except (Exception, asyncio.CancelledError) as exc:
        logger.debug("the abandoned code of an adapter ended with %s", type(exc).__name__)


@types.coroutine
def _rest_of(step: Any) -> Generator[Any, Any, Any]:
    try:
        future = step.throw(asyncio.CancelledError())
        while True:
            try:
                sent = yield future
            except BaseException as exc:
                future = step.throw(exc)
            else:
                future = step.send(sent)
    except StopIteration as stop:
        return stop.value
