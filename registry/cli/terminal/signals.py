"""The first Ctrl-C or SIGTERM is a wish, the second an order."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def first_signal(then: Callable[[], None]) -> Iterator[list[int]]:
    """While entered, the first SIGINT or SIGTERM has the event loop call `then`; the list then
    holds it. The second signal acts as if nobody had asked for it.

    Args:
        then: What to do.
    """
    loop = asyncio.get_running_loop()
    caught: list[int] = []

    def catch(number: int, _: FrameType | None) -> None:
        caught.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        loop.call_soon_threadsafe(then)

    # Not loop.add_signal_handler: its handlers wait for the loop, and while a reader does not read,
    # writing to it blocks the loop. The second signal must end the process even then.
    before = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
