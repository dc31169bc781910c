"""Reports: the results of an examination, as JSON and as a page."""

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
from adapter_api.conformance.verdict import Status
from adapter_api.hookspecs import API_VERSION

FORMAT = "worker-adapters conformance report"
FORMAT_VERSION = 2

_NO_FILENAME = re.compile(r"[^\w.-]+")
"""Characters of an adapter's name that do not go into a file's name."""


@attrs.frozen
class Result:
    """The verdict of one check.

    Args:
        check: The check's name.
        status: The verdict.
        remark: The reason for a verdict other than passed; else an observation.
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
        """Return the verdict of `check`."""
        return cls(check.name, status, remark, check.requirement, check.summary, took_ms)


class Verdict(StrEnum):
    """The verdict on an adapter."""

    CONFORMS = "conforms"
    VIOLATES = "does not conform"
    INCOMPLETE = "is incomplete"
    """Nothing that was examined is wrong, and something was not examined."""


@attrs.frozen
class Report:
    """All verdicts on one adapter.

    Args:
        adapter: Its name.
        distribution: Its distribution and the version of that.
        results: The verdicts, in the order of the checks.
        missing: The names of the checks that were not selected: the report covers only a part.
    """

    adapter: str
    distribution: str
    results: Sequence[Result]
    missing: Sequence[str] = ()

    @property
    def verdict(self) -> Verdict:
        """Return the verdict on the whole contract."""
        if self.missing and not self._violates:
            return Verdict.INCOMPLETE
        return self.verdict_of_selected

    @property
    def verdict_of_selected(self) -> Verdict:
        """Return the verdict on the checks that were selected. At least one of them must pass."""
        if self._violates:
            return Verdict.VIOLATES
        if self.count(Status.NOT_EXAMINED):
            return Verdict.INCOMPLETE
        return Verdict.CONFORMS if self.count(Status.PASSED) else Verdict.VIOLATES

    @property
    def conforms(self) -> bool | None:
        """Return whether the adapter keeps the contract; None if too little was examined."""
        verdict = self.verdict
        return None if verdict is Verdict.INCOMPLETE else verdict is Verdict.CONFORMS

    @property
    def not_examined(self) -> list[str]:
        """Return the names of the checks that were not selected or could not be examined."""
        unknown = [r.check for r in self.results if r.status is Status.NOT_EXAMINED]
        return [*unknown, *self.missing]

    @property
    def _violates(self) -> bool:
        return self.count(Status.FAILED) + self.count(Status.BLOCKED) > 0

    def count(self, status: Status) -> int:
        """Return how many checks have this status."""
        return sum(result.status is status for result in self.results)

    @property
    def summary(self) -> str:
        """Return the verdict and the counts, in one line."""
        counts = [
            f"{self.count(status)} {status.replace('_', ' ')}"
            for status in Status
            if self.count(status)
        ]
        found = ", ".join(counts) or "nothing"
        part = f"{len(self.results)} of {len(self.results) + len(self.missing)} checks"
        selected = f" (with {part})" if self.missing else ""
        if self.verdict is Verdict.INCOMPLETE:
            return f"the report on {self.adapter} is incomplete: {found}{selected}"
        return f"{self.adapter} {self.verdict} to version {API_VERSION}: {found}{selected}"

    def to_json(self) -> str:
        """Return the report as a JSON text."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "api_version": API_VERSION,
            "adapter": self.adapter,
            "distribution": self.distribution,
            "verdict": self.verdict.name.lower(),
            "conforms": self.conforms,
            "not_examined": self.not_examined,
            "results": [attrs.asdict(result) for result in self.results],
        }
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        """Return the report as a page of Markdown."""
        rows = "".join(
            f"| {r.check} | {r.status} | {_cell(r.remark)} | {_cell(r.summary)} | "
            f"{r.requirement} |\n"
            for r in self.results
        )
        names = self.not_examined
        missing = f"Not examined: {', '.join(names)}.\n\n" if names else ""
        return (
            f"# Conformance of {self.adapter}\n\n{self.summary} ({self.distribution}).\n\n{missing}"
            f"| check | verdict | remark | rule | requirements |\n|---|---|---|---|---|\n{rows}"
        )

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write both forms into a folder, which is created if it does not exist.

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
    """Create the folder of an adapter's report, and return the paths of the files to come.

    Raises:
        OSError: If they cannot be written there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass  # fail now, and not after minutes of examination
    stem = _NO_FILENAME.sub("-", adapter)
    paths = folder / f"{stem}.json", folder / f"{stem}.md"
    for path in paths:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return paths


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def failures(results: Iterable[Result]) -> list[str]:
    """Return the names of the checks that failed."""
    return [result.check for result in results if result.status is Status.FAILED]
