"""The messages of a chat in the form that a dialect requires.

Calls, ids and reasoning of earlier answers go back to the server, and servers accept different
forms. A history may come from a server other than the one it is sent to.
"""

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from adapter_api import Message
from adapter_api.messages import DETAIL_KEYS, REASONING_KEYS
from adapters.openai_http.dialects import Dialect

_SHORT_ID = re.compile(r"[a-zA-Z0-9]{9}")


def wire_messages(messages: Iterable[Message], dialect: Dialect) -> list[dict[str, Any]]:
    """Return the messages in the form of `dialect`."""
    return [_wire_message(message, dialect) for message in messages]


def _wire_message(message: Message, dialect: Dialect) -> dict[str, Any]:
    wire = message.to_wire()
    if message.role == "assistant" and message.extra:
        _place_reasoning(wire, dialect)
    if wire["content"] is None and dialect.empty_content is not None:
        wire["content"] = dialect.empty_content
    if dialect.short_call_ids:
        _shorten_ids(wire)
    if dialect.message_keys is not None:
        wire = {key: value for key, value in wire.items() if key in dialect.message_keys}
    return wire


def _place_reasoning(wire: dict[str, Any], dialect: Dialect) -> None:
    """Send reasoning under the name that the server reads, or not at all."""
    style = dialect.reasoning
    if style == "as_it_came":
        return
    texts = [wire.pop(name) for name in REASONING_KEYS if name in wire]
    text = next((text for text in texts if isinstance(text, str)), None)
    if style == "none":
        for name in DETAIL_KEYS:
            wire.pop(name, None)
    elif text is None or (style == "with_calls" and "tool_calls" not in wire):
        return
    elif style == "parts":
        wire["content"] = _thinking_parts(text, wire["content"])
    elif style == "both":
        wire["reasoning"] = wire["reasoning_content"] = text
    else:
        wire["reasoning" if style == "reasoning" else "reasoning_content"] = text


def _thinking_parts(reasoning: str, content: Any) -> list[Any]:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": reasoning}]}
    if isinstance(content, list):
        return [thinking, *content]
    return [thinking, {"type": "text", "text": content}] if content else [thinking]


def _shorten_ids(wire: dict[str, Any]) -> None:
    if "tool_call_id" in wire:
        wire["tool_call_id"] = short_id(wire["tool_call_id"])
    for call in wire.get("tool_calls", ()):
        call["id"] = short_id(call["id"])


def short_id(call_id: str) -> str:
    """Return `call_id` if it has nine alphanumerics, else nine that always stand for it."""
    if _SHORT_ID.fullmatch(call_id):
        return call_id
    return blake2b(call_id.encode(), digest_size=5).hexdigest()[:9]
