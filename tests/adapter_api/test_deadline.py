"""StreamClock: the deadline of a job."""

import asyncio
import weakref
from collections.abc import AsyncIterator

import pytest

from adapter_api import (
    Error,
    ErrorCode,
    Started,
    StreamClock,
    TaskRequest,
    Token,
    TokenEvent,
    TokenStream,
    WorkerTimeout,
)
from tests.adapter_api.clocks import ends_after
from tests.scripted import END, STARTED, Script, collect, reading, tokens, turns
from tests.virtual_time import in_virtual_time, work

# The deadline


@pytest.mark.parametrize("steps", [(60,), (STARTED, 60), (STARTED, Token("t0", 0), 60)])
@in_virtual_time
async def test_the_deadline_ends_a_waiting_job(steps: tuple[object, ...]) -> None:
    """DEADLINE_UNMET comes when it passes, wherever the job is."""
    script = Script(*steps)
    error = await ends_after(0.05, script.stream(deadline_s=0.05))
    assert error.code is ErrorCode.DEADLINE_UNMET
    assert error.message == "the job did not end within its deadline of 0.05 s"
    assert error.job_id == "job"
    assert script.closed


@in_virtual_time
async def test_the_deadline_counts_from_submit() -> None:
    """A stream that is opened late has what is left; one that is opened too late has nothing."""
    stream = Script(60, STARTED).stream(deadline_s=0.5)
    await asyncio.sleep(0.3)
    await ends_after(0.2, stream)
    script = Script(0.001, STARTED, END)
    stream = script.stream(deadline_s=0.01)
    await asyncio.sleep(0.02)
    with pytest.raises(WorkerTimeout):
        await stream


@in_virtual_time
async def test_the_deadline_with_a_slow_consumer() -> None:
    """A consumer that is busy past the deadline gets the error at its next read; what the job held
    is released when the deadline passes."""
    script = Script(STARTED, *tokens(3), END)
    stream = await script.stream(deadline_s=0.03)
    await asyncio.sleep(0.05)
    assert script.closed
    seen = await collect(stream)
    assert [type(e) for e in seen] == [Started, Error, WorkerTimeout]
    assert seen[1].error.code is ErrorCode.DEADLINE_UNMET


@in_virtual_time
async def test_the_deadline_keeps_no_stream_alive() -> None:
    """One that is dropped before it is gone at once, not when the timer rings."""
    script = Script(STARTED, *tokens(3), END)
    stream = await script.stream(deadline_s=30)
    dropped = weakref.ref(stream)
    with pytest.warns(ResourceWarning):
        del stream
    assert dropped() is None
    await turns(3)
    assert script.closed


@in_virtual_time
async def test_progress_does_not_move_the_deadline() -> None:
    """A stream that makes progress is cut by its deadline, and by nothing else."""
    steps = [step for token in tokens(100) for step in (0.01, token)]
    error = await ends_after(0.105, Script(STARTED, *steps).stream(deadline_s=0.105))
    assert error.code is ErrorCode.DEADLINE_UNMET
    assert error.tokens_emitted == 10


@in_virtual_time
async def test_an_ended_stream_ignores_the_deadline() -> None:
    """No timer outlives the job."""
    stream = Script(STARTED, END).stream(deadline_s=0.02)
    assert await stream.text() == ""
    await asyncio.sleep(0.04)
    assert await collect(stream) == []


@in_virtual_time
async def test_the_deadline_is_kept_with_any_clock() -> None:
    """An adapter that forgets the deadline when it makes its clock does not lose it."""
    task = TaskRequest(prompt="x", deadline_s=0.03)
    stream = TokenStream(Script(STARTED, 60).events(), task, clock=StreamClock())
    assert (await ends_after(0.03, stream)).code is ErrorCode.DEADLINE_UNMET


@in_virtual_time
async def test_a_clean_up_may_outlast_the_deadline() -> None:
    """The error comes when the adapter's resources are released, not before."""
    script = Script(STARTED, 60, cleanup=(0.05,))
    error = await ends_after(0.07, script.stream(deadline_s=0.02))
    assert isinstance(error, WorkerTimeout)


@in_virtual_time
async def test_streams_within_streams_have_the_same_deadline() -> None:
    """An adapter that reads another stream, with both timers due in one turn of the loop."""

    async def outer(task: TaskRequest) -> AsyncIterator[TokenEvent]:
        async with TokenStream(Script(STARTED, 60).events(), task) as inner:
            async for event in inner:
                yield event

    for _ in range(5):
        task = TaskRequest(prompt="x", job_id="job", deadline_s=0.02)
        stream = TokenStream(outer(task), task)
        reader, seen = await reading(stream, 1)
        work(0.03)  # so that both timers are late
        await reader
        assert [type(item) for item in seen] == [Started, Error, WorkerTimeout]
        assert reader.cancelling() == 0
