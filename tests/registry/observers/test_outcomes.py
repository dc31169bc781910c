"""A job that is submitted has exactly one outcome, whatever happens."""

import asyncio
import gc
import sys
import warnings
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from threading import Lock
from types import FrameType
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_api import ErrorCode, InternalError, TaskRequest, TokenStream, WorkerError, hookimpl
from registry import Registry
from registry.adapter import BoundAdapter
from registry.plugins.extensions import NOTICES
from tests.witness import Recorder
from tests.word_server import WordServer

pytestmark = pytest.mark.filterwarnings("ignore:the stream of job:ResourceWarning")


def _task() -> TaskRequest:
    return TaskRequest(prompt="hi", max_tokens=5)


async def _read(stream: TokenStream) -> None:
    try:
        async for _ in stream:
            pass
    except WorkerError:
        pass


# Middleware that goes wrong, and observers that do


class Refusing:
    """Fails before there is a stream."""

    @hookimpl(wrapper=True)
    def submit(self, task: TaskRequest) -> Any:
        yield
        raise InternalError(ErrorCode.INTERNAL, "no")


class Breaking:
    """Fails in mid-stream, without leave or word."""

    @hookimpl(wrapper=True)
    def submit(self, task: TaskRequest) -> Any:
        return self.broken((yield))

    async def broken(self, events: AsyncIterator[Any]) -> AsyncIterator[Any]:
        for _ in range(3):
            yield await anext(events)
        raise KeyError("middleware")


class Stopping(Breaking):
    """Ends in mid-stream, with neither End nor Error."""

    async def broken(self, events: AsyncIterator[Any]) -> AsyncIterator[Any]:
        for _ in range(3):
            yield await anext(events)


class Raising:
    """Fails in every hook."""


def _raise(self: object) -> None:
    raise ValueError("observer")


for _name in NOTICES:
    setattr(Raising, _name, hookimpl(specname=_name)(_raise))


# How a job may be stopped


Stop = Callable[[BoundAdapter, TokenStream, "asyncio.Task[None]"], Awaitable[object]]


async def _cancel(adapter: BoundAdapter, stream: TokenStream, _: object) -> None:
    await adapter.cancel(stream.job_id)


async def _aclose(_: object, stream: TokenStream, __: object) -> None:
    await stream.aclose()


async def _cancel_reader(_: object, __: object, reading: "asyncio.Task[None]") -> None:
    reading.cancel()


async def _close_adapter(adapter: BoundAdapter, *_: object) -> None:
    await adapter.aclose()


async def _let_go(*_: object) -> None:
    pass


STOPS: dict[str, Stop] = {
    "cancel": _cancel,
    "aclose": _aclose,
    "reader": _cancel_reader,
    "adapter": _close_adapter,
    "nothing": _let_go,
}


async def _run(adapter: BoundAdapter, stop: Stop, turns: int) -> bool:
    """Run a job and stop it after so many turns of the loop. Returns whether it was running."""
    stream = adapter.submit(_task())
    reading = asyncio.ensure_future(_read(stream))
    for _ in range(turns):
        await asyncio.sleep(0)
    running = not reading.done()
    await stop(adapter, stream, reading)
    await asyncio.wait([reading])
    return running


@pytest.mark.parametrize("how", STOPS)
async def test_stopped_at_each_await(how: str) -> None:
    """A job that is stopped at any point is reported once (ORCH-3026, ORCH-3028)."""
    turns, running = 0, True
    while running:
        recorder = Recorder()
        async with Registry(observers=[recorder]).get("mock", {}) as adapter:
            running = await _run(adapter, STOPS[how], turns)
        assert len(recorder.outcomes()) == recorder.hooks().count("job_submitted") <= 1, turns
        turns += 1
    assert turns > 5
    assert recorder.outcomes() == ["job_ended"]


@pytest.mark.parametrize("how", STOPS)
async def test_stopped_on_the_wire(how: str) -> None:
    """The same for a job that connects, waits and reads (ORCH-3026)."""
    async with WordServer() as server:
        for turns in range(0, 60, 4):
            recorder = Recorder()
            registry = Registry(observers=[recorder])
            async with registry.get("openai-http", base_url=server.base_url) as adapter:
                await _run(adapter, STOPS[how], turns)
            assert len(recorder.outcomes()) == recorder.hooks().count("job_submitted") <= 1, turns


MIDDLEWARE = st.lists(st.sampled_from([Refusing, Breaking, Stopping]), max_size=2)


@settings(max_examples=60)
@given(
    turns=st.integers(0, 20),
    how=st.sampled_from(sorted(STOPS)),
    fails_after=st.none() | st.integers(0, 4),
    middleware=MIDDLEWARE,
    raising=st.booleans(),
    starts=st.booleans(),
)
def test_every_job_has_exactly_one_outcome(
    turns: int,
    how: str,
    fails_after: int | None,
    middleware: list[type],
    raising: bool,
    starts: bool,
) -> None:
    """Also with failing engines, middleware and observers (ORCH-3026, ORCH-3028)."""

    async def go() -> None:
        recorder = Recorder()
        options: dict[str, Any] = {}
        if fails_after is not None:
            options = {"error_code": "WORKER_RESET", "error_after": fails_after}
        registry = Registry(
            observers=[Raising(), recorder] if raising else [recorder],
            middleware=[make() for make in middleware],
        )
        adapter = registry.get("mock", options)
        if starts:
            await adapter.start()
        await _run(adapter, STOPS[how], turns)
        await adapter.aclose()
        hooks = recorder.hooks()
        assert len(recorder.outcomes()) == hooks.count("job_submitted") <= 1
        assert hooks.count("adapter_started") == hooks.count("adapter_closed") <= 1
        if recorder.outcomes() == ["job_ended"]:
            assert fails_after is None
            assert not middleware

    asyncio.run(go())


async def test_opened_several_times() -> None:
    """A stream may be awaited, entered and iterated; the job is sent and reported once."""
    recorder = Recorder()
    async with Registry(observers=[recorder]).get("mock", {}) as adapter:
        stream = await adapter.submit(_task())
        await stream
        async with stream:
            await stream.text()
    assert recorder.hooks()[1:-1] == ["job_submitted", "job_first_token", "job_ended"]


# Abandoned


@pytest.mark.parametrize("loop_ends", [False, True])
@pytest.mark.parametrize("events", [0, 1, 2, 6, 7, 8])
def test_an_abandoned_stream_is_cancelled(events: int, loop_ends: bool) -> None:
    """A stream that is dropped, before its loop's end or after it, is reported, too."""
    recorder = Recorder()
    kept: list[TokenStream] = []

    async def go() -> None:
        adapter = Registry(observers=[recorder]).get("mock", {})
        stream = adapter.submit(_task())
        for _ in range(events):
            if await anext(stream, None) is None:
                break
        if loop_ends:
            kept.append(stream)
        del stream
        await asyncio.sleep(0)

    asyncio.run(go())
    kept.clear()
    gc.collect()
    expected = ["job_cancelled"] if events < 7 else ["job_ended"]  # Started, 5 Tokens, End
    assert recorder.outcomes() == (expected if events else [])


async def test_a_reader_that_is_destroyed() -> None:
    """A coroutine that is closed while it waits for an event cancels its job."""
    recorder = Recorder()
    async with Registry(observers=[recorder]).get("mock", {"delay_s": 60}) as adapter:
        stream = adapter.submit(_task())
        await anext(stream)
        reading = stream.__anext__()
        reading.send(None)
        reading.close()
        assert recorder.outcomes() == []  # like a destructor, it calls no foreign code
        await asyncio.sleep(0)
        assert recorder.outcomes() == ["job_cancelled"]
    assert recorder.outcomes() == ["job_cancelled"]


async def test_a_destructor_waits_for_no_lock() -> None:
    """An observer whose lock is held when a stream is collected is called after it."""
    dropped: list[TokenStream] = []

    class Locking(Recorder):
        lock = Lock()

        @hookimpl(specname="job_submitted")
        def submitted(self) -> None:
            with self.lock:
                dropped.clear()
                gc.collect()

        @hookimpl(specname="job_cancelled")
        def cancelled(self) -> None:
            with self.lock:
                pass

    async with Registry(observers=[Locking(), recorder := Recorder()]).get("mock", {}) as adapter:
        dropped.append(adapter.submit(_task()))
        await dropped[0]
        await adapter.submit(_task()).text()
        await asyncio.sleep(0)
    assert sorted(recorder.outcomes()) == ["job_cancelled", "job_ended"]


# What observers cannot do


@pytest.mark.parametrize("observed", [False, True])
async def test_observers_keep_no_stream_alive(observed: bool) -> None:
    """Notices do not refer to the stream: its last reference frees it, without the collector."""
    recorder = Recorder()
    async with Registry(observers=[recorder] if observed else []).get("mock", {}) as adapter:
        stream = adapter.submit(_task())
        await stream
        gone = weakref.ref(stream)
        gc.disable()
        try:
            del stream
            assert gone() is None
        finally:
            gc.enable()


@pytest.mark.parametrize("hook", ["job_submitted", "job_first_token", "job_ended", "job_failed"])
async def test_an_interruption_releases_the_job(hook: str) -> None:
    """An interruption raised by an observer leaves the stream closed, and reported once."""

    class Interrupting:
        pass

    def interrupt(self: object) -> None:
        raise KeyboardInterrupt

    setattr(Interrupting, hook, hookimpl(specname=hook)(interrupt))
    recorder = Recorder()
    registry = Registry(observers=[recorder, Interrupting()])
    options = {"error_code": "WORKER_RESET", "error_after": 2} if hook == "job_failed" else {}
    adapter = registry.get("mock", options)
    with pytest.raises(KeyboardInterrupt):
        async with asyncio.timeout(10), adapter.submit(_task()) as stream:
            async for _ in stream:
                pass
    await asyncio.wait_for(adapter.aclose(), 10)
    assert len(recorder.outcomes()) == recorder.hooks().count("job_submitted") == 1


async def _calls(tokens: int, observers: list[object]) -> int:
    """How many functions are called while a job of so many Tokens, the adapter's first, is read."""
    registry = Registry(observers=observers)
    async with aclosing(registry.get("mock", {"tokens": ["x"] * tokens})) as adapter:
        stream = adapter.submit(attrs.evolve(_task(), max_tokens=tokens))
        calls = 0

        def count(frame: FrameType, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(count)
        try:
            async for _ in stream:
                pass
        finally:
            sys.setprofile(before)
    return calls


async def test_observers_cost_nothing_per_token() -> None:
    """With and without an observer a Token takes the same calls."""
    few, many = 10, 500
    gc.disable()  # finalizers would be counted
    try:
        plain = await _calls(many, []) - await _calls(few, [])
        observed = await _calls(many, [Recorder()]) - await _calls(few, [Recorder()])
    finally:
        gc.enable()
    # asyncio's own part differs a little from run to run.
    assert abs(observed - plain) < (many - few) / 5


def test_no_warning_of_an_unread_stream() -> None:
    """A stream that is never read is dropped without a warning, and is not reported."""
    recorder = Recorder()

    async def go() -> None:
        Registry(observers=[recorder]).get("mock", {}).submit(_task())

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(go())
        gc.collect()
    assert "job_submitted" not in recorder.hooks()
    assert recorder.outcomes() == []
