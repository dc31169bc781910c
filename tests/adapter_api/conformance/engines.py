"""Scripted engines that work, for adapters of other protocols than completions."""

import json
from typing import Any

from adapter_api.faults import Request, Wire


def _words(prompt: str, count: int) -> list[str]:
    """Return words that the prompt decides."""
    return [f"w{(len(prompt) * 7 + index * 3) % 11} " for index in range(count)]


async def messages(request: Request, wire: Wire) -> None:
    """Answer as Anthropic's Messages API does."""
    if request.method == "GET":
        await wire.reply({"data": [{"id": "toy"}]} if "models" in request.path else {})
        return
    asked = request.json()
    if asked["model"] == "no-such-model":
        error = {"type": "not_found_error", "message": "there is no such model"}
        await wire.reply({"type": "error", "error": error}, 404)
        return

    async def send(kind: str, **fields: Any) -> None:
        await wire.event({"type": kind, **fields}, kind)

    content = asked["messages"][-1]["content"]
    words = _words(str(content), asked["max_tokens"])
    await wire.stream_head()
    await send("message_start", message={"model": "toy", "usage": {"input_tokens": 3}})
    if asked.get("tools") and isinstance(content, str):
        tool = {"type": "tool_use", "id": "toolu_1", "name": asked["tools"][0]["name"]}
        await send("content_block_start", index=0, content_block=tool)
        for part in ('{"city": ', '"Oslo"}'):
            delta = {"type": "input_json_delta", "partial_json": part}
            await send("content_block_delta", index=0, delta=delta)
        reason = "tool_use"
    else:
        await send("content_block_start", index=0, content_block={"type": "text", "text": ""})
        for word in words:
            await send("content_block_delta", index=0, delta={"type": "text_delta", "text": word})
            await wire.sleep(0.001)
        reason = "max_tokens"
    await send("content_block_stop", index=0)
    usage = {"output_tokens": len(words)}
    await send("message_delta", delta={"stop_reason": reason}, usage=usage)
    await send("message_stop")
    await wire.end()


async def chat(request: Request, wire: Wire, kind: str = "application/x-ndjson") -> None:
    """Answer as Ollama's native API does, with lines of this type."""
    if request.method == "GET":
        await wire.reply({"version": "0.9.0"})
        return
    asked = request.json()
    if asked["model"] == "no-such-model":
        await wire.reply({"error": "model 'no-such-model' not found"}, 404)
        return
    last = asked["messages"][-1]
    words = _words(last["content"], asked["options"].get("num_predict", 16))
    await wire.start(200, {"Content-Type": kind, "Transfer-Encoding": "chunked"})

    async def send(message: dict[str, Any], **more: Any) -> None:
        line = {"model": "toy", "message": {"role": "assistant", **message}, "done": False, **more}
        await wire.chunk(json.dumps(line).encode() + b"\n")

    if asked.get("tools") and last["role"] == "user":
        name = asked["tools"][0]["function"]["name"]
        call = {"function": {"name": name, "arguments": {"city": "Oslo"}}}
        await send({"content": "", "tool_calls": [call]})
    else:
        for word in words:
            await send({"content": word})
            await wire.sleep(0.001)
    await send({"content": ""}, done=True, done_reason="stop", eval_count=len(words))
    await wire.end()
