"""The state folder of a long run: what its host looks like now, and how each job went.

The run writes; `worker-adapters top` and `explain` read, from other processes and after its end.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import attrs
from cattrs import BaseValidationError, Converter

from registry.host.attempts import Explanation
from registry.host.snapshot import HostSnapshot

SNAPSHOT = "snapshot.json"
JOBS = "jobs.jsonl"
OLDER_JOBS = "jobs.old.jsonl"

JOBS_MOST_BYTES = 8 << 20
"""Explanations of some ten thousand jobs. When the file is full it becomes the older one, and what
was older goes: the folder holds at most twice as much."""

FRESH_S = 5.0
"""A run writes every second: what is older was left by one that has ended or hangs."""

_converter = Converter()


class StateError(Exception):
    """The state folder cannot be used."""


@attrs.frozen
class SavedSnapshot:
    """A host as a run saw it last.

    Args:
        at_s: When, in seconds since the epoch.
        pid: The run's process.
        running: False once the run has ended in good order.
        host: What it saw.
    """

    at_s: float
    pid: int
    running: bool
    host: HostSnapshot

    @property
    def age_s(self) -> float:
        """How many seconds ago that was."""
        return max(0.0, time.time() - self.at_s)


def default_folder() -> Path:
    """Where state belongs on this platform: below XDG_STATE_HOME, or ~/.local/state."""
    home = os.environ.get("XDG_STATE_HOME", "")
    # The specification wants relative paths ignored.
    base = Path(home) if os.path.isabs(home) else Path.home() / ".local" / "state"
    return base / "worker-adapters"


class StateWriter:
    """Keeps a state folder; one run at a time.

    Args:
        folder: Made if it is not there.

    Raises:
        StateError: If it cannot be written, or another run keeps it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_alone()
            self._jobs = self._open_jobs()
        except OSError as error:
            raise StateError(_unusable(folder, error)) from None

    def _check_alone(self) -> None:
        try:
            saved = read_snapshot(self.folder)
        except StateError:  # of no run, or of another version: it is overwritten
            return
        if saved is not None and saved.running and saved.age_s < FRESH_S and _runs(saved.pid):
            raise StateError(
                f"the state folder {self.folder} is kept by process {saved.pid}: "
                "give each run a folder of its own"
            )

    def save(self, host: HostSnapshot, *, running: bool = True) -> None:
        """Write the snapshot; readers see the whole new one or the whole old one.

        Raises:
            OSError: If it cannot be written.
        """
        saved = SavedSnapshot(round(time.time(), 3), os.getpid(), running, host)
        path = self.folder / SNAPSHOT
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(to_json(saved) + "\n")
        draft.replace(path)

    def append(self, explanation: Explanation) -> None:
        """Write how a job went.

        Raises:
            OSError: If it cannot be written.
        """
        if self._jobs.tell() >= JOBS_MOST_BYTES:
            self._jobs.close()
            (self.folder / JOBS).replace(self.folder / OLDER_JOBS)
            self._jobs = self._open_jobs()
        self._jobs.write(to_json(explanation).encode() + b"\n")
        self._jobs.flush()

    def close(self) -> None:
        """Write no more."""
        self._jobs.close()

    def _open_jobs(self) -> BinaryIO:
        file = open(self.folder / JOBS, "ab+")  # noqa: SIM115  # closed by close
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a run was killed in the middle of a line
                file.write(b"\n")
        return file


def read_snapshot(folder: Path) -> SavedSnapshot | None:
    """What the run saw last; None if there has been none.

    Raises:
        StateError: If it cannot be read.
    """
    try:
        text = (folder / SNAPSHOT).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(_unusable(folder, error)) from None
    try:
        return _converter.structure(json.loads(text), SavedSnapshot)
    except (ValueError, KeyError, TypeError, BaseValidationError):
        raise StateError(
            f"{folder / SNAPSHOT} is not a snapshot, or one of another version"
        ) from None


def find_job(folder: Path, job_id: str) -> Explanation | None:
    """How the job went, the last time if there were several of that id; None if it is unknown.

    Raises:
        StateError: If the files cannot be read.
    """
    found = None
    try:
        for line in _job_lines(folder, json.dumps(job_id).encode()):
            found = _explanation(line, job_id) or found
    except OSError as error:
        raise StateError(_unusable(folder, error)) from None
    return found


def to_json(value: Any) -> str:
    """A snapshot or an explanation as JSON on one line."""
    return json.dumps(_converter.unstructure(value))


def _job_lines(folder: Path, holding: bytes) -> Iterator[bytes]:
    for name in (OLDER_JOBS, JOBS):
        try:
            with open(folder / name, "rb") as file:
                yield from (line for line in file if holding in line)
        except FileNotFoundError:
            continue


def _explanation(line: bytes, job_id: str) -> Explanation | None:
    try:  # the last line may be half written, and older ones of another version
        found = _converter.structure(json.loads(line), Explanation)
    except (ValueError, KeyError, TypeError, BaseValidationError):
        return None
    return found if found.job_id == job_id else None


def _unusable(folder: Path, error: OSError) -> str:
    return f"the state folder {folder} cannot be used: {error.strerror or error}"


def _runs(pid: int) -> bool:
    """Whether another process of that number runs."""
    if pid == os.getpid() or pid <= 0:
        return False
    if os.name != "posix":  # elsewhere signal 0 is not a mere question
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True
