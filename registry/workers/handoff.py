"""Handoff files: small JSON files in which engines announce their address.

docs/reference/workers-file.md describes the format.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from adapter_api.errors import Problem
from registry.registry import Registry
from registry.workers.file import is_name
from registry.workers.reading import Unreadable, is_too_deep, read_text
from registry.workers.spec import (
    ReplicaSpec,
    WorkersError,
    configured,
    options_of,
    structured,
)

ADAPTER = "openai-http"
"""The adapter of engines that write handoff files."""

SUFFIX = ".json"
"""Files with other names are ignored: an engine may write one and rename it."""

MAX_FILES = 10_000
"""A folder with more handoff files is probably the wrong one."""

MAX_ENTRIES = 100_000
"""The maximum number of folder entries that are searched for handoff files."""

MAX_FILE_BYTES = 64 << 10
"""A hundred times what a handoff file needs."""

_PLACES = {"": "url", "base_url": "url", "model": "model"}  # "": the options as a whole


class Unfinished(Exception):
    """The file is not, or no longer, complete JSON: it may be partly written."""


@attrs.frozen
class Handoff:
    """The content of a handoff file.

    Args:
        engine: The engine's kind, such as "vllm".
        engine_version: Its version.
        url: Its address.
        pool_id: The pool it belongs to.
        replica_id: Its name in the pool.
        model: Its name of the model; null if tasks name it.
    """

    engine: str = attrs.field(validator=is_name)
    engine_version: str
    url: str
    pool_id: str = attrs.field(validator=is_name)
    replica_id: str = attrs.field(validator=is_name)
    model: str | None = None


def handoff_files(folder: Path) -> list[Path]:
    """Return the handoff files of a folder, by name. Hidden files are ignored.

    Raises:
        OSError: If the folder cannot be read.
        Unreadable: If it has too many entries to be a folder of handoff files.
    """
    names = []
    with os.scandir(folder) as entries:
        for count, entry in enumerate(entries, 1):
            if entry.name.endswith(SUFFIX) and not entry.name.startswith("."):
                names.append(entry.name)
            if count > MAX_ENTRIES or len(names) > MAX_FILES:
                raise Unreadable("it has too many files to be a folder of handoff files")
    return [folder / name for name in sorted(names)]


def read_handoff(path: Path, registry: Registry) -> ReplicaSpec:
    """Return the replica that a handoff file declares.

    It gets no API key, because anyone who can write into the folder would receive it.

    Raises:
        Unfinished: If the file is gone, cannot be read, or is not whole JSON.
        WorkersError: If it is whole and wrong; with every problem and the file's name.
    """
    name = os.fspath(path)
    try:
        data = json.loads(read_text(path, MAX_FILE_BYTES))
    except Unreadable as error:
        raise Unfinished(f"{name}: {error}") from None
    except ValueError as error:
        raise Unfinished(f"{name}: it is not whole JSON ({error})") from None
    except RecursionError:
        raise WorkersError(name, [Problem(name, "it is nested too deeply")]) from None
    problems: list[Problem] = []
    spec = _spec(data, f"{name}: $", registry, problems)
    if problems or spec is None:
        raise WorkersError(name, problems)
    return spec


def _spec(data: Any, place: str, registry: Registry, problems: list[Problem]) -> ReplicaSpec | None:
    if not isinstance(data, Mapping):
        problems.append(Problem(place, f"expected an object, got {type(data).__name__}", "type"))
        return None
    if is_too_deep(data):
        problems.append(Problem(place, "it is nested too deeply"))
        return None
    handoff = structured(Handoff, data, place, problems)
    fields = options_of(ADAPTER, registry, place, problems)
    if handoff is None or fields is None:
        return None
    spec = ReplicaSpec(
        pool_id=handoff.pool_id,
        replica_id=handoff.replica_id,
        adapter=ADAPTER,
        options={"base_url": handoff.url, "model": handoff.model},
        config=None,
        engine=(handoff.engine, handoff.engine_version),
        source=place,
    )
    return configured(spec, fields, registry, problems, _PLACES)
