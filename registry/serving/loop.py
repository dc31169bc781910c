"""The loop behind `worker-adapters serve`."""

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
from registry.cli.terminal.changes import Changes, log_to_stderr
from registry.cli.terminal.signals import first_signal
from registry.serving.lines import LineReader, LineWriter
from registry.serving.run import Run
from registry.serving.state import StateError, StateWriter, default_folder
from registry.workers.watch import WorkersWatch

logger = logging.getLogger("worker_adapters.workers")

CLOSE_S = 2.0
"""How long the last frames of jobs that were cut short may take to be read."""


@attrs.frozen
class Settings:
    """What was typed.

    Args:
        workers: The workers file; None for none.
        handoff: The folder of handoff files; None for none. Without file and folder there is the
            one replica that the environment describes.
        state: The state folder; None for the usual one.
        max_jobs: How many jobs run or wait at once; as many more are read ahead.
        drain_s: How long they may take to end once a signal has come.
        look_s: Seconds between two looks at the files.
    """

    workers: Path | None
    handoff: Path | None
    state: Path | None
    max_jobs: int
    drain_s: float
    look_s: float


def run_serve(settings: Settings) -> int:
    """Serve until standard input ends or a signal comes; returns the exit status.

    Raises:
        ConfigError: If the files, or without any the environment, are wrong from the beginning.
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
        async with make(observers=[Changes()]) as host:
            return await _run(host, state, settings)


async def _run(host: AdapterHost, state: StateWriter, settings: Settings) -> int:
    stop, gone = asyncio.Event(), asyncio.Event()
    files = WorkersWatch(
        host, settings.workers, handoff=settings.handoff, interval_s=settings.look_s
    )
    with first_signal(stop.set) as caught:
        async with files:
            out = LineWriter(sys.stdout.fileno(), lambda _: gone.set())
            run = Run(host, out, state, settings.max_jobs)
            async with _saving(run):
                await _first(run.read(LineReader(sys.stdin.fileno())), stop.wait(), gone.wait())
                await _first(run.finish(), stop.wait(), gone.wait())
                if caught:
                    drain_s = settings.drain_s
                    logger.info("the jobs get %g s to end; a second signal ends them", drain_s)
                    await _first(run.end(), gone.wait(), limit_s=drain_s)
        cut = run.busy
        await host.aclose()  # which ends the jobs that are left, each with its last frame
        await _first(run.finish(), gone.wait(), limit_s=CLOSE_S)
        out.close()
        await run.finish()
    if gone.is_set():
        return status.READER_GONE
    return status.after_signal(caught[0]) if caught and cut else status.OK


@contextlib.asynccontextmanager
async def _saving(run: Run) -> AsyncIterator[None]:
    """While entered, the state folder follows the run."""
    saving = asyncio.create_task(run.save_again_and_again())
    try:
        yield
    finally:
        saving.cancel()
        await asyncio.wait({saving})
        run.save()
        run.save(running=False)


async def _first(*waits: Coroutine[Any, Any, object], limit_s: float | None = None) -> None:
    """Wait until one of them has happened; what they raise is raised. The others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()
