"""Foreign code ends its own job only, and an ended job holds nothing."""

import asyncio
import contextlib
import gc
import sys
import time
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapter_api import (
    Cancelled,
    CapacityExceeded,
    End,
    Error,
    InternalError,
    Metrics,
    StreamTable,
    TaskRequest,
    Token,
    TokenEvent,
    TokenStream,
    WorkerError,
    WorkerTimeout,
)
from adapter_api.interruption import RELEASE_S
from tests.scripted import END, STARTED, TASK, Script, collect, tokens, turns
from tests.virtual_time import VirtualLoop, in_virtual_time, now_s


@pytest.mark.parametrize("raised", [SystemExit(3), GeneratorExit(), asyncio.CancelledError()])
@pytest.mark.parametrize("before", [(), (STARTED,), (STARTED, *tokens(2))])
async def test_what_the_adapter_raises_ends_its_job(raised: BaseException, before: Any) -> None:
    """Exit, GeneratorExit and a stray cancellation are INTERNAL, with the job's last frame."""
    frames = [frame async for frame in Script(*before, raised).stream().frames()]
    assert len(frames) == len(before) + 1
    assert (frames[-1]["type"], frames[-1]["code"]) == ("error", "INTERNAL")
    assert "Script.events) failed with " in frames[-1]["message"]


@pytest.mark.parametrize("raised", [SystemExit(3), GeneratorExit()])
async def test_a_cleanup_that_exits_changes_no_outcome(raised: BaseException) -> None:
    """The answer is whole, whatever the adapter's cleanup raises."""
    assert await collect(Script(STARTED, END, cleanup=(raised,)).stream()) == [STARTED, END]


async def _stubborn(*, once: bool) -> AsyncIterator[TokenEvent]:
    yield STARTED
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if once:
                await asyncio.sleep(3600)


async def _behind_a_task() -> AsyncIterator[TokenEvent]:
    async def deaf() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                await asyncio.sleep(0)

    yield STARTED
    await asyncio.create_task(deaf())


@pytest.mark.parametrize("events", [lambda: _stubborn(once=False), lambda: _stubborn(once=True),
                                    _behind_a_task])  # fmt: skip
def test_an_adapter_that_swallows_its_deadline_is_abandoned(
    events: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The reader gets DEADLINE_UNMET after a bounded wait; the adapter's code is abandoned."""

    async def go() -> None:
        began_at = now_s()
        stream = TokenStream(events(), TaskRequest(prompt="x", job_id="job", deadline_s=1))
        seen = await collect(stream)
        assert [type(item) for item in seen[1:]] == [Error, WorkerTimeout]
        assert now_s() - began_at == pytest.approx(1 + RELEASE_S, abs=0.01)

    _run_and_leave(go)
    assert "did not stop within 2 s after job job ended" in caplog.text


def _run_and_leave(go: Any) -> None:
    """Run `go` in virtual time and leave the tasks that outlive it."""
    loop = VirtualLoop()
    try:
        loop.run_until_complete(go())
    finally:
        loop.set_exception_handler(lambda *_: None)
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()


def test_cancelling_returns_although_the_adapter_does_not() -> None:
    """cancel() by another task, and cancelling the reader, take RELEASE_S at most."""

    async def go() -> None:
        stream = TokenStream(_stubborn(once=False), TASK)
        reader = asyncio.create_task(collect(stream))
        await turns(3)
        began_at = now_s()
        assert await stream.cancel() is True
        assert isinstance((await reader)[-1], Cancelled)
        stream = TokenStream(_stubborn(once=False), TASK)
        reader = asyncio.create_task(collect(stream))
        await turns(3)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert now_s() - began_at == pytest.approx(2 * RELEASE_S, abs=0.01)

    _run_and_leave(go)


@in_virtual_time
async def test_a_swallowed_cancellation_ends_the_job() -> None:
    """An adapter that answers its cancellation with a Token has no say: the job is over."""

    async def deaf() -> AsyncIterator[TokenEvent]:
        yield STARTED
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        yield Token("late", 0)
        yield END

    stream = TokenStream(deaf(), TASK)
    reader = asyncio.create_task(collect(stream))
    await turns(3)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    seen = await collect(TokenStream(deaf(), TaskRequest(prompt="x", deadline_s=1)))
    assert [type(item) for item in seen[1:]] == [Error, WorkerTimeout]


@in_virtual_time
async def test_a_cleanup_that_hangs_is_abandoned() -> None:
    """An adapter whose cleanup takes forever delays the end by RELEASE_S."""
    began_at = now_s()
    assert (await collect(Script(STARTED, END, cleanup=(3600,)).stream()))[-1] == END
    assert now_s() - began_at == pytest.approx(RELEASE_S, abs=0.01)


@in_virtual_time
async def test_a_timeout_within_the_adapter_is_its_own() -> None:
    """asyncio.timeout in an adapter cancels the reading task, and takes that back."""

    async def patient() -> AsyncIterator[TokenEvent]:
        yield STARTED
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(3600)
        except TimeoutError:
            await asyncio.sleep(3 * RELEASE_S)
        yield Token("a", 0)
        yield END

    assert await TokenStream(patient(), TASK).text() == "a"


BAD: list[tuple[list[Any], str]] = [
    ([STARTED, Error(None)], "Error with a value that is not a WorkerError"),  # type: ignore[arg-type]
    ([STARTED, Token(5, 0)], "Token with text that is not a string"),  # type: ignore[arg-type]
    ([STARTED, *tokens(1), Token(5, 1)], "text that is not a string"),  # type: ignore[arg-type]
    ([STARTED, End(None, "stop", "done")], "End with metrics that are not"),  # type: ignore[arg-type]
    ([STARTED, End(Metrics(0), 5, "done")], "a finish_reason that is not"),  # type: ignore[arg-type]
    ([STARTED, End(Metrics(0), None, "luck")], "proof 'luck'"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("steps", "says"), BAD)
async def test_contents_of_no_use_are_the_adapters_fault(steps: list[Any], says: str) -> None:
    """INTERNAL names the adapter and what is wrong; text() never returns half an answer."""
    seen = await collect(Script(*steps, END).stream())
    assert isinstance(seen[-1], InternalError)
    assert "the adapter (Script.events) yielded " in seen[-1].message
    assert says in seen[-1].message
    with pytest.raises(InternalError):
        await Script(*steps, END).stream().text()


def _refuse() -> None:
    raise CapacityExceeded("ADMISSION_REJECT", "busy")


def _fail() -> None:
    raise ValueError


ENDS = {
    "refused": (_refuse,),
    "failed": (STARTED, *tokens(1), _refuse),
    "foreign": (STARTED, _fail),
    "truncated": (STARTED, *tokens(1)),
    "timed out": (STARTED, 60),
    "cancelled": (STARTED, 60),
    "whole": (STARTED, *tokens(1), END),
}


# From 3.12 on, the frame of a generator that has ended still refers to its callers (`f_back`), and
# the reader is one of them: whatever keeps the error keeps the stream until the collector runs.
# Only an error without a traceback would not.
BY_COLLECTOR = ("failed", "foreign") if sys.version_info >= (3, 12) else ()


class _Part(dict[str, str]):
    """A content part that can be referenced weakly."""


@pytest.mark.parametrize("how", ENDS)
async def test_an_ended_job_is_freed_at_once(how: str) -> None:
    """No reference cycle holds the stream, its task or its prompt: gc has nothing to do."""
    part = _Part(type="text", text="a long prompt")

    async def run() -> "weakref.ref[Any]":
        deadline_s = 0.01 if how == "timed out" else None
        message = {"role": "user", "content": [part]}
        task = TaskRequest(messages=[message], deadline_s=deadline_s)
        stream = table.add(TokenStream(_play(task, ENDS[how]), task))
        if how == "cancelled":
            reader = asyncio.create_task(_read(stream))
            await turns(3)
            assert await stream.cancel()
            await reader
        else:
            await _read(stream)
        return weakref.ref(stream)

    table = StreamTable()
    gc.collect()
    gc.disable()
    try:
        stream = await run()
        if how in BY_COLLECTOR:
            gc.collect()
        await turns(3)
        assert stream() is None
        assert sys.getrefcount(part) == 2
        assert len(table._streams) == 0
    finally:
        gc.enable()


async def _read(stream: TokenStream) -> None:
    with contextlib.suppress(WorkerError):
        async for _ in stream:
            pass


async def _play(task: TaskRequest, steps: Any) -> AsyncIterator[TokenEvent]:
    assert task.messages
    for step in steps:
        if callable(step):
            step()
        elif isinstance(step, int):
            await asyncio.sleep(step)
        else:
            yield step


@pytest.mark.timing
async def test_cancelling_an_unknown_id_is_one_lookup() -> None:
    """With 10,000 jobs it costs no more than twice what it costs with ten."""

    async def cost(jobs: int) -> float:
        table = StreamTable()
        held = [
            table.add(TokenStream(Script(STARTED).events(), TaskRequest(prompt="", job_id=f"j{i}")))
            for i in range(jobs)
        ]
        best = 1.0
        for _ in range(20):
            began_at = time.perf_counter()
            for _ in range(100):
                assert await table.cancel("unknown") is False
            best = min(best, time.perf_counter() - began_at)
        assert len(held) == jobs
        return best

    assert await cost(10_000) < 2 * await cost(10)
