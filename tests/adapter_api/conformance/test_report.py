"""Verdicts, for people and programs."""

import json
from pathlib import Path

import attrs
import pytest

from adapter_api.conformance import CHECKS, Report, Result, Status
from adapter_api.conformance.report import prepare

CHECK = CHECKS[0]


def _report(*statuses: Status) -> Report:
    results = [Result.of(CHECK, status, "a | b\nc", 12) for status in statuses]
    return Report("acme:echo", "acme 1.2", results)


@pytest.mark.parametrize(
    ("statuses", "conforms"),
    [
        ([Status.PASSED], True),
        ([Status.PASSED, Status.ABSENT], True),
        ([Status.PASSED, Status.FAILED], False),
        ([Status.PASSED, Status.BLOCKED], False),
        ([Status.PASSED, Status.NOT_EXAMINED], None),
        ([Status.FAILED, Status.NOT_EXAMINED], False),
        ([Status.ABSENT], False),
        ([], False),
    ],
)
def test_conforms(statuses: list[Status], conforms: bool | None) -> None:
    """Absent is not a failure. What was not examined proves nothing, nor does an empty report."""
    assert _report(*statuses).conforms is conforms


@pytest.mark.parametrize(
    ("statuses", "conforms", "verdict"),
    [
        ([Status.PASSED], None, "is incomplete: 1 passed (with 1 of 3 checks)"),
        ([Status.ABSENT], None, "is incomplete: 1 absent (with 1 of 3 checks)"),
        ([], None, "is incomplete: nothing (with 0 of 2 checks)"),
        (
            [Status.PASSED, Status.FAILED],
            False,
            "does not conform to version 1: 1 passed, 1 failed (with 2 of 4 checks)",
        ),
    ],
)
def test_a_partial_report_proves_nothing(
    statuses: list[Status], conforms: bool | None, verdict: str
) -> None:
    """A report of some of the checks says which, and can only say that an adapter is wrong."""
    report = attrs.evolve(_report(*statuses), missing=["cancel", "leaks"])
    assert report.conforms is conforms
    assert verdict in report.summary
    assert json.loads(report.to_json())["not_examined"] == ["cancel", "leaks"]
    assert "Not examined: cancel, leaks." in report.to_markdown()


def test_json() -> None:
    """The JSON form has a format, its version, and every verdict."""
    document = json.loads(_report(Status.PASSED, Status.FAILED).to_json())
    assert document["format_version"] == 2
    assert document["conforms"] is False
    assert document["results"][1] == {
        "check": "answers",
        "status": "failed",
        "remark": "a | b\nc",
        "requirement": CHECK.requirement,
        "summary": CHECK.summary,
        "took_ms": 12,
    }


def test_markdown() -> None:
    """Whatever a remark holds, the table keeps its columns."""
    lines = _report(Status.FAILED).to_markdown().splitlines()
    assert lines[0] == "# Conformance of acme:echo"
    assert "acme:echo does not conform" in lines[2]
    row = lines[-1]
    assert row.startswith("| answers | failed | a \\| b c |")
    assert row.replace("\\|", "").count("|") == lines[-2].count("|")


def test_files(tmp_path: Path) -> None:
    """Both forms are written, into a folder that need not exist."""
    paths = _report(Status.PASSED).write(tmp_path / "new")
    assert [path.name for path in paths] == ["acme-echo.json", "acme-echo.md"]
    assert all(path.read_text(encoding="utf-8") for path in paths)


def test_a_name_that_is_not_a_file_name(tmp_path: Path) -> None:
    """Whatever an adapter is called, its report is in the folder."""
    report = attrs.evolve(_report(Status.PASSED), adapter="acme/../echo b")
    assert [path.name for path in report.write(tmp_path)] == [
        "acme-..-echo-b.json",
        "acme-..-echo-b.md",
    ]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Is found out before there is anything to write, and leaves nothing behind where it can."""
    (tmp_path / "file").touch()
    places = [tmp_path / "file", tmp_path / "file" / "below", Path("/proc/self")]
    for place in places:
        with pytest.raises(OSError) as caught:
            prepare("acme", place)
        assert any(str(path) in str(caught.value) for path in (place, place.parent))
    prepare("acme", tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    """The path is in the error."""
    (tmp_path / "acme.json").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        prepare("acme", tmp_path)
    assert str(tmp_path / "acme.json") in str(caught.value)
