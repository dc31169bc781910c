"""Helpers for the tests of answers: bodies, and answers read from them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from adapter_api import Answer, End, Metrics, Token
from adapters.openai_http.answer import AnswerReader
from adapters.openai_http.outcome import Phase, Wanted

CHAT = Path(__file__).parents[2] / "data" / "chat"

EVERYTHING = Wanted(reasoning=True, history=True, salt="job")
"""The parts wanted by a job that reads all of its answer."""


def body_of(events: Iterable[Any]) -> bytes:
    """Return the body with these events: texts and JSON, or mappings with `event` and `data`."""
    blocks = []
    for event in events:
        named = isinstance(event, dict) and set(event) == {"event", "data"}
        data = event["data"] if named else event
        text = data if isinstance(data, str) else json.dumps(data)
        blocks.append((f"event: {event['event']}\n" if named else "") + f"data: {text}\n\n")
    return "".join(blocks).encode()


def sse_of(*payloads: Any, kind: str = "message") -> bytes:
    """Return the body with these payloads, bytes as they are, each in an event of this kind."""
    events = [p.decode() if isinstance(p, bytes) else json.dumps(p) for p in payloads]
    if kind != "message":
        return body_of({"event": kind, "data": event} for event in events)
    return body_of(events)


def pieces_of(body: bytes, size: int | None) -> list[bytes]:
    """Return the body in pieces of `size` bytes; None for one piece."""
    size = size or len(body) or 1
    return [body[at : at + size] for at in range(0, len(body), size)]


def read(pieces: Iterable[bytes], wanted: Wanted | None = None, **options: Any) -> list[Any]:
    """Return the events after Started that an answer in these pieces amounts to.

    Raises:
        WorkerError: The answer is not whole.
    """
    always_finishes = options.pop("always_finishes", False)
    reader = AnswerReader(wanted, **options)
    tokens: list[Token] = []
    for piece in pieces:
        tokens += reader.feed(piece)
        if reader.phase is Phase.CLOSED:
            break
    tokens += reader.end()
    verdict = reader.finish(always_finishes=always_finishes)
    tokens += verdict.tokens
    assert [token.index for token in tokens] == list(range(len(tokens)))
    usage = reader.facts.usage
    metrics = Metrics(
        tokens_generated=usage.completion_tokens if usage else len(tokens),
        prompt_tokens=usage.prompt_tokens if usage else None,
        cached_tokens=usage.cached_tokens if usage else None,
        reasoning_tokens=usage.reasoning_tokens if usage else None,
        usage_source="engine" if usage else "counted",
    )
    end = End(
        metrics,
        reader.finish_reason,
        verdict.proof,
        verdict.tool_calls,
        verdict.invalid_tool_calls,
        verdict.refused,
        verdict.message_extra,
    )
    return [*tokens, end]


def whole(
    events: Iterable[Any], wanted: Wanted = EVERYTHING, size: int | None = None, **options: Any
) -> Answer:
    """Return the answer that a body with these events amounts to."""
    return Answer.of(read(pieces_of(body_of(events), size), wanted, **options))
