"""Handoff files: an engine that has started says in a small JSON file where it serves.

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
from registry.workers.file import is_name, read_text
from registry.workers.spec import (
    ReplicaSpec,
    WorkersError,
    configured,
    options_of,
    structured,
)

ADAPTER = "openai-http"
"""What engines that write handoff files speak."""

PATTERN = "*.json"
"""The files of the folder that count; an engine may write another name first and rename it."""

MAX_FILES = 10_000
"""More files than a folder of engines can have: it is a wrong path."""

_PLACES = {"": "url", "base_url": "url", "model": "model"}  # "": what concerns several options


class Unfinished(Exception):
    """The file is not (or no longer) whole: perhaps it is being written."""


@attrs.frozen
class Handoff:
    """What an engine tells of itself.

    Args:
        engine: Its kind, as "vllm".
        engine_version: Its version.
        url: Where it serves.
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


def handoff_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The handoff files of a folder, by name. Hidden files are not among them.

    Raises:
        OSError: If the folder cannot be read.
    """
    names = sorted(os.listdir(folder))[:MAX_FILES]
    paths = [Path(folder, name) for name in names if not name.startswith(".")]
    return [path for path in paths if path.match(PATTERN)]


def read_handoff(path: Path, registry: Registry) -> ReplicaSpec:
    """The replica that a handoff file declares.

    It gets no API key: whoever can write into the folder would receive it.

    Raises:
        Unfinished: If the file is gone, or not whole.
        WorkersError: If it is whole and wrong, with every problem and the file's name.
    """
    name = os.fspath(path)
    try:
        data = json.loads(read_text(path))
    except (WorkersError, ValueError, RecursionError) as error:
        raise Unfinished(_why(name, error)) from None
    problems: list[Problem] = []
    spec = _spec(data, f"{name}: $", registry, problems)
    if problems or spec is None:
        raise WorkersError(name, problems)
    return spec


def _why(name: str, error: Exception) -> str:
    if isinstance(error, WorkersError):
        return str(error)
    return f"{name}: it is not whole JSON ({error})"


def _spec(data: Any, place: str, registry: Registry, problems: list[Problem]) -> ReplicaSpec | None:
    if not isinstance(data, Mapping):
        problems.append(Problem(place, f"expected an object, got {type(data).__name__}", "type"))
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
