"""What an examination found, for people and for programs."""

import errno
import json
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import attrs

from adapter_api.conformance.check import Check
from adapter_api.hookspecs import API_VERSION

FORMAT = "worker-adapters conformance report"
FORMAT_VERSION = 1

_NO_FILENAME = re.compile(r"[^\w.-]+")
"""What an adapter's name may have, and a file's name had better not."""


class Status(StrEnum):
    """A verdict."""

    PASSED = "passed"
    FAILED = "failed"
    ABSENT = "absent"
    """The adapter does not claim to have what the check is about."""
    BLOCKED = "blocked"
    """A check that this one needs has failed, so it could not tell what is wrong."""


@attrs.frozen
class Result:
    """The verdict of one check.

    Args:
        check: The check's name.
        status: The verdict.
        remark: Why it failed, is absent or blocked; or what was seen.
        requirement: The requirements, by id.
        summary: The rule.
        took_ms: How long the check took.
    """

    check: str
    status: Status
    remark: str
    requirement: str
    summary: str
    took_ms: int = 0

    @classmethod
    def of(cls, check: Check, status: Status, remark: str, took_ms: int = 0) -> Self:
        """The verdict of `check`."""
        return cls(check.name, status, remark, check.requirement, check.summary, took_ms)


@attrs.frozen
class Report:
    """All verdicts on one adapter.

    Args:
        adapter: Its name.
        distribution: Where it comes from, and the version of that.
        results: The verdicts, in the order of the checks.
        missing: The names of the checks that were not run: the report is of a part only.
    """

    adapter: str
    distribution: str
    results: Sequence[Result]
    missing: Sequence[str] = ()

    @property
    def sound(self) -> bool:
        """Whether no check that was run failed or was blocked, and at least one passed."""
        return self.count(Status.PASSED) > 0 and not self._violates

    @property
    def conforms(self) -> bool | None:
        """Whether the adapter keeps the contract; None if too little was examined to know."""
        if self.missing and not self._violates:
            return None
        return self.sound

    @property
    def _violates(self) -> bool:
        return self.count(Status.FAILED) + self.count(Status.BLOCKED) > 0

    def count(self, status: Status) -> int:
        """How many checks have this verdict."""
        return sum(result.status is status for result in self.results)

    @property
    def verdict(self) -> str:
        """One line."""
        counts = [f"{self.count(status)} {status}" for status in Status if self.count(status)]
        found = ", ".join(counts) or "nothing"
        part = f"{len(self.results)} of {len(self.results) + len(self.missing)} checks"
        if self.conforms is None:
            return f"{self.adapter} was examined in part only, with {part}: {found}"
        word = "conforms" if self.conforms else "does not conform"
        only = f" (with {part})" if self.missing else ""
        return f"{self.adapter} {word} to version {API_VERSION}: {found}{only}"

    def to_json(self) -> str:
        """The report as a JSON text."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "api_version": API_VERSION,
            "adapter": self.adapter,
            "distribution": self.distribution,
            "conforms": self.conforms,
            "not_examined": list(self.missing),
            "results": [attrs.asdict(result) for result in self.results],
        }
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        """The report as a page."""
        rows = "".join(
            f"| {r.check} | {r.status} | {_cell(r.remark)} | {_cell(r.summary)} | "
            f"{r.requirement} |\n"
            for r in self.results
        )
        missing = f"Not examined: {', '.join(self.missing)}.\n\n" if self.missing else ""
        return (
            f"# Conformance of {self.adapter}\n\n{self.verdict} ({self.distribution}).\n\n{missing}"
            f"| check | verdict | remark | rule | requirements |\n|---|---|---|---|---|\n{rows}"
        )

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write both forms into a folder, which is made if need be.

        Returns:
            The paths of the JSON and of the markdown file.

        Raises:
            OSError: If they cannot be written.
        """
        paths = prepare(self.adapter, folder)
        paths[0].write_text(self.to_json(), encoding="utf-8")
        paths[1].write_text(self.to_markdown(), encoding="utf-8")
        return paths


def prepare(adapter: str, folder: Path) -> tuple[Path, Path]:
    """Make the folder of an adapter's report, if need be, and say which files it will have.

    Raises:
        OSError: If they cannot be written there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass  # whoever may not write there learns it now, and not after minutes of examination
    stem = _NO_FILENAME.sub("-", adapter)
    paths = folder / f"{stem}.json", folder / f"{stem}.md"
    for path in paths:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return paths


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def failures(results: Iterable[Result]) -> list[str]:
    """The names of the checks that failed."""
    return [result.check for result in results if result.status is Status.FAILED]
