"""Whose module it is that a target names: foreign packages under the name of ours, and others in
the place of a distribution's own.

`adapters` is a namespace package that several distributions fill; one regular package of that name,
anywhere on sys.path, hides it. And of two modules with one name, sys.path picks one for everybody.
"""

import importlib.util
import os
import sys
from importlib.machinery import PathFinder
from types import ModuleType
from typing import TYPE_CHECKING

import importlib_metadata

from registry.plugins.discovery import AdapterRecord, identify, normalized
from registry.plugins.inplace import is_editable

if TYPE_CHECKING:
    from importlib_metadata import IDistribution  # not in older versions


def intruder(record: AdapterRecord, module: str) -> str | None:
    """Whose package stands in the way of `module`, and what to do; None if none does."""
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
    """Whether the target's second level lies in a folder that the found package hides."""
    package, second = module.split(".")[:2]
    folders = [os.path.join(entry, package) for entry in sys.path]
    hidden = [folder for folder in folders if folder not in locations]
    return PathFinder.find_spec(f"{package}.{second}", hidden) is not None


def stranger(record: AdapterRecord, module: ModuleType) -> str | None:
    """Whose module was imported in the place of the distribution's own; None if it is its own, or
    if that cannot be told, as with a distribution that is zipped or installed in place."""
    spec = getattr(module, "__spec__", None)
    origin = getattr(spec, "origin", None)
    if origin is None or not os.path.exists(origin):
        return None
    package = module.__name__.partition(".")[0]
    try:
        own = _own(record, module.__name__)
    except Exception:  # one malformed distribution must not make a problem where none is
        return None
    if not own or os.path.realpath(origin) in own:
        return None
    owner = _owner(package, origin)
    whose = f" of {owner[0]} {owner[1]}" if owner else ""
    return (
        f"the module {module.__name__}{whose}, imported from {origin}, hides the one of "
        f"{record.distribution}: uninstall one of them, or keep each in an environment of its own"
    )


def _owner(package: str, origin: str) -> tuple[str, str] | None:
    """The name and version of the distribution that installed the file `origin`."""
    try:
        names = importlib_metadata.packages_distributions().get(package, ())
        for name in dict.fromkeys(names):
            distribution = importlib_metadata.distribution(name)
            if os.path.realpath(origin) in _files(distribution, package):
                return identify(distribution)
    except Exception:  # one malformed distribution must not replace the error being explained
        return None
    return None


def _own(record: AdapterRecord, module: str) -> set[str]:
    """The files of which one is the distribution's own module; empty if that cannot be told."""
    distribution = importlib_metadata.distribution(record.distribution)
    package, _, rest = module.partition(".")
    files = _files(distribution, package)
    if files or rest or is_editable(record.distribution):
        return files
    # It lists no files. What else lies in its folder under that name is its own.
    spec = PathFinder.find_spec(package, [str(distribution.locate_file(""))])
    return set() if spec is None or spec.origin is None else {os.path.realpath(spec.origin)}


def _files(distribution: "IDistribution", package: str) -> set[str]:
    """Where the files of a top-level package are, or the one file of a module, as far as the
    distribution lists them."""
    return {
        os.path.realpath(str(distribution.locate_file(file)))
        for file in distribution.files or ()
        if file.parts[0].partition(".")[0] == package
    }
