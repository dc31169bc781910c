"""What an examination found, for people and for programs."""

import json
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import attrs

from adapter_api.conformance.check import Check
from adapter_api.hookspecs import API_VERSION

FORMAT = "worker-adapters conformance report"
FORMAT_VERSION = 1


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
    """

    adapter: str
    distribution: str
    results: Sequence[Result]

    @property
    def conforms(self) -> bool:
        """Whether no check failed or was blocked, and at least one passed."""
        bad = {Status.FAILED, Status.BLOCKED}
        return any(r.status is Status.PASSED for r in self.results) and not any(
            r.status in bad for r in self.results
        )

    def count(self, status: Status) -> int:
        """How many checks have this verdict."""
        return sum(result.status is status for result in self.results)

    @property
    def verdict(self) -> str:
        """One line."""
        counts = [f"{self.count(status)} {status}" for status in Status if self.count(status)]
        word = "conforms" if self.conforms else "does not conform"
        return f"{self.adapter} {word} to version {API_VERSION}: {', '.join(counts)}"

    def to_json(self) -> str:
        """The report as a JSON text."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "api_version": API_VERSION,
            "adapter": self.adapter,
            "distribution": self.distribution,
            "conforms": self.conforms,
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
        return (
            f"# Conformance of {self.adapter}\n\n{self.verdict} ({self.distribution}).\n\n"
            f"| check | verdict | remark | rule | requirements |\n|---|---|---|---|---|\n{rows}"
        )

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write both forms into a folder, which is made if need be.

        Returns:
            The paths of the JSON and of the markdown file.
        """
        folder.mkdir(parents=True, exist_ok=True)
        stem = self.adapter.replace(":", "-")
        paths = folder / f"{stem}.json", folder / f"{stem}.md"
        paths[0].write_text(self.to_json(), encoding="utf-8")
        paths[1].write_text(self.to_markdown(), encoding="utf-8")
        return paths


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def failures(results: Iterable[Result]) -> list[str]:
    """The names of the checks that failed."""
    return [result.check for result in results if result.status is Status.FAILED]
