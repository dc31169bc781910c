"""How jobs of a host end early: cancelled, dropped, or with the host itself."""

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

from adapter_api import (
    EngineUnavailable,
    Error,
    Token,
    TokenEvent,
    TokenStream,
    hookimpl,
)
from registry import AdapterHost
from registry.host import places
from tests.engines_in_process import Engine, task, until


def ask(host: AdapterHost, job_id: str, **fields) -> "asyncio.Task[str]":
    return asyncio.create_task(host.submit("p", task(job_id, **fields)).text())


async def test_cancel_works_in_line(host: AdapterHost) -> None:
    """A job that waits is cancelled without having reached an engine (AH-1004)."""
    engine = Engine(gate=asyncio.Event())
    host.bind("p", "a", engine.bound(), limit=1)
    await host.check("p")
    running, waiting = ask(host, "running"), ask(host, "waiting")
    await until(lambda: host.snapshot().pools[0].queued_interactive == 1)
    assert await host.cancel("p", "waiting")
    with pytest.raises(Exception, match="cancelled"):
        await waiting
    assert host.snapshot().pools[0].queued_interactive == 0
    engine.gate.set()
    await running
    assert [sent.job_id for sent in engine.tasks] == ["running"]


async def test_no_token_comes_after_cancel_returns(host: AdapterHost) -> None:
    """cancel ends a running stream with CANCELLED and calls the adapter's hook, too (AH-1004)."""
    engine = Engine(count=1000)
    host.bind("p", "a", engine.bound())
    stream = host.submit("p", task())
    async for event in stream:
        if isinstance(event, Token) and event.index == 3:
            break
    assert await host.cancel("p", "job")
    assert engine.streams == 0
    assert engine.cancelled == ["job"]
    last = await anext(stream)
    assert isinstance(last, Error)
    assert last.error.code == "CANCELLED"
    assert not await host.cancel("elsewhere", "job")
    assert not await host.cancel("p", "unknown")


async def test_cancelling_the_reader_leaks_nothing_at_any_point(host: AdapterHost) -> None:
    """Wherever the awaiting task is cancelled, no lease, place or stream is left."""
    engine = Engine(count=5)
    host.bind("p", "a", engine.bound(), limit=1)
    await host.check("p")
    for turns in range(40):
        jobs = [ask(host, f"{turns}-{number}") for number in range(2)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        (pool,) = host.snapshot().pools
        assert pool.replicas[0].in_flight == engine.streams == pool.queued_interactive == 0


async def test_a_dropped_stream_gives_its_lease_back(host: AdapterHost) -> None:
    """A dropped stream is closed when it is garbage-collected, with a warning."""
    engine = Engine(count=1000)
    host.bind("p", "a", engine.bound())
    stream = host.submit("p", task())
    await anext(stream)
    with pytest.warns(ResourceWarning, match="dropped before its end"):
        del stream
        gc.collect()
    await until(lambda: host.snapshot().pools[0].replicas[0].in_flight == 0)
    assert engine.streams == 0


async def test_a_reader_that_pauses_keeps_its_lease_to_the_deadline(host: AdapterHost) -> None:
    """Not longer: a consumer that hangs blocks no replica."""
    engine = Engine(count=1000)
    host.bind("p", "a", engine.bound(), limit=1)
    stream = await host.submit("p", task(deadline_s=0.1))
    await until(lambda: engine.streams == 0)
    assert host.snapshot().pools[0].replicas[0].in_flight == 0
    assert await host.submit("p", task("next", max_tokens=1)).text() == "a0 "
    seen = [event async for event in _to_error(stream)]
    assert seen[-1].error.code == "DEADLINE_UNMET"


async def _to_error(stream: TokenStream) -> AsyncIterator[TokenEvent]:
    async for event in stream:
        yield event
        if isinstance(event, Error):
            return


async def test_closing_the_host_ends_everything() -> None:
    """aclose ends jobs in flight and in line, closes each adapter once, and is final."""
    engine = Engine(gate=asyncio.Event())
    before = asyncio.all_tasks()
    host = AdapterHost()
    host.bind("p", "a", engine.bound(), limit=1)
    await host.check("p")
    jobs = [ask(host, str(number)) for number in range(3)]
    await until(lambda: host.snapshot().pools[0].queued_interactive == 2)
    await host.aclose()
    await host.aclose()
    ends = await asyncio.gather(*jobs, return_exceptions=True)
    assert {getattr(end, "code", None) for end in ends} == {"CANCELLED"}
    assert (engine.streams, engine.closed) == (0, 1)
    assert asyncio.all_tasks() == before
    with pytest.raises(EngineUnavailable, match="closed"):
        await host.submit("p", task())
    with pytest.raises(RuntimeError, match="closed"):
        host.bind("p", "b", Engine().bound())


async def test_a_host_that_closes_takes_no_job() -> None:
    """Not even while it waits for a health check that is slow to end."""

    class Slow(Engine):
        @hookimpl
        async def health(self):
            try:
                return await super().health()
            finally:
                await asyncio.sleep(0.2)

    host, engine = AdapterHost(), Slow()
    host.bind("p", "a", engine.bound())
    await host.check("p")
    engine.hung = True
    checking = asyncio.create_task(host.health("p"))
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(host.aclose())
    await asyncio.sleep(0.01)
    with pytest.raises(EngineUnavailable, match="the host is closed"):
        await host.submit("p", task())
    await closing
    await asyncio.gather(checking, return_exceptions=True)


async def test_an_adapter_that_hangs_on_close_is_abandoned(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that hangs is abandoned, and the log says so."""

    class Hanging(Engine):
        @hookimpl
        async def aclose(self):
            await asyncio.Event().wait()

    monkeypatch.setattr(places, "CLOSE_S", 0.05)
    async with asyncio.timeout(10), AdapterHost() as host:
        host.bind("p", "a", Hanging().bound())
    assert "closing the adapter of replica a in pool p takes more than 0.05 s" in caplog.text


async def test_an_adapter_that_fails_to_close_affects_no_other(caplog) -> None:
    """The failure is logged; the other adapters are closed."""
    bad, good = Engine(close_failure=OSError("secret")), Engine()
    async with AdapterHost() as host:
        host.bind("p", "a", bad.bound())
        host.bind("p", "b", good.bound())
    assert good.closed == bad.closed == 1
    assert "closing the adapter of replica a in pool p failed with OSError" in caplog.text
    assert "secret" not in caplog.text
