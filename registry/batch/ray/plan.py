"""The plan of an actor on a Ray cluster: data without secrets."""

import hashlib
import json
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from registry.batch.pace import Limits
from registry.batch.rows import Mapped, Row
from registry.host import AdapterHost
from registry.registry import Registry
from registry.workers import AdapterHost as DeclaredHost
from registry.workers.file import read_workers


@attrs.frozen(kw_only=True)
class ActorPlan:
    """Everything that an actor needs. It holds names of environment variables, and no secret.

    Args:
        workers: The text of a workers file; None: the replica that ORCHD_OPENAI_* describe.
        pool_id: The pool that answers; None for the only one.
        mapped: How columns become requests.
        fields: Request fields for rows that do not set them.
        limits: The limits of all actors together.
        actors: How many actors share the engines.
        checkpoints: A folder that all nodes share, for the journals of blocks; None for none.
    """

    workers: str | None = None
    pool_id: str | None = None
    mapped: Mapped = attrs.field(factory=Mapped)
    fields: Mapping[str, Any] = attrs.field(factory=dict)
    limits: Limits = attrs.field(factory=Limits)
    actors: int = 1
    checkpoints: str | None = None

    def host(self) -> AdapterHost:
        """Return the host of an actor. Call it in the host's event loop.

        Raises:
            ConfigError: If a variable is not set on this node.
        """
        if self.workers is None:
            return DeclaredHost.from_environment()
        with tempfile.TemporaryDirectory(prefix="worker-adapters-") as folder:
            path = Path(folder) / "workers.toml"
            path.write_text(self.workers)
            return DeclaredHost.from_file(path)

    def own_limits(self) -> Limits:
        """Return the share of one actor."""

        def each(limit: int | None) -> int | None:
            return None if limit is None else max(1, limit // self.actors)

        return attrs.evolve(
            self.limits,
            max_in_flight=each(self.limits.max_in_flight),
            requests_per_minute=each(self.limits.requests_per_minute),
            tokens_per_minute=each(self.limits.tokens_per_minute),
        )

    def block_id(self, rows: Sequence[Row]) -> str:
        """Return the hash of a block and of everything that changes its requests."""
        plan = [self.workers, self.pool_id, self.fields]
        requests = [[row.custom_id, row.kind, row.body, row.problem] for row in rows]
        text = json.dumps([plan, requests], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def declared(path: Path) -> str:
    """Return what a workers file declares, as TOML without its comments.

    Raises:
        WorkersError: With every problem of the file; a secret in it is one.
    """
    read_workers(path, Registry())
    tables = tomllib.loads(path.read_text())
    return "".join(f"{_toml(name)} = {_toml(value)}\n" for name, value in tables.items())


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_toml(name)} = {_toml(item)}' for name, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):  # TOML accepts JSON's strings, except for one character
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else str(value)
