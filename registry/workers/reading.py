"""Reads files that other processes write, without ever blocking on one."""

import os
import stat
from pathlib import Path
from typing import Any, TypeAlias

MAX_DEPTH = 32
"""The maximum nesting of tables and lists. No declaration needs as much, and deeper data could
exhaust the stack of recursive code."""

Mark: TypeAlias = tuple[int, int, int, int] | None
"""Identifies a version of a file: its times, size and inode. None if the file is gone."""

_NONBLOCKING = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)  # opening a FIFO would wait for its writer
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class Unreadable(Exception):
    """A file cannot be read as text.

    Args:
        message: Why.
    """


def mark_of(path: Path) -> Mark:
    """Return the file's mark."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def read_text(path: Path, max_bytes: int) -> str:
    """Return the text of a regular file.

    Raises:
        Unreadable: If it cannot be opened, is not a regular file, is longer than `max_bytes`, or is
            not UTF-8.
    """
    try:
        descriptor = os.open(path, _NONBLOCKING)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Unreadable("it is not a regular file")
            data = b"" if found.st_size > max_bytes else file.read(max_bytes + 1)
            if found.st_size > max_bytes or len(data) > max_bytes:
                raise Unreadable(f"it is longer than {max_bytes} bytes")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("it is not UTF-8") from None
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror or error}") from None


def is_too_deep(data: Any) -> bool:
    """Return whether mappings and lists are nested deeper than MAX_DEPTH."""
    level = [data]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for value in level
            if isinstance(value, dict | list)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return False
    return any(isinstance(value, dict | list) for value in level)
