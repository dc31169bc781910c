"""StreamTable: the running streams of one adapter, by job."""

from functools import partial
from weakref import ref

from adapter_api.stream import TokenStream


class StreamTable:
    """The streams of one adapter, for cancelling by job_id. Holds them weakly."""

    def __init__(self) -> None:
        self._streams: dict[str, list[ref[TokenStream]]] = {}

    def add(self, stream: TokenStream) -> TokenStream:
        """Remember `stream` for as long as it exists, and return it."""
        forget = partial(_forget, self._streams, stream.job_id)
        self._streams.setdefault(stream.job_id, []).append(ref(stream, forget))
        return stream

    async def cancel(self, job_id: str) -> bool:
        """Cancel the job's stream. Returns False if no such job is running."""
        streams = [stream() for stream in self._streams.get(job_id, ())]
        return any([await stream.cancel() for stream in streams if stream is not None])

    async def aclose(self) -> None:
        """Close every stream."""
        streams = [stream() for streams in list(self._streams.values()) for stream in streams]
        for stream in streams:
            if stream is not None:
                await stream.aclose()


def _forget(
    streams: dict[str, list["ref[TokenStream]"]], job_id: str, gone: "ref[TokenStream]"
) -> None:
    rest = [stream for stream in streams.get(job_id, ()) if stream is not gone]
    if rest:
        streams[job_id] = rest
    else:
        streams.pop(job_id, None)
