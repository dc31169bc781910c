"""A server of Anthropic's Messages protocol that works, for adapters of other protocols."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from adapter_api.faults import Request, ScriptServer, Wire

_LIMIT_S = 10.0


async def messages(request: Request, wire: Wire) -> None:
    """Answer with words that the prompt decides."""
    if request.method == "GET":
        await wire.reply({"data": [{"id": "toy"}]} if "models" in request.path else {})
        return
    asked = request.json()
    if asked["model"] == "no-such-model":
        await wire.reply({"type": "error", "error": {"type": "not_found_error"}}, 404)
        return
    prompt = str(asked["messages"][-1]["content"])
    await wire.stream_head()
    await _send(wire, "message_start", message={"model": "toy", "usage": {"input_tokens": 3}})
    for index in range(asked["max_tokens"]):
        word = f"w{(len(prompt) * 7 + index * 3) % 11} "
        await _send(
            wire, "content_block_delta", index=0, delta={"type": "text_delta", "text": word}
        )
        await wire.sleep(0.001)
    await _send(wire, "message_delta", delta={"stop_reason": "max_tokens"})
    await _send(wire, "message_stop")
    await wire.end()


async def _send(wire: Wire, kind: str, **fields: Any) -> None:
    await wire.event({"type": kind, **fields}, kind)


@contextmanager
def messages_server() -> Iterator[str]:
    """Run the server in a thread. Yield its base URL."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = ScriptServer(messages)
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(_LIMIT_S)
        yield server.base_url
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(_LIMIT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_LIMIT_S)
        loop.close()
