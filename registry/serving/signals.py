"""The first signal shuts down gracefully; the second kills the process."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def first_signal(then: Callable[[], None]) -> Iterator[list[int]]:
    """While entered, call `then` in the event loop when the first signal arrives.

    The signals are SIGINT, SIGTERM and SIGHUP. The second one has its default effect. SIGHUP stays
    ignored if the process was started so, as nohup does.

    Args:
        then: The callback.

    Yields:
        The signals that arrived.
    """
    loop = asyncio.get_running_loop()
    caught: list[int] = []
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in _watched()}

    def catch(number: int, _: FrameType | None) -> None:
        caught.append(number)
        for each in before:
            interrupt = each == signal.SIGINT
            signal.signal(each, signal.default_int_handler if interrupt else signal.SIG_DFL)
        loop.call_soon_threadsafe(then)

    # Not loop.add_signal_handler: its handlers wait for the loop, and while a reader does not read,
    # writing to it blocks the loop. The second signal must end the process even then.
    for number in before:
        signal.signal(number, catch)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watched() -> list[signal.Signals]:
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers
