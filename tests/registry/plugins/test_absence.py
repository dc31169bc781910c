"""Why no adapter has a name: each cause that can be seen is named, with the interpreter."""

import sys

import importlib_metadata
import pytest

from adapter_api import AdapterNotFound
from registry import Registry


def cause_of(name: str) -> str:
    """Return the message for a name that no distribution offers."""
    with pytest.raises(AdapterNotFound) as caught:
        Registry().get(name)
    assert caught.value.cause in str(caught.value)
    return caught.value.cause


def test_the_interpreter_is_named():
    """The message names the interpreter and its environment."""
    cause = cause_of("made-nothing")
    assert cause == f"This is {sys.executable}, with packages in {sys.prefix}."


def test_an_entry_point_added_after_an_editable_install(site, tmp_path):
    """pyproject.toml declares the name, and the installed metadata is older."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "made-it"\n[project.entry-points.worker_adapters]\nmade = "m:A"\n'
    )
    info = site.install("made-it", "other = made_it:A")
    url = project.as_uri()
    (info / "direct_url.json").write_text(f'{{"url": "{url}", "dir_info": {{"editable": true}}}}')
    cause = cause_of("made")
    assert "made-it's pyproject.toml declares it" in cause
    assert f"-m pip install -e {project}` again" in cause
    assert "pyproject" not in cause_of("made-nothing")


@pytest.mark.parametrize(
    "group", ["worker-adapters", "worker_adapter", "Worker_Adapters", "worker_adapters.plugins"]
)
def test_a_misspelt_group(site, group):
    """An entry point in a group that resembles ours names the group to write."""
    info = site.install("made-it")
    (info / "entry_points.txt").write_text(f"[console_scripts]\nx = y:z\n[{group}]\nmade = m:A\n")
    cause = cause_of("made")
    assert f"made-it 1.0 declares it in the entry-point group '{group}'" in cause
    assert "rename the group to 'worker_adapters'" in cause


def test_entry_points_in_another_encoding(site):
    """A file that some editors write, and that nothing can read, is named."""
    info = site.install("made-it")
    (info / "entry_points.txt").write_bytes("[worker_adapters]\nmade = m:A\n".encode("utf-16"))
    assert "The entry points of made-it 1.0 are not in UTF-8, and so are not read." in cause_of(
        "made"
    )


def test_another_environment_is_active(monkeypatch, tmp_path):
    """An activated environment that this interpreter does not use is named."""
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))
    assert f"VIRTUAL_ENV is {tmp_path}" in cause_of("made")
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    assert "VIRTUAL_ENV" not in cause_of("made")


def test_a_stale_egg_info_comes_first(site, another_site):
    """An older copy on sys.path that lacks the entry point is named with both places."""
    site.install("made-it", "made = made_it:A", version="2.0")
    stale = another_site.folder / "made_it.egg-info"
    stale.mkdir()
    (stale / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: made-it\nVersion: 1.0\n")
    cause = cause_of("made")
    assert f"made-it is found twice: the one in {another_site.folder}" in cause
    assert f"2.0 in {site.folder} does" in cause


@pytest.fixture
def without_metadata(monkeypatch):
    """No distribution has a .dist-info folder, as in a trimmed image."""
    monkeypatch.setattr(importlib_metadata, "distributions", list)


def test_metadata_was_stripped(without_metadata):
    """Code without its .dist-info folder says what is missing."""
    assert "The code of worker-adapters is here without its metadata" in cause_of("mock")


def test_a_frozen_application(without_metadata, monkeypatch):
    """A frozen application that collected no metadata is sent to the page about it."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert "frozen application" in cause_of("mock")
    assert "docs/how-to/frozen-apps.md" in cause_of("mock")
