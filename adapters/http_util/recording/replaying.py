"""Transports that record what passes through them, and that play a recording."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import httpx

from adapters.http_util.recording.exchange import Chunk, Exchange, Writer
from adapters.http_util.recording.masking import Mask, credentials_of, masked
from adapters.http_util.recording.reading import read_recording
from adapters.http_util.secrets import REDACTED, is_secret_header, redact, redact_headers

MAX_REMEMBERED = 32
"""The maximum number of earlier credentials that are still removed from later exchanges."""

MAX_NAMED = 5
"""The maximum number of a recording's paths that an error lists."""


class RecordingTransport(httpx.AsyncBaseTransport):
    """A transport that passes everything on to another one, and writes it down.

    The other transport decides what a chunk is. Credentials of the requests' headers are removed
    wherever they stand, and what looks like one from refusals. A full disk harms no request.

    Args:
        inner: Where requests go; it is closed with this one.
        path: The file, which must not exist.
        secrets: Credentials to remove that are in no header, such as those in a URL.

    Raises:
        FileExistsError: If the file exists.
        OSError: If the file cannot be created.
    """

    def __init__(
        self, inner: httpx.AsyncBaseTransport, path: str | Path, secrets: Iterable[str] = ()
    ) -> None:
        self._inner = inner
        self._fixed = tuple(secrets)
        self._writer = Writer(Path(path))
        self._secrets: dict[str, None] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass one request on.

        Raises:
            httpx.TransportError: As the other transport does.
        """
        self._remember(credentials_of(request.headers))
        tape = _Tape(self._writer, (*self._fixed, *self._secrets))
        tape.request(request, await request.aread())
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
            # The recorder must see the stream, so the shortcut of our own transport is not used.
            extensions={k: v for k, v in response.extensions.items() if k != "body_stream"},
        )

    async def aclose(self) -> None:
        """Close the other transport and the file."""
        try:
            await self._inner.aclose()
        finally:
            self._writer.close()

    def _remember(self, secrets: Iterable[str]) -> None:
        for secret in secrets:
            self._secrets.pop(secret, None)
            self._secrets[secret] = None
        while len(self._secrets) > MAX_REMEMBERED:
            del self._secrets[next(iter(self._secrets))]


class _Tape:
    """The record of one exchange."""

    def __init__(self, writer: Writer, secrets: tuple[str, ...]) -> None:
        self._writer = writer
        self._exchange = 0
        self._secrets = secrets
        self._mask = Mask(secrets)
        self._began = asyncio.get_running_loop().time()
        self._ended = False

    def request(self, request: httpx.Request, body: bytes) -> None:
        sent = {name: self._hidden(value) for name, value in request.headers.items()}
        path = self._hidden(request.url.raw_path.decode("ascii"))
        body = masked(body, self._secrets)
        self._exchange = self._writer.request(request.method, path, redact_headers(sent), body)

    def head(self, response: httpx.Response) -> None:
        headers = [(n.decode("latin-1"), self._header(n, v)) for n, v in response.headers.raw]
        self._writer.response(self._exchange, self._ms(), response.status_code, headers)
        if response.status_code >= 400:  # gateways repeat their own request, with its key
            self._mask = Mask(self._secrets, guess=True)

    def chunk(self, data: bytes) -> None:
        self._writer.chunks(self._exchange, self._mask.feed(Chunk(self._ms(), data)))

    def stop(self, error: BaseException | None = None, *, left: bool = False) -> None:
        """Write how the answer ended. Only the first call counts."""
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

    def _header(self, name: bytes, value: bytes) -> str:
        """Return the value of an answer's header, which may be a URL and must stay one."""
        if is_secret_header(name.decode("latin-1")):
            return REDACTED
        return masked(value, self._secrets, guess=True).decode("latin-1")

    def _hidden(self, text: str) -> str:
        return redact(text, self._secrets)

    def _ms(self) -> float:
        return round((asyncio.get_running_loop().time() - self._began) * 1000, 3)


class _RecordedStream(httpx.AsyncByteStream):
    """A body that is recorded while it is read."""

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


class ReplayTransport(httpx.AsyncBaseTransport):
    """A transport that plays a recording: the same chunks, the same end.

    A request gets the next exchange with its method, path and body; else the next with its method
    and path; else the next with its method and body, as the path depends on the base URL. When
    all that fit were played, they are played again. A request that fits none gets a 404. Where the
    recorded client left in the middle of an answer, nothing more comes: the limit that made it
    leave ends the job again.

    Args:
        path: The recording.
        speed: 0 plays without waiting, 1 at the recorded speed, 2 twice as fast.

    Raises:
        RecordingError: If the file is not a recording, or cannot be read.
    """

    def __init__(self, path: str | Path, speed: float = 0.0) -> None:
        self.exchanges = read_recording(Path(path))
        self._speed = speed
        self._played: dict[int, int] = {}  # how often, by place in the recording
        self._fitting: dict[tuple[object, ...], list[int]] = {}
        for place, exchange in enumerate(self.exchanges):
            for key in _keys(exchange.method, exchange.path, exchange.body):
                self._fitting.setdefault(key, []).append(place)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request from the recording.

        Raises:
            httpx.TransportError: The recorded error.
        """
        secrets = credentials_of(request.headers)
        body = masked(await request.aread(), secrets)
        path = redact(request.url.raw_path.decode("ascii"), secrets)
        exchange = self._next(request.method, path, body)
        if exchange is None:
            return httpx.Response(404, json={"error": {"message": self._lacks(request, path)}})
        clock = _Playback(self._speed)
        if exchange.status is None:
            await clock.wait(exchange.end_at_ms)
            await _end(exchange, request)
        await clock.wait(exchange.head_at_ms)
        return httpx.Response(
            exchange.status or 0,
            headers=[(_raw(name), _raw(value)) for name, value in exchange.answer_headers],
            stream=_ReplayedStream(exchange, request, clock),
        )

    def _next(self, method: str, path: str, body: bytes) -> Exchange | None:
        for key in _keys(method, path, body):
            places = self._fitting.get(key)
            if places:
                # The one that was played least often, and of these the first.
                chosen = min(places, key=lambda place: self._played.get(place, 0))
                self._played[chosen] = self._played.get(chosen, 0) + 1
                return self.exchanges[chosen]
        return None

    def _lacks(self, request: httpx.Request, path: str) -> str:
        known = list(dict.fromkeys(f"{e.method} {e.path}" for e in self.exchanges))
        named = ", ".join(known[:MAX_NAMED]) + (", ..." if len(known) > MAX_NAMED else "")
        return (
            f"the recording has no answer to {request.method} {path}, only to: {named or 'nothing'}"
        )


def _keys(method: str, path: str, body: bytes) -> list[tuple[object, ...]]:
    """Return the keys by which an exchange is found, the best first."""
    keys: list[tuple[object, ...]] = [(method, path, body), (method, path)]
    return [*keys, (method, body)] if body else keys


def _raw(text: str) -> bytes:
    try:
        return text.encode("latin-1")  # the bytes that were recorded
    except UnicodeEncodeError:
        return text.encode("utf-8")


class _Playback:
    """The time since a request, scaled to the recording's."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._began = asyncio.get_running_loop().time()

    async def wait(self, at_ms: float) -> None:
        left_s = (
            at_ms / 1000 / self._speed - (asyncio.get_running_loop().time() - self._began)
            if self._speed
            else 0.0
        )
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
        """Do nothing: there is nothing to close."""


async def _end(exchange: Exchange, request: httpx.Request) -> None:
    """End an answer like the recorded one."""
    if exchange.end == "left":
        await asyncio.Event().wait()
    if exchange.end != "complete":
        kind = getattr(httpx, exchange.error, None)
        if not (isinstance(kind, type) and issubclass(kind, httpx.TransportError)):
            kind = httpx.ReadError
        raise kind(exchange.message or "the recording ends here", request=request)
