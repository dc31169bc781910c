"""The pytest class, as a third party runs it."""

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapter_api.conformance import CHECKS
from tests.adapter_api.conformance.examine import ROOT, WRONG

pytest_plugins = ("pytester",)

TEST = """
    import pytest
    import registry
    from adapter_api.conformance import AdapterConformance

    class TestIt(AdapterConformance):
        @pytest.fixture
        def make_adapter(self):
            return lambda **options: registry.get({name!r}, options)
"""

OWN = "import registry", "from registry import Registry\n    registry = Registry()"
"""In this process the default registry may have been filled before."""

Run = Callable[..., tuple[int, str]]
"""Returns pytest's exit status, and what it printed."""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs pytest on a text, in this process, without the plugins of this project."""
    monkeypatch.syspath_prepend(WRONG)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def go(text: str, *arguments: str) -> tuple[int, str]:
        pytester.makepyfile(test_it=textwrap.dedent(text.replace(*OWN)))
        pytester.makeini("[pytest]\nfilterwarnings = error\n")
        result = pytester.runpytest_inprocess("-q", *arguments, no_reraise_ctrlc=True)
        return int(result.ret), result.stdout.str()

    return go


def _report(pytester: pytest.Pytester, name: str) -> Any:
    return json.loads((pytester.path / "conformance-report" / f"{name}.json").read_text())


@pytest.mark.exhaustive
def test_a_subclass_and_a_fixture_are_enough(tmp_path: Path) -> None:
    """A test file of eight lines proves the contract and leaves a report, without plugins."""
    (tmp_path / "test_it.py").write_text(textwrap.dedent(TEST.format(name="right")))
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:asyncio", "-p", "no:cacheprovider", "-q"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(WRONG), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    report = json.loads((tmp_path / "conformance-report" / "right.json").read_text())
    assert report["conforms"] is True
    assert report["distribution"] == "wrong-adapters 1.0"
    assert "conforms to version 1" in (tmp_path / "conformance-report" / "right.md").read_text()


def test_a_failure_shows_the_rule_and_advice(run: Run) -> None:
    """The first mistake is reported; the checks that depend on it are skipped."""
    chosen = "answers or indexes or frames or cancel or lab"
    status, printed = run(TEST.format(name="wrong-indexes"), "-rs", "-k", chosen)
    assert status == 1
    assert "Tokens are numbered 0, 1, 2" in printed
    assert "the indexes are 1, 2, 3" in printed
    assert "needs indexes" in printed
    assert "1 failed" in printed


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
    ({"maker": "registry.get('right')"}, "make_adapter returned a BoundAdapter"),
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


def test_what_cannot_be_examined_is_reported_once(run: Run) -> None:
    """Each misuse of the kit gets one message that says what to write, and no traceback."""
    usual = {"absent": {}, "task": {}, "maker": RIGHT}
    classes = [
        CLASS.format(**{**usual, **given}, number=number)
        for number, (given, _) in enumerate(MISUSES)
    ]
    status, printed = run("".join([HEAD, *classes]), "-W", "ignore", "-k", "answers or order")
    assert status == 1
    for message in ("write a fixture make_adapter", *(message for _, message in MISUSES)):
        assert message in printed
    failed = len(MISUSES) + 1
    assert re.search(rf"^{failed} failed, \d+ skipped, \d+ deselected in ", printed, re.MULTILINE)
    assert "Traceback" not in printed
    assert "another exception" not in printed


def test_what_is_absent_is_skipped_with_the_reason(run: Run) -> None:
    """A test passes only if its rule was examined."""
    text = TEST.format(name="right") + "        absent = {'seed': 'it throws dice'}\n"
    status, printed = run(text, "-rs", "-k", "answers or order or repeatable or lab-health")
    assert status == 0, printed
    assert "absent: it throws dice" in printed
    assert "absent: it is not an HTTP adapter" in printed


def test_a_part_of_the_tests_proves_nothing(run: Run, pytester: pytest.Pytester) -> None:
    """The report of `pytest -k` says what was examined, and not that the adapter conforms."""
    status, printed = run(TEST.format(name="right"), "-k", "texts or indexes")
    assert status == 0, printed
    report = _report(pytester, "right")
    assert report["conforms"] is None
    assert "cancel" in report["not_examined"]
    page = (pytester.path / "conformance-report" / "right.md").read_text()
    assert f"is incomplete: 2 passed (with 2 of {len(CHECKS)} checks)" in page
    assert "conforms" not in page


def test_an_adapter_that_ends_the_process_fails_its_test_only(
    run: Run, pytester: pytest.Pytester
) -> None:
    """SystemExit is a verdict like others, and is in the report."""
    status, printed = run(TEST.format(name="wrong-answers.exits"), "-k", "answers or order")
    assert status == 1
    assert "the adapter raised SystemExit: 7" in printed
    report = _report(pytester, "wrong-answers.exits")
    assert report["conforms"] is False
    assert report["results"][0]["status"] == "failed"


def test_a_check_that_is_broken_off_is_in_the_report(run: Run, pytester: pytest.Pytester) -> None:
    """Ctrl-C ends the run, and the report does not look as if nothing had been wrong."""
    text = (
        TEST.format(name="right")
        + """
        @pytest.fixture(autouse=True)
        def ctrl_c(self, check, monkeypatch):
            def interrupted(*_):
                raise KeyboardInterrupt

            if check.name == "order":
                monkeypatch.setattr("adapter_api.conformance.examination.run_check", interrupted)
"""
    )
    status, _ = run(text)
    assert status == 2
    report = _report(pytester, "right")
    assert [result["status"] for result in report["results"]] == ["passed", "failed"]
    assert report["results"][1]["remark"] == "it was interrupted"
    assert report["conforms"] is False


def test_the_report_can_be_switched_off(run: Run, pytester: pytest.Pytester) -> None:
    """report_folder = None leaves no files."""
    text = TEST.format(name="right") + "        report_folder = None\n"
    status, printed = run(text, "-k", "answers")
    assert status == 0, printed
    assert not (pytester.path / "conformance-report").exists()
