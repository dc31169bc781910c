"""Distributions that are installed in place while the process runs."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from adapter_api import AdapterLoadError
from registry import Registry


@pytest.fixture
def in_place(
    site: Any, tmp_path: Path, adapter_source: str, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Installs a distribution in place, as pip does with a `.pth` file that holds `line`."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    project = tmp_path / "project"
    project.mkdir()
    (project / "made_inplace.py").write_text(adapter_source)

    def install(line: str = str(project)) -> Path:
        info = site.install("made", "a = made_inplace:Adapter")
        (site.folder / "_made.pth").write_text(f"# a comment\n\n{line}\n")
        (info / "RECORD").write_text("_made.pth,,\nmade/other.pth,,\n")
        origin = {"url": project.as_uri(), "dir_info": {"editable": True}}
        (info / "direct_url.json").write_text(json.dumps(origin))
        return project

    return install


def test_refresh_follows_what_was_installed_in_place(in_place: Any) -> None:
    """The folder comes to the end of the path, once, and the adapter loads."""
    registry = Registry()
    assert "a" not in registry.names()
    project = in_place()
    registry.refresh()
    registry.refresh()
    assert registry.get("a").name == "a"
    assert sys.path.count(str(project)) == 1
    assert sys.path[-1] == str(project)


@pytest.mark.parametrize(
    "line", ["import sys; sys.made_it_ran = True", "import\tsys; sys.made_it_ran = True", "absent"]
)
def test_code_of_the_file_is_not_run(in_place: Any, line: str) -> None:
    """Changes that need a restart are refused, and the error says so."""
    registry = Registry()
    in_place(line)
    before = list(sys.path)
    registry.refresh()
    assert sys.path == before
    assert not hasattr(sys, "made_it_ran")
    with pytest.raises(AdapterLoadError, match="while this process runs, restart"):
        registry.get("a")


def test_what_cannot_be_read_is_passed_over(in_place: Any, site: Any) -> None:
    """A file that is gone, or no text, or a record of the installation that says nothing."""
    in_place()
    (site.folder / "_made.pth").write_bytes(b"\xff\xfe\xff")
    registry = Registry()
    registry.refresh()
    (site.folder / "_made.pth").unlink()
    (site.folder / "made-1.0.dist-info" / "direct_url.json").write_text("[]")
    registry.refresh()
    with pytest.raises(AdapterLoadError, match="its installation is incomplete"):
        registry.get("a")
