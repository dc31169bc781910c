"""Event loops that skip waiting: limits are exact, and the same on a machine of any speed."""

import asyncio
import functools
import selectors
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

ARRIVAL_S = 0.001
"""How long a loop with real sockets looks for input before it skips ahead: the kernel delivers
loopback data at once, but not always within the call that sends it."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still, and jumps to the next timer when all tasks wait."""

    grace_s = 0.0

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.threads = 0
        super().__init__(_Jump(self))

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self.now_s

    def run_in_executor(self, *args: Any) -> Any:
        """Run a function in a thread; the clock does not jump until it has returned."""
        self.threads += 1
        future = super().run_in_executor(*args)
        future.add_done_callback(self._joined)
        return future

    def _joined(self, _: object) -> None:
        self.threads -= 1


class SocketLoop(VirtualLoop):
    """A VirtualLoop for servers and clients that talk over sockets within this loop.

    Its clock also counts the processor time of its thread, so that floods meet their limits.
    """

    grace_s = ARRIVAL_S

    def time(self) -> float:
        """Return the skipped time plus the processor time, in seconds."""
        return self.now_s + time.thread_time()


class _Jump(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self._loop.threads:
            return super().select(None)
        if self._loop.grace_s:
            ready = super().select(self._loop.grace_s)
        if not ready:
            assert timeout is not None, "everything waits, and no timer runs"
            self._loop.now_s += max(0.0, timeout)
        return ready


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on a VirtualLoop."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        loop = VirtualLoop()
        with asyncio.Runner(loop_factory=lambda: loop) as runner, loop_clock():
            runner.run(test(*args, **kwargs))

    return run


@contextmanager
def loop_clock() -> Iterator[None]:
    """Make `monotonic` the running loop's time in modules that do not ask the loop themselves."""
    real = time.monotonic

    def now_s() -> float:
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:  # no loop runs
            return real()

    modules = [
        module
        for name, module in sys.modules.items()
        if name.startswith(("adapter_api.", "adapters.", "registry."))
        and vars(module).get("monotonic") is real
    ]
    patches = [mock.patch.object(module, "monotonic", now_s) for module in modules]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def now_s() -> float:
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


def work(for_s: float) -> None:
    """Keep the loop busy for a while."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.now_s += for_s
