"""The wheel and the source distribution hold what they should."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _build(target: str, place: Path) -> Path:
    """Build a distribution of this checkout."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(place)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = place.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel."""
    return zipfile.ZipFile(_build("wheel", tmp_path_factory.mktemp("wheel")))


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Every module is in the wheel; tests, docs and a package `adapters` are not."""
    names = set(wheel.namelist())
    modules = {
        str(path.relative_to(ROOT))
        for package in ("adapter_api", "adapters", "registry")
        for path in (ROOT / package).rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    assert modules <= names
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"adapter_api", "adapters", "registry"}
    assert "adapters/__init__.py" not in names


@pytest.mark.parametrize(
    "package",
    ["adapter_api", "adapters/http_util", "adapters/mock", "adapters/openai_http", "registry"],
)
def test_types_are_shipped(wheel: zipfile.ZipFile, package: str) -> None:
    """Each package says that it is typed (PEP 561)."""
    assert f"{package}/py.typed" in wheel.namelist()


def test_the_metadata_says_how_to_use_it(wheel: zipfile.ZipFile) -> None:
    """Licence, entry points and the command are in the metadata."""
    (metadata,) = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
    (points,) = [n for n in wheel.namelist() if n.endswith("entry_points.txt")]
    text = wheel.read(metadata).decode()
    assert "License-Expression: GPL-3.0-or-later" in text
    assert "Requires-Python: >=3.11" in text
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())
    assert "openai-http = adapters.openai_http:OpenAIHttpAdapter" in wheel.read(points).decode()


def test_the_sdist_holds_what_contributing_asks_for(tmp_path: Path) -> None:
    """Sources, tests, docs, the gate and nox's sessions."""
    with tarfile.open(_build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = (".ci/run", "noxfile.py", "CONTRIBUTING.md", "docs/index.md", "tests/witness.py")
    assert {*wanted, "adapter_api/__init__.py", "registry/py.typed"} <= names


def test_the_description_has_no_link_that_leads_nowhere(wheel: zipfile.ZipFile) -> None:
    """An index shows the README without the pages and images of the source tree."""
    (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    head, _, description = wheel.read(name).decode().partition("\n\n")
    assert "Description-Content-Type: text/markdown" in head
    assert description.startswith("# worker-adapters\n")
    assert "tutorial takes an afternoon" in " ".join(description.split())
    assert [link for link in re.findall(r"\]\(([^)]+)\)", description) if "://" not in link] == []
