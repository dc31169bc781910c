"""What is built is what is meant to be shipped."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from this checkout by the build backend itself."""
    place = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = place.glob("*.whl")
    return zipfile.ZipFile(path)


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
