"""Distributions for the registry's tests: the samples, and small ones made on the spot."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
DISTRIBUTIONS = TESTS / "distributions"

ADAPTER = """
import attrs
from adapter_api import End, HealthState, HealthStatus, Metrics, Started, hookimpl

@attrs.frozen
class Config:
    size: int = 1

@attrs.define(eq=False)
class Adapter:
    config: Config

    @hookimpl
    async def submit(self, task):
        yield Started(task.job_id, "made", "1")
        yield End(Metrics(0), "stop", "finish_reason")

    @hookimpl
    async def health(self):
        return HealthStatus(HealthState.HEALTHY)
"""


class Site:
    """A folder on sys.path into which a test installs distributions of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self,
        name: str,
        entry_points: str = "",
        modules: Mapping[str, str] | None = None,
        *,
        version: str = "1.0",
        record: bool = False,
    ) -> Path:
        """Write a distribution: its metadata, lines of our group, and modules by path."""
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        if entry_points:
            lines = textwrap.dedent(entry_points).strip()
            (info / "entry_points.txt").write_text(f"[worker_adapters]\n{lines}\n")
        for path, text in (modules or {}).items():
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text))
        if record:
            rows = [f"{path},,\n" for path in modules or {}]
            (info / "RECORD").write_text("".join(rows))
        return info


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No blocked names from outside, and no module of a sample left behind."""
    monkeypatch.delenv("WORKER_ADAPTERS_BLOCKED", raising=False)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(DISTRIBUTIONS)) or "made_" in name:
            del sys.modules[name]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """An empty folder on sys.path. Modules in it are named made_*."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return Site(folder)


@pytest.fixture
def another_site(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A second such folder, before the first on sys.path."""
    folder = tmp_path / "another"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return Site(folder)


@pytest.fixture
def distributions() -> Path:
    """The folder of the sample distributions."""
    return DISTRIBUTIONS


@pytest.fixture
def adapter_source() -> str:
    """The source of a module with the least that is an adapter, `Adapter`."""
    return ADAPTER


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts sample distributions on sys.path, by folder name."""

    def put(*names: str) -> None:
        for name in reversed(names):
            monkeypatch.syspath_prepend(DISTRIBUTIONS / name)

    return put


@pytest.fixture
def fresh_python() -> Callable[..., str]:
    """Runs code in a new interpreter with sample distributions first on its path."""

    def run(code: str, *names: str, **environment: str) -> str:
        path = os.pathsep.join([*(str(DISTRIBUTIONS / name) for name in names), str(TESTS.parent)])
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
            env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    return run
