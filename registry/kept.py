"""The adapters that `Registry.dispatch` builds and keeps."""

import asyncio
from threading import Lock
from weakref import WeakSet, ref

from adapter_api.stream import TokenStream
from adapter_api.task import TaskRequest
from registry.adapter import BoundAdapter
from registry.plugins.discovery import AdapterRecord
from registry.plugins.guard import attempt

MAX_IDLE = 32
"""Idle adapters kept for each event loop: enough for a program that varies a few options, and so
few that their idle connections do not burden a server."""


class _Kept:
    """One adapter with its streams that are still referenced."""

    def __init__(self, record: AdapterRecord, adapter: BoundAdapter) -> None:
        self.record = record
        self.adapter = adapter
        self.streams: WeakSet[TokenStream] = WeakSet()

    def submit(self, task: TaskRequest) -> TokenStream:
        """Run a task; the adapter is in use as long as the stream is referenced."""
        stream = self.adapter.submit(task)
        self.streams.add(stream)
        return stream

    def is_for(self, record: AdapterRecord, config: object) -> bool:
        return record == self.record and _equal(self.adapter.config, config)


class KeptAdapters:
    """Adapters by event loop, record and config, the least recently used first.

    Adapters of a loop that has ended are taken over by the next loop that needs them.
    """

    def __init__(self) -> None:
        self._loops: list[tuple[ref[asyncio.AbstractEventLoop], list[_Kept]]] = []
        self._lock = Lock()
        self._closing: set[asyncio.Task[None]] = set()

    def find(self, record: AdapterRecord, config: object) -> _Kept | None:
        """Return the running loop's adapter for a config, if there is one."""
        kept = self._here()
        for each in kept:
            if each.is_for(record, config):
                kept.remove(each)
                kept.append(each)
                return each
        return None

    def add(self, record: AdapterRecord, adapter: BoundAdapter) -> _Kept:
        """Keep an adapter for the running loop; idle ones beyond MAX_IDLE are closed."""
        kept = self._here()
        idle = [each for each in kept if not each.streams]
        for each in idle[: max(0, len(idle) + 1 - MAX_IDLE)]:
            kept.remove(each)
            task = asyncio.create_task(each.adapter.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        kept.append(_Kept(record, adapter))
        return kept[-1]

    async def aclose(self) -> None:
        """Close the adapters of the running loop and of loops that have ended.

        Raises:
            ExceptionGroup: The exceptions raised by closing them, after closing all was tried.
        """
        kept, errors = self._here(), []
        while kept:
            try:
                await kept.pop(0).adapter.aclose()
            except Exception as error:
                errors.append(error)
        if self._closing:  # idle ones that were dropped just now
            await asyncio.wait(self._closing)
        if errors:
            raise ExceptionGroup("adapters could not be closed", errors)

    def _here(self) -> list[_Kept]:
        """Return the adapters kept for the running loop and for loops that have ended."""
        running = asyncio.get_running_loop()
        here: list[_Kept] = []
        left: list[_Kept] = []
        others = []
        with self._lock:
            for known, kept in self._loops:
                loop = known()
                if loop is running:
                    here = kept
                elif loop is None or loop.is_closed():
                    left += kept
                else:
                    others.append((known, kept))
            here[:0] = left
            self._loops = [*others, (ref(running), here)]
        return here


def _equal(one: object, other: object) -> bool:
    """Return whether two configs are equal; field by field if their class compares identities."""
    if type(one) is not type(other):
        return False
    # Values of foreign types may refuse to be compared.
    return attempt(lambda: _alike(one, other), one is other)


def _alike(one: object, other: object) -> bool:
    if type(one).__eq__ is not object.__eq__:
        return bool(one == other)
    import attrs

    fields: tuple[attrs.Attribute[object], ...] = attrs.fields(type(one))  # type: ignore[arg-type]
    return all(getattr(one, f.name) == getattr(other, f.name) for f in fields)
