"""Bulk runs on a terminal: progress, interruption, and next steps."""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from registry.batch import BatchError, Limits, Plan, Summary, run_plan
from registry.batch.files import whole_file
from registry.batch.journal import count
from registry.batch.results import errors_path
from registry.batch.runs import AnyRun, Begin, journal_path
from registry.cli.terminal import status
from registry.cli.terminal.logs import ChangeLog, log_to_stderr
from registry.cli.terminal.loops import loop_factory
from registry.cli.terminal.pools import choose_pool
from registry.cli.terminal.show import console
from registry.cli.terminal.status import UsageError
from registry.cli.terminal.streams import say
from registry.serving.signals import first_signal
from registry.workers import AdapterHost

LINE_S = 5.0
"""The interval of progress lines when there is no terminal."""

LOOK_S = 0.25
"""The interval at which the progress is read."""

WINDOW_S = 10.0
"""The window of the rates."""

LIVE_S = 60.0
"""A run that has not written its rates for this long hangs or has ended."""


@attrs.frozen
class Rates:
    """The speed of a run.

    Args:
        rows_per_s: Rows that ended, in a second.
        tokens_per_s: Tokens of prompts and answers, in a second.
    """

    rows_per_s: float
    tokens_per_s: float


@attrs.frozen
class OnRay:
    """A run on a Ray cluster.

    Args:
        address: The cluster's.
        actors: How many actors answer; None: one for each node.
    """

    address: str
    actors: int | None = None


def run_batch(plan: Plan, workers: Path | None, on_ray: OnRay | None = None) -> int:
    """Run a plan in the foreground.

    Args:
        plan: The run.
        workers: The workers file; None: the replica that the environment describes.
        on_ray: The cluster; None for this machine.

    Returns:
        The exit status: OK if every row is answered, FAILED if some failed or are left or a file
        cannot be written, and the signal's if a signal left rows.

    Raises:
        UsageError: If the input, the journal or an option is invalid, or they do not match.
    """
    log_to_stderr()
    # Failed rows are counted and written; a line for each attempt would drown everything else.
    logging.getLogger("worker_adapters.jobs").setLevel(logging.ERROR)
    try:
        with _spooled(plan) as ready, asyncio.Runner(loop_factory=loop_factory()) as runner:
            summary, caught = runner.run(_run(ready, workers, on_ray))
    except KeyboardInterrupt:
        status.note("rows in flight are abandoned; the same command again resumes")
        raise
    except BatchError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        file = error.filename or plan.output
        why = error.strerror or error
        status.complain(f"{file}: {why}; once that is mended, the same command again resumes")
        return status.FAILED
    return _conclude(summary, plan, caught)


def retry_batch(
    input: Path,
    output: Path,
    workers: Path | None,
    limits: Limits,
    on_ray: OnRay | None = None,
) -> int:
    """Send the failed rows of an earlier run again.

    Raises:
        UsageError: If there is no such run.
    """
    try:
        plan = Plan.again(input, output, limits)
    except (OSError, BatchError) as error:
        raise UsageError(f"there is no run to continue: {_reason(error)}") from error
    return run_batch(plan, workers, on_ray)


def _reason(error: Exception) -> str:
    """Return why a run cannot be found."""
    if isinstance(error, FileNotFoundError):
        return f"{error.filename} does not exist; name the input and the --output of the run"
    return str(error)


def show_batch(output: Path, *, as_json: bool) -> int:
    """Print the progress of a run.

    Raises:
        UsageError: If there is no such run.
    """
    try:
        header, answered, failed = count(journal_path(output))
    except (OSError, BatchError) as error:
        raise UsageError(f"there is no such run: {_reason(error)}") from error
    live = _live(output)
    left = header.rows - answered - failed
    if as_json:
        facts = {"rows": header.rows, "answered": answered, "failed": failed, "left": left}
        say(json.dumps({**facts, "running": live is not None, **(live or {})}))
        return status.OK
    say(f"{answered + failed} of {header.rows} rows have ended, {failed} of them failed")
    if live is not None:
        say(f"running: {live['rows_per_s']} rows/s, {live['tokens_per_s']} tokens/s")
    elif left:
        say(f"not running; the same `batch run` again resumes with the {left} rows that are left")
    return status.OK


@contextlib.contextmanager
def _spooled(plan: Plan) -> Iterator[Plan]:
    """Copy the input to a file beside the output, if it is standard input or another pipe."""
    if str(plan.input) == "-":
        pipe: Any = contextlib.nullcontext(sys.stdin.buffer)
    elif plan.input.is_fifo():
        pipe = plan.input.open("rb")
    else:
        yield plan
        return
    spool = plan.output.with_name(f"{plan.output.name}.input")
    with pipe as rows, whole_file(spool) as draft, draft.open("wb") as file:
        shutil.copyfileobj(rows, file)
    try:
        yield attrs.evolve(plan, input=spool)
    finally:
        spool.unlink(missing_ok=True)


async def _run(plan: Plan, workers: Path | None, on_ray: OnRay | None) -> tuple[Summary, list[int]]:
    observers = [ChangeLog()]
    if workers is None:
        host = AdapterHost.from_environment(observers=observers)
    else:
        host = AdapterHost.from_file(workers, observers=observers)
    begun: asyncio.Future[AnyRun] = asyncio.get_running_loop().create_future()

    def stop() -> None:
        if begun.done():
            begun.result().stop("interrupted")
        else:
            begun.add_done_callback(lambda run: run.result().stop("interrupted"))

    with first_signal(stop) as caught:
        async with host:
            pool_id = choose_pool(host, plan.pool_id or None)
            plan = attrs.evolve(plan, pool_id=pool_id)
            if on_ray is None:
                async with _watched(plan.output, begun):
                    return await run_plan(plan, host, begun.set_result), caught
        run_on_ray = _ray_runner(workers, on_ray)
        async with _watched(plan.output, begun):
            return await run_on_ray(plan, begun.set_result), caught


def _ray_runner(workers: Path | None, on_ray: OnRay) -> Callable[[Plan, Begin], Awaitable[Summary]]:
    """Return the function that runs a plan on the cluster."""
    try:
        from registry.batch.ray.cluster import Cluster
        from registry.batch.ray.cluster import run_plan as run_on_ray
        from registry.batch.ray.plan import declared
    except ImportError as error:
        raise UsageError("--ray needs the extra: pip install 'worker-adapters[ray]'") from error
    text = None if workers is None else declared(workers)
    cluster = Cluster(address=on_ray.address, workers=text, actors=on_ray.actors)
    return lambda plan, begin: run_on_ray(plan, cluster, begin)


# Progress


@contextlib.asynccontextmanager
async def _watched(output: Path, begun: "asyncio.Future[AnyRun]") -> AsyncIterator[None]:
    """Show the progress of the run while it lasts."""
    out = console(stderr=True)
    show = _bar if out.is_terminal else _lines
    task = asyncio.create_task(_follow(output, begun, show(out)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        _live_path(output).unlink(missing_ok=True)


async def _follow(output: Path, begun: "asyncio.Future[AnyRun]", show: Any) -> None:
    loop = asyncio.get_running_loop()
    with show as draw:
        progress = (await asyncio.shield(begun)).progress
        window = [(loop.time(), progress.done, 0)]
        while True:
            now = loop.time()
            tokens = progress.tokens_in + progress.tokens_out
            window.append((now, progress.done, tokens))
            while len(window) > 2 and window[0][0] < now - WINDOW_S:
                del window[0]
            since = max(now - window[0][0], LOOK_S)
            rates = Rates(
                round((progress.done - window[0][1]) / since, 1),
                round((tokens - window[0][2]) / since, 1),
            )
            draw(progress, rates)
            _write_live(output, rates)
            await asyncio.sleep(LOOK_S)


@contextlib.contextmanager
def _bar(out: Console) -> Iterator[Any]:
    columns = (
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rates]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[failures]}", style="red"),
    )
    with Progress(*columns, console=out) as bar:
        task = bar.add_task("", total=None, rates="", failures="")

        def draw(progress: Any, rates: Rates) -> None:
            bar.update(
                task,
                total=progress.rows,
                completed=progress.answered + progress.failed,
                rates=f"{rates.rows_per_s:g} rows/s {rates.tokens_per_s:g} tokens/s",
                failures=_failures(progress.failures),
            )

        yield draw


@contextlib.contextmanager
def _lines(_: Console) -> Iterator[Any]:
    last = 0.0

    def draw(progress: Any, rates: Rates) -> None:
        nonlocal last
        if time.monotonic() - last < LINE_S:
            return
        last = time.monotonic()
        ended = progress.answered + progress.failed
        failures = _failures(progress.failures)
        status.note(
            f"{ended} of {progress.rows} rows, {rates.rows_per_s:g} rows/s, "
            f"{rates.tokens_per_s:g} tokens/s" + (f", {failures}" if failures else "")
        )

    yield draw


def _failures(codes: Any) -> str:
    return ", ".join(f"{code} {number}" for code, number in codes.most_common(3))


def _conclude(summary: Summary, plan: Plan, caught: list[int]) -> int:
    tokens = summary.tokens_in + summary.tokens_out
    status.note(
        f"{summary.answered} of {summary.rows} rows are answered, {summary.failed} failed, "
        f"{summary.left} are left; {tokens} tokens in this run"
    )
    if summary.failures:
        codes = sorted(summary.failures.items(), key=lambda item: -item[1])
        counts = ", ".join(f"{code} {number}" for code, number in codes)
        status.note(f"failures in this run: {counts}; each failed row has its reason")
    failed_rows = errors_path(plan.output)
    for path in summary.files:
        if path != failed_rows:
            status.note(f"results: {path}")
        elif summary.failed:
            status.note(f"failed rows: {path}")
    if summary.left:
        why = f" ({summary.stopped})" if summary.stopped else ""
        status.note(f"the run stopped{why}: the same command again resumes")
    elif summary.failed:
        command = f"worker-adapters batch retry-failed {plan.input} -o {plan.output}"
        status.note(f"{command} sends the failed rows again")
    if caught and summary.left:
        return status.after_signal(caught[0])
    return status.FAILED if summary.left or summary.failed else status.OK


# What `batch status` prints of a running run


def _live_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.running")


def _write_live(output: Path, rates: Rates) -> None:
    facts = {"pid": os.getpid(), "at_s": round(time.time(), 1), **attrs.asdict(rates)}
    draft = _live_path(output).with_suffix(".draft")
    try:
        draft.write_text(json.dumps(facts))
        draft.replace(_live_path(output))
    except OSError:  # a full disk: the run itself reports it
        draft.unlink(missing_ok=True)


def _live(output: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads(_live_path(output).read_text())
        os.kill(facts["pid"], 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(facts) if time.time() - facts["at_s"] < LIVE_S else None
