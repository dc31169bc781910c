"""What all answers have in common: two headers and the access log; which clients are local."""

import ipaddress
import json
import logging
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


class AccessLog:
    """Logs each request as one JSON object, and completes the headers of its answer.

    Every answer gets `openai-processing-ms`, and an `X-Request-Id` if it has none.

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
        began_at = perf_counter()
        facts: dict[str, Any] = {"status": 0, "request_id": None}
        sent_bytes = 0

        async def noting(message: Message) -> None:
            nonlocal sent_bytes
            if message["type"] == "http.response.start":
                headers = list(message["headers"])
                facts["status"] = message["status"]
                request_id = _header(headers, b"x-request-id")
                if request_id is None:
                    request_id = new_id()
                    headers.append((b"x-request-id", request_id.encode("ascii")))
                facts["request_id"] = request_id
                took_ms = str(round(1000 * (perf_counter() - began_at))).encode()
                message["headers"] = [*headers, (b"openai-processing-ms", took_ms)]
            else:
                sent_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            if self._log and logger.isEnabledFor(logging.INFO):
                record = {
                    "at_s": round(time(), 3),
                    "client": (scope.get("client") or ("", 0))[0],
                    "method": scope["method"],
                    "path": scope["path"][:_MAX_PATH_CHARS],
                    **facts,
                    "sent_bytes": sent_bytes,
                    "took_ms": round(1000 * (perf_counter() - began_at), 1),
                }
                logger.info("%s", json.dumps(record))


def is_local(scope: Mapping[str, Any]) -> bool:
    """Return whether a request comes from this machine itself, not through a proxy on it."""
    if any(name in _PROXY_HEADERS for name, _ in scope["headers"]):
        return False
    client = scope.get("client")
    if client is None:  # a Unix socket
        return True
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


def _header(headers: Any, wanted: bytes) -> str | None:
    for name, value in headers:
        if name == wanted:
            return str(value.decode("latin-1"))
    return None
