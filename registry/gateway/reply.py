"""The answer to one request, and the timer that keeps it alive or ends it."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

from registry.gateway.access import Access
from registry.serving.openai_api.answers import KEEP_ALIVE
from registry.serving.openai_api.errors import ApiError, Headers

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]

STREAM_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
JSON_HEADERS: Headers = [(b"content-type", b"application/json")]


class Reply(ABC):
    """The answer to one request. Its head is sent together with the first piece of its body.

    Args:
        access: Gets the status and the size of the answer.
        headers: Returns the headers that every answer to this request has.

    Attributes:
        ended: True once the last piece was written.
        sending_since: When the client last stopped reading, on the loop's clock; None if it reads.
        idle_since: When the last piece was written.
    """

    def __init__(self, access: Access, headers: Callable[[], Headers]) -> None:
        self.headers = headers
        self.ended = False
        self.sending_since: float | None = None
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time
        self.idle_since = self.now()
        self.access = access

    @property
    def status(self) -> int:
        """The status, 0 before there is one."""
        return self.access.status

    @property
    def started(self) -> bool:
        """True once there is a status."""
        return self.access.status != 0

    def start(self, status: int, headers: Headers, length: int | None = None) -> None:
        """Set the head, which is sent with the first piece.

        Args:
            status: The status.
            headers: The headers that are special to this answer.
            length: The size of the body, where it is known.
        """
        lines = [*headers, *self.headers(), self.access.processing_ms()]
        if length is not None:
            lines.append((b"content-length", b"%d" % length))
        self.take_head(status, lines, length)
        self.access.status = status

    @abstractmethod
    def take_head(self, status: int, headers: Headers, length: int | None) -> None:
        """Keep the head for the first piece."""

    @abstractmethod
    def write(self, body: bytes, *, last: bool = False) -> Coroutine[Any, Any, None] | None:
        """Send a piece of the body.

        Args:
            body: The piece.
            last: Whether it is the last one.

        Returns:
            An awaitable to await before the next piece; None if there is nothing to wait for.
        """

    @abstractmethod
    def beat(self) -> None:
        """Send a comment, so that no proxy mistakes a long wait for a dead connection."""

    async def fail(self, error: ApiError) -> None:
        """End the answer with an error: with its status if that is possible, else as an event."""
        if self.started:
            body = error.event()
        else:
            body = error.body()
            self.start(error.status, [*JSON_HEADERS, *error.wire_headers()], len(body))
        await self.finish(body)

    async def finish(self, body: bytes) -> None:
        """Send the last piece of the body."""
        if (sent := self.write(body, last=True)) is not None:
            await sent

    async def aclose(self) -> None:  # noqa: B027 (one kind has nothing to release)
        """Release the resources of the answer."""


class AsgiReply(Reply):
    """An answer through ASGI's `send`: on any server, and through any middleware.

    Args:
        send: ASGI's `send`.
        access: Gets the status and the size of the answer.
        headers: Returns the headers that every answer to this request has.
    """

    def __init__(self, send: Send, access: Access, headers: Callable[[], Headers]) -> None:
        super().__init__(access, headers)
        self._send = send
        self._head: Message | None = None
        self._beat: asyncio.Task[None] | None = None

    def take_head(self, status: int, headers: Headers, length: int | None) -> None:
        self._head = {"type": "http.response.start", "status": status, "headers": headers}

    async def write(self, body: bytes, *, last: bool = False) -> None:
        if self._beat is not None:
            await self._beat
        await self._sent(body, last=last)

    def beat(self) -> None:
        if self._beat is None or self._beat.done():
            if not self.started:
                self.start(200, STREAM_HEADERS)
            self._beat = asyncio.create_task(self._sent(KEEP_ALIVE))

    async def aclose(self) -> None:
        if self._beat is not None and not self._beat.done():
            self._beat.cancel()
            await asyncio.wait({self._beat})

    async def _sent(self, body: bytes, *, last: bool = False) -> None:
        self.ended = last
        self.access.sent_bytes += len(body)
        self.sending_since = self.now()
        head, self._head = self._head, None
        try:
            if head is not None:
                await self._send(head)
            await self._send({"type": "http.response.body", "body": body, "more_body": not last})
        finally:
            self.sending_since = None
            self.idle_since = self.now()


class Pulse:
    """One timer for an answer: keep-alive comments, and the end of a client that does not read.

    Args:
        reply: The answer.
        keep_alive_s: Seconds without a byte after which a comment is sent; 0 for none.
        stall_s: Seconds for which a client may leave data unread; 0 for no limit.
        stalled: Called once when the client has taken longer.
    """

    def __init__(
        self, reply: Reply, keep_alive_s: float, stall_s: float, stalled: Callable[[], None]
    ) -> None:
        self._reply = reply
        self._keep_alive_s = keep_alive_s
        self._stall_s = stall_s
        self._stalled = stalled
        limits = [limit for limit in (keep_alive_s, stall_s) if limit]
        self._timer = reply.loop.call_later(min(limits), self._look) if limits else None

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        reply = self._reply
        now = reply.now()
        waits: list[float] = []
        if reply.sending_since is not None:
            if self._stall_s:
                left_s = reply.sending_since + self._stall_s - now
                if left_s <= 0:
                    self._stalled()
                    return
                waits.append(left_s)
        elif self._keep_alive_s and not reply.ended:
            left_s = reply.idle_since + self._keep_alive_s - now
            if left_s <= 0:
                reply.beat()
                left_s = self._keep_alive_s
            waits.append(left_s)
        again_s = min(waits, default=self._stall_s or self._keep_alive_s)
        self._timer = reply.loop.call_later(max(0.001, again_s), self._look)
