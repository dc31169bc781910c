"""Event loops that skip waiting: limits are exact, and the same on a machine of any speed."""

import asyncio
import functools
import gc
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest

from adapters.http_util.threads import _all
from registry.simulate.virtual import VirtualLoop

ARRIVAL_S = 0.001
"""How long a loop with real sockets looks for input before it skips ahead: the kernel delivers
loopback data at once, but not always within the call that sends it."""


class _Collecting(threading.local):
    """The processor time that a thread has spent in garbage collections."""

    total_s = 0.0
    began_s = 0.0

    def note(self, phase: str, _: object) -> None:
        """Follow a collection: one of `gc.callbacks`."""
        if phase == "start":
            self.began_s = time.thread_time()
        else:
            self.total_s += time.thread_time() - self.began_s


_collecting = _Collecting()
gc.callbacks.append(_collecting.note)


class SocketLoop(VirtualLoop):
    """A VirtualLoop for servers and clients that talk over sockets within this loop.

    Its clock also counts the processor time of its thread, so that floods meet their limits, but
    not that of garbage collections: what earlier tests left is no work of this one.
    """

    grace_s = ARRIVAL_S

    def time(self) -> float:
        """Return the skipped time plus the processor time, in seconds."""
        return self.now_s + time.thread_time() - _collecting.total_s

    def has_work_elsewhere(self) -> bool:
        """Return whether a name is resolved or a key is fetched, each in a thread."""
        return any(threads._running for threads in list(_all))


OTHERS = ("browser", "clients", "engine")
"""Markers of tests with processes of other people's programs, which live in real time."""


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run async tests in virtual time, where a folder's `conftest.py` imports this."""
    if any(item.get_closest_marker(marker) for marker in OTHERS):
        return {"real": asyncio.new_event_loop}
    return {"virtual": SocketLoop}


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


@pytest.fixture(autouse=True)
def virtual_clock() -> Iterator[None]:
    """Let the product's clocks follow the virtual loop, where a `conftest.py` imports this."""
    with loop_clock():
        yield


def now_s() -> float:
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


def work(for_s: float) -> None:
    """Keep the loop busy for a while."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.now_s += for_s
