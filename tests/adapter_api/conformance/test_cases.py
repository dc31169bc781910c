"""The pytest class, as a third party runs it."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from adapter_api.conformance import CHECKS
from tests.adapter_api.conformance.conftest import WRONG

TEST = """
    import pytest
    import registry
    from adapter_api.conformance import AdapterConformance

    class TestIt(AdapterConformance):
        @pytest.fixture
        def make_adapter(self):
            return lambda **options: registry.get({name!r}, options)
"""


def _pytest(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(textwrap.dedent(text))
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "-m", "pytest", "-p", "no:asyncio", "-p", "no:cacheprovider", "-q"]
    return subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(WRONG), root])},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_subclass_and_a_fixture_are_enough(tmp_path: Path) -> None:
    """A test file of eight lines proves the contract and leaves a report, without plugins."""
    result = _pytest(tmp_path, TEST.format(name="right"))
    assert result.returncode == 0, result.stdout
    report = json.loads((tmp_path / "conformance-report" / "right.json").read_text())
    assert report["conforms"] is True
    assert report["distribution"] == "wrong-adapters 1.0"
    assert "conforms to version 1" in (tmp_path / "conformance-report" / "right.md").read_text()


def test_a_failure_says_the_rule_and_what_to_do(tmp_path: Path) -> None:
    """The first mistake is reported; the checks that depend on it are skipped."""
    result = _pytest(tmp_path, TEST.format(name="wrong-indexes"), "-rs")
    assert result.returncode == 1
    assert "Tokens are numbered 0, 1, 2" in result.stdout
    assert "the indexes are 1, 2, 3" in result.stdout
    assert "needs indexes" in result.stdout
    assert "1 failed" in result.stdout


HEAD = """
    import asyncio

    import pytest
    import registry
    from adapter_api.conformance import AdapterConformance
    from right_adapter import RightAdapter, RightConfig

    class TestNoFixture(AdapterConformance):
        pass
"""

CLASS = """
    class Test{number}(AdapterConformance):
        absent = {absent}
        task = {task}

        @pytest.fixture
        def make_adapter(self):
            return {maker}
"""

RIGHT = "lambda **options: registry.get('right', options)"

MISUSES: list[tuple[dict[str, Any], str]] = [
    ({"maker": "registry.get('right')"}, "make_adapter gave a BoundAdapter"),
    ({"maker": "lambda: registry.get('right')"}, "takes no options of the config"),
    (
        {"maker": "lambda **options: RightAdapter(RightConfig(**options))"},
        "made a RightAdapter, which has no name and no distribution",
    ),
    ({"maker": "lambda **options: asyncio.sleep(0)"}, "made a coroutine, which has no name"),
    ({"absent": {"sead": "none"}}, "absent has 'sead': the names are seed"),
    ({"task": {"modle": "x"}}, "`task` has a field that TaskRequest does not have"),
    ({"maker": "lambda **options: registry.get('rihgt', options)"}, "no adapter named"),
]


def test_what_cannot_be_examined_is_reported_once(tmp_path: Path) -> None:
    """Each misuse of the kit gets one message that says what to write, and no traceback."""
    usual = {"absent": {}, "task": {}, "maker": RIGHT}
    classes = [
        CLASS.format(**{**usual, **given}, number=number)
        for number, (given, _) in enumerate(MISUSES)
    ]
    result = _pytest(tmp_path, "".join([HEAD, *classes]), "-W", "ignore")
    assert result.returncode == 1
    for message in ("write a fixture make_adapter", *(message for _, message in MISUSES)):
        assert message in result.stdout
    failed = len(MISUSES) + 1
    assert re.search(rf"^{failed} failed, \d+ skipped in ", result.stdout, re.MULTILINE)
    assert "Traceback" not in result.stdout


def test_what_is_absent_is_skipped_with_the_reason(tmp_path: Path) -> None:
    """A test passes only if its rule was examined."""
    text = TEST.format(name="right") + "        absent = {'seed': 'it throws dice'}\n"
    result = _pytest(tmp_path, text, "-rs", "-k", "answers or order or repeatable or proxy_cuts")
    assert result.returncode == 0, result.stdout
    assert "absent: it throws dice" in result.stdout
    result = _pytest(tmp_path, text, "-rs", "-k", "lab-health")
    assert "absent: it is not an HTTP adapter" in result.stdout


def test_a_part_of_the_tests_proves_nothing(tmp_path: Path) -> None:
    """The report of `pytest -k` says what was examined, and not that the adapter conforms."""
    result = _pytest(tmp_path, TEST.format(name="right"), "-k", "texts or indexes")
    assert result.returncode == 0, result.stdout
    folder = tmp_path / "conformance-report"
    report = json.loads((folder / "right.json").read_text())
    assert report["conforms"] is None
    assert "cancel" in report["not_examined"]
    page = (folder / "right.md").read_text()
    assert f"is incomplete: 2 passed (with 2 of {len(CHECKS)} checks)" in page
    assert "conforms" not in page


def test_an_adapter_that_ends_the_process_fails_its_test_only(tmp_path: Path) -> None:
    """SystemExit is a verdict like others, and is in the report."""
    result = _pytest(tmp_path, TEST.format(name="wrong-answers.exits"))
    assert result.returncode == 1
    assert "the adapter raised SystemExit: 7" in result.stdout
    report = json.loads((tmp_path / "conformance-report" / "wrong-answers.exits.json").read_text())
    assert report["conforms"] is False
    assert report["results"][0]["status"] == "failed"


def test_a_check_that_is_broken_off_is_in_the_report(tmp_path: Path) -> None:
    """Ctrl-C ends the run, and the report does not look as if nothing had been wrong."""
    text = (
        TEST.format(name="right")
        + """
        @pytest.fixture(autouse=True)
        def ctrl_c(self, check, monkeypatch):
            def interrupted(*_):
                raise KeyboardInterrupt

            if check.name == "order":
                monkeypatch.setattr("adapter_api.conformance.examination.judge", interrupted)
"""
    )
    assert _pytest(tmp_path, text).returncode == 2
    report = json.loads((tmp_path / "conformance-report" / "right.json").read_text())
    assert [result["status"] for result in report["results"]] == ["passed", "failed"]
    assert report["results"][1]["remark"] == "it was interrupted"
    assert report["conforms"] is False


def test_the_report_can_be_switched_off(tmp_path: Path) -> None:
    """report_folder = None leaves no files."""
    text = TEST.format(name="right") + "        report_folder = None\n"
    result = _pytest(tmp_path, text, "-k", "answers")
    assert result.returncode == 0, result.stdout
    assert not (tmp_path / "conformance-report").exists()
