"""The state folder of a long run: a snapshot of its host, and an explanation of each job.

The run writes it. `worker-adapters top` and `explain` read it, from other processes and after the
run has ended. It holds no prompt and no answer.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import attrs
from cattrs import BaseValidationError, Converter

from adapter_api.ledger import Explanation
from registry.host.snapshot import HostSnapshot
from registry.serving.jobs import Failure, Totals

SNAPSHOT = "snapshot.json"
JOBS = "jobs.jsonl"
OLDER_JOBS = "jobs.old.jsonl"

MAX_JOBS_BYTES = 8 << 20
"""Explanations of about ten thousand jobs. A full file becomes the older one and replaces it: the
folder holds at most twice as much."""

FRESH_S = 5.0
"""A run writes every second: an older snapshot belongs to a run that has ended or hangs."""

_converter = Converter()


class StateError(Exception):
    """The state folder cannot be used."""


@attrs.frozen
class SavedSnapshot:
    """The last snapshot that a run wrote.

    Args:
        at_s: When, in seconds since the epoch.
        pid: The run's process.
        running: False once the run has ended normally.
        host: The host.
        totals: Numbers of the jobs that have ended.
        failures: The last jobs that failed.
    """

    at_s: float
    pid: int
    running: bool
    host: HostSnapshot
    totals: Totals = attrs.field(factory=Totals)
    failures: tuple[Failure, ...] = ()

    @property
    def age_s(self) -> float:
        """Seconds since it was written."""
        return max(0.0, time.time() - self.at_s)


def default_folder() -> Path:
    """Return the usual folder: below XDG_STATE_HOME, or ~/.local/state."""
    home = os.environ.get("XDG_STATE_HOME", "")
    # Source: XDG Base Directory Specification: relative paths must be ignored.
    base = Path(home) if os.path.isabs(home) else Path.home() / ".local" / "state"
    return base / "worker-adapters"


class StateWriter:
    """Writes a state folder. Each run needs its own.

    Args:
        folder: The folder; it is made if it does not exist.

    Raises:
        StateError: If it cannot be written, or another run uses it.
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
        except StateError:  # not a snapshot, or one of another version: overwrite it
            return
        if saved is not None and saved.running and saved.age_s < FRESH_S and _runs(saved.pid):
            raise StateError(
                f"the state folder {self.folder} is in use by process {saved.pid}: "
                "give each run its own folder with --state"
            )

    def save(
        self,
        host: HostSnapshot,
        *,
        running: bool = True,
        totals: Totals | None = None,
        failures: Iterable[Failure] = (),
    ) -> None:
        """Replace the snapshot atomically.

        Raises:
            OSError: If it cannot be written.
        """
        at_s, pid = round(time.time(), 3), os.getpid()
        saved = SavedSnapshot(at_s, pid, running, host, totals or Totals(), tuple(failures))
        path = self.folder / SNAPSHOT
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(to_json(saved) + "\n")
        draft.replace(path)

    def append(self, explanation: Explanation) -> None:
        """Write the explanation of a job.

        Raises:
            OSError: If it cannot be written.
        """
        if self._jobs.tell() >= MAX_JOBS_BYTES:
            self._jobs.close()
            (self.folder / JOBS).replace(self.folder / OLDER_JOBS)
            self._jobs = self._open_jobs()
        self._jobs.write(to_json(explanation).encode() + b"\n")
        self._jobs.flush()

    def close(self) -> None:
        """Close the files."""
        self._jobs.close()

    def _open_jobs(self) -> BinaryIO:
        file = open(self.folder / JOBS, "ab+")  # noqa: SIM115  # closed by close
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a run was killed while it wrote a line
                file.write(b"\n")
        return file


def read_snapshot(folder: Path) -> SavedSnapshot | None:
    """Return the last snapshot of a run; None if there has been no run.

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
    except (ValueError, KeyError, TypeError, RecursionError, BaseValidationError):
        raise StateError(
            f"{folder / SNAPSHOT} is not a snapshot, or one of another version"
        ) from None


def find_job(folder: Path, job_id: str) -> Explanation | None:
    """Return the explanation of a job, the last one of several with this id; None if unknown.

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
    """Return a snapshot or an explanation as JSON on one line."""
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
    except (ValueError, KeyError, TypeError, RecursionError, BaseValidationError):
        return None
    return found if found.job_id == job_id else None


def _unusable(folder: Path, error: OSError) -> str:
    return f"the state folder {folder} cannot be used: {error.strerror or error}"


def _runs(pid: int) -> bool:
    """Return whether another process has this number."""
    if pid == os.getpid() or pid <= 0:
        return False
    if os.name != "posix":  # elsewhere signal 0 may end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True
