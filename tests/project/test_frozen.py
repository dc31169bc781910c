"""The how-to about frozen applications works as written (marker `frozen`, extra `[frozen]`)."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.frozen
@pytest.mark.timeout(900)
def test_the_page_builds_an_application_that_works(tmp_path: Path) -> None:
    """PyInstaller's command of the page gives a program that finds and uses adapters."""
    page = (ROOT / "docs/how-to/frozen-apps.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (command,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    (tmp_path / "app.py").write_text(code)
    builder, *arguments = shlex.split(command.replace("\\\n", " "))
    assert builder == "pyinstaller"
    subprocess.run(
        [sys.executable, "-m", "PyInstaller", "--log-level", "ERROR", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=800,
    )
    program = tmp_path / "dist" / "app" / "app"
    done = subprocess.run([program], capture_output=True, text=True, timeout=60, check=True)
    assert "'mock', 'openai-http', 'replay'" in done.stdout
    assert done.stdout.splitlines()[-1] == "frozen"
