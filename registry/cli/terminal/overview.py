"""A host's snapshot, as rows for a pipe and as a table for a terminal."""

import time
from collections.abc import Iterator, Sequence

import attrs
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from registry import HostSnapshot, PoolSnapshot, ReplicaSnapshot
from registry.cli.terminal.text import harmless
from registry.serving.jobs import Failure, Totals

SHOWN_FAILURES = 3
"""Failures above the table: more would push it off a small screen."""

_COLUMNS = (
    "pool", "state", "in flight", "queue", "tokens/s", "first token", "jobs", "failed", "engine",
)  # fmt: skip
_EXPENDABLE = ("engine", "jobs", "first token", "tokens/s")
"""The columns that are dropped on a narrow terminal, in this order."""

_GAP = 2
_STYLES = {"ready": "green", "busy": "yellow", "loading": "yellow", "draining": "yellow"}


@attrs.frozen
class View:
    """One view of `top`.

    Args:
        host: The snapshot.
        note: A remark, such as that the run has ended; "" for none.
        running: Whether the host is running.
        totals: Numbers of the jobs that have ended; None if they are unknown.
        failures: The last jobs that failed, the oldest first.
    """

    host: HostSnapshot
    note: str = ""
    running: bool = True
    totals: Totals | None = None
    failures: Sequence[Failure] = ()


@attrs.frozen
class Overview:
    """A view for rich. The terminal's width decides which columns are shown.

    Args:
        view: The view.
    """

    view: View

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # A small terminal cuts off the end, so the most important lines come first.
        for note in (self.view.note, *_mixes(self.view.host)):
            if note:
                yield Text(note, "yellow")
        if self.view.totals is not None:
            yield Text(f"jobs: {self.view.totals}", "bold")
        for failure in list(self.view.failures)[-SHOWN_FAILURES:]:
            at = time.strftime("%H:%M:%S", time.localtime(failure.at_s))
            where = f"{_clean(failure.job_id)} in pool {_clean(failure.pool_id)}"
            yield Text(f"{at} {failure.code}: job {where}", "red", overflow="ellipsis")
        yield _table(self.view.host, options.max_width)
        for remark in _remarks(self.view.host):
            yield Text(remark, "dim")


def _table(host: HostSnapshot, width: int) -> Table:
    lines = list(_lines(host))
    shown = _shown(lines, width)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for place in shown:
        table.add_column(_COLUMNS[place], overflow="ellipsis", no_wrap=True)
    for cells in lines:
        table.add_row(*(Text(cells[place], _style(cells[place])) for place in shown))
    return table


def _remarks(host: HostSnapshot) -> Iterator[str]:
    """Yield why replicas get no work, whole: a column would cut it off."""
    for pool in host.pools:
        if pool.retries:
            yield f"pool {_clean(pool.pool_id)}: {pool.retries} retries"
        for replica in pool.replicas:
            sound = replica.state in ("ready", "busy") and replica.breaker == "closed"
            if replica.message and not sound:
                yield _clean(f"{pool.pool_id}/{replica.replica_id}: {replica.message}")


def _style(cell: str) -> str:
    word = cell.partition(",")[0]
    if "breaker open" in cell or word == "down":
        return "red"
    return "yellow" if "breaker" in cell else _STYLES.get(word, "")


def _lines(host: HostSnapshot) -> Iterator[tuple[str, ...]]:
    """Yield the cells of the table: a pool's, then those of its replicas."""
    for pool in host.pools:
        name, ready, _, state, _, flying, queue, rate, _, jobs, _, _ = _pool_row(pool)
        state = f"{ready} ready" + (f", {state}" if state else "")
        yield name, state, flying, queue, rate, "", jobs, "", ""
        for replica in pool.replicas:
            row = [_clean(cell) for cell in _replica_row(replica)]
            _, name, engine, state, breaker, flying, _, rate, first, jobs, failed, _ = row
            if breaker != "closed":
                state += f", breaker {breaker.replace('_', ' ')}"
            yield f"  {name}", state, flying, "", rate, first, jobs, failed, engine


def _shown(found: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the places of the columns for which there is room."""
    widths = [max(map(len, cells)) for cells in zip(_COLUMNS, *found, strict=True)]
    shown = list(range(len(_COLUMNS)))
    for column in _EXPENDABLE:
        if sum(widths[place] + _GAP for place in shown) - _GAP <= width:
            break
        shown.remove(_COLUMNS.index(column))
    return shown


def rows(host: HostSnapshot) -> Iterator[tuple[str, ...]]:
    """Yield the cells of a row for each pool, and below it one for each of its replicas."""
    for pool in host.pools:
        yield _pool_row(pool)
        for replica in pool.replicas:
            yield tuple(_clean(cell) for cell in _replica_row(replica))


def _pool_row(pool: PoolSnapshot) -> tuple[str, ...]:
    replicas = pool.replicas
    ready = sum(replica.state in ("ready", "busy") for replica in replicas)
    queue = f"{pool.queued_interactive} + {pool.queued_batch} batch"
    return (
        _clean(pool.pool_id),
        f"{ready} of {len(replicas)}",
        "",
        "draining" if pool.draining else "",
        "",
        str(sum(replica.in_flight for replica in replicas)),
        queue if pool.queued_batch else str(pool.queued_interactive),
        _rate(sum(replica.tokens_per_s for replica in replicas)),
        "",
        str(pool.jobs),
        "",
        f"{pool.retries} retries" if pool.retries else "",
    )


def _replica_row(replica: ReplicaSnapshot) -> tuple[str, ...]:
    first_ms = replica.first_token_ms
    engine = " ".join(filter(None, (replica.engine, replica.engine_version)))
    return (
        "",
        replica.replica_id,
        engine or replica.adapter,
        replica.state,
        replica.breaker,
        f"{replica.in_flight}" + (f" / {replica.limit}" if replica.limit else ""),
        "",
        _rate(replica.tokens_per_s),
        "" if first_ms is None else f"{first_ms:.0f} ms",
        str(replica.jobs),
        str(replica.failures),
        replica.message,
    )


def _mixes(host: HostSnapshot) -> Iterator[str]:
    for pool in host.pools:
        if pool.mixed_versions:
            versions = ", ".join(map(_clean, pool.mixed_versions))
            yield f"pool {_clean(pool.pool_id)} runs several engine versions: {versions}"


def _clean(text: str) -> str:
    return " ".join(harmless(text).split())


def _rate(tokens_per_s: float) -> str:
    return f"{tokens_per_s:.1f}"
