"""The files that declare workers, read again when they change."""

import os
from pathlib import Path
from typing import TypeAlias

import attrs

from registry.registry import Registry
from registry.workers.file import parse_workers, read_text
from registry.workers.handoff import Unfinished, handoff_files, read_handoff
from registry.workers.spec import ReplicaSpec, Workers, WorkersError, by_key

_Mark: TypeAlias = tuple[int, int, int] | None


def _mark(path: Path) -> _Mark:
    """What changes with the file: time, size, and the inode if it is replaced. None if gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@attrs.define
class _Handoff:
    """What one handoff file said when it was last whole."""

    mark: _Mark
    said: ReplicaSpec | WorkersError
    missed: bool = False


class Declared:
    """A workers file and a folder of handoff files: what they declare, all in all.

    Args:
        file: The workers file; None for none.
        handoff: The folder of handoff files; None for none. It may come later.
        registry: Knows the adapters.
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
        self._mark: _Mark = None  # of the version of the file that was read
        self._seen: _Mark = None  # of the version that was there when it was last looked at
        self._said: Workers | WorkersError = Workers()
        self._handoffs: dict[Path, _Handoff] = {}
        self.unfinished: dict[Path, str] = {}
        """Handoff files that are there and not whole, with what is the matter."""

    def read(self) -> Workers:
        """What the files declare now, without waiting for any to settle.

        Raises:
            WorkersError: With all problems of all files.
        """
        if self._file is not None:
            self._seen = self._mark = _mark(self._file)
            self._said = self._parsed(self._file)
        self._look_at_handoffs()
        return self._together()

    def look(self) -> Workers:
        """What the files declare, where those that have changed have settled.

        A workers file has settled when two looks find it the same: the beginning of a file that
        is being written can be a whole one with fewer replicas. A handoff file is whole if it
        is whole JSON; until then, and until two looks have found it gone, its former content
        stands.

        Raises:
            WorkersError: With all problems of all files.
        """
        if self._file is not None:
            before, self._seen = self._seen, _mark(self._file)
            if self._seen == before and self._seen != self._mark:
                self._mark = self._seen
                self._said = self._parsed(self._file)
        self._look_at_handoffs()
        return self._together()

    def _parsed(self, file: Path) -> Workers | WorkersError:
        try:
            return parse_workers(read_text(file), os.fspath(file), self._registry)
        except WorkersError as error:
            return error

    def _look_at_handoffs(self) -> None:
        if self._folder is None:
            return
        self.unfinished = {}
        try:
            paths = handoff_files(self._folder)
        except OSError as error:
            # Not as if it were empty: a folder that cannot be read says nothing of its engines.
            text = f"{self._folder}: it cannot be read: {error.strerror or error}"
            self.unfinished = {self._folder: text}
            return
        for path in paths:
            try:
                self._look_at_handoff(path)
            except Unfinished as error:
                self.unfinished[path] = str(error)
        for path in self._handoffs.keys() - set(paths):
            if self._handoffs[path].missed:
                del self._handoffs[path]
            else:  # whoever replaces a file by removing it first is given time until the next look
                self._handoffs[path].missed = True

    def _look_at_handoff(self, path: Path) -> None:
        mark, known = _mark(path), self._handoffs.get(path)
        if known is not None:
            known.missed = False
            if known.mark == mark:
                return
        said: ReplicaSpec | WorkersError
        try:
            said = read_handoff(path, self._registry)
        except WorkersError as error:
            said = error
        if _mark(path) != mark:
            raise Unfinished(f"{path}: it changes while it is read")
        self._handoffs[path] = _Handoff(mark, said)

    def _together(self) -> Workers:
        said = [self._said, *(self._handoffs[path].said for path in sorted(self._handoffs))]
        errors = [part for part in said if isinstance(part, WorkersError)]
        problems = [problem for error in errors for problem in error.problems]
        file = self._said if isinstance(self._said, Workers) else Workers()
        specs = [part for part in said if isinstance(part, ReplicaSpec)]
        replicas = by_key([*file.replicas.values(), *specs], problems)
        if problems:
            name = errors[0].name if len(errors) == 1 else "what the files declare"
            raise WorkersError(name, problems)
        return attrs.evolve(file, replicas=replicas)
