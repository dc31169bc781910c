"""The files that declare workers, read again when they change."""

import os
from pathlib import Path

import attrs

from adapter_api.errors import Problem
from registry.registry import Registry
from registry.workers.file import read_workers
from registry.workers.handoff import Unfinished, handoff_files, read_handoff
from registry.workers.reading import Mark, Unreadable, mark_of
from registry.workers.spec import ReplicaSpec, Workers, WorkersError, by_key

MAX_READS = 100
"""The maximum number of handoff files read by one look. The next looks read the others, so that the
work is bounded even if all files of a folder keep changing."""

_Said = ReplicaSpec | WorkersError


@attrs.define
class _Handoff:
    """A handoff file.

    Attributes:
        mark: The version that was read last.
        said: The content of the last whole version; None before the first one.
        unfinished: Why the version that was read last is not whole; "" if it is.
        missed: The last look did not find the file.
    """

    mark: Mark = None
    said: _Said | None = None
    unfinished: str = ""
    missed: bool = False


class Declared:
    """A workers file and a folder of handoff files, and what they declare together.

    `read` and `look` block: they open and parse files. A long run calls `look` in a thread.

    Args:
        file: The workers file; None for none.
        handoff: The folder of handoff files; None for none. It may be created later.
        registry: Knows the adapters.

    Attributes:
        unfinished: Handoff files that are not whole, each with the reason.
    """

    def __init__(
        self,
        file: str | os.PathLike[str] | None,
        handoff: str | os.PathLike[str] | None,
        registry: Registry,
    ) -> None:
        self._file = None if file is None else Path(file)
        self._folder = None if handoff is None else Path(handoff)
        self._registry = registry
        self._mark: Mark = None  # of the version of the file that was read
        self._seen: Mark = None  # of the version that the last look found
        self._said: Workers | WorkersError = Workers()
        self._had_replicas = False
        self._handoffs: dict[Path, _Handoff] = {}
        self.unfinished: dict[Path, str] = {}

    def read(self) -> Workers:
        """Return what the files declare now, without waiting for any to settle.

        Raises:
            WorkersError: With all problems of all files.
        """
        if self._file is not None:
            self._seen = self._mark = mark_of(self._file)
            self._said = self._parsed(self._file)
        self._look_at_handoffs(max_reads=None)
        return self._together()

    def look(self) -> Workers:
        """Return what the files declare, using changed files only once they are stable.

        A workers file is stable when two looks find the same version, because a partly written file
        can be valid with fewer replicas. A handoff file counts once it is complete JSON. Until
        then, and until two looks have missed it, its former content stays in use.

        Raises:
            WorkersError: With all problems of all files.
        """
        if self._file is not None:
            before, self._seen = self._seen, mark_of(self._file)
            if self._seen == before and self._seen != self._mark:
                self._mark = self._seen
                self._said = self._parsed(self._file)
        self._look_at_handoffs(max_reads=MAX_READS)
        return self._together()

    def _parsed(self, file: Path) -> Workers | WorkersError:
        try:
            said = read_workers(file, self._registry)
        except WorkersError as error:
            return error
        if self._had_replicas and not said.replicas and not said.lists_replicas:
            name = os.fspath(file)
            message = "it has no replicas any more; write replicas = [] if that is intended"
            return WorkersError(name, [Problem(name, message)])
        self._had_replicas = bool(said.replicas)
        return said

    def _look_at_handoffs(self, max_reads: int | None) -> None:
        if self._folder is None:
            return
        try:
            paths = handoff_files(self._folder)
        except (OSError, Unreadable) as error:
            # An unreadable folder is an error, not an empty folder: its engines may still run.
            why = str(error)
            if isinstance(error, OSError):
                why = f"it cannot be read: {error.strerror or error}"
            self.unfinished = {self._folder: f"{self._folder}: {why}"}
            return
        reads = 0
        for path in paths:
            known = self._handoffs.setdefault(path, _Handoff())
            known.missed = False
            mark = mark_of(path)
            if mark != known.mark and (max_reads is None or reads < max_reads):
                reads += 1
                self._read_handoff(path, mark, known)
        for path in self._handoffs.keys() - set(paths):
            if self._handoffs[path].missed:
                del self._handoffs[path]
            else:  # it may be replaced by removing it first: give it until the next look
                self._handoffs[path].missed = True
        self.unfinished = {
            path: known.unfinished for path, known in self._handoffs.items() if known.unfinished
        }

    def _read_handoff(self, path: Path, mark: Mark, known: _Handoff) -> None:
        said: _Said
        try:
            said = read_handoff(path, self._registry)
        except WorkersError as error:
            said = error
        except Unfinished as error:
            known.mark, known.unfinished = mark, str(error)
            return
        if mark_of(path) != mark:
            known.mark, known.unfinished = None, f"{path}: it changes while it is read"
            return
        known.mark, known.said, known.unfinished = mark, said, ""

    def _together(self) -> Workers:
        handoffs = [self._handoffs[path].said for path in sorted(self._handoffs)]
        said = [self._said, *(part for part in handoffs if part is not None)]
        errors = [part for part in said if isinstance(part, WorkersError)]
        problems = [problem for error in errors for problem in error.problems]
        file = self._said if isinstance(self._said, Workers) else Workers()
        specs = [part for part in said if isinstance(part, ReplicaSpec)]
        replicas = by_key([*file.replicas.values(), *specs], problems)
        if problems:
            name = errors[0].name if len(errors) == 1 else "what the files declare"
            raise WorkersError(name, problems)
        return attrs.evolve(file, replicas=replicas)
