"""Servers in a thread, for code that runs event loops of its own."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any, TypeVar

from adapter_api.faults.server import Script, ScriptServer

_T = TypeVar("_T")

_LIMIT_S = 10.0
"""The limit for what servers do there: starting and stopping."""


class LoopThread:
    """A thread with a running event loop, from its construction to `stop`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="fault server", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine in the thread's loop, and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_LIMIT_S)

    def stop(self) -> None:
        """Stop the loop and end the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_LIMIT_S)
        self._loop.close()


@contextmanager
def scripted_engine(script: Script) -> Iterator[str]:
    """Serve a script from a thread while entered. Yield its base URL.

    Raises:
        ExceptionGroup: On leaving, if the script failed and no other exception is under way.
    """
    thread = LoopThread()
    server = ScriptServer(script)
    try:
        thread.run(server.start())
        yield server.base_url
        if server.failures:
            raise ExceptionGroup("scripts failed", server.failures)
    finally:
        thread.run(server.stop())
        thread.stop()
