"""Another event loop: uvloop, whose transports are its own."""

import asyncio
from contextlib import suppress

import pytest
import uvloop

from adapter_api import TaskRequest
from adapter_api.faults import Request, ScriptServer, Wire
from adapters.http_util import StreamTransport
from adapters.http_util.transport.connection import Connection
from adapters.openai_http import OpenAIHttpAdapter
from tests.certificates import tls_pair
from tests.openai_chunks import piece

# uvloop swallows the exception with which pytest-timeout ends a test.
pytestmark = pytest.mark.timeout(60, method="thread")


async def _answer(request: Request, wire: Wire) -> None:
    """Twenty tokens, each in a read of its own."""
    await wire.stream_head()
    for payload in (*(piece(f"{n} ") for n in range(20)), piece("", "stop"), "[DONE]"):
        await wire.event(payload)
        await asyncio.sleep(0.001)
    await wire.end()


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_jobs_run_and_can_be_cancelled_on_uvloop(tls: bool) -> None:
    """Answers are whole side by side, and a job cancelled at any moment leaves no connection
    in use (WA-INT-3002)."""
    server_context, client_context = tls_pair()
    task = TaskRequest(prompt="hi", model="m")

    async def main() -> None:
        transport = StreamTransport(ssl_context=lambda: client_context)
        tls_context = server_context if tls else None
        async with (
            ScriptServer(_answer, tls=tls_context) as server,
            OpenAIHttpAdapter(server.base_url, transport=transport) as adapter,
        ):
            for moment in range(30):
                reading = asyncio.ensure_future(adapter.submit(task).text())
                await asyncio.sleep(moment * 0.002)
                reading.cancel()
                with suppress(asyncio.CancelledError):
                    await reading
                assert transport.open_connections == transport.idle_connections
            texts = await asyncio.gather(*(adapter.submit(task).text() for _ in range(10)))
        assert set(texts) == {"".join(f"{n} " for n in range(20))}

    uvloop.run(main())


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_a_job_cancelled_the_moment_its_connection_is_made(
    tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop never reports the end of such a connection; it is not waited for (WA-INT-3002)."""
    server_context, client_context = tls_pair()
    jobs: list[asyncio.Task[str]] = []
    made = Connection.connection_made

    def cancelling(connection: Connection, transport: asyncio.BaseTransport) -> None:
        made(connection, transport)
        jobs[-1].cancel()

    async def main() -> None:
        transport = StreamTransport(ssl_context=lambda: client_context)
        async with (
            ScriptServer(_answer, tls=server_context if tls else None) as server,
            OpenAIHttpAdapter(server.base_url, transport=transport) as adapter,
        ):
            with monkeypatch.context() as patch:
                patch.setattr(Connection, "connection_made", cancelling)
                task = TaskRequest(prompt="hi", model="m")
                jobs.append(asyncio.ensure_future(adapter.submit(task).text()))
                await asyncio.wait(jobs, timeout=10)
            assert jobs[0].cancelled()
            assert transport.open_connections == 0
            assert await adapter.submit(task).text()

    uvloop.run(main())
