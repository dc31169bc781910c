"""What is installed, from entry-point metadata only: no plugin is imported (ORCH-3054)."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import importlib_metadata

if TYPE_CHECKING:
    _Distribution: TypeAlias = importlib_metadata.IDistribution  # not in older versions
    _Offer: TypeAlias = tuple[_Distribution, list[str]]

GROUP = "worker_adapters"
"""The entry-point group of adapters: hookspecs.PROJECT, but listing names needs no pluggy."""

_TARGET = re.compile(r"(\w+(?:\.\w+)*)\s*:\s*(\w+(?:\.\w+)*)\s*(?:\[.*\])?")
_PLAIN_NAME = re.compile(r"[\w.-]+")
_UNKNOWN = "unknown"


class AdapterRecord(NamedTuple):
    """One adapter as one distribution offers it. No attrs here: it takes longer to import than
    everything takes that lists the names.

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


class Catalogue:
    """All adapters that were installed when it was made.

    Args:
        offers: For each name, who offers it and with which targets.
    """

    def __init__(self, offers: Mapping[str, Sequence["_Offer"]]) -> None:
        self._offers = offers
        self._records: dict[str, tuple[AdapterRecord, ...]] = {}

    def names(self) -> list[str]:
        """Every name that is offered, sorted."""
        return sorted(self._offers)

    def find(self, name: str) -> tuple[AdapterRecord, ...]:
        """Who offers `name`, which may be "distribution:name"; several, by their distributions'
        names, if it is ambiguous."""
        if name in self._offers:
            return self._of(name)
        distribution, _, plain = name.partition(":")
        return tuple(
            record
            for record in self._of(plain)
            if normalized(record.distribution) == normalized(distribution)
        )

    def has_rivals(self, record: AdapterRecord) -> bool:
        """Whether another distribution's targets lie in the same top-level package or module."""
        package, own = _package(record.target), normalized(record.distribution)
        return any(
            package == _package(target) and normalized(_quick_name(distribution)) != own
            for offers in self._offers.values()
            for distribution, targets in offers
            for target in targets
        )

    def distributions(self) -> list["_Distribution"]:
        """Every distribution that offers an adapter."""
        found = {id(each): each for offers in self._offers.values() for each, _ in offers}
        return list(found.values())

    def _of(self, name: str) -> tuple[AdapterRecord, ...]:
        """The records of a name. Only here is METADATA read."""
        if name in self._offers and name not in self._records:
            records = [
                AdapterRecord(
                    name, *identify(distribution), " and ".join(targets), _problem(targets)
                )
                for distribution, targets in self._offers[name]
            ]
            records.sort(key=lambda record: normalized(record.distribution))
            self._records[name] = tuple(records)
        return self._records.get(name, ())


def scan() -> Catalogue:
    """Look at every installed distribution.

    Each is read on its own, so that a malformed one harms no other, and only texts that hold
    our group are parsed, which takes half the time of `importlib_metadata.entry_points`.
    """
    offers: dict[str, list[_Offer]] = {}
    for distribution in _distributions():
        try:
            text = distribution.read_text("entry_points.txt")
        except Exception:
            _warn_of(distribution)
            continue
        if text is None or GROUP not in text:
            continue
        targets: dict[str, list[str]] = {}
        for name, target in _lines_of_group(text):
            if target not in targets.setdefault(name, []):
                targets[name].append(target)
        for name, found in targets.items():
            offers.setdefault(name, []).append((distribution, found))
    return Catalogue(offers)


def normalized(distribution: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def module_and_attribute(target: str) -> tuple[str, str]:
    """The two halves of a well-formed target."""
    match = _TARGET.fullmatch(target)
    assert match is not None, target
    return match[1], match[2]


def _package(target: str) -> str:
    return re.split(r"[.:\s]", target, maxsplit=1)[0]


def _distributions() -> Iterable["_Distribution"]:
    """Every distribution once: the one that comes first on sys.path, as import prefers it."""
    found: dict[str, _Distribution] = {}
    for distribution in importlib_metadata.distributions():
        name = _quick_name(distribution)
        # A folder without metadata is what a broken uninstallation leaves.
        if name not in found or not _has_metadata(found[name]):
            found[name] = distribution
    return found.values()


def _quick_name(distribution: "_Distribution") -> str:
    """The normalized name, from the folder's name where it can be: no file is read."""
    try:
        # Not public, yet what importlib_metadata itself wants of every kind of distribution.
        return str(distribution._normalized_name)  # type: ignore[attr-defined]
    except Exception:
        return f"{_UNKNOWN} {id(distribution)}"


def _warn_of(distribution: "_Distribution") -> None:
    import logging  # seldom needed, and dear to import

    logger = logging.getLogger("worker_adapters.registry")
    logger.warning(
        "skipping the unreadable entry points of %s",
        _quick_name(distribution),
        exc_info=logger.isEnabledFor(logging.DEBUG),
    )


def _has_metadata(distribution: "_Distribution") -> bool:
    return bool(_metadata(distribution))


def _lines_of_group(text: str) -> Iterator[tuple[str, str]]:
    """Our group's (name, target) pairs; the target is empty where a line has no `=`."""
    section = ""
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif section == GROUP:
            name, target = (part.strip() for part in line.partition("=")[::2])
            if _is_entry(name, target):
                yield name, target


def _is_entry(name: str, target: str) -> bool:
    """Whether a line is an entry, if only a broken one, and not just a line of a broken file.

    Source: PyPA's specification of entry points: a name does not begin with "[", and should be of
    letters, digits, "_", "." and "-". Where it is not, the rest of the line must be right.
    """
    if not name or name.startswith("[") or not name.isprintable():
        return False
    return bool(_PLAIN_NAME.fullmatch(name) or _TARGET.fullmatch(target))


def _problem(targets: list[str]) -> str | None:
    if len(targets) > 1:
        return "its distribution gives this name to several targets: keep one"
    if _TARGET.fullmatch(targets[0]) is None:
        return (
            "its entry point is malformed: write `name = module:Class` "
            f'under [project.entry-points."{GROUP}"]'
        )
    return None


def identify(distribution: "_Distribution") -> tuple[str, str]:
    """A distribution's name and version; "unknown" for what its metadata does not tell.

    Two lines of a header of fields, which is a message in form: importing the parser for messages
    takes longer than all else that a registry does before it imports a plugin.
    """
    found: dict[str, str] = {}
    for line in _metadata(distribution).splitlines():
        if not line:
            break
        field, _, value = line.partition(":")
        found.setdefault(field.lower(), value.strip())
    return found.get("name") or _UNKNOWN, found.get("version") or _UNKNOWN


def _metadata(distribution: "_Distribution") -> str:
    for name in ("METADATA", "PKG-INFO", ""):  # the last is an .egg-info that is a file itself
        try:
            text = distribution.read_text(name)
        except Exception:  # an unreadable file raises differently in each kind of distribution
            continue
        if text:
            return text
    return ""
