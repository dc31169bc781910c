"""Type checkers accept what users write: the pages' snippets and a third party's program."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.test_snippets import PYTHON, ROOT

PROGRAM = ROOT / "tests" / "data" / "third_party" / "program.py"

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(600)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with every Python snippet of README and docs, and a third party's program."""
    for number, snippet in enumerate(PYTHON):
        (tmp_path / f"snippet_{number}.py").write_text(f"# {snippet}\n{snippet.text}")
    (tmp_path / "program.py").write_text(PROGRAM.read_text())
    return tmp_path


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright_accepts_snippets_and_program(project: Path) -> None:
    """In its standard mode, which editors use."""
    (project / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "standard"}))
    _run("basedpyright", "--pythonpath", sys.executable, cwd=project)


def test_mypy_accepts_snippets_and_program(project: Path) -> None:
    """The program in strict mode, the snippets in the default one."""
    _run("mypy", "--strict", "--config-file=", "program.py", cwd=project)
    snippets = sorted(path.name for path in project.glob("snippet_*.py"))
    _run("mypy", "--config-file=", *snippets, cwd=project)
