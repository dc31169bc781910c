"""The dashboard's page, its stream of facts, and what a click asks for."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from registry.gateway.dashboard.facts import REFRESH_S, Facts
from registry.serving.openai_api.errors import ApiError

_FILES = {
    "page.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


Admit = Callable[[Mapping[str, Any]], None]


def dashboard_routes(facts: Facts, admit: Admit) -> list[Route]:
    """Return the routes of the dashboard.

    Args:
        facts: The facts that it shows.
        admit: Raises ApiError if a request, given its scope, may not see it.
    """

    def file(name: str) -> Callable[[Request], object]:
        async def serve(request: Request) -> Response:
            admit(request.scope)
            return Response(_read(name), headers={"content-type": _FILES[name], **_HEADERS})

        return serve

    async def events(request: Request) -> Response:
        admit(request.scope)
        headers = {**_HEADERS, "content-type": "text/event-stream", "x-accel-buffering": "no"}
        return StreamingResponse(_events(facts), headers=headers)

    async def replica(request: Request) -> Response:
        admit(request.scope)
        where = request.path_params
        try:
            config = facts.config(where["pool_id"], where["replica_id"])
        except LookupError as error:
            raise ApiError(404, str(error.args[0]), code="replica_not_found") from error
        headers = {**_HEADERS, "content-type": "application/json"}
        return Response(msgspec.json.encode({"config": config}), headers=headers)

    return [
        Route("/", file("page.html")),
        Route("/dashboard/app.js", file("app.js")),
        Route("/dashboard/style.css", file("style.css")),
        Route("/dashboard/events", events),
        Route("/dashboard/replicas/{pool_id}/{replica_id}", replica),
    ]


async def _events(facts: Facts) -> AsyncIterator[bytes]:
    while True:
        yield b"data: " + facts.encoded() + b"\n\n"
        if facts.leaving:  # else the page would hold up the end of the server
            return
        await asyncio.sleep(REFRESH_S)


@cache
def _read(name: str) -> bytes:
    return (files("registry.gateway.dashboard") / name).read_bytes()
