"""The pytest classes, as a third party runs them."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

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
    """The first mistake is told; what it keeps from being judged is skipped."""
    result = _pytest(tmp_path, TEST.format(name="wrong-indexes"), "-rs")
    assert result.returncode == 1
    assert "Tokens are numbered 0, 1, 2" in result.stdout
    assert "the indexes are 1, 2, 3" in result.stdout
    assert "needs indexes" in result.stdout
    assert "1 failed" in result.stdout


def test_a_missing_fixture_is_explained(tmp_path: Path) -> None:
    """Who forgets make_adapter is told what to write."""
    text = """
        from adapter_api.conformance import AdapterConformance

        class TestIt(AdapterConformance):
            pass
    """
    result = _pytest(tmp_path, text, "-x")
    assert result.returncode == 1
    assert "write a fixture make_adapter" in result.stdout


def test_the_report_can_be_switched_off(tmp_path: Path) -> None:
    """report_folder = None leaves no files."""
    text = TEST.format(name="right") + "        report_folder = None\n"
    result = _pytest(tmp_path, text, "-k", "answers")
    assert result.returncode == 0, result.stdout
    assert not (tmp_path / "conformance-report").exists()
