"""The unmet requirements of a distribution, reported when its import fails.

`packaging` compares versions where it is installed; without it only absent distributions are found.
"""

import re
from collections.abc import Iterator

import importlib_metadata

from registry.plugins.discovery import AdapterRecord, normalized
from registry.plugins.guard import attempt

_REQUIREMENT = re.compile(r"\s*([\w.-]+)([^;]*)(?:;(.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
_ENTRY_EXTRAS = re.compile(r"\[([^\]]*)\]\s*$")


def missing_module(record: AdapterRecord, module: str) -> str:
    """Return advice for a module that the adapter imports and that is not installed."""
    extra = attempt(lambda: _extra_for(record, module), None)
    if extra is not None:
        return f"which comes with its extra {extra!r}: pip install '{record.distribution}[{extra}]'"
    requirements = unmet(record)
    if requirements:
        return f"which is not installed; {requirements}"
    return "which is not installed: install the distribution that provides it"


def unmet(record: AdapterRecord) -> str:
    """Return the requirements of the adapter's distribution that are not met, as one clause."""
    nothing: list[str] = []
    found = attempt(lambda: list(_unmet(record)), nothing)
    if not found:
        return ""
    return f"{record.distribution} requires {' and '.join(found)}: install it again with pip"


def _unmet(record: AdapterRecord) -> Iterator[str]:
    for name, specifier, marker in _requirements(record.distribution):
        if _EXTRA.search(marker) or not _applies(marker):
            continue
        try:
            installed = importlib_metadata.version(name)
        except importlib_metadata.PackageNotFoundError:
            yield f"{name}{specifier}, which is not installed"
            continue
        if not _fits(installed, specifier):
            yield f"{name}{specifier}, and {installed} is installed"


def _extra_for(record: AdapterRecord, module: str) -> str | None:
    """Return the extra that installs a module, or the extra that the entry point names."""
    top = normalized(module.partition(".")[0])
    for name, _, marker in _requirements(record.distribution):
        extra = _EXTRA.search(marker)
        if extra is not None and normalized(name) in (top, f"python-{top}", f"py{top}"):
            return extra[1]
    named = _ENTRY_EXTRAS.search(record.target)
    return named[1].strip() if named is not None else None


def _requirements(distribution: str) -> Iterator[tuple[str, str, str]]:
    """Yield name, version specifier and marker of each requirement."""
    for line in importlib_metadata.requires(distribution) or ():
        match = _REQUIREMENT.fullmatch(line)
        if match is not None:
            yield match[1], match[2].partition("]")[2].strip() or match[2].strip(), match[3] or ""


def _applies(marker: str) -> bool:
    try:
        from packaging.markers import Marker
    except ImportError:
        return not marker.strip()
    return not marker.strip() or Marker(marker).evaluate()


def _fits(installed: str, specifier: str) -> bool:
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return True
    return SpecifierSet(specifier.strip("() ")).contains(installed, prereleases=True)
