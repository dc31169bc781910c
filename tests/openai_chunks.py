"""Chunks of an OpenAI-compatible server, for the servers of the tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapter_api.faults import Request, Script, Wire

RECORDED = Path(__file__).parent / "data" / "recorded"
SERVERS = ("vllm", "llama-server", "transformers-serve")  # all three gave the same text
STREAMS = sorted(
    str(path.relative_to(RECORDED))
    for server in SERVERS
    for path in (RECORDED / server).glob("*.txt")
    if ("_stream" in path.name or "logprobs" in path.name) and "_raw" not in path.name
)


def piece(text: str, finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of the completions endpoint."""
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
    return {"id": "cmpl-1", "object": "text_completion", "model": "m", "choices": [choice], **more}


def delta(content: dict[str, Any], finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of the chat endpoint."""
    choice = {"index": 0, "delta": content, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "model": "m", "choices": [choice], **more}


def usage(prompt: int, completion: int) -> dict[str, Any]:
    """The chunk that holds only the usage."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion}
    return {"id": "cmpl-1", "model": "m", "choices": [], "usage": counts}


async def whole_answer(wire: Wire, texts: Sequence[str] = ("Hello", " world")) -> None:
    """A streamed answer as it should be."""
    await wire.stream_head()
    for text in texts:
        await wire.event(piece(text))
    await wire.event(piece("", "stop"))
    await wire.event(usage(2, len(texts)))
    await wire.event("[DONE]")
    await wire.end()


def well_behaved(texts: Sequence[str] = ("Hello", " world")) -> Script:
    """A script that gives the whole answer to every POST and 404 to everything else."""

    async def script(request: Request, wire: Wire) -> None:
        if request.method == "POST":
            await whole_answer(wire, texts)
        else:
            await wire.reply({"error": {"message": "no such path"}}, 404)

    return script


def recorded(name: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a recorded answer."""
    head, _, body = (RECORDED / name).read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")
    line, *rest = head.decode("latin-1").split("\n")
    headers = {k.strip().lower(): v.strip() for k, _, v in (item.partition(":") for item in rest)}
    return int(line.split(" ")[1]), headers, body
