"""Time that passes only when there is nothing else to do: tests of limits are exact, instant and
the same on a machine of any speed."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any
from unittest import mock


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        """The time that has passed, in seconds."""
        return self.now_s


class _Jump(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everything waits, and no timer runs"
            self._loop.now_s += max(0.0, timeout)
        return ready


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on a VirtualLoop, and every StreamClock by its time."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        loop = VirtualLoop()
        with (
            asyncio.Runner(loop_factory=lambda: loop) as runner,
            mock.patch("adapter_api.limits.monotonic", loop.time),
        ):
            runner.run(test(*args, **kwargs))

    return run


def now_s() -> float:
    """The virtual time."""
    return asyncio.get_running_loop().time()


def work(for_s: float) -> None:
    """Keep the loop busy for a while."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.now_s += for_s
