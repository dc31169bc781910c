"""HTTP on a client's connection: uvicorn's protocol, with limits and refusals of our own."""

import asyncio
import http
import re
from typing import Any

from registry.gateway.access import Access
from registry.gateway.exchange import EXTENSION, Connection, Exchange
from registry.gateway.reply import AsgiReply, Message, Receive, Send
from registry.serving.openai_api.errors import ApiError

MAX_HEAD_BYTES = 64 << 10
"""The largest head of a request: several times what load balancers allow."""

_LARGE_HEAD = ApiError(
    431, f"The head of the request is larger than {MAX_HEAD_BYTES} bytes.", code="head_too_large"
)
_UPGRADE = re.compile(rb"(\A|\n)upgrade:", re.IGNORECASE)
"""The header of an upgrade request, such as h2c, which Java's client sends with its first request.
The parser would take the body for that protocol. The upgrade is optional, so the header is
renamed."""

_FULL = ApiError(
    503, "The gateway has its maximum of connections.", code="overloaded", retry_after_ms=1000
)


def _answering(error: ApiError) -> Any:
    """Return an application that answers every request with an error and closes."""

    async def refuse(scope: Message, receive: Receive, send: Send) -> None:
        await AsgiReply(send, Access(scope), lambda: [(b"connection", b"close")]).fail(error)

    return refuse


class GatewayProtocol(Connection):
    """uvicorn's protocol, with limits on the head of a request, and refusals in OpenAI's shape."""

    header_s: float
    max_connections: int
    _head_timer: asyncio.TimerHandle | None = None
    _in_head = True
    _begins_here = False  # in this read
    _read_bytes = 0  # of this read
    _head_bytes = 0  # of the reads before it, since the head began
    _other_bytes = 0  # of these, those that may be the end of a body
    _is_too_many = False

    def data_received(self, data: bytes) -> None:
        if self.lingers:
            return
        if data.find(b"pgrade:") >= 0:  # no JSON has it at the beginning of a line
            data = _UPGRADE.sub(rb"\1x-pgrade:", data)
        self._begins_here, self._read_bytes = False, len(data)
        super().data_received(data)
        if not self._in_head:
            return
        if self._head_timer is None:
            self._await_head()
        self._head_bytes += len(data)
        if self._begins_here:
            self._other_bytes = len(data)
        elif self._head_bytes - self._other_bytes > MAX_HEAD_BYTES:
            self._refuse(_LARGE_HEAD)

    def send_400_response(self, msg: str) -> None:
        self._refuse(ApiError(400, f"This is not HTTP: {msg}", code="invalid_http"))

    def _refuse(self, error: ApiError) -> None:
        """Answer input that is not a valid request, and close the connection."""
        self._have_head()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self.pipeline or cycle.response_started or not cycle.more_body:
                self.transport.abort()  # anything else would become part of that answer
                return
            cycle.disconnected, cycle.waiting_for_100_continue = True, False  # this is its answer
            cycle.message_event.set()
        body = error.body()
        status = http.HTTPStatus(error.status)
        head = (
            f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.linger()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._is_too_many = len(self.connections) > self.max_connections
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_head()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = self._begins_here = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._have_head()
        exchange = Exchange(self)
        self.scope["extensions"] = {EXTENSION: {"it": exchange}}
        app = self.app
        if self._is_too_many:
            self.app = _answering(_FULL)
        elif self._head_bytes + self._read_bytes > MAX_HEAD_BYTES and self._is_large():
            self.app = _answering(_LARGE_HEAD)
        try:
            super().on_headers_complete()
        finally:
            self.app = app
        exchange.cycle = self.cycle

    def _is_large(self) -> bool:
        """Return whether the head is too large; with it a part of the body may have come."""
        size = sum(len(name) + len(value) for name, value in self.headers)
        return size + len(self.url) > MAX_HEAD_BYTES

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.header_s, self._head_is_late)

    def _have_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self.transport.abort()
