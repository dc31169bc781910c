"""One job's way from the host's stream to the client's connection."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from adapter_api import (
    Answer,
    End,
    Error,
    Started,
    Token,
    TokenEvent,
    TokenStream,
)
from registry.gateway.access import Access
from registry.gateway.jobs import GatewayJob
from registry.serving.openai_api.answers import KEEP_ALIVE, Chunks, whole
from registry.serving.openai_api.errors import ApiError, Headers
from registry.serving.openai_api.requests import ApiRequest

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]

_STREAM_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_JSON_HEADERS: Headers = [(b"content-type", b"application/json")]


class Reply:
    """The answer to one request: its head is held back until there is something to send.

    Args:
        send: ASGI's `send`.
        access: Gets the status and the size of the answer.
        headers: Returns the headers that every answer to this request has, as the head leaves.
    """

    def __init__(self, send: Send, access: Access, headers: Callable[[], Headers]) -> None:
        self.headers = headers
        self.ended = False
        self.sending_since: float | None = None
        self._now = asyncio.get_running_loop().time
        self.idle_since = self._now()
        self._send = send
        self._access = access
        self._beat: asyncio.Task[None] | None = None

    @property
    def status(self) -> int:
        """The status, 0 before the head was sent."""
        return self._access.status

    @property
    def started(self) -> bool:
        """True once the head was sent, and with it the status."""
        return self._access.status != 0

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head."""
        access = self._access
        access.status = status
        lines = [*headers, *self.headers(), access.processing_ms()]
        await self._sent({"type": "http.response.start", "status": status, "headers": lines})

    async def write(self, body: bytes, *, last: bool = False) -> None:
        """Send a piece of the body; waits while the client does not read."""
        if self._beat is not None:
            await self._beat
        self.ended = last
        self._access.sent_bytes += len(body)
        await self._sent({"type": "http.response.body", "body": body, "more_body": not last})

    async def fail(self, error: ApiError) -> None:
        """End the answer with an error: with its status if that is possible, else as an event."""
        if self._beat is not None:
            await self._beat
        if self.started:
            await self.write(error.event(), last=True)
            return
        body = error.body()
        length = (b"content-length", b"%d" % len(body))
        await self.start(error.status, [*_JSON_HEADERS, length, *error.wire_headers()])
        await self.write(body, last=True)

    def beat(self) -> None:
        """Send a comment, so that no proxy takes a long wait for a dead connection."""
        if self._beat is None or self._beat.done():
            self._beat = asyncio.create_task(self._keep_alive())

    async def aclose(self) -> None:
        """End the keep-alive that is being sent, if there is one."""
        if self._beat is not None and not self._beat.done():
            self._beat.cancel()
            await asyncio.wait({self._beat})

    async def _keep_alive(self) -> None:
        if not self.started:
            await self.start(200, _STREAM_HEADERS)
        await self._sent({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})

    async def _sent(self, message: Message) -> None:
        self.sending_since = self._now()
        try:
            await self._send(message)
        finally:
            self.sending_since = None
            self.idle_since = self._now()


class Pulse:
    """One timer for a stream: keep-alive comments, and the end of a client that does not read.

    Args:
        reply: The answer.
        keep_alive_s: Seconds without a byte after which a comment is sent; 0 for none.
        stall_s: Seconds for which a client may leave what it was sent unread; 0 for no limit.
        stalled: Called once when the client has taken longer.
    """

    def __init__(
        self, reply: Reply, keep_alive_s: float, stall_s: float, stalled: Callable[[], None]
    ) -> None:
        self._reply = reply
        self._keep_alive_s = keep_alive_s
        self._stall_s = stall_s
        self._stalled = stalled
        self._loop = asyncio.get_running_loop()
        limits = [limit for limit in (keep_alive_s, stall_s) if limit]
        self._timer = self._loop.call_later(min(limits), self._look) if limits else None

    def stop(self) -> None:
        """Do nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        now, reply = self._loop.time(), self._reply
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
        self._timer = self._loop.call_later(max(0.001, again_s), self._look)


async def stream_answer(
    request: ApiRequest, stream: TokenStream, reply: Reply, job: GatewayJob
) -> None:
    """Relay a job's events as server-sent events.

    What came in one read leaves in one write.

    Args:
        request: What the client wants.
        stream: The job's events.
        reply: The answer.
        job: Gets the counts.

    Raises:
        WorkerError: If the job failed.
    """
    chunks = Chunks(request)
    async for event in stream:
        if isinstance(event, Token):
            body = chunks.token(event)
            job.tokens += 1
            if buffered := stream.take_buffered():
                body += chunks.tokens(buffered)
                job.tokens += len(buffered)
            if job.phase != "generating":
                _note_first_token(job)
                body = chunks.first() + body
                if not reply.started:
                    await reply.start(200, _STREAM_HEADERS)
            await reply.write(body)
        elif isinstance(event, Started):
            job.replica_id = event.replica_id
        elif isinstance(event, End):
            body = chunks.end(event)
            if job.phase != "generating":
                body = chunks.first() + body
            if not reply.started:
                await reply.start(200, _STREAM_HEADERS)
            await reply.write(body, last=True)
        elif isinstance(event, Error):
            raise event.error


async def whole_answer(
    request: ApiRequest, stream: TokenStream, reply: Reply, job: GatewayJob
) -> None:
    """Answer with one JSON object.

    Raises:
        WorkerError: If the job failed.
    """
    events: list[TokenEvent] = []
    async for event in stream:
        if isinstance(event, Error):
            raise event.error
        if isinstance(event, Started):
            job.replica_id = event.replica_id
        elif isinstance(event, Token):
            job.tokens += 1
            if job.phase != "generating":
                _note_first_token(job)
        events.append(event)
    answer = Answer.of(events)
    body = whole(request, answer)
    length = (b"content-length", b"%d" % len(body))
    await reply.start(200, [*_JSON_HEADERS, length])
    await reply.write(body, last=True)


def _note_first_token(job: GatewayJob) -> None:
    job.phase = "generating"
    job.first_token_at = asyncio.get_running_loop().time()
