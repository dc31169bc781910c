"""What is installed, from entry-point metadata only: no plugin is imported (ORCH-3054)."""

import logging
import re
from collections.abc import Iterator, Mapping

import attrs
import importlib_metadata

from adapter_api.hookspecs import PROJECT

logger = logging.getLogger("worker_adapters.registry")

GROUP = PROJECT
"""The entry-point group in which distributions offer adapters."""

_TARGET = re.compile(r"(\w+(?:\.\w+)*)\s*:\s*(\w+(?:\.\w+)*)\s*(?:\[.*\])?")
_UNKNOWN = "unknown"


@attrs.frozen
class AdapterRecord:
    """One adapter as one distribution offers it.

    Args:
        name: The entry point's name.
        distribution: The distribution's name, "unknown" if its metadata does not tell.
        version: The distribution's version, "unknown" if its metadata does not tell.
        target: Where the class is, as "module:attribute".
        problem: Why the entry cannot be used; None if it is well formed.
    """

    name: str
    distribution: str
    version: str
    target: str
    problem: str | None = None


@attrs.frozen
class Catalogue:
    """All adapters that were installed when it was made, by name."""

    records: Mapping[str, tuple[AdapterRecord, ...]]

    def names(self) -> tuple[str, ...]:
        """Every name that is offered, sorted."""
        return tuple(sorted(self.records))

    def find(self, name: str) -> tuple[AdapterRecord, ...]:
        """Who offers `name`, which may be "distribution:name"; several if it is ambiguous."""
        if name in self.records:
            return self.records[name]
        distribution, _, plain = name.partition(":")
        return tuple(
            record
            for record in self.records.get(plain, ())
            if normalized(record.distribution) == normalized(distribution)
        )


def scan() -> Catalogue:
    """Look at every installed distribution.

    Each distribution is read on its own, so that a malformed one harms no other, and only
    the text of those with our group is parsed: that halves the time that
    `importlib_metadata.entry_points` takes.
    """
    found: dict[str, list[AdapterRecord]] = {}
    for distribution in importlib_metadata.distributions():
        for record in _offers(distribution):
            same_name = found.setdefault(record.name, [])
            if record not in same_name:  # a folder may be on sys.path twice
                same_name.append(record)
    return Catalogue({name: tuple(records) for name, records in found.items()})


def normalized(distribution: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def module_and_attribute(target: str) -> tuple[str, str]:
    """The two halves of a well-formed target."""
    match = _TARGET.fullmatch(target)
    assert match is not None, target
    return match[1], match[2]


def _offers(distribution: importlib_metadata.IDistribution) -> Iterator[AdapterRecord]:
    try:
        text = distribution.read_text("entry_points.txt")
    except Exception:
        logger.warning("skipping the unreadable entry points of %s", distribution, exc_info=True)
        return
    if text is None or GROUP not in text:
        return
    targets: dict[str, list[str]] = {}
    for name, target in _lines_of_group(text):
        if target not in targets.setdefault(name, []):
            targets[name].append(target)
    if not targets:
        return
    origin, version = identify(distribution)
    if _is_shadowed(distribution, origin, version):
        return
    for name, found in targets.items():
        yield AdapterRecord(name, origin, version, " and ".join(found), _problem(found))


def _lines_of_group(text: str) -> Iterator[tuple[str, str]]:
    """Our group's (name, target) pairs; the target is empty where a line has no `=`."""
    section = ""
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif section == GROUP:
            name, _, target = line.partition("=")
            yield name.strip(), target.strip()


def _problem(targets: list[str]) -> str | None:
    if len(targets) > 1:
        return "its distribution gives this name to several targets: keep one"
    if _TARGET.fullmatch(targets[0]) is None:
        return (
            "its entry point is malformed: write `name = module:Class` "
            f'under [project.entry-points."{GROUP}"]'
        )
    return None


def identify(distribution: importlib_metadata.IDistribution) -> tuple[str, str]:
    """A distribution's name and version; "unknown" for what its metadata does not tell."""
    try:
        metadata = distribution.metadata
        return str(metadata["Name"] or _UNKNOWN), str(metadata["Version"] or _UNKNOWN)
    except Exception:  # absent or unreadable metadata raises differently in each version
        return _UNKNOWN, _UNKNOWN


def _is_shadowed(
    distribution: importlib_metadata.IDistribution, origin: str, version: str
) -> bool:
    """Whether one of the same name comes earlier on sys.path, and so is the one imported."""
    try:
        first = importlib_metadata.distribution(origin)
    except importlib_metadata.PackageNotFoundError:
        return False
    here = str(distribution.locate_file("")), origin, version
    return (str(first.locate_file("")), *identify(first)) != here
