"""StreamTable: the running streams of one adapter, by job."""

from collections.abc import Hashable
from functools import partial
from typing import Generic, TypeVar
from weakref import ref

from adapter_api.stream import TokenStream

_N = TypeVar("_N")


class StreamMap(Generic[_N]):
    """A map of keys to streams, each with a note, as long as the streams exist. Holds them
    weakly."""

    def __init__(self) -> None:
        self._entries: dict[Hashable, tuple[tuple[ref[TokenStream], _N], ...]] = {}

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._entries)

    def put(self, key: Hashable, stream: TokenStream, note: _N) -> None:
        """Add `stream` until it is garbage-collected; several streams may share a key."""
        self._entries[key] = (*self._entries.get(key, ()), (ref(stream), note))
        stream.on_gone += (partial(self._forget, key),)

    def get(self, key: Hashable) -> list[tuple[TokenStream, _N]]:
        """Return the streams under a key, with their notes; usually one, or none."""
        entries = self._entries.get(key, ())
        return [(stream, note) for one, note in entries if (stream := one()) is not None]

    def streams(self) -> list[TokenStream]:
        """Return all streams."""
        return [stream for key in list(self._entries) for stream, _ in self.get(key)]

    def _forget(self, key: Hashable, gone: TokenStream) -> None:
        entries = self._entries.get(key, ())
        if len(entries) == 1 and entries[0][0]() is gone:
            del self._entries[key]
            return
        left = tuple((one, note) for one, note in entries if one() not in (None, gone))
        if left:
            self._entries[key] = left
        else:
            self._entries.pop(key, None)


class StreamTable:
    """The streams of one adapter, for cancelling by job_id. Holds them weakly."""

    def __init__(self) -> None:
        self._streams: StreamMap[None] = StreamMap()

    def add(self, stream: TokenStream) -> TokenStream:
        """Add `stream` for as long as it exists, and return it."""
        self._streams.put(stream.job_id, stream, None)
        return stream

    async def cancel(self, job_id: str) -> bool:
        """Cancel the job's stream. Returns False if no such job is running."""
        return any([await stream.cancel() for stream, _ in self._streams.get(job_id)])

    async def aclose(self) -> None:
        """Close every stream."""
        for stream in self._streams.streams():
            await stream.aclose()
