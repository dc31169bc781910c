"""The journal of a bulk run: append-only, so that no finished row is lost or repeated.

One line for each finished row:

    CRC32 NUMBER ok|error JSON

The first line is the header, which identifies the input and the plan. A line whose checksum does
not match was torn by a crash or a full disk: it counts as never written, and its row is run again.
The latest line of a row counts, so that failed rows can be run again.

A line is handed to the operating system as soon as its row has ended, so a killed process loses no
finished row. Lines are synced to the disk in groups, so a power cut loses those of the last group.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

import attrs
import msgspec

from registry.batch.errors import BatchError
from registry.batch.files import sync_folder

Outcome = Literal["ok", "error"]

VERSION = 1

SYNC_AFTER_S = 0.1
"""The interval at which lines are synced to the disk. A disk syncs about a hundred times a second
at most, and a power cut costs the answers of this interval."""

MAX_HEADER_BYTES = 8 << 20
"""Far above any header; a file whose first line is longer is not a journal."""

_OPEN, _OK, _ERROR = 0, 1, 2
_STATE = {b"ok": _OK, b"error": _ERROR}
_UNKNOWN = (1 << 64) - 1
_TORN_HEADER = re.compile(rb"[0-9a-f]{0,8}\Z|[0-9a-f]{8} h|\0")


@attrs.frozen
class Header:
    """The run that a journal belongs to.

    Args:
        input_sha256: The hash of the input's content.
        rows: How many rows the input has.
        plan: Everything that changes the requests, option by option, as JSON.
        version: The format of the journal.
    """

    input_sha256: str
    rows: int
    plan: dict[str, str]
    version: int = VERSION


class JournalHeld(BatchError):
    """Another process holds the journal."""


class Journal:
    """The journal of one run, held by one process at a time.

    Args:
        path: Its file, created if it does not exist.
        header: The run that is to be started or continued.
        accept_changes: Whether to continue the journal of another plan. A journal of another input
            is always refused.

    Raises:
        JournalHeld: If another process holds the journal.
        BatchError: If it belongs to another input or plan.
        OSError: If the file cannot be opened, read or written.
    """

    def __init__(self, path: Path, header: Header, *, accept_changes: bool = False) -> None:
        self.path = path
        self._states = bytearray(header.rows)
        self._offsets = array("Q", [_UNKNOWN]) * header.rows
        self._unsynced = False
        self._hurry = asyncio.Event()
        self._syncing: asyncio.Task[None] | None = None
        self._failure: OSError | None = None
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(self._fd, path)
            self._end = self._resume(header, accept_changes)
        except BaseException:
            os.close(self._fd)
            raise

    def _resume(self, header: Header, accept_changes: bool) -> int:
        with self.path.open("rb") as file:
            first = file.readline()
            if _body(first) is None:
                return self._begin(header, first)
            _compare(self.path, read_header(self.path), header, accept_changes)
            end = len(first)
            for line in file:
                end += len(line)
                offset = end - len(line)
                self._note(line if line.endswith(b"\n") else line + b"\n", offset)
        if not line_ended(self.path, end):
            self._write(b"\n")
            os.fsync(self._fd)
            end += 1
        return end

    def _begin(self, header: Header, first: bytes) -> int:
        if first and not _TORN_HEADER.match(first):
            raise BatchError(f"{self.path} is not a journal of a bulk run: choose another output")
        os.ftruncate(self._fd, 0)
        line = _line(b"header " + msgspec.json.encode(attrs.asdict(header)))
        self._write(line)
        os.fsync(self._fd)
        sync_folder(self.path.parent)
        return len(line)

    def _note(self, line: bytes, offset: int) -> None:
        body = _body(line)
        if body is None:
            return
        number, outcome, _ = body.split(b" ", 2)
        self._states[int(number)] = _STATE[outcome]
        self._offsets[int(number)] = offset

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Call `flush` before it, so that a power cut loses nothing."""
        os.close(self._fd)

    # Reading

    @property
    def rows(self) -> int:
        """Return how many rows the input has."""
        return len(self._states)

    @property
    def answered(self) -> int:
        """Return how many rows are answered."""
        return self._states.count(_OK)

    @property
    def failed(self) -> int:
        """Return how many rows failed."""
        return self._states.count(_ERROR)

    def finished(self, number: int) -> bool:
        """Return whether a row needs no further attempt."""
        return self._states[number] != _OPEN

    def states(self) -> bytes:
        """Return one byte for each row, which is 0 if the row is open."""
        return bytes(self._states)

    def reopen_failed(self) -> int:
        """Count failed rows as open; return how many there were."""
        failed = self.failed
        self._states = self._states.replace(bytes([_ERROR]), bytes([_OPEN]))
        return failed

    def results(self) -> Iterator[tuple[int, Outcome, bytes]]:
        """Yield the number, outcome and JSON of each finished row, in the input's order."""
        with self.path.open("rb") as file:
            for number, offset in enumerate(self._offsets):
                if offset == _UNKNOWN:
                    continue
                file.seek(offset)
                body = _body(file.readline())
                assert body is not None
                _, outcome, result = body.split(b" ", 2)
                yield number, "ok" if outcome == b"ok" else "error", result

    # Writing

    def append(self, number: int, outcome: Outcome, result: bytes) -> None:
        """Add the result of a row. Call it in an event loop.

        Args:
            number: The row's number.
            outcome: Whether it is answered.
            result: The result as JSON, without a line feed.

        Raises:
            OSError: If the disk refuses this result, or refused an earlier one.
        """
        if self._failure is not None:
            raise self._failure
        word = outcome.encode()
        line = _line(b"%d %s %s" % (number, word, result))
        try:
            self._write(line)
        except OSError as error:
            self._failure = error
            raise
        self._states[number] = _STATE[word]
        self._offsets[number] = self._end
        self._end += len(line)
        self._unsynced = True
        if self._syncing is None:
            self._syncing = asyncio.create_task(self._sync())

    async def flush(self) -> None:
        """Wait until all results are on the disk.

        Raises:
            OSError: The disk refused one.
        """
        self._hurry.set()
        if self._syncing is not None:
            await asyncio.shield(self._syncing)
        self._hurry.clear()
        if self._failure is not None:
            raise self._failure

    async def _sync(self) -> None:
        try:
            while self._unsynced:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SYNC_AFTER_S):
                        await self._hurry.wait()
                self._unsynced = False
                await asyncio.to_thread(os.fsync, self._fd)
        except OSError as error:
            self._failure = error
        finally:
            self._syncing = None

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]


def read_header(path: Path) -> Header:
    """Return the header of a journal.

    Raises:
        BatchError: If the file is not a journal, or one of another version.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        body = _body(file.readline(MAX_HEADER_BYTES))
    if body is None or not body.startswith(b"header "):
        raise BatchError(f"{path} is not a journal of a bulk run")
    fields = msgspec.json.decode(body.removeprefix(b"header "))
    if fields.get("version") != VERSION:
        raise BatchError(f"{path} was written by another version of worker-adapters")
    return Header(**fields)


def count(path: Path) -> tuple[Header, int, int]:
    """Return the header, and how many rows are answered and failed.

    Another process may be writing the journal.

    Raises:
        BatchError: If the file is not a journal.
        OSError: If it cannot be read.
    """
    header = read_header(path)
    states = bytearray(header.rows)
    with path.open("rb") as file:
        file.readline()
        for line in file:
            if (body := _body(line)) is not None:
                number, outcome, _ = body.split(b" ", 2)
                states[int(number)] = _STATE[outcome]
    return header, states.count(_OK), states.count(_ERROR)


def line_ended(path: Path, end: int) -> bool:
    """Return whether the byte before `end` is a line feed: the last line may be torn."""
    with path.open("rb") as file:
        file.seek(end - 1)
        return file.read(1) == b"\n"


def _line(body: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _body(line: bytes) -> bytes | None:
    """Return a line without its checksum; None if it is torn."""
    if len(line) < 10 or line[-1:] != b"\n":
        return None
    body = line[9:-1]
    return body if line[:9] == b"%08x " % zlib.crc32(body) else None


def _compare(path: Path, found: Header, wanted: Header, accept_changes: bool) -> None:
    if (found.input_sha256, found.rows) != (wanted.input_sha256, wanted.rows):
        raise BatchError(
            f"the input is not the one that {path} belongs to: its content has changed. "
            "Choose another output, or restore the input"
        )
    if found.plan != wanted.plan and not accept_changes:
        pairs = {
            name: (found.plan.get(name, "not set"), wanted.plan.get(name, "not set"))
            for name in sorted(found.plan.keys() | wanted.plan.keys())
        }
        changes = "; ".join(
            f"{name} was {before} and is {after}"
            for name, (before, after) in pairs.items()
            if before != after
        )
        raise BatchError(
            f"the run that {path} belongs to has other options: {changes}. Choose another output, "
            "or give --accept-changes to answer the remaining rows with the new options"
        )


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise JournalHeld(f"another process is doing this run: it holds {path}") from exc
