"""The input of a bulk run: examined once, and read unchanged."""

import csv
import hashlib
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from registry.batch.errors import BatchError
from registry.batch.rows import READERS, Format, Mapped, Row, Skip, first_object
from registry.workers.reading import Mark, mark_of

_SUFFIXES: Mapping[str, Format] = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}


@attrs.frozen
class Source:
    """An input that was read once.

    Args:
        path: The file.
        format: Its format.
        mapped: How columns become requests.
        sha256: The hash of its content.
        rows: How many rows it has.
        mark: Identifies the version of the file.
    """

    path: Path
    format: Format
    mapped: Mapped
    sha256: str
    rows: int
    mark: Mark

    def read(self, skip: Skip = None) -> Iterator[Row]:
        """Yield the rows one by one.

        Args:
            skip: Returns whether to pass over a row, by its number; None to read all rows.

        Raises:
            BatchError: If the file has changed since it was examined.
        """

        def passed_over(number: int) -> bool:
            return number < self.rows and skip is not None and skip(number)

        for row in READERS[self.format](self.path, self.mapped, passed_over):
            self._check_unchanged()
            yield row
        self._check_unchanged()

    def _check_unchanged(self) -> None:
        if mark_of(self.path) != self.mark:
            raise BatchError(
                f"{self.path} has changed while it was read: restore it, and run the command again"
            )


def examine(
    path: Path,
    mapped: Mapped,
    format: Format | None = None,
    known: tuple[str, int] | None = None,
) -> Source:
    """Read an input once, for its format, its hash and its number of rows.

    Args:
        path: The file.
        mapped: How columns become requests.
        format: Its format; None: decided by its name and its first line.
        known: Hash and number of rows of an input that was examined before: an input with that
            hash is not parsed again.

    Raises:
        BatchError: If it cannot be read, is empty, or two rows have the same custom_id.
    """
    found = format
    mark = mark_of(path)
    try:
        if path.exists() and not path.is_file():
            raise BatchError(f"{path} is not a regular file: write the rows into one")
        found = format or _format_of(path)
        digest = _sha256(path)
        if known is not None and known[0] == digest:
            return Source(path, found, mapped, digest, known[1], mark)
        rows = _check_ids(READERS[found](path, mapped, None))
    except BatchError:
        raise
    except OSError as exc:
        raise BatchError(f"{path} cannot be read: {exc.strerror or exc}") from exc
    except (csv.Error, ValueError) as exc:
        raise BatchError(f"{path} cannot be read as {found}: {exc}") from exc
    if not rows:
        raise BatchError(f"{path} has no rows")
    return Source(path, found, mapped, digest, rows, mark)


def _format_of(path: Path) -> Format:
    if path.suffix.lower() in _SUFFIXES:
        return _SUFFIXES[path.suffix.lower()]
    fields = first_object(path)
    return "openai" if "custom_id" in fields and "body" in fields else "jsonl"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Duplicates


def _check_ids(rows: Iterator[Row]) -> int:
    """Count the rows.

    Ids are compared by 72 bits of a hash, in 256 parts, so that a million rows take 16 MB.

    Raises:
        BatchError: If two rows have the same custom_id.
    """
    parts = [array("Q") for _ in range(256)]
    lines = [array("Q") for _ in range(256)]
    total = 0
    for row in rows:
        total += 1
        digest = hashlib.blake2b(row.custom_id.encode("utf-8", "surrogatepass"), digest_size=9)
        part, key = digest.digest()[0], int.from_bytes(digest.digest()[1:], "big")
        parts[part].append(key)
        lines[part].append(row.number)
    for keys, numbers in zip(parts, lines, strict=True):
        if len(set(keys)) < len(keys):
            raise BatchError(_duplicates(keys, numbers))
    return total


def _duplicates(keys: "array[int]", numbers: "array[int]") -> str:
    first: dict[int, int] = {}
    pairs = []
    for key, number in zip(keys, numbers, strict=True):
        if key in first:
            pairs.append(f"rows {first[key] + 1} and {number + 1}")
        first.setdefault(key, number)
    shown = ", ".join(pairs[:5])
    more = f" and {len(pairs) - 5} more pairs" if len(pairs) > 5 else ""
    return f"each row needs its own custom_id: {shown}{more} have the same one"
