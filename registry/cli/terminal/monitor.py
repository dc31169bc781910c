"""The views of `worker-adapters top`: of a run's state folder, or of queried engines."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Self

import attrs
from rich.live import Live

from registry import AdapterHost
from registry.cli.terminal import status
from registry.cli.terminal.overview import Overview, View, rows
from registry.cli.terminal.pools import open_host
from registry.cli.terminal.show import console
from registry.cli.terminal.streams import out, say
from registry.serving.signals import first_signal
from registry.serving.state import FRESH_S, StateError, default_folder, read_snapshot, to_json

INTERVAL_S = 1.0
"""Seconds between two views: a run writes its state every second."""


def watch_run(state: Path | None, *, once: bool, as_json: bool) -> int:
    """Show the state folder of a run, until a signal or `q`.

    Returns:
        The exit status.

    Raises:
        UsageError: If there is no state in the folder.
    """
    folder = state or default_folder()
    if once:
        view = _saved(folder)
        with _Screen(as_json=as_json, live=False) as screen:
            screen.show(view)
        return status.OK if view.running else status.FAILED
    return asyncio.run(_watch(lambda: _saved(folder), as_json=as_json))


def _saved(folder: Path) -> View:
    try:
        saved = read_snapshot(folder)
    except StateError as error:
        raise status.UsageError(str(error)) from None
    if saved is None:
        raise status.UsageError(
            f"there is no state of a run in {folder}: start one with `worker-adapters serve`, name "
            "its folder with --state, or query the engines with --workers FILE"
        )
    note = ""
    if not saved.running:
        note = f"the run has ended, {_ago(saved.age_s)}"
    elif saved.age_s > FRESH_S:
        note = f"the run last wrote {_ago(saved.age_s)}"
    return View(saved.host, note, not note, saved.totals, saved.failures)


def ask_engines(workers: Path, *, once: bool, as_json: bool) -> int:
    """Show the engines of a workers file, until a signal or `q`.

    Returns:
        The exit status.

    Raises:
        WorkersError: If the file is wrong.
    """
    return asyncio.run(_ask(workers, once=once, as_json=as_json))


async def _ask(workers: Path, *, once: bool, as_json: bool) -> int:
    async with aclosing(open_host(workers)) as host:
        await _check_all(host)
        if not once:
            return await _watch(lambda: View(host.snapshot()), as_json=as_json)
        with _Screen(as_json=as_json, live=False) as screen:
            screen.show(View(host.snapshot()))
        return status.OK


async def _check_all(host: AdapterHost) -> None:
    await asyncio.gather(*(host.check(pool.pool_id) for pool in host.snapshot().pools))


async def _watch(look: Callable[[], View], *, as_json: bool) -> int:
    """Show a new view each second; return OK after `q`, else the status of the signal."""
    stop = asyncio.Event()
    view = look()
    with (
        first_signal(stop.set) as caught,
        _quit_key(stop.set),
        _Screen(as_json=as_json, live=True) as screen,
    ):
        while True:
            screen.show(view)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), INTERVAL_S)
            if stop.is_set():
                return status.after_signal(caught[0]) if caught else status.OK
            view = look()


@contextlib.contextmanager
def _quit_key(then: Callable[[], None]) -> Iterator[None]:
    """While entered, call `then` when `q` is pressed on a terminal."""
    try:
        import termios
        import tty
    except ImportError:  # not a POSIX system
        yield
        return
    if not (sys.stdin.isatty() and out().isatty()):
        yield
        return
    keys = sys.stdin.fileno()
    loop, before = asyncio.get_running_loop(), termios.tcgetattr(keys)

    def look() -> None:
        if "q" in sys.stdin.read(1).lower():
            then()

    tty.setcbreak(keys)
    loop.add_reader(keys, look)
    try:
        yield
    finally:
        loop.remove_reader(keys)
        termios.tcsetattr(keys, termios.TCSADRAIN, before)


def _ago(age_s: float) -> str:
    if age_s < 120:
        return f"{age_s:.0f} s ago"
    return f"{age_s / 60:.0f} min ago" if age_s < 7200 else f"{age_s / 3600:.0f} h ago"


class _Screen:
    """Shows views: as a table on a terminal, else as lines.

    Args:
        as_json: JSON lines instead of a table.
        live: Replace each view by the next, on the terminal's alternate screen.
    """

    def __init__(self, *, as_json: bool, live: bool) -> None:
        self._as_json = as_json
        self._live: Live | None = None
        self._table = not as_json and out().isatty()
        if self._table and live:
            self._live = Live(console=console(), auto_refresh=False, screen=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, view: View) -> None:
        """Show a view."""
        if self._live is not None:
            note = " · ".join(filter(None, (view.note, "q quits")))
            self._live.update(Overview(attrs.evolve(view, note=note)), refresh=True)
        elif self._table:
            console().print(Overview(view))
        elif self._as_json:
            say(json.dumps(_data(view)))
        else:
            for row in rows(view.host):
                say("\t".join(row))
            if view.note:
                status.complain(view.note)


def _data(view: View) -> dict[str, object]:
    data = {**json.loads(to_json(view.host)), "running": view.running}
    if view.totals is not None:
        failures = [json.loads(to_json(failure)) for failure in view.failures]
        data |= {"totals": json.loads(to_json(view.totals)), "failures": failures}
    return data
