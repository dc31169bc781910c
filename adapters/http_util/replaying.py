"""Transports that record what passes through them, and that play a recording."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from time import monotonic

import httpx

from adapters.http_util.recording import (
    Chunk,
    Exchange,
    Mask,
    Writer,
    masked,
    read_recording,
)
from adapters.http_util.redact import SECRET_HEADERS, redact

_SCHEMES = ("bearer ", "basic ")


class RecordingTransport(httpx.AsyncBaseTransport):
    """Passes everything on to another transport, and writes it down.

    The file is made with the first request. What a chunk is, the other transport says. The
    credentials of a request's headers are removed from all of its exchange.

    Args:
        inner: Where requests go; it is closed with this one.
        path: The file, which must not exist.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, path: str | Path) -> None:
        self._inner = inner
        self._path = Path(path)
        self._writer: Writer | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass one request on.

        Raises:
            FileExistsError: With the first request, if the file is there already.
            httpx.TransportError: As the other transport does.
        """
        if self._writer is None:
            self._writer = Writer(self._path)
        secrets = _credentials(request.headers)
        body = masked(await request.aread(), secrets)
        exchange = self._writer.request(
            request.method, request.url.raw_path.decode("ascii"), request.headers, body
        )
        tape = _Tape(self._writer, exchange, secrets)
        try:
            response = await self._inner.handle_async_request(request)
        except BaseException as exc:
            tape.stop(exc)
            raise
        tape.head(response)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_RecordedStream(response.stream, tape),
            # Without the way around the stream that our own transport offers.
            extensions={k: v for k, v in response.extensions.items() if k != "body_stream"},
        )

    async def aclose(self) -> None:
        """Close the other transport and the file."""
        try:
            await self._inner.aclose()
        finally:
            if self._writer is not None:
                self._writer.close()


class _Tape:
    """Writes down one exchange."""

    def __init__(self, writer: Writer, exchange: int, secrets: Sequence[bytes]) -> None:
        self._writer = writer
        self._exchange = exchange
        self._secrets = secrets
        self._mask = Mask(secrets)
        self._began = monotonic()
        self._ended = False

    def head(self, response: httpx.Response) -> None:
        headers = [(name, self._hidden(value)) for name, value in response.headers.multi_items()]
        self._writer.response(self._exchange, self._ms(), response.status_code, headers)

    def chunk(self, data: bytes) -> None:
        self._writer.chunks(self._exchange, self._mask.feed(Chunk(self._ms(), data)))

    def stop(self, error: BaseException | None = None, *, left: bool = False) -> None:
        """Write the end: of the answer, with an error, or because the client left. The first
        one counts."""
        if self._ended:
            return
        self._ended = True
        self._writer.chunks(self._exchange, self._mask.finish())
        if isinstance(error, Exception):
            name, said = type(error).__name__, self._hidden(str(error))
            self._writer.end(self._exchange, self._ms(), "broken", name, said)
        else:
            left = left or error is not None
            self._writer.end(self._exchange, self._ms(), "left" if left else "complete")

    def _hidden(self, text: str) -> str:
        return redact(text, [secret.decode("latin-1") for secret in self._secrets])

    def _ms(self) -> float:
        return round((monotonic() - self._began) * 1000, 3)


class _RecordedStream(httpx.AsyncByteStream):
    """A body that is written down while it is read."""

    def __init__(self, inner: httpx.AsyncByteStream, tape: _Tape) -> None:
        self._inner = inner
        self._tape = tape

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for data in self._inner:
                self._tape.chunk(data)
                yield data
        except BaseException as exc:
            self._tape.stop(None if isinstance(exc, GeneratorExit) else exc, left=True)
            raise
        self._tape.stop()

    async def aclose(self) -> None:
        self._tape.stop(left=True)
        await self._inner.aclose()


def _credentials(headers: httpx.Headers) -> list[bytes]:
    found = []
    for name in SECRET_HEADERS & set(headers):
        value = headers[name]
        scheme = next((s for s in _SCHEMES if value.lower().startswith(s)), "")
        found.append(value[len(scheme) :].strip().encode("latin-1"))
    return found


class ReplayTransport(httpx.AsyncBaseTransport):
    """Plays a recording: the same chunks, the same end.

    A request gets the next exchange with its method, path and body; else the next with its method
    and path; else the next with its method and body, as the path depends on the base URL. When
    all that fit were played, they are played again. A request that fits none gets a 404 that
    says so. Where the recorded client left in the middle of an answer, nothing more comes: the
    limit that made it leave ends the job again.

    Args:
        path: The recording.
        speed: 0 plays without waiting, 1 as it was, 2 twice as fast.

    Raises:
        RecordingError: If the file is not a recording.
        OSError: If it cannot be read.
    """

    def __init__(self, path: str | Path, speed: float = 0.0) -> None:
        self.exchanges = read_recording(Path(path))
        self._speed = speed
        self._played: dict[int, int] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request from the recording.

        Raises:
            httpx.TransportError: As it was recorded.
        """
        body = masked(await request.aread(), _credentials(request.headers))
        path = request.url.raw_path.decode("ascii")
        exchange = self._next(request.method, path, body)
        if exchange is None:
            said = f"the recording has no answer to {request.method} {path} with this body"
            return httpx.Response(404, json={"error": {"message": said}})
        clock = _Playback(self._speed)
        if exchange.status is None:
            await clock.wait(exchange.end_at_ms)
            await _end(exchange, request)
            raise httpx.ReadError("the recording ends here", request=request)
        await clock.wait(exchange.head_at_ms)
        return httpx.Response(
            exchange.status,
            headers=list(exchange.answer_headers),
            stream=_ReplayedStream(exchange, request, clock),
        )

    def _next(self, method: str, path: str, body: bytes) -> Exchange | None:
        fitting = [exchange for exchange in self.exchanges if exchange.method == method]
        for fits in (
            [e for e in fitting if e.path == path and e.body == body],
            [e for e in fitting if e.path == path],
            [e for e in fitting if e.body == body and body],
        ):
            if fits:
                # The one that was played least often; of these, the first.
                chosen = min(fits, key=lambda e: self._played.get(id(e), 0))
                self._played[id(chosen)] = self._played.get(id(chosen), 0) + 1
                return chosen
        return None


class _Playback:
    """The time since a request, as the recording counts it."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._began = monotonic()

    async def wait(self, at_ms: float) -> None:
        left_s = at_ms / 1000 / self._speed - (monotonic() - self._began) if self._speed else 0.0
        await asyncio.sleep(max(0.0, left_s))


class _ReplayedStream(httpx.AsyncByteStream):
    def __init__(self, exchange: Exchange, request: httpx.Request, clock: _Playback) -> None:
        self._exchange = exchange
        self._request = request
        self._clock = clock

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._exchange.chunks:
            await self._clock.wait(chunk.at_ms)
            yield chunk.data
        await self._clock.wait(self._exchange.end_at_ms)
        await _end(self._exchange, self._request)

    async def aclose(self) -> None:
        """There is nothing to close."""


async def _end(exchange: Exchange, request: httpx.Request) -> None:
    """End an answer as it was recorded."""
    if exchange.end == "left":
        await asyncio.Event().wait()
    if exchange.end != "complete":
        kind = getattr(httpx, exchange.error, None)
        if not (isinstance(kind, type) and issubclass(kind, httpx.TransportError)):
            kind = httpx.ReadError
        raise kind(exchange.message or "the recording ends here", request=request)
