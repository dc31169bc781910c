"""The installed adapters, from entry-point metadata only: no plugin is imported (ORCH-3054)."""

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
_INFO_FOLDER = re.compile(r"(.+?)-([^-]+)(?:-py[\d.]+)?\.(?:dist|egg)-info")
_UNKNOWN = "unknown"


class AdapterRecord(NamedTuple):
    """One adapter as one distribution offers it. A NamedTuple, because attrs takes longer to import
    than listing the names takes.

    Args:
        name: The entry point's name.
        distribution: The distribution's name, or "unknown".
        version: The distribution's version, or "unknown".
        target: Where the class is, as "module:attribute".
        problem: Why the entry cannot be used; None if it is well formed.
    """

    name: str
    distribution: str
    version: str
    target: str
    problem: str | None = None


class Catalogue:
    """All adapters that were installed when it was made. It does not change.

    Args:
        offers: For each name, the distributions that offer it and their targets.
        shadowed: For each distribution (normalized), the other installed versions that are hidden.
    """

    def __init__(
        self,
        offers: Mapping[str, Sequence["_Offer"]],
        shadowed: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._offers = offers
        self._shadowed = shadowed or {}
        self._records: dict[str, tuple[AdapterRecord, ...]] = {}

    def names(self) -> list[str]:
        """Return every offered name, sorted."""
        return sorted(self._offers)

    def find(self, name: str) -> tuple[AdapterRecord, ...]:
        """Return the records of `name`, which may be "distribution:name"; several, sorted by
        distribution, if it is ambiguous."""
        if name in self._offers:
            return self._of(name)
        distribution, _, plain = name.partition(":")
        return tuple(
            record
            for record in self._of(plain)
            if normalized(record.distribution) == normalized(distribution)
        )

    def has_rivals(self, record: AdapterRecord) -> bool:
        """Return whether targets of another distribution are in the same top-level package."""
        package, own = _package(record.target), normalized(record.distribution)
        return any(
            package == _package(target) and normalized(_quick_name(distribution)) != own
            for offers in self._offers.values()
            for distribution, targets in offers
            for target in targets
        )

    def notes(self, record: AdapterRecord) -> tuple[str, ...]:
        """Return remarks about the record's distribution, one sentence each."""
        return tuple(self._shadowed.get(normalized(record.distribution), ()))

    def distributions(self) -> list["_Distribution"]:
        """Return every distribution that offers an adapter."""
        found = {id(each): each for offers in self._offers.values() for each, _ in offers}
        return list(found.values())

    def _of(self, name: str) -> tuple[AdapterRecord, ...]:
        """Return the records of a name. Only here is METADATA read."""
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
    """Read the entry points of every installed distribution.

    Each distribution is read on its own, so that a malformed one affects no other. Only files that
    contain our group are parsed, which takes half the time of `importlib_metadata.entry_points`.
    """
    offers: dict[str, list[_Offer]] = {}
    shadowed: dict[str, list[str]] = {}
    for distribution in _distributions(shadowed):
        try:
            text = distribution.read_text("entry_points.txt")
        except Exception:
            _warn(
                "skipping the unreadable entry points of %s", _quick_name(distribution), trace=True
            )
            continue
        if text is None or GROUP not in text:
            continue
        targets: dict[str, list[str]] = {}
        for name, target in entries(text):
            if target not in targets.setdefault(name, []):
                targets[name].append(target)
        for name, found in targets.items():
            offers.setdefault(name, []).append((distribution, found))
    return Catalogue(offers, shadowed)


def normalized(distribution: str) -> str:
    """Return a distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def module_and_attribute(target: str) -> tuple[str, str]:
    """Return module and attribute of a well-formed target."""
    match = _TARGET.fullmatch(target)
    assert match is not None, target
    return match[1], match[2]


def _package(target: str) -> str:
    return re.split(r"[.:\s]", target, maxsplit=1)[0]


def _distributions(shadowed: dict[str, list[str]]) -> Iterable["_Distribution"]:
    """Return every distribution once: the first on sys.path, as import prefers it.

    Of two in one folder, which `pip install --target --upgrade` leaves, the newer version counts,
    and `shadowed` gets a sentence.
    """
    found: dict[str, _Distribution] = {}
    for distribution in importlib_metadata.distributions():
        name = _quick_name(distribution)
        other = found.setdefault(name, distribution)
        if other is distribution:
            continue
        if not _has_metadata(other):  # a folder that a broken uninstallation left
            found[name] = distribution
        elif _folder(other) == _folder(distribution) is not None:
            used, hidden = sorted((other, distribution), key=_version_key, reverse=True)
            found[name] = used
            note = (
                f"{name} is installed twice in {_folder(used)}: {identify(used)[1]} is used, and "
                f"{identify(hidden)[1]} is shadowed; remove its .dist-info folder"
            )
            shadowed.setdefault(normalized(name), []).append(note)
            _warn("%s", note)
    return found.values()


def _quick_name(distribution: "_Distribution") -> str:
    """Return the normalized name, from the folder's name where possible: no file is read."""
    try:
        # Not public, but importlib_metadata itself uses it for every kind of distribution.
        return str(distribution._normalized_name)  # type: ignore[attr-defined]
    except Exception:
        return f"{_UNKNOWN} {id(distribution)}"


def _folder(distribution: "_Distribution") -> str | None:
    try:
        return str(distribution.locate_file(""))
    except Exception:  # not every kind of distribution lies in a folder
        return None


def _version_key(distribution: "_Distribution") -> list[tuple[float, int]]:
    """Return a sort key like PEP 440's, for versions that differ in numbers and phase."""
    words = re.findall(r"[0-9]+|[a-z]+", identify(distribution)[1].lower())
    ranks = {"post": 0.5, "rev": 0.5, "r": 0.5, "dev": -2.0}
    key = [(1.0, int(w)) if w.isdigit() else (ranks.get(w, -1.0), ord(w[0])) for w in words]
    return [*key, (0.0, 0)]


def _warn(text: str, argument: str, *, trace: bool = False) -> None:
    import logging  # seldom needed, and slow to import

    logger = logging.getLogger("worker_adapters.registry")
    logger.warning(text, argument, exc_info=trace and logger.isEnabledFor(logging.DEBUG))


def _has_metadata(distribution: "_Distribution") -> bool:
    try:
        return bool(_metadata(distribution, passing=UnicodeDecodeError))
    except UnicodeDecodeError:
        return True


def entries(text: str, group: str = GROUP) -> Iterator[tuple[str, str]]:
    """Yield a group's (name, target) pairs; the target is empty where a line has no `=`."""
    section = ""
    for line in map(str.strip, text.removeprefix("\ufeff").splitlines()):  # some editors add a BOM
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif section == group:
            name, target = (part.strip() for part in line.partition("=")[::2])
            if _is_entry(name, target):
                yield name, target


def _is_entry(name: str, target: str) -> bool:
    """Return whether a line is an entry, even a broken one, and not a line of a broken file.

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
    """Return a distribution's name and version, from its metadata, else from its folder's name,
    else "unknown".

    Two header lines are parsed by hand: importing the email parser takes longer than everything
    else that a registry does before it imports a plugin.
    """
    found: dict[str, str] = {}
    for line in _metadata(distribution).splitlines():
        if not line:
            break
        field, _, value = line.partition(":")
        found.setdefault(field.lower(), value.strip())
    name, version = found.get("name"), found.get("version")
    if not (name and version):
        named, versioned = _from_folder(distribution)
        name, version = name or named, version or versioned
    return name, version


def _from_folder(distribution: "_Distribution") -> tuple[str, str]:
    """Return name and version as `name-version.dist-info` has them.

    Source: PyPA's specification of recorded projects.
    """
    folder = getattr(getattr(distribution, "_path", None), "name", "")
    match = _INFO_FOLDER.fullmatch(folder)
    return (match[1], match[2]) if match is not None else (_UNKNOWN, _UNKNOWN)


def _metadata(distribution: "_Distribution", passing: type[Exception] | tuple[()] = ()) -> str:
    for name in ("METADATA", "PKG-INFO", ""):  # the last is an .egg-info that is a file itself
        try:
            text = distribution.read_text(name)
        except passing:
            raise
        except Exception:  # an unreadable file raises differently in each kind of distribution
            continue
        if text:
            return text
    return ""
