"""A new user's first hour, from the README alone: every command and program is the pages' own."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.project.serving import demo_served

ROOT = Path(__file__).parents[2]
SERVER_IN_TEXT = "http://localhost:8000"

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(900)]


def _blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{language}[^\n]*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree, with nothing that was made in it."""
    folder = tmp_path_factory.mktemp("home") / "worker-adapters"
    made = shutil.ignore_patterns(".git", ".venv*", ".*cache*", "build", "dist", "__pycache__")
    return Path(shutil.copytree(ROOT, folder, ignore=made))


Type = Callable[[str], str]


@pytest.fixture(scope="module")
def shell(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Type:
    """Types text into a shell in the checkout, in which the environment is active."""
    bare = {"HOME": str(tmp_path_factory.mktemp("home")), "LANG": "C.UTF-8"}
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    path = os.pathsep.join([str(home / ".venv" / "bin"), os.environ["PATH"]])

    def run(text: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=home,
            env=bare | pip | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="module")
def installed(shell: Type) -> str:
    """The README's first command; what it printed."""
    return shell(_blocks("README.md", "bash")[0])


@pytest.fixture(scope="module")
def server(home: Path, installed: str) -> Iterator[str]:
    """`worker-adapters demo --serve` in another terminal; the address of what listens."""
    assert "`worker-adapters demo --serve`" in (home / "README.md").read_text()
    with demo_served([str(home / ".venv/bin/worker-adapters")], home) as url:
        yield url


def test_it_is_installed_and_shows_itself(installed: str) -> None:
    """The first command ends with a whole answer, and with one that says it is cut off."""
    assert "finish_reason stop: the answer is whole" in installed
    assert "STREAM_TRUNCATED" in installed


def test_tokens_come_from_the_server(shell: Type, server: str, home: Path) -> None:
    """The README's commands and its programs stream from `demo --serve`."""
    commands = next(it for it in _blocks("README.md", "bash") if "submit" in it)
    printed = shell(commands.replace(SERVER_IN_TEXT, server))
    assert "A stream you can trust" in printed
    programs = [it for it in _blocks("README.md", "python") if SERVER_IN_TEXT in it]
    assert len(programs) == 3
    for program in programs:
        (home / "build").mkdir(exist_ok=True)
        (home / "build/program.py").write_text(program.replace(SERVER_IN_TEXT, server))
        assert "A stream you" in shell("python build/program.py")


def test_an_adapter_is_written(shell: Type, installed: str) -> None:
    """The tutorial's commands make an adapter that conforms and answers."""
    printed = shell("".join(_blocks("docs/tutorial/write-an-adapter.md", "bash")))
    assert "acme-echo conforms to version" in printed
    assert "say it again" in printed


def test_a_pool_runs_and_is_seen(shell: Type, server: str, home: Path) -> None:
    """The how-to's pool answers through the demo's replicas, and the dashboard shows the jobs."""
    page = "docs/how-to/run-a-pool.md"
    workers = next(it for it in _blocks(page, "toml") if "localhost:8000" in it)
    (home / "workers.toml").write_text(workers.replace(SERVER_IN_TEXT, server))
    commands = next(it for it in _blocks(page, "bash") if "--pool chat" in it)
    assert "A stream you" in shell(commands)
    with httpx.Client(base_url=server, trust_env=False) as client:
        assert "<title>worker-adapters gateway</title>" in client.get("/").text
        with client.stream("GET", "/dashboard/events") as events:
            shown = next(line for line in events.iter_lines() if line.startswith("data:"))
    facts = json.loads(shown.removeprefix("data:"))
    pool = next(it for it in facts["pools"] if it["pool_id"] == "demo")
    assert [replica["state"] for replica in pool["replicas"]] == ["ready", "ready"]
    assert {job["pool_id"] for job in facts["recent"]} == {"demo"}
