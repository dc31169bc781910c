"""What there is to see of a host, as rows and as a table."""

from collections.abc import Iterator, Sequence

import attrs
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from registry import HostSnapshot, PoolSnapshot, ReplicaSnapshot
from registry.cli.terminal.text import harmless

_COLUMNS = (
    "pool", "replica", "engine", "state", "breaker", "in flight", "queue", "tokens/s",
    "first token", "jobs", "failures", "message",
)  # fmt: skip
_EXPENDABLE = ("failures", "jobs", "first token", "tokens/s", "engine", "message", "queue")
_LEAST_MESSAGE = 12
_GAP = 2
_STYLES = {
    "ready": "green",
    "busy": "yellow",
    "loading": "yellow",
    "draining": "yellow",
    "half_open": "yellow",
    "down": "red",
    "open": "red",
}


@attrs.frozen
class View:
    """What there is to see now.

    Args:
        host: The snapshot.
        note: What to know of it; "" if it is as it should be.
        running: Whether its host runs.
    """

    host: HostSnapshot
    note: str = ""
    running: bool = True


@attrs.frozen
class Overview:
    """The view for a terminal, whose width decides on the columns.

    Args:
        view: What to show.
    """

    view: View

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        # What matters most stands first: a small terminal cuts off the end.
        for note in (self.view.note, *_mixes(self.view.host)):
            if note:
                yield Text(note, "yellow")
        found = list(rows(self.view.host))
        shown = _shown(found, options.max_width)
        table = Table(box=None, header_style="bold", pad_edge=False)
        for place in shown:
            column = _COLUMNS[place]
            table.add_column(column, overflow="fold" if column == "message" else "ellipsis")
        for row in found:
            table.add_row(*(Text(row[place], _STYLES.get(row[place], "")) for place in shown))
        yield table


def _shown(found: Sequence[Sequence[str]], width: int) -> list[int]:
    """The places of the columns for which there is room; those that matter least go first."""
    widths = [max(map(len, cells)) for cells in zip(_COLUMNS, *found, strict=True)]
    widths[_COLUMNS.index("message")] = _LEAST_MESSAGE
    shown = list(range(len(_COLUMNS)))
    for column in _EXPENDABLE:
        if sum(widths[place] + _GAP for place in shown) - _GAP <= width:
            break
        shown.remove(_COLUMNS.index(column))
    return shown


def rows(host: HostSnapshot) -> Iterator[tuple[str, ...]]:
    """The cells: a row for each pool, and below it one for each of its replicas."""
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
