"""A long run: tasks from standard input on the pools of a workers file, frames to standard output."""

import asyncio
import logging
import sys
from pathlib import Path
from typing import Annotated

import attrs
import typer

from registry import AdapterHost
from registry.cli import status
from registry.cli.lines import LineReader, LineWriter
from registry.cli.options import Action
from registry.cli.run import Run
from registry.cli.signals import first_signal
from registry.host.state import StateError, StateWriter, default_folder
from registry.host.watching import INTERVAL_S, WorkersWatch

CLOSE_S = 5.0
"""How long the last frames may take to be read once every job has ended."""


@attrs.frozen
class _Settings:
    workers: Path
    handoff: Path | None
    state: Path
    most_jobs: int
    drain_s: float
    look_s: float


def serve(
    workers: Annotated[Path, typer.Option(help="The file that declares pools and replicas.")],
    handoff: Annotated[
        Path | None, typer.Option(help="A folder where engines leave handoff files.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Where `top` and `explain` look; one folder for each run.")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Read no further while that many jobs run or wait.")
    ] = 100,
    drain: Annotated[
        float, typer.Option(min=0, help="Seconds that jobs get to end after Ctrl-C or SIGTERM.")
    ] = 30.0,
    look: Annotated[
        float, typer.Option(min=0.05, help="Seconds between two looks at the files.")
    ] = INTERVAL_S,
) -> Action:
    """Run tasks from standard input, JSON lines in and out; opens no port, follows its files."""
    settings = _Settings(workers, handoff, state or default_folder(), jobs, drain, look)
    return lambda: asyncio.run(_serve(settings))


async def _serve(settings: _Settings) -> int:
    _log_to_stderr()
    try:
        state = StateWriter(settings.state)
    except StateError as error:
        raise status.UsageError(str(error)) from None
    try:
        async with AdapterHost() as host:
            async with WorkersWatch(
                host, settings.workers, handoff=settings.handoff, interval_s=settings.look_s
            ):
                return await _run(host, state, settings)
    finally:
        state.close()


async def _run(host: AdapterHost, state: StateWriter, settings: _Settings) -> int:
    stop, gone = asyncio.Event(), asyncio.Event()
    out = LineWriter(sys.stdout.fileno(), lambda _: gone.set())
    run = Run(host, out, state, settings.most_jobs)
    saving = asyncio.create_task(run.save_again_and_again())
    try:
        with first_signal(stop.set) as caught:
            lines = LineReader(sys.stdin.fileno())
            await _first(run.read(lines), stop.wait(), gone.wait())
            await _first(run.finish(), stop.wait(), gone.wait())
            if caught:
                await _first(run.finish(), gone.wait(), limit_s=settings.drain_s)
            cut = run.busy
            await host.aclose()
            await _first(run.finish(), gone.wait(), limit_s=CLOSE_S)
            await out.aclose(CLOSE_S)
            await run.finish()
    finally:
        saving.cancel()
        run.save(running=False)
    if gone.is_set():
        return status.READER_GONE
    return status.of_signal(caught[0]) if caught and cut else status.OK
