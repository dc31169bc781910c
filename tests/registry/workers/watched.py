"""Files that declare workers, and a host that follows them."""

import json
import os
from pathlib import Path
from typing import Any

import attrs

from registry import AdapterHost
from registry.workers import WorkersWatch

STAMP_STEP_NS = 1_000_000_000


def replica(name: str, **options: Any) -> str:
    """Return the table of a replica of pool p with the mock."""
    listed = ", ".join(f"{key} = {json.dumps(value)}" for key, value in options.items())
    return (
        f'[[replicas]]\npool = "p"\nreplica = "{name}"\nadapter = "mock"\n'
        f"options = {{ {listed} }}\n"
    )


@attrs.define
class Files:
    """A workers file and a folder of handoff files. Each write has a time of its own, however
    coarse the file system's clock is."""

    folder: Path
    stamp: int = 1_700_000_000 * STAMP_STEP_NS

    @property
    def workers(self) -> Path:
        return self.folder / "workers.toml"

    @property
    def handoff(self) -> Path:
        return self.folder / "handoff"

    def declare(self, *replicas: str, head: str = "") -> None:
        self.put(self.workers, head + "".join(replicas))

    def hand_off(self, file: str, text: str) -> None:
        self.put(self.handoff / file, text)

    def put(self, path: Path, text: str) -> None:
        path.write_text(text)
        self.stamp += STAMP_STEP_NS
        os.utime(path, ns=(self.stamp, self.stamp))


class Watched:
    """A host and its watch."""

    def __init__(self, host: AdapterHost, files: Files) -> None:
        self.host = host
        self.watch = WorkersWatch(host, files.workers, handoff=files.handoff)

    @property
    def replicas(self) -> list[str]:
        return [
            f"{pool.pool_id}/{r.replica_id}"
            for pool in self.host.snapshot().pools
            for r in pool.replicas
        ]

    def config(self, name: str) -> Any:
        return self.host.adapter("p", name).config

    async def settle(self) -> bool:
        """Look twice, as a file must be the same for two looks. Whether anything changed."""
        return any([await self.watch.look() for _ in range(2)])
