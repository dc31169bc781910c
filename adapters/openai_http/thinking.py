"""Reasoning, which servers send under many names, and the opaque parts that must go back to them.

Source: vLLM and Ollama send `reasoning`; DeepSeek, SGLang and llama.cpp `reasoning_content`;
OpenRouter `reasoning_details`; LiteLLM `thinking_blocks`; Copilot `reasoning_text`; Mistral parts
of `content`.
"""

import io
from collections.abc import Iterator, Mapping
from typing import Any

from adapter_api import ErrorCode, StreamingError
from adapter_api.messages import DETAIL_KEYS, REASONING_KEYS
from adapters.openai_http.payload import bytes_as_json

MAX_REASONING_CHARS = 8 << 20
"""Reasoning that is kept for the next turn: about two million tokens."""

MAX_DETAIL_BYTES = 4 << 20
"""Opaque details of one answer; signatures have some kilobytes each."""

MAX_DETAILS = 4096
"""Opaque details of one answer, each of which is looked up by its type and index."""

MEDIA = frozenset({"audio", "file", "files", "image", "images", "video", "videos"})
"""Parts of an answer that no event of the contract holds."""

READ = frozenset(
    {
        *("annotations", "content", "extra_content", "function_call", "id", "model", "name"),
        *("provider", "refusal", "role", "text", "tool_call", "tool_calls", "type"),
        *(*REASONING_KEYS, *DETAIL_KEYS),
    }
)
"""Known names: the adapter reads them, or they carry no generated content."""

_TEXT_KINDS = (None, "text", "output_text", "text_delta")
_APPENDED = ("text", "summary", "thinking")


class Thinking:
    """Collects the reasoning of one answer."""

    __slots__ = ("_bytes", "_details", "_extra", "_kept", "name")

    def __init__(self) -> None:
        self.name = ""
        """The server's name for plain reasoning; empty until it has sent some."""
        self._kept = io.StringIO()
        self._details: dict[str, dict[tuple[Any, Any], dict[str, Any]]] = {}
        self._extra: dict[str, Any] = {}
        self._bytes = 0

    def read(self, part: Mapping[str, Any]) -> tuple[str, bool]:
        """Return the reasoning in a delta or message, and whether it shows that the engine works.

        Raises:
            StreamingError: UPSTREAM_PROTOCOL if a bound is passed.
        """
        said, works, plain = "", False, self.name
        for name in REASONING_KEYS:
            value = part.get(name)
            if not value:
                continue
            works = True
            if not said and (words := _words(value)):
                said, self.name = words, name
        for name in DETAIL_KEYS:
            details = part.get(name)
            if details and isinstance(details, list | dict):
                works = True
                listed = details if isinstance(details, list) else [details]
                text = "".join(self._read_details(name, listed))
                said = said or ("" if plain else text)  # it repeats plain reasoning
        return said, works

    def keep(self, reasoning: str) -> None:
        """Keep a piece of reasoning for the next turn."""
        if self._kept.tell() + len(reasoning) > MAX_REASONING_CHARS:
            raise _too_much(f"more than {MAX_REASONING_CHARS} characters of reasoning")
        self._kept.write(reasoning)

    def read_extra(self, extra: Any) -> None:
        """Keep an `extra_content` that stands beside the content."""
        if isinstance(extra, dict) and extra:
            self._count(extra)
            self._extra.update(extra)

    def _read_details(self, name: str, details: list[Any]) -> Iterator[str]:
        known = self._details.setdefault(name, {})
        for detail in details:
            if not isinstance(detail, dict):
                continue
            self._count(detail)
            key = _key(detail)
            kept = known.setdefault(key, {})
            if len(known) > MAX_DETAILS:
                raise _too_much(f"more than {MAX_DETAILS} parts of reasoning")
            for field, value in detail.items():
                if field in _APPENDED and isinstance(value, str):
                    yield value
                    kept[field] = kept.get(field, "") + value
                elif value is not None or field not in kept:
                    kept[field] = value

    def _count(self, value: object) -> None:
        self._bytes += bytes_as_json(value)
        if self._bytes > MAX_DETAIL_BYTES:
            raise _too_much(f"more than {MAX_DETAIL_BYTES} bytes of opaque reasoning")

    @property
    def text(self) -> str:
        """All reasoning that was kept."""
        return self._kept.getvalue()

    def details(self) -> dict[str, Any]:
        """Return the opaque parts as they go back to the server, by their name on the wire."""
        found: dict[str, Any] = {name: list(kept.values()) for name, kept in self._details.items()}
        if self._extra:
            found["extra_content"] = self._extra
        return found


def unread_in(part: Mapping[str, Any]) -> list[str]:
    """Return the names of a delta's words or data that are not known here: those that appear over
    time are mostly thinking, and so progress."""
    return [
        key
        for key, value in part.items()
        if key not in READ and isinstance(value, str | list | dict) and value
    ]


def content_parts(content: list[Any] | dict[str, Any]) -> tuple[str, str, str]:
    """Return the reasoning, the text and the refusal of a content that is a list of parts, or one.

    Raises:
        StreamingError: UPSTREAM_PROTOCOL for a part of another type, which would be lost.
    """
    reasoning, text, refusal = [], [], []
    for part in content if isinstance(content, list) else [content]:
        if part is None:
            continue
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        if isinstance(part, str):
            text.append(part)
        elif kind in _TEXT_KINDS and (words := _text(part)) is not None:
            text.append(words)
        elif kind in ("thinking", "reasoning"):
            reasoning.append(_words(part.get(kind, part.get("text"))))
        elif kind == "refusal" and isinstance(part.get("refusal"), str):
            refusal.append(part["refusal"])
        else:
            shown = kind if isinstance(kind, str) else "part without a type"
            raise StreamingError(
                ErrorCode.UPSTREAM_PROTOCOL,
                f"not an OpenAI stream: a part of the content is a {shown[:40]!r}",
            )
    return "".join(reasoning), "".join(text), "".join(refusal)


def _text(part: dict[str, Any]) -> str | None:
    """Return the text of a text part; None if it has none."""
    text = part.get("text", part.get("content"))
    if isinstance(text, dict):  # of OpenAI's Assistants
        text = text.get("value")
    return text if isinstance(text, str) else None


def _words(value: Any) -> str:
    """Return the text of reasoning: a string, an object with one, or a list of these."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_words(item) for item in value if isinstance(item, str | dict))
    if not isinstance(value, dict):
        return ""
    texts = (value.get(name) for name in ("text", "content", "thinking", "reasoning"))
    return next((text for text in texts if isinstance(text, str) and text), "")


def _key(detail: dict[str, Any]) -> tuple[Any, Any]:
    place = detail.get("index")
    if type(place) is not int:
        place = detail.get("id")
    kind = detail.get("type")
    return (
        kind if isinstance(kind, str) else None,
        place if isinstance(place, str | int) else None,
    )


def _too_much(what: str) -> StreamingError:
    return StreamingError(ErrorCode.UPSTREAM_PROTOCOL, f"not an OpenAI stream: {what}")
