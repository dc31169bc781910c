"""The body of an answer, read piece by piece, with a wait that depends on the phase."""

import asyncio
from collections.abc import Awaitable

import httpx

from adapter_api import ErrorCode, StreamClock, StreamingError
from adapters.http_util import Posted
from adapters.openai_http.outcome import Phase

LINGER_S = 1.0
"""How long to wait, after the finish_reason, for usage and [DONE] together. The answer is whole
already, and nothing that arrives extends the wait."""

SETTLE_S = 0.05
"""How long to wait, after [DONE], for the end of the body, which keeps the connection usable."""

DEADLINE_MARGIN_S = 0.05
"""The time that lingering leaves before the deadline, so that a whole answer is in time."""


MAX_PIECE_BYTES = 64 << 10
"""The maximum size decoded at once: the most expensive 64 KiB take about 25 ms. A connection may
hold more, and other transports return any amount; between pieces the event loop runs."""

_NO_CODING = ("", "identity", "none", "utf-8", "utf8")
"""Contents of Content-Encoding that name no compression. Web frameworks advise `none` to keep
proxies from compressing a stream, and some servers write their charset there."""


class Body:
    """Reads one answer's body.

    Args:
        posted: The answer, with a good status, nothing of its body read yet.
        clock: The job's clock.

    Raises:
        StreamingError: UPSTREAM_PROTOCOL if the body is compressed.
    """

    def __init__(self, posted: Posted, clock: StreamClock) -> None:
        if posted.headers.get("content-encoding", "").strip().lower() not in _NO_CODING:
            raise StreamingError(
                ErrorCode.UPSTREAM_PROTOCOL,
                "the server sent a compressed answer, although the request excludes compression",
            )
        self._clock = clock
        self._read_more = posted.read
        self._rest = b""
        self._at_end = posted.ended
        self._linger_until: float | None = None

    def read(self, phase: Phase) -> Awaitable[bytes]:
        """Return the next data, for `cut`; b"" at the end, or when the wait is over.

        Args:
            phase: The phase of the answer; not CLOSED.

        Raises:
            httpx.HTTPError: If the connection broke before the finish_reason.
        """
        if phase is Phase.OPEN and not self._rest and self._linger_until is None:
            read_more = self._read_more
            return read_more()  # nearly always, and then without a coroutine of its own
        return self._linger() if phase is Phase.FINISHED else self._resume()

    def cut(self, piece: bytes) -> bytes:
        """Return the part of a long piece that is decoded at once; `read` returns the rest next."""
        self._rest = piece[MAX_PIECE_BYTES:]
        return piece[:MAX_PIECE_BYTES]

    async def _linger(self) -> bytes:
        if self._linger_until is None:
            self._linger_until = self._clock.now() + LINGER_S
            self._clock.disarm()
        try:
            return await self._read_until(self._linger_until)
        except httpx.HTTPError:
            return b""

    async def _resume(self) -> bytes:
        if self._linger_until is not None:  # more of the answer followed the finish_reason
            self._linger_until = None
            self._clock.arm()
        return await self._next()

    async def _next(self) -> bytes:
        if not self._rest:
            return await self._read_more()
        await asyncio.sleep(0)
        piece, self._rest = self._rest, b""
        return piece

    async def settle(self) -> None:
        """Read the few bytes after [DONE], so that the connection can be reused."""
        self._rest = b""
        if self._at_end():
            return
        self._clock.disarm()
        until = self._clock.now() + SETTLE_S
        try:
            while await self._read_until(until):
                pass
        except httpx.HTTPError:
            return  # the connection is closed instead of kept

    async def _read_until(self, when: float) -> bytes:
        left_s = when - self._clock.now()
        remaining_s = self._clock.remaining_s()
        if remaining_s is not None:
            left_s = min(left_s, remaining_s - DEADLINE_MARGIN_S)
        if left_s <= 0:  # if bytes are always available, the timeout would never fire
            return b""
        try:
            async with asyncio.timeout(left_s):
                return await self._next()
        except TimeoutError:
            return b""
