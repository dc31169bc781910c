"""The adapters of one registry at one moment: installed, blocked and loaded ones."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from adapter_api.errors import AdapterNotFound, AmbiguousAdapter
from registry.near import nearest
from registry.plugins import discovery
from registry.plugins.discovery import AdapterRecord, Catalogue, normalized

if TYPE_CHECKING:
    from registry.plugins.loading import LoadedAdapter

BLOCKED_VARIABLE = "WORKER_ADAPTERS_BLOCKED"
"""Holds the names that no registry may use, separated by commas."""


class Installed:
    """The installed and blocked adapters at one moment, and those already loaded.

    A refresh replaces the whole object, so a thread never sees half of one.
    """

    def __init__(self, blocked: frozenset[str]) -> None:
        self.catalogue: Catalogue = discovery.scan()
        self.blocked = blocked
        self._loaded: dict[AdapterRecord, LoadedAdapter] = {}

    def names(self) -> list[str]:
        """Return the names with at least one usable record, sorted."""
        return [name for name in self.catalogue.names() if not self._all_blocked(name)]

    def records(self, name: str) -> tuple[AdapterRecord, ...]:
        """Return the records of `name`, blocked ones among them.

        Raises:
            AdapterNotFound: If there are none.
            TypeError: If `name` is not a string.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of an adapter is a string, got {type(name).__name__}")
        records = self.catalogue.find(name)
        if not records:
            raise self._not_found(name)
        return records

    def usable(self, name: str) -> tuple[AdapterRecord, ...]:
        """Return the records of `name` that are not blocked."""
        return tuple(record for record in self.records(name) if not self._is_blocked(record))

    def record(self, name: str) -> AdapterRecord:
        """Return the one record that may be used by `name`.

        Raises:
            AdapterNotFound: If there is none, or all are blocked.
            AmbiguousAdapter: If there are several.
        """
        records = self.usable(name)
        if not records:
            raise AdapterNotFound(name, self.names(), None, blocked=True)
        first, *others = records
        if others:
            raise AmbiguousAdapter(name, [record.distribution for record in records])
        return first

    def load(self, record: AdapterRecord) -> "LoadedAdapter":
        """Return the checked class of a record."""
        from registry.plugins.loading import load

        if record not in self._loaded:
            self._loaded[record] = load(record, rivals=self.catalogue.has_rivals(record))
        return self._loaded[record]

    def _not_found(self, name: str) -> AdapterNotFound:
        from registry.plugins.absence import why_absent

        names = self.names()
        full = [f"{r.distribution}:{n}" for n in names for r in self.catalogue.find(n)]
        near = nearest(name, full if ":" in name else names)
        return AdapterNotFound(name, names, near, cause=why_absent(name.rpartition(":")[2]))

    def _is_blocked(self, record: AdapterRecord) -> bool:
        full = f"{normalized(record.distribution)}:{record.name}"
        return record.name in self.blocked or full in self.blocked

    def _all_blocked(self, name: str) -> bool:
        if name in self.blocked:
            return True
        # The distribution is read from metadata: only if a name is blocked for one distribution.
        if not any(entry.endswith(f":{name}") for entry in self.blocked):
            return False
        return all(self._is_blocked(record) for record in self.catalogue.find(name))


def blocked_names(blocked: Iterable[str] | str | None) -> frozenset[str]:
    """Return the blocked names, from BLOCKED_VARIABLE if none are given."""
    if blocked is None:
        blocked = os.environ.get(BLOCKED_VARIABLE, "")
    if isinstance(blocked, str):
        blocked = blocked.split(",")
    names = {name.strip() for name in blocked} - {""}
    return frozenset(names | {_qualified(name) for name in names if ":" in name})


def _qualified(name: str) -> str:
    """Return a "distribution:name" with the distribution normalized."""
    distribution, _, plain = name.partition(":")
    return f"{normalized(distribution)}:{plain}"
