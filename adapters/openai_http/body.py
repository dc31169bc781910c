"""The body of an answer as batches of events, whatever kind of body it is."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx

from adapter_api import ErrorCode, StreamClock, StreamingError
from adapters.http_util import (
    ServerSentEvent,
    SSEDecoder,
    SSELimitError,
    body_reader,
    error_from_exception,
    error_from_response,
)

MAX_JSON_BYTES = 16 << 20
"""A plain JSON answer to a streaming request, whole: far above any model's longest output."""

LINGER_S = 1.0
"""How long to wait, after the finish_reason, for usage and [DONE]: the answer is whole already."""

SETTLE_S = 0.05
"""How long to wait, after [DONE], for the end of the body, which keeps the connection usable."""

DEADLINE_MARGIN_S = 0.05
"""What lingering leaves of the deadline, so that a whole answer is not lost to it."""


class EventBody:
    """Reads one answer's body.

    Args:
        response: The answer, status 200, nothing of its body read yet.
        clock: The job's clock.
    """

    def __init__(self, response: httpx.Response, clock: StreamClock) -> None:
        self._response = response
        self._clock = clock
        self._read: Callable[[], Awaitable[bytes]] = body_reader(response)
        self._decoder = SSEDecoder()
        self._begun = False
        self._finishing = False
        self._ended = False

    def finish(self) -> None:
        """The finish_reason came: what follows is welcome, but not waited for."""
        if not self._finishing:
            self._finishing = True
            self._clock.allow(None)

    async def batch(self) -> list[ServerSentEvent] | None:
        """The events of the next read, maybe none; None when the body has ended.

        Raises:
            StreamingError: STREAM_TRUNCATED if the connection broke; UPSTREAM_PROTOCOL if this is
                not a stream of events.
        """
        if self._ended:
            return None
        try:
            if self._finishing:
                piece = await self._read_within(LINGER_S)
            else:
                piece = await self._read()
            if not self._begun:
                self._begin()
                if piece.lstrip()[:1] in (b"{", b"<"):
                    self._ended = True
                    return [ServerSentEvent(await self._whole(piece))]
            if not piece:
                self._ended = True
                return None
            return self._decoder.feed(piece)
        except SSELimitError as exc:
            raise StreamingError(ErrorCode.UPSTREAM_PROTOCOL, f"not a sane stream: {exc}") from exc
        except httpx.HTTPError as exc:
            self._ended = True
            if self._finishing:
                return None
            raise error_from_exception(exc, answering=True) from exc

    async def settle(self) -> None:
        """Read the few bytes behind [DONE], so that the connection can be used again."""
        self.finish()
        try:
            while await self._read_within(SETTLE_S):
                pass
        except httpx.HTTPError:
            self._ended = True  # the connection will not be used again, that is all

    def _begin(self) -> None:
        self._begun = True
        encoding = self._response.headers.get("content-encoding", "identity").lower()
        if encoding not in ("identity", ""):
            raise StreamingError(
                ErrorCode.UPSTREAM_PROTOCOL,
                f"the server sent {encoding[:20]!r} encoding although identity was asked for",
            )

    async def _read_within(self, limit_s: float) -> bytes:
        remaining_s = self._clock.remaining_s()
        if remaining_s is not None:
            limit_s = min(limit_s, max(0.0, remaining_s - DEADLINE_MARGIN_S))
        try:
            async with asyncio.timeout(limit_s):
                return await self._read()
        except TimeoutError:
            return b""

    async def _whole(self, start: bytes) -> bytes:
        """The rest of a body that is one JSON document.

        Raises:
            StreamingError: It is too long, or a page of HTML.
        """
        pieces, size = [start], len(start)
        while size <= MAX_JSON_BYTES and (piece := await self._read()):
            pieces.append(piece)
            size += len(piece)
        body = b"".join(pieces)
        if body.lstrip()[:1] == b"<":
            said = error_from_response(200, {}, body).message
            raise StreamingError(
                ErrorCode.UPSTREAM_PROTOCOL,
                f"a page of HTML came instead of an answer ({said}). Does base_url name the API?",
            )
        if size > MAX_JSON_BYTES:
            raise StreamingError(
                ErrorCode.UPSTREAM_PROTOCOL, f"a JSON answer longer than {MAX_JSON_BYTES} bytes"
            )
        return body
