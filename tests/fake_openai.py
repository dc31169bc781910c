"""A small, well-behaved OpenAI-compatible server on a loopback port, with a handler for each path.

What it is not told otherwise it does as a sound server does: it streams an answer to every job,
lists one model, and says 404 to everything else.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from adapter_api.faults import Request, Script, ScriptServer, Wire
from tests.openai_chunks import delta, piece, usage

Handler = Script
"""The handler of requests to one path."""

TEXTS = ("Hello", " world")
"""The pieces of the answer it gives by itself."""

ANYTHING = "*"
"""The route of every path that has none of its own."""


def sse(*events: Any) -> bytes:
    """Events as the bytes of an event stream; what is not a string becomes JSON."""
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return "".join(f"data: {text}\n\n" for text in texts).encode()


def completion(texts: Sequence[str] = TEXTS, finish_reason: str | None = "stop") -> list[Any]:
    """The events of a whole answer of the completions endpoint."""
    finish = [] if finish_reason is None else [piece("", finish_reason)]
    return [*map(piece, texts), *finish, usage(2, len(texts)), "[DONE]"]


def chat(texts: Sequence[str] = TEXTS, finish_reason: str = "stop") -> list[Any]:
    """The events of a whole answer of the chat endpoint."""
    deltas = [delta({"role": "assistant", "content": ""}), *(delta({"content": t}) for t in texts)]
    return [*deltas, delta({}, finish_reason), usage(2, len(texts)), "[DONE]"]


def streams(
    *events: Any, headers: Mapping[str, str] | None = None, pause_s: float | None = None
) -> Handler:
    """Answers with these events, each in a chunk of its own, `pause_s` seconds apart."""

    async def handler(request: Request, wire: Wire) -> None:
        await wire.stream_head(headers)
        for event in events:
            if pause_s is not None:
                await asyncio.sleep(pause_s)
            await wire.event(event)
        await wire.end()

    return handler


def sends(
    *pieces: bytes, headers: Mapping[str, str] | None = None, pause_s: float | None = None
) -> Handler:
    """Answers 200 with these pieces of a body as they are, each in a chunk of its own, without
    waiting, or `pause_s` seconds apart."""

    async def handler(request: Request, wire: Wire) -> None:
        await wire.stream_head(headers)
        for data in filter(None, pieces):
            if pause_s is not None:
                await asyncio.sleep(pause_s)
            await wire.chunk(data)
        await wire.end()

    return handler


def answers(
    payload: Any = b"", status: int = 200, headers: Mapping[str, str] | None = None
) -> Handler:
    """Answers with one body: JSON, or bytes as they are."""

    async def handler(request: Request, wire: Wire) -> None:
        await wire.reply(payload, status, headers)

    return handler


def fails(status: int, message: str = "scripted", **more: Any) -> Handler:
    """Answers with an error as OpenAI writes it; `more` goes into the error object."""
    return answers({"error": {"message": message, **more}}, status)


def in_turn(*handlers: Handler) -> Handler:
    """The first request goes to the first handler, and so on; the last one keeps the rest."""
    rest = list(handlers)

    async def handler(request: Request, wire: Wire) -> None:
        await (rest.pop(0) if len(rest) > 1 else rest[0])(request, wire)

    return handler


def refuses(*fields: str, words: str = "Unrecognized request argument supplied: {}") -> Handler:
    """Refuses, by name, requests that have one of the fields; other jobs get an answer."""

    async def handler(request: Request, wire: Wire) -> None:
        for field in fields:
            if request.body and field in request.json():
                await fails(400, words.format(field))(request, wire)
                return
        await well(request, wire)

    return handler


async def hangs(request: Request, wire: Wire) -> None:
    """Says nothing until the client goes."""
    await wire.until_closed(30)


async def well(request: Request, wire: Wire) -> None:
    """Answers a job as its endpoint should."""
    if request.method == "GET":
        await fails(404, "no such path")(request, wire)
        return
    events = chat() if request.path.endswith("/chat/completions") else completion()
    await streams(*events)(request, wire)


def lists(*models: str, owned_by: str = "someone", **more: Any) -> Handler:
    """A model list; `more` goes into each entry."""
    entries = [{"id": name, "object": "model", "owned_by": owned_by, **more} for name in models]
    return answers({"object": "list", "data": entries})


class FakeOpenAI(ScriptServer):
    """Serves while entered (`async with`). `requests` and `posts` are what came.

    Args:
        routes: A handler for each path (without the query), or ANYTHING.
    """

    def __init__(self, routes: Mapping[str, Handler] | None = None) -> None:
        super().__init__(self._route)
        self.routes = dict(routes or {})

    async def _route(self, request: Request, wire: Wire) -> None:
        handler = self.routes.get(request.path) or self.routes.get(ANYTHING)
        if handler is None and request.method == "POST":
            handler = well
        elif handler is None and request.path == "/v1/models":
            handler = lists("m")
        await (handler or fails(404, "no such path"))(request, wire)

    @property
    def paths(self) -> list[str]:
        """The paths of the requests, in order."""
        return [request.path for request in self.requests]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The bodies of the jobs, in order."""
        return [request.json() for request in self.posts]
