"""Run one job and show it as it comes."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from adapter_api import Cancelled, Error, TaskRequest, TokenStream, WorkerError
from registry import BoundAdapter
from registry.cli import status
from registry.cli.output import Output

_NOT_WHOLE = "what was printed is not the whole answer"


def run_job(adapter: BoundAdapter, task: TaskRequest, *, frames: bool) -> int:
    """Run `task`, print its answer, and close the adapter.

    SIGINT and SIGTERM cancel the job; this returns when its connection is closed. The second
    signal acts as if nobody had asked for it.

    Args:
        adapter: Where to run it.
        task: The job.
        frames: Whether to print every event as a JSON frame, instead of the text.

    Returns:
        The exit status.

    Raises:
        BrokenPipeError: If the reader of our output went away; the job is cancelled.
    """
    return asyncio.run(_run(adapter, task, Output(frames=frames)))


async def _run(adapter: BoundAdapter, task: TaskRequest, output: Output) -> int:
    async with contextlib.aclosing(adapter):
        stream = adapter.submit(task)
        failure: WorkerError | None = None
        with _cancelled_by_signals(stream) as caught:
            try:
                async with stream:
                    async for event in stream:
                        output.show(event)
                        if isinstance(event, Error):
                            failure = event.error
                            break
            except WorkerError as error:  # before it has started
                output.show(Error(error))
                failure = error
    return status.OK if failure is None else _report(failure, output, caught)


def _report(failure: WorkerError, output: Output, caught: list[int]) -> int:
    """Say why there is no whole answer; returns the exit status."""
    cancelled = isinstance(failure, Cancelled) and bool(caught)
    text = "cancelled" if cancelled else status.one_line(failure)
    status.complain(f"{text}; {_NOT_WHOLE}" if output.tokens else text)
    if not cancelled:
        return status.FAILED
    return status.TERMINATED if caught[0] == signal.SIGTERM else status.CANCELLED


@contextlib.contextmanager
def _cancelled_by_signals(stream: TokenStream) -> Iterator[list[int]]:
    """While entered, the first SIGINT or SIGTERM cancels `stream`; the list then holds it."""
    loop = asyncio.get_running_loop()
    caught: list[int] = []
    cancelling: set[asyncio.Task[bool]] = set()

    def cancel(number: int, _: FrameType | None) -> None:
        caught.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        loop.call_soon_threadsafe(lambda: cancelling.add(loop.create_task(stream.cancel())))

    # Not loop.add_signal_handler: its handlers wait for the loop, and while a reader does not read,
    # writing to it blocks the loop. The second signal must end the process even then.
    before = {number: signal.signal(number, cancel) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
