"""Run one job and show it as it comes."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

from adapter_api import Cancelled, Error, TaskRequest, TokenStream, WorkerError
from registry import BoundAdapter
from registry.cli.terminal import status
from registry.cli.terminal.output import Output
from registry.cli.terminal.signals import first_signal

_NOT_WHOLE = "what was printed is not the whole answer"


class _Closable(Protocol):
    async def aclose(self) -> None: ...


Submit = Callable[[TaskRequest], TokenStream]


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
    return run_job_on(lambda: (adapter, adapter.submit), task, frames=frames)


def run_job_on(
    begin: Callable[[], tuple[_Closable, Submit]], task: TaskRequest, *, frames: bool
) -> int:
    """As `run_job`, on what `begin` makes.

    Args:
        begin: Called in the event loop; gives what is closed in the end, and what submits.
        task: The job.
        frames: As for `run_job`.
    """
    return asyncio.run(_run(begin, task, Output(frames=frames)))


async def _run(
    begin: Callable[[], tuple[_Closable, Submit]], task: TaskRequest, output: Output
) -> int:
    worker, submit = begin()
    async with contextlib.aclosing(worker):
        stream = submit(task)
        failure: WorkerError | None = None
        cancelling: list[asyncio.Task[bool]] = []
        with first_signal(
            lambda: cancelling.append(asyncio.create_task(stream.cancel()))
        ) as caught:
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
    return status.after_signal(caught[0]) if cancelled else status.FAILED
