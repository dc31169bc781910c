"""The long run behind `worker-adapters serve`."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import attrs

from registry import AdapterHost
from registry.cli.terminal import status
from registry.cli.terminal.logs import ChangeLog, log_to_stderr
from registry.cli.terminal.streams import out
from registry.serving.lines import LineReader, LineWriter
from registry.serving.signals import first_signal
from registry.serving.state import StateError, StateWriter, default_folder
from registry.serving.stdin import StdinJobs
from registry.workers.watch import WorkersWatch

logger = logging.getLogger("worker_adapters.serving")

CLOSE_S = 2.0
"""Seconds for the reader to take the last frames of jobs that were cut short."""


@attrs.frozen
class Settings:
    """The options of `serve`.

    Args:
        workers: The workers file; None for none.
        handoff: The folder of handoff files; None for none. Without file and folder there is the
            one replica that the environment describes.
        state: The state folder; None for the usual one.
        max_jobs: How many jobs run or wait at once; as many more are read ahead.
        drain_s: Seconds for jobs to end after a signal.
        look_s: Seconds between two looks at the files.
    """

    workers: Path | None
    handoff: Path | None
    state: Path | None
    max_jobs: int
    drain_s: float
    look_s: float


def run_serve(settings: Settings) -> int:
    """Serve until standard input ends or a signal comes.

    Returns:
        The exit status: FAILED if a job failed or a line was refused.

    Raises:
        ConfigError: If the files, or without any the environment, are wrong.
        UsageError: If the state folder cannot be used.
    """
    log_to_stderr()
    return asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    try:
        state = StateWriter(settings.state or default_folder())
    except StateError as error:
        raise status.UsageError(str(error)) from None
    with contextlib.closing(state):
        declared = settings.workers or settings.handoff
        make = AdapterHost if declared else AdapterHost.from_environment
        async with make(observers=[ChangeLog()]) as host:
            return await _run(host, state, settings)


async def _run(host: AdapterHost, state: StateWriter, settings: Settings) -> int:
    stop, gone = asyncio.Event(), asyncio.Event()
    files = WorkersWatch(
        host, settings.workers, handoff=settings.handoff, interval_s=settings.look_s
    )
    with first_signal(stop.set) as caught:
        async with files:
            if sys.stdin.isatty():
                status.note("type tasks, each a line of JSON; Ctrl-D ends the input")
            writer = LineWriter(out().fileno(), lambda _: gone.set())
            jobs = StdinJobs(host, writer, state, settings.max_jobs)
            async with _saving(jobs):
                await _first(jobs.read(LineReader(sys.stdin.fileno())), stop.wait(), gone.wait())
                await _first(jobs.finish(), stop.wait(), gone.wait())
                if caught:
                    drain_s = settings.drain_s
                    logger.info("the jobs have %g s to end; a second signal ends them now", drain_s)
                    await jobs.cancel_held()
                    await _first(jobs.finish(), gone.wait(), limit_s=drain_s)
        cut = jobs.busy
        await jobs.cancel_held()
        await host.aclose()  # ends the jobs that are left, each with its last frame
        await _first(jobs.finish(), gone.wait(), limit_s=CLOSE_S)
        writer.close()
        await jobs.finish()
        jobs.save(running=False)
    return _summed_up(jobs, caught=caught if cut else [], gone=gone.is_set())


def _summed_up(jobs: StdinJobs, *, caught: list[int], gone: bool) -> int:
    """Log the numbers of the run and return the exit status."""
    totals = jobs.totals
    bad = jobs.bad_lines
    refused = f", {bad} {'line' if bad == 1 else 'lines'} refused" if bad else ""
    logger.info("jobs: %s%s", totals, refused)
    if gone:
        return status.READER_GONE
    if caught:
        return status.after_signal(caught[0])
    return status.FAILED if totals.failed or jobs.bad_lines else status.OK


@contextlib.asynccontextmanager
async def _saving(jobs: StdinJobs) -> AsyncIterator[None]:
    """While entered, keep the state folder up to date."""
    saving = asyncio.create_task(jobs.save_snapshots())
    try:
        yield
    finally:
        saving.cancel()
        await asyncio.wait({saving})
        jobs.save()


async def _first(*waits: Coroutine[Any, Any, object], limit_s: float | None = None) -> None:
    """Wait for the first of several coroutines, cancel the others, and raise what it raised."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()
