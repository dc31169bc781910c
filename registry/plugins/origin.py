"""Origins of modules: packages that shadow a distribution's own, and editable installs.

`adapters` is a namespace package that several distributions fill; one regular package of that name,
anywhere on sys.path, hides it. Of two modules with one name sys.path picks one for all importers.

The modules of an editable install (`pip install -e`) stay in their project. A `.pth` file in
site-packages names the folder. Python reads it only at startup, so it misses later installations.
"""

import csv
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from types import ModuleType
from typing import TYPE_CHECKING

import importlib_metadata

from registry.plugins.discovery import AdapterRecord, identify, normalized

if TYPE_CHECKING:
    from importlib_metadata import IDistribution  # not in older versions


def hiding_package(record: AdapterRecord, module: str) -> str | None:
    """Return a sentence about the package that shadows `module`, with advice; None if none does."""
    package, _, rest = module.partition(".")
    if not rest or f"{package}.{rest.partition('.')[0]}" in sys.modules:
        return None
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not os.path.exists(spec.origin):
        return None
    owner = _owner(package, spec.origin)
    advice = f"uninstall {owner[0]} or" if owner else "rename or remove it, or"
    whose = f"of the distribution {owner[0]} {owner[1]}" if owner else "of no distribution"
    here = f"the package {package!r} at {spec.origin}, {whose},"
    if _is_elsewhere(module, spec.submodule_search_locations or []):
        return (
            f"{here} hides the namespace package of the same name that holds {module}: "
            f"{advice} keep {record.distribution} in an environment of its own"
        )
    foreign = owner is not None and normalized(owner[0]) != normalized(record.distribution)
    if foreign and package not in sys.modules:
        return (
            f"{here} cannot be imported, and {module} lies within it: "
            f"{advice} keep {record.distribution} in an environment of its own"
        )
    return None


def _is_elsewhere(module: str, locations: list[str]) -> bool:
    """Return whether the target's second level lies in a folder that the found package hides."""
    package, second = module.split(".")[:2]
    folders = [os.path.join(entry, package) for entry in sys.path]
    hidden = [folder for folder in folders if folder not in locations]
    return PathFinder.find_spec(f"{package}.{second}", hidden) is not None


def foreign_module(record: AdapterRecord, module: ModuleType) -> str | None:
    """Return a sentence about a module that was imported instead of the distribution's own. None if
    it is its own, or if that cannot be determined, as with a zipped distribution or an editable
    install."""
    spec = getattr(module, "__spec__", None)
    origin = getattr(spec, "origin", None)
    if origin is None or not os.path.exists(origin):
        return None
    package = module.__name__.partition(".")[0]
    try:
        own = _own(record, module.__name__)
    except Exception:  # one malformed distribution must not make a problem where none is
        return None
    if not own or _source(origin) in own:
        return None
    owner = _owner(package, origin)
    whose = f" of {owner[0]} {owner[1]}" if owner else ""
    return (
        f"the module {module.__name__}{whose}, imported from {origin}, hides the one of "
        f"{record.distribution}: uninstall one of them, or keep each in an environment of its own"
    )


def _owner(package: str, origin: str) -> tuple[str, str] | None:
    """Return name and version of the distribution that installed the file `origin`."""
    for distribution in importlib_metadata.distributions():
        try:
            record = distribution.read_text("RECORD")
            if record is not None and package not in record:  # parsing all takes long
                continue
            if _source(origin) in _files(distribution, package):
                return identify(distribution)
        except Exception:  # one malformed distribution must not replace the error being explained
            continue
    return None


def _own(record: AdapterRecord, module: str) -> set[str]:
    """Return the files of which one is the distribution's own module; empty if unknown."""
    distribution = importlib_metadata.distribution(record.distribution)
    package, _, rest = module.partition(".")
    files = _files(distribution, package)
    if files or rest or is_editable(record.distribution):
        return files
    # It lists no files. What lies in its folder under that name is its own.
    spec = PathFinder.find_spec(package, [str(distribution.locate_file(""))])
    return set() if spec is None or spec.origin is None else {_source(spec.origin)}


def _files(distribution: "IDistribution", package: str) -> set[str]:
    """Return the files of a top-level package or module that the distribution lists."""
    return {
        _source(str(distribution.locate_file(file)))
        for file in _listed(distribution)
        if re.split(r"[./\\]", file, maxsplit=1)[0] == package
    }


def _listed(distribution: "IDistribution") -> Iterator[str]:
    """Yield the files that the distribution lists. importlib_metadata leaves out missing ones,
    and where only compiled files are kept all sources are missing."""
    record = distribution.read_text("RECORD")
    if record is None:
        yield from map(str, distribution.files or ())
    else:
        yield from (row[0] for row in csv.reader(record.splitlines()) if row)


def _source(path: str) -> str:
    """Return the real path of a module without its suffix, the same for source and compiled files.

    Images that keep only compiled files have `x.pyc` where RECORD lists `x.py`.
    """
    folder, name = os.path.split(os.path.realpath(path))
    if os.path.basename(folder) == "__pycache__":
        folder = os.path.dirname(folder)
    return os.path.join(folder, name.partition(".")[0])


# Editable installs


def follow(distributions: Iterable["IDistribution"]) -> None:
    """Append the folders that the distributions' `.pth` files name to sys.path.

    Python does the same when it starts. Lines of code in these files are not run: only the owner of
    a running process may decide that.
    """
    known = {_compared(entry) for entry in sys.path}
    for folder in [folder for each in distributions for folder in _folders(each)]:
        if _compared(folder) not in known and os.path.isdir(folder):
            known.add(_compared(folder))
            sys.path.append(folder)


def is_editable(distribution: str) -> bool:
    """Return whether the distribution is an editable install. Source: PEP 610, direct_url.json."""
    try:
        text = importlib_metadata.distribution(distribution).read_text("direct_url.json")
        return bool(json.loads(text or "{}").get("dir_info", {}).get("editable"))
    except Exception:  # absent, or not as the standard requires
        return False


def _folders(distribution: "IDistribution") -> Iterator[str]:
    """Yield the folders that the distribution's `.pth` files name."""
    try:
        rows = (distribution.read_text("RECORD") or "").splitlines()
        names = [row.partition(",")[0] for row in rows]
        for name in names:
            if name.endswith(".pth") and "/" not in name:
                yield from _lines(str(distribution.locate_file(name)))
    except (OSError, UnicodeError):  # half installed, half uninstalled
        return


def _lines(path: str) -> Iterator[str]:
    with open(path, encoding="utf-8-sig") as file:
        for line in map(str.strip, file):
            if line and not line.startswith(("#", "import ", "import\t")):
                yield os.path.join(os.path.dirname(path), line)


def _compared(entry: str) -> str:
    return os.path.normcase(os.path.abspath(entry))
