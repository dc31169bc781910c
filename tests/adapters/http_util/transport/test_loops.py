"""One transport in several event loops, one after the other and side by side."""

import asyncio
import gc
import os
import warnings
from collections.abc import Callable, Coroutine
from threading import Thread
from typing import Any

import httpx
import pytest
import uvloop

from adapter_api.faults import ScriptServer
from adapters.http_util import StreamTransport
from tests.adapters.http_util.conftest import OK, raw, transport_of

Run = Callable[[Coroutine[Any, Any, None]], None]


def open_files() -> int:
    """Return the number of files and sockets this process has open."""
    return len(os.listdir("/proc/self/fd"))


async def ask(transport: StreamTransport) -> None:
    """Two requests side by side, to a server in the same loop; both connections stay open."""
    async with ScriptServer(raw(OK)) as server:
        requests = [httpx.Request("GET", server.base_url) for _ in range(2)]
        for response in await asyncio.gather(*map(transport.handle_async_request, requests)):
            assert await response.aread() == b"ok"
            await response.aclose()
        assert transport.open_connections == transport.idle_connections == 2


@pytest.mark.timeout(60, method="thread")
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_kept_transport_works_in_one_loop_after_the_other(run: Run) -> None:
    """Each loop closes its connections when it ends; no file and no warning is left."""
    transport = transport_of()
    run(ask(transport))  # imports and caches
    gc.collect()
    before = open_files()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            run(ask(transport))
            assert transport.open_connections == 0
        gc.collect()
    assert open_files() == before


def test_connections_of_a_loop_that_was_just_closed_are_dropped() -> None:
    """Also without the shutdown of asyncio.run, no socket outlives the next use."""
    transport = transport_of()

    def run() -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(ask(transport))
        loop.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # asyncio's own, for its transports
        run()
        before = open_files()
        for _ in range(3):
            run()
        assert len(transport._pools) == 1
        assert open_files() == before
        asyncio.run(transport.aclose())
        gc.collect()
        assert transport.open_connections == 0


def test_loops_side_by_side_have_connections_of_their_own() -> None:
    """A connection belongs to the loop that made it."""
    transport = transport_of()
    failures: list[BaseException] = []

    async def main() -> None:
        async with ScriptServer(raw(OK)) as server:
            for _ in range(20):
                response = await transport.handle_async_request(
                    httpx.Request("GET", server.base_url)
                )
                assert await response.aread() == b"ok"
                await response.aclose()
            assert len(server.connections) == 1

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as exc:
            failures.append(exc)

    threads = [Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failures == []
    assert transport.open_connections == 0


async def test_a_closed_transport_is_closed_in_every_loop() -> None:
    """Another loop cannot open it again."""
    transport = transport_of()
    await ask(transport)
    await transport.aclose()

    def elsewhere() -> None:
        with pytest.raises(httpx.ConnectError, match="the transport is closed"):
            asyncio.run(ask(transport))

    await asyncio.to_thread(elsewhere)
