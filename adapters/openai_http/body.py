"""The body of an answer as batches of events, whatever kind of body it is."""

import asyncio
from time import monotonic

import httpx

from adapter_api import ErrorCode, StreamClock, StreamingError
from adapters.http_util import (
    DecodeLimitError,
    Posted,
    ServerSentEvent,
    SSEDecoder,
    error_from_exception,
    error_from_response,
)

MAX_JSON_BYTES = 16 << 20
"""A plain JSON answer to a streaming request, whole: far above any model's longest output."""

MAX_PAGE_BYTES = 64 << 10
"""Of a page of HTML: enough to say what it is."""

MAX_BLANK_BYTES = 4 << 10
"""Blanks before the answer, with which some servers keep the connection alive until it begins."""

LINGER_S = 1.0
"""How long to wait, after the finish_reason, for usage and [DONE] together: the answer is whole
already, and whatever else comes prolongs nothing."""

SETTLE_S = 0.05
"""How long to wait, after [DONE], for the end of the body, which keeps the connection usable."""

DEADLINE_MARGIN_S = 0.05
"""What lingering leaves of the deadline, so that a whole answer comes in time."""


class EventBody:
    """Reads one answer's body.

    Args:
        posted: The answer, status 200, nothing of its body read yet.
        clock: The job's clock.
        secrets: Credentials to keep out of error messages.
        decoder: With bounds other than the default ones.
    """

    def __init__(
        self,
        posted: Posted,
        clock: StreamClock,
        secrets: tuple[str, ...] = (),
        decoder: SSEDecoder | None = None,
    ) -> None:
        self._headers = posted.headers
        self._clock = clock
        self._secrets = secrets
        self._read = posted.read
        self._at_end = posted.ended
        self._decoder = SSEDecoder() if decoder is None else decoder
        self._blanks = b""
        self._begun = False
        self._linger_until: float | None = None
        self._ended = False

    def finish(self, *, resumed: bool) -> None:
        """The finish_reason came: what follows is welcome, but not waited for.

        Args:
            resumed: Text came after it, so it proves nothing: the answer is read to its end, with
                the limits of any other.
        """
        if resumed and self._linger_until is not None:
            self._linger_until = None
            self._clock.arm()
        elif not resumed and self._linger_until is None:
            self._linger_until = monotonic() + LINGER_S
            self._clock.disarm()

    def events_of(self, lines: bytes) -> list[ServerSentEvent]:
        """The events behind plain data that `batch` gave."""
        return self._decoder.events_of(lines)

    async def batch(self) -> bytes | list[ServerSentEvent] | None:
        """The events of the next read, maybe none; None when the body has ended.

        Returns:
            Bytes where every event is one line of data: these lines (SSEDecoder.feed_plain).

        Raises:
            StreamingError: STREAM_TRUNCATED if the connection broke; UPSTREAM_PROTOCOL if this is
                not a stream of events.
        """
        if self._ended:
            return None
        try:
            if self._linger_until is None:
                piece = await self._read()
            else:
                piece = await self._read_until(self._linger_until)
            if not self._begun:
                self._check_encoding()
                self._blanks += piece
                if piece.isspace() and len(self._blanks) <= MAX_BLANK_BYTES:
                    return []
                self._begun = True
                piece = self._blanks
                if piece.lstrip()[:1] in (b"{", b"<"):
                    self._ended = True
                    return [ServerSentEvent(await self._whole(piece))]
            if not piece:
                self._ended = True
                return None
            return self._decoder.feed_plain(piece)
        except DecodeLimitError as exc:
            raise StreamingError(ErrorCode.UPSTREAM_PROTOCOL, f"not a sane stream: {exc}") from exc
        except httpx.HTTPError as exc:
            self._ended = True
            if self._linger_until is not None:
                return None
            raise error_from_exception(exc, answering=True, secrets=self._secrets) from exc

    async def settle(self) -> None:
        """Read the few bytes behind [DONE], so that the connection can be used again."""
        if self._at_end():
            return
        self._clock.disarm()
        until = monotonic() + SETTLE_S
        try:
            while await self._read_until(until):
                pass
        except httpx.HTTPError:
            self._ended = True  # the connection will not be used again, that is all

    def _check_encoding(self) -> None:
        encoding = self._headers.get("content-encoding", "identity").lower()
        if encoding not in ("identity", ""):
            raise StreamingError(
                ErrorCode.UPSTREAM_PROTOCOL,
                "the server sent a compressed answer although it was asked not to",
            )

    async def _read_until(self, when: float) -> bytes:
        left_s = when - monotonic()
        remaining_s = self._clock.remaining_s()
        if remaining_s is not None:
            left_s = min(left_s, remaining_s - DEADLINE_MARGIN_S)
        if left_s <= 0:  # bytes that are always there would never let a timeout fire
            return b""
        try:
            async with asyncio.timeout(left_s):
                return await self._read()
        except TimeoutError:
            return b""

    async def _whole(self, start: bytes) -> bytes:
        """The rest of a body that is one JSON document.

        Raises:
            StreamingError: It is cut off, too long, or a page of HTML.
        """
        is_page = start.lstrip()[:1] == b"<"
        limit = MAX_PAGE_BYTES if is_page else MAX_JSON_BYTES
        pieces, size = [start], len(start)
        while size <= limit and (piece := await self._read()):
            pieces.append(piece)
            size += len(piece)
        if is_page:
            page = b"".join(pieces)[:MAX_PAGE_BYTES]
            said = error_from_response(200, {}, page, secrets=self._secrets).message
            raise StreamingError(
                ErrorCode.UPSTREAM_PROTOCOL,
                f"a page of HTML came instead of an answer ({said}). Does base_url name the API?",
            )
        if size > limit:
            raise StreamingError(
                ErrorCode.UPSTREAM_PROTOCOL, f"a JSON answer longer than {limit} bytes"
            )
        body = b"".join(pieces).rstrip()
        if not body.endswith(b"}"):
            raise StreamingError(ErrorCode.STREAM_TRUNCATED, "a JSON answer is cut off")
        return body
