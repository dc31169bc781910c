"""Verdicts, for people and programs."""

import asyncio
import json
from pathlib import Path

import pytest

from adapter_api.conformance import CHECKS, Check, Report, Result, Status, Subject, judge
from adapter_api.conformance.runner import run_in_new_loop

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
        ([Status.ABSENT], False),
        ([], False),
    ],
)
def test_conforms(statuses: list[Status], conforms: bool) -> None:
    """Absent is no failure, and a report in which nothing passed proves nothing."""
    assert _report(*statuses).conforms is conforms


def test_json() -> None:
    """The JSON form has a format, its version, and every verdict."""
    document = json.loads(_report(Status.PASSED, Status.FAILED).to_json())
    assert document["format_version"] == 1
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


def test_a_task_that_refuses_to_end_does_not_hold_up_the_runner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An adapter's task may swallow its cancellation; the kit goes on."""
    monkeypatch.setattr("adapter_api.conformance.runner._TIDY_S", 0.05)

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    async def work() -> str:
        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        tasks.append(task)
        return "done"

    tasks: list[object] = []
    assert run_in_new_loop(work()) == "done"


def test_an_exception_of_the_adapter_is_a_verdict() -> None:
    """What an adapter's hooks raise fails the check and names the exception."""

    async def explode(_: Subject) -> None:
        raise ConnectionResetError("peer")

    check = Check("bang", "Nothing explodes.", explode, "X")
    result = judge(check, Subject(lambda: None))  # type: ignore[arg-type, return-value]
    assert result.status is Status.FAILED
    assert result.remark == "the adapter raised ConnectionResetError: peer"


def test_a_check_without_end_is_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """No check runs for ever."""
    monkeypatch.setattr("adapter_api.conformance.runner.CHECK_LIMIT_S", 0.05)

    async def hang(_: Subject) -> None:
        await asyncio.Event().wait()

    result = judge(Check("hang", "It ends.", hang, "X"), Subject(lambda: None))  # type: ignore[arg-type, return-value]
    assert result.status is Status.FAILED
    assert "was not over" in result.remark
