"""Atomic, durable writes of whole files."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the path of a draft, which replaces `path` atomically when the block succeeds.

    One process writes a path at a time. A draft that a killed process left is overwritten.

    Raises:
        OSError: If the draft cannot be written.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        yield draft
        _sync(draft)
        draft.replace(path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Force a new name in a folder to the disk, on file systems that can."""
    with contextlib.suppress(OSError):
        _sync(folder)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
