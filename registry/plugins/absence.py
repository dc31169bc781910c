"""Likely causes for an adapter name that is not found."""

import importlib.util
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import importlib_metadata

from registry.plugins.discovery import GROUP, entries, identify, normalized

if TYPE_CHECKING:
    from importlib_metadata import IDistribution  # not in older versions

OURS = "worker-adapters"

_HEADER = re.compile(r"^\s*\[([^\]\n]+)\]", re.MULTILINE)


def why_absent(name: str) -> str:
    """Return the likely causes, one sentence each, and the interpreter.

    Args:
        name: A name that no installed distribution offers, without a distribution's.
    """
    found = [*_causes(name)]
    here = f"This is {sys.executable or sys.implementation.name}, with packages in {sys.prefix}."
    return " ".join([*found, here, *_elsewhere()])


def _causes(name: str) -> Iterator[str]:
    seen: dict[str, str] = {}
    for distribution in importlib_metadata.distributions():
        try:
            yield from _causes_in(name, distribution, seen)
        except Exception:  # one malformed distribution must not hide the error being explained
            continue
    if OURS not in seen:
        yield from _without_metadata()


def _causes_in(name: str, distribution: "IDistribution", seen: dict[str, str]) -> Iterator[str]:
    own, version = identify(distribution)
    try:
        text = distribution.read_text("entry_points.txt") or ""
    except UnicodeError:
        yield f"The entry points of {own} {version} are not in UTF-8, and so are not read."
        return
    place = str(distribution.locate_file(""))
    first = seen.setdefault(normalized(own), place)
    if first != place and name in dict(entries(text)):
        yield (
            f"{own} is found twice: the one in {first}, which comes first, does not offer it, and "
            f"{version} in {place} does; uninstall the first."
        )
    for group in _HEADER.findall(text):
        if _resembles(group) and name in dict(entries(text, group)):
            yield (
                f"{own} {version} declares it in the entry-point group {group!r}: its author must "
                f"rename the group to {GROUP!r}."
            )
    project = _editable_project(distribution)
    if project is not None and first == place and name in _declared(project):
        yield (
            f"{own}'s pyproject.toml declares it, and the editable install is older: run "
            f"`{_python()} -m pip install -e {project}` again."
        )


def _resembles(group: str) -> bool:
    """Return whether a group's name is ours in another spelling."""
    plain = re.sub(r"[^a-z]", "", group.lower())
    wanted = GROUP.replace("_", "")
    return group != GROUP and plain in (
        wanted,
        wanted.removesuffix("s"),
        *(f"{wanted}{ending}" for ending in ("adapters", "plugins")),
    )


def _editable_project(distribution: "IDistribution") -> str | None:
    """Return the folder of an editable install. Source: PEP 610, direct_url.json."""
    known: Any = json.loads(distribution.read_text("direct_url.json") or "{}")
    if not known.get("dir_info", {}).get("editable"):
        return None
    return url2pathname(urlsplit(known["url"]).path)


def _declared(project: str) -> dict[str, Any]:
    """Return the adapters that a project's pyproject.toml declares."""
    with open(os.path.join(project, "pyproject.toml"), "rb") as file:
        declared: dict[str, Any] = tomllib.load(file)["project"]["entry-points"][GROUP]
    return declared


def _without_metadata() -> Iterator[str]:
    if getattr(sys, "frozen", False):
        yield (
            f"This is a frozen application without the metadata of {OURS}: build it with that "
            "metadata, see docs/how-to/frozen-apps.md."
        )
    elif importlib.util.find_spec("adapter_api") is not None:
        yield (
            f"The code of {OURS} is here without its metadata: keep its .dist-info folder, or "
            f"install it with `{_python()} -m pip install {OURS}`."
        )


def _elsewhere() -> Iterator[str]:
    """Return a sentence if the activated environment is not this interpreter's."""
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        active = os.environ.get(variable)
        if active and os.path.realpath(active) != os.path.realpath(sys.prefix):
            yield f"The active environment is another one: {variable} is {active}."
            return


def _python() -> str:
    return sys.executable or "python"
