"""A scripted server in a thread, for code that runs event loops of its own."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from adapter_api.faults.server import Script, ScriptServer

_LIMIT_S = 10.0


@contextmanager
def scripted_engine(script: Script) -> Iterator[str]:
    """Serve a script from a thread while entered. Yield its base URL.

    Raises:
        ExceptionGroup: On leaving, if the script failed and no other exception is under way.
    """
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="scripted engine", daemon=True)
    thread.start()
    server = ScriptServer(script)
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(_LIMIT_S)
        yield server.base_url
        if server.failures:
            raise ExceptionGroup("scripts failed", server.failures)
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(_LIMIT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_LIMIT_S)
        loop.close()
