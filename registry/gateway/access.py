"""Common to all answers: two headers, the access log, and whether a client is local."""

import ipaddress
import json
import logging
import re
from collections.abc import Mapping
from time import perf_counter, time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapter_api.task import new_id

logger = logging.getLogger("worker_adapters.access")

_MAX_PATH_CHARS = 200

_PROXY_HEADERS = frozenset(
    {b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip"}
)
"""A request with one of these came through a proxy, so its client may be anywhere."""


_PORT = re.compile(r":[0-9]*\Z")


class Access:
    """The access log's record of one request.

    Args:
        scope: The request.
        request_id: Its id.

    Attributes:
        status: The status of the answer; 0 while there is none.
        sent_bytes: The size of the answer's body so far.
        key: The name of the client's key; empty without one.
        model: The requested model; empty where none is known.
    """

    __slots__ = ("_began_at", "_scope", "key", "model", "request_id", "sent_bytes", "status")

    def __init__(self, scope: Mapping[str, Any], request_id: str | None = None) -> None:
        self._began_at = perf_counter()
        self._scope = scope
        self.request_id = request_id
        self.status = 0
        self.sent_bytes = 0
        self.key = ""
        self.model = ""

    def processing_ms(self) -> tuple[bytes, bytes]:
        """Return the header with the milliseconds since the request came."""
        took_ms = round(1000 * (perf_counter() - self._began_at))
        return b"openai-processing-ms", b"%d" % took_ms

    def log(self) -> None:
        """Log the request as one JSON object."""
        if not logger.isEnabledFor(logging.INFO):
            return
        scope = self._scope
        record = {
            "at_s": round(time(), 3),
            "client": (scope.get("client") or ("", 0))[0],
            "method": scope["method"],
            "path": scope["path"][:_MAX_PATH_CHARS],
            "key": self.key,
            "model": self.model,
            "status": self.status,
            "request_id": self.request_id,
            "sent_bytes": self.sent_bytes,
            "took_ms": round(1000 * (perf_counter() - self._began_at), 1),
        }
        logger.info("%s", json.dumps(record))


class AccessLog:
    """Logs each request, and completes the headers of its answer.

    Every answer gets `openai-processing-ms`, and an `X-Request-Id`.

    Args:
        app: The application.
        log: Whether requests are logged.
    """

    def __init__(self, app: ASGIApp, *, log: bool = True) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        access = Access(scope)

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                access.status = message["status"]
                access.request_id = request_id = new_id()
                own = [(b"x-request-id", request_id.encode("ascii")), access.processing_ms()]
                message["headers"] = [*message["headers"], *own]
            else:
                access.sent_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            if self._log:
                access.log()


def is_local(scope: Mapping[str, Any]) -> bool:
    """Return whether a request comes from this machine itself, not through a proxy on it.

    A web page can direct a browser here under its own host name (DNS rebinding), so the name must
    match, too.
    """
    for name, value in scope["headers"]:
        if name in _PROXY_HEADERS or (name == b"host" and not _is_local_name(value)):
            return False
    client = scope.get("client")
    return client is None or is_loopback(client[0])  # None: a Unix socket


def is_loopback(host: str) -> bool:
    """Return whether an address is reachable only from this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.startswith("/")


def _is_local_name(host: bytes) -> bool:
    """Return whether a Host header, with or without a port, names this machine."""
    return is_loopback(_PORT.sub("", host.decode("latin-1").lower()))
