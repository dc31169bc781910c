"""What there is to see of a host, as rows and as a table."""

from collections.abc import Iterator

import attrs
from rich.console import Group
from rich.table import Table
from rich.text import Text

from registry import HostSnapshot, PoolSnapshot, ReplicaSnapshot
from registry.cli import status

_COLUMNS = (
    "pool", "replica", "engine", "state", "breaker", "in flight", "queue", "tokens/s",
    "first token", "jobs", "failures", "message",
)  # fmt: skip
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


def table(view: View) -> Group:
    """The view for a terminal."""
    found = Table(box=None, header_style="bold", pad_edge=False)
    for column in _COLUMNS:
        found.add_column(column, overflow="fold" if column == "message" else "ellipsis")
    for row in rows(view.host):
        found.add_row(*(Text(cell, _STYLES.get(cell, "")) for cell in row))
    notes = [Text(note, "yellow") for note in (view.note, *_mixes(view.host)) if note]
    return Group(found, *notes)


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
        "",
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
    return " ".join(status.harmless(text).split())


def _rate(tokens_per_s: float) -> str:
    return f"{tokens_per_s:.1f}"
