"""StreamTable: the running streams of one adapter, by job."""

from collections.abc import Hashable
from weakref import ref

from adapter_api.stream import TokenStream


class StreamRef(ref[TokenStream]):
    """A weak reference to a stream that leaves its table when the stream is gone.

    Attributes:
        key: The key in the table.
        table: The table.
        note: A fact of the table's owner.
    """

    __slots__ = ("key", "note", "table")

    key: Hashable
    table: dict[Hashable, list["StreamRef"]]
    note: object


def remember(
    table: dict[Hashable, list[StreamRef]], key: Hashable, stream: TokenStream, note: object = None
) -> None:
    """Put `stream` into `table` for as long as it exists."""
    entry = StreamRef(stream, _forget)
    entry.key, entry.table, entry.note = key, table, note
    same = table.get(key)
    if same is None:
        table[key] = [entry]
    else:
        same.append(entry)


def _forget(gone: "ref[TokenStream]") -> None:
    assert isinstance(gone, StreamRef)
    same = gone.table.get(gone.key)
    if same is None:
        return
    if len(same) > 1:
        same[:] = [entry for entry in same if entry is not gone]
    elif same[0] is gone:
        del gone.table[gone.key]


class StreamTable:
    """The streams of one adapter, for cancelling by job_id. Holds them weakly."""

    def __init__(self) -> None:
        self._streams: dict[str, tuple[ref[TokenStream], ...]] = {}

    def add(self, stream: TokenStream) -> TokenStream:
        """Remember `stream` for as long as it exists, and return it."""
        others = self._streams.get(stream.job_id, ())
        self._streams[stream.job_id] = (*others, ref(stream))
        stream.on_gone += (self._forget,)
        return stream

    def _forget(self, stream: TokenStream) -> None:
        known = self._streams.get(stream.job_id)
        if known is not None and len(known) == 1 and known[0]() is stream:
            del self._streams[stream.job_id]
            return
        alive = [one for one in self._found(stream.job_id) if one is not stream]
        if alive:
            self._streams[stream.job_id] = tuple(map(ref, alive))
        else:
            self._streams.pop(stream.job_id, None)

    def _found(self, job_id: str) -> list[TokenStream]:
        return [found for one in self._streams.get(job_id, ()) if (found := one()) is not None]

    async def cancel(self, job_id: str) -> bool:
        """Cancel the job's stream. Returns False if no such job is running."""
        return any([await stream.cancel() for stream in self._found(job_id)])

    async def aclose(self) -> None:
        """Close every stream."""
        for job_id in list(self._streams):
            for stream in self._found(job_id):
                await stream.aclose()
