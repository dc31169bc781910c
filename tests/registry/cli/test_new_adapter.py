"""`worker-adapters new-adapter`: what it writes is installed and proved in a fresh environment."""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.cli.new_adapter import rendered

Cli = Callable[..., Any]
ROOT = Path(__file__).parents[3]


# pip takes nothing from a network, and builds with the hatchling that is borrowed.
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}


def _run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | OFFLINE
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def _wheel(project: Path, into: Path) -> Path:
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", into, cwd=project)
    return max(into.glob("*.whl"), key=lambda path: path.stat().st_mtime_ns)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new virtual environment with our wheel in it.

    What we depend on is borrowed from the environment that runs this, so that no test needs a
    network; our own code there is hidden by the wheel, which comes first.
    """
    place = tmp_path_factory.mktemp("fresh")
    _run(sys.executable, "-m", "venv", place / "venv", cwd=place)
    programs = place / "venv" / "bin"
    packages = next((place / "venv").glob("lib/python*/site-packages"))
    (packages / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"])
    pytest_program = programs / "pytest"  # borrowed too: pip would have written it
    code = "import sys, pytest\nsys.exit(pytest.console_main())\n"
    pytest_program.write_text(f"#!{programs / 'python'}\n{code}")
    pytest_program.chmod(0o755)
    wheel = _wheel(ROOT, place)
    _run(programs / "pip", "install", wheel, cwd=place)
    return programs


@pytest.mark.parametrize("arguments", [("acme-plain",), ("beta-two-http", "--http")], ids=str)
def test_a_new_adapter_installs_and_passes_the_kit_at_once(
    arguments: tuple[str, ...], fresh: Path, tmp_path: Path
) -> None:
    """A newcomer's first minutes: write, build, install, prove (ADAPT-3000, ORCH-3054)."""
    name = arguments[0]
    command = fresh / "worker-adapters"
    _run(fresh / "python", command, "new-adapter", *arguments, cwd=tmp_path)
    project = tmp_path / name
    wheel = _wheel(project, tmp_path)
    _run(fresh / "pip", "install", wheel, cwd=tmp_path)
    listed = _run(command, "list", cwd=tmp_path)
    assert f"{name}\t{name}\t0.1.0\tok" in listed
    assert "worker-adapters\t" in listed
    _run(command, "check", name, cwd=tmp_path)
    tests = _run(fresh / "python", "-m", "pytest", "-q", "-p", "no:asyncio", cwd=project)
    assert " passed" in tests
    assert (project / "conformance-report" / f"{name}.md").exists()
    proof = _run(command, "conformance", name, "--only", "leaks", "--only", "secrets", cwd=project)
    assert f"{name} conforms" in proof


def test_the_tutorial_word_for_word(fresh: Path, tmp_path: Path) -> None:
    """The tutorial's commands end with an installed adapter that conforms, and answers."""
    (tmp_path / ".venv").symlink_to(fresh.parent)
    page = (ROOT / "docs" / "tutorial" / "write-an-adapter.md").read_text()
    (commands,) = re.findall(r"^```bash\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    outputs = [_run(*shlex.split(line), cwd=tmp_path) for line in commands.splitlines()]
    assert len(outputs) == 6
    assert "acme-echo conforms to version" in outputs[-2]
    assert outputs[-1].strip() == "say it again"


@pytest.mark.parametrize("http", [False, True])
def test_what_is_written_is_typed_and_tidy(http: bool, cli: Cli, tmp_path: Path) -> None:
    """Everything compiles, no name of the template is left, and nothing is forgotten."""
    folder = tmp_path / "new"
    arguments = ["new-adapter", "my-own-engine", "--into", str(folder), *["--http"] * http]
    done = cli(*arguments)
    assert done.code == 0
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        ".gitignore",
        "README.md",
        "my_own_engine/__init__.py",
        "my_own_engine/adapter.py",
        "my_own_engine/py.typed",
        "pyproject.toml",
        "tests/test_conformance.py",
    }
    for path, text in rendered("my-own-engine", http=http):
        assert not any(word in text for word in ("acme", "Acme", "ACME", "#HTTP", "#URL")), path
        if path.endswith(".py"):
            compile(text, path, "exec")
    assert ("httpx" in (folder / "pyproject.toml").read_text()) is http
    assert "class MyOwnEngineAdapter" in (folder / "my_own_engine" / "adapter.py").read_text()
    assert "pip install -e" in done.out


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Acme", "lower-case"),
        ("acme_echo", "lower-case"),
        ("acme--echo", "lower-case"),
        ("-acme", "no such option"),
        ("2acme", "lower-case"),
        ("class", "another Python module"),
        ("json", "another Python module"),
        ("registry", "another Python module"),
        ("mock", "installed already"),
        ("", "lower-case"),
    ],
)
def test_a_name_that_cannot_be_used(name: str, reason: str, cli: Cli, tmp_path: Path) -> None:
    """The reason is one line, and nothing is written."""
    done = cli("new-adapter", name, "--into", str(tmp_path / "new"))
    assert done.code == 2
    assert reason in done.err.lower() or reason in done.err
    assert not (tmp_path / "new").exists()


def test_nothing_is_overwritten(cli: Cli, tmp_path: Path) -> None:
    """A folder with something in it is left alone."""
    (tmp_path / "mine.txt").write_text("mine")
    done = cli("new-adapter", "acme-echo", "--into", str(tmp_path))
    assert done.code == 2
    assert "not empty" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
