"""TraceContext: ASGI middleware that continues the trace of a request."""

from collections.abc import Awaitable, Callable
from typing import Any

from opentelemetry import propagate
from opentelemetry.context import Context, attach, detach, get_current

_Message = Any
_App = Callable[
    [_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]],
    Awaitable[None],
]


class TraceContext:
    """ASGI middleware that continues the trace which a request's headers name.

    Put it around the gateway, or around an application of your own that submits jobs. It makes no
    span; use an instrumentation of your framework instead if you want spans for requests.

    Args:
        app: The ASGI application.
    """

    def __init__(self, app: _App) -> None:
        self._app = app

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Run the application in the context of the request."""
        token = attach(_context_of(scope))
        try:
            await self._app(scope, receive, send)
        finally:
            detach(token)


def _context_of(scope: _Message) -> Context:
    if scope["type"] != "http":
        return get_current()
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return propagate.extract(headers)
