"""What `worker-adapters top` shows: a run's state folder, or engines that it asks by itself."""

import asyncio
import contextlib
import json
import time
from contextlib import aclosing
from pathlib import Path
from typing import Self

from rich.live import Live

from registry import AdapterHost
from registry.cli.terminal import status
from registry.cli.terminal.overview import Overview, View, rows
from registry.cli.terminal.pools import open_host
from registry.cli.terminal.show import console
from registry.cli.terminal.streams import out, say
from registry.serving.signals import first_signal
from registry.serving.state import FRESH_S, StateError, default_folder, read_snapshot, to_json

EVERY_S = 1.0


def watch_run(state: Path | None, *, once: bool, as_json: bool) -> int:
    """Show what the run of that state folder writes, again and again; returns the exit status.

    Raises:
        UsageError: If there is none.
    """
    folder = state or default_folder()
    with _Screen(as_json=as_json, once=once) as screen:
        while True:
            view = _saved(folder)
            screen.show(view)
            if once:
                return status.OK if view.running else status.FAILED
            time.sleep(EVERY_S)


def _saved(folder: Path) -> View:
    try:
        saved = read_snapshot(folder)
    except StateError as error:
        raise status.UsageError(str(error)) from None
    if saved is None:
        raise status.UsageError(
            f"no run has left its state in {folder}: start one with `worker-adapters serve`, name "
            "its folder with --state, or ask the engines with --workers FILE"
        )
    if not saved.running:
        return View(saved.host, f"the run has ended, {_ago(saved.age_s)}", running=False)
    if saved.age_s > FRESH_S:
        return View(saved.host, f"the run last wrote {_ago(saved.age_s)}", running=False)
    return View(saved.host)


def ask_engines(workers: Path, *, once: bool, as_json: bool) -> int:
    """Show how the engines of a workers file are; returns the exit status.

    Raises:
        WorkersError: If the file is wrong.
    """
    return asyncio.run(_ask(workers, once=once, as_json=as_json))


async def _ask(workers: Path, *, once: bool, as_json: bool) -> int:
    async with aclosing(open_host(workers)) as host:
        await _check_all(host)
        if once:
            with _Screen(as_json=as_json, once=True) as screen:
                screen.show(View(host.snapshot()))
            return status.OK
        stop = asyncio.Event()
        with first_signal(stop.set) as caught, _Screen(as_json=as_json, once=False) as screen:
            while not stop.is_set():
                screen.show(View(host.snapshot()))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), EVERY_S)
        return status.after_signal(caught[0])


async def _check_all(host: AdapterHost) -> None:
    await asyncio.gather(*(host.health(pool.pool_id) for pool in host.snapshot().pools))


def _ago(age_s: float) -> str:
    if age_s < 120:
        return f"{age_s:.0f} s ago"
    return f"{age_s / 60:.0f} min ago" if age_s < 7200 else f"{age_s / 3600:.0f} h ago"


class _Screen:
    """Where views are shown: a live table, or lines.

    Args:
        as_json: JSON lines instead of a table.
        once: Whether there is only one view.
    """

    def __init__(self, *, as_json: bool, once: bool) -> None:
        self._as_json = as_json
        self._live: Live | None = None
        self._table = not as_json and out().isatty()
        if self._table and not once:
            self._live = Live(console=console(), auto_refresh=False, screen=False)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, view: View) -> None:
        """Show it, in the place of the one before."""
        if self._live is not None:
            self._live.update(Overview(view), refresh=True)
        elif self._table:
            console().print(Overview(view))
        elif self._as_json:
            data = {**json.loads(to_json(view.host)), "running": view.running}
            say(json.dumps(data))
        else:
            for row in rows(view.host):
                say("\t".join(row))
            if view.note:
                status.complain(view.note)
