"""The thread with an event loop that all blocking fronts of a process share."""

import os
from collections.abc import Awaitable, Callable
from threading import Event, Lock
from typing import Any, NoReturn, TypeVar

from anyio.from_thread import BlockingPortal, BlockingPortalProvider

STOP_S = 5.0
"""How long an interrupted call waits for what it started in the loop to stop. Cancelling takes a
moment; an adapter that swallows its cancellation does not hold the thread."""

_T = TypeVar("_T")


class Lease:
    """A use of the shared loop thread, from the first call until it is given back.

    Args:
        what: Its user, for messages.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = Lock()
        self._portal: BlockingPortal | None = None
        self._shared: _Shared | None = None
        self._pid: int | None = None
        self._over = False

    def wait(self, function: Callable[..., Awaitable[_T]], *args: Any) -> _T:
        """Run `function` in the loop and return its result.

        An exception raised in the waiting thread, such as KeyboardInterrupt, cancels it.

        Raises:
            RuntimeError: After a fork, after `close`, or in the loop's own thread.
        """
        return _wait(self._running(), function, *args)

    def close(self, function: Callable[[], Awaitable[object]]) -> None:
        """Run `function` in the loop if it was ever entered, then stop using the loop. Idempotent.

        Raises:
            RuntimeError: After a fork.
        """
        self._check_fork()
        with self._lock:
            portal, self._portal, self._over = self._portal, None, True
        if portal is not None:
            try:
                _wait(portal, function)
            finally:
                assert self._shared is not None
                self._shared.leave()

    def _running(self) -> BlockingPortal:
        self._check_fork()
        with self._lock:
            if self._over:
                raise RuntimeError(f"this {self._what} is closed: make a new one")
            if self._portal is None:
                self._pid, self._shared = os.getpid(), _shared
                self._portal = self._shared.enter()
            return self._portal

    def _check_fork(self) -> None:
        if self._pid is not None and self._pid != os.getpid():
            raise RuntimeError(
                f"this {self._what} was made before a fork, and its event loop's thread is not in "
                "this process: make a new one here"
            )


def _wait(portal: BlockingPortal, function: Callable[..., Awaitable[_T]], *args: Any) -> _T:
    ended = Event()

    async def run() -> _T:
        try:
            return await function(*args)
        finally:
            ended.set()

    future = portal.start_task_soon(run)
    try:
        return future.result()
    except BaseException:
        if future.cancel():  # interrupted here: the next call finds the loop done with this one
            ended.wait(STOP_S)
        raise


class _Shared:
    """The loop thread of a process, which runs while any lease is held."""

    def __init__(self) -> None:
        self._provider = BlockingPortalProvider()
        self._portal: BlockingPortal | None = None

    def enter(self) -> BlockingPortal:
        """Return the portal into the loop, whose thread is started first if none runs."""
        self._portal = self._provider.__enter__()
        return self._portal

    def leave(self) -> None:
        """Stop the thread if this was its last lease."""
        self._provider.__exit__(None, None, None)

    def forget(self) -> None:
        """Note that the thread is gone: this process was forked from the one that has it.

        The provider stops its thread when it is garbage-collected, at the latest when the process
        exits, and would wait for it forever.
        """
        if self._portal is not None:
            self._portal.call = _refuse  # type: ignore[assignment, method-assign]


def _refuse(*_: object) -> NoReturn:
    raise RuntimeError("the event loop's thread is not in this process")


_shared = _Shared()


def _renew() -> None:
    global _shared
    _shared.forget()
    _shared = _Shared()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
