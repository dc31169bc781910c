"""The fast lane of a stream: many chunks that bring text and nothing else, decoded at once.

Nearly every chunk is like this. What one may hold is said in types, and msgspec checks them in C:
whatever is not exactly this is refused whole, and read by `Answer.read`, slower and forgiving.
"""

from typing import Annotated, Literal

import msgspec

_Text = Annotated[str, msgspec.Meta(min_length=1)]


class _Choice(msgspec.Struct, gc=False):
    text: _Text
    index: Literal[0] = 0
    finish_reason: None = None
    logprobs: None = None
    error: None = None
    delta: None = None  # it, or `message`, could tell of an error
    message: None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: tuple[_Choice]
    usage: None = None
    error: None = None


class _Delta(msgspec.Struct, gc=False):
    content: _Text
    error: None = None


class _ChatChoice(msgspec.Struct, gc=False):
    delta: _Delta
    index: Literal[0] = 0
    finish_reason: None = None
    logprobs: None = None
    error: None = None
    message: None = None
    text: None = None  # it would go before the delta's


class _ChatChunk(msgspec.Struct, gc=False):
    choices: tuple[_ChatChoice]
    usage: None = None
    error: None = None


_completions = msgspec.json.Decoder(_Chunk).decode_lines
_chats = msgspec.json.Decoder(_ChatChunk).decode_lines
_UNUSUAL = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def completion_texts(lines: bytes) -> list[str] | None:
    """The text of each chunk, none of them empty; None if any chunk is not plain.

    Args:
        lines: One chunk a line. Empty lines count for nothing, as empty events do.
    """
    try:
        return [chunk.choices[0].text for chunk in _completions(lines)]
    except _UNUSUAL:
        return None


def chat_texts(lines: bytes) -> list[str] | None:
    """As completion_texts, of chat chunks."""
    try:
        return [chunk.choices[0].delta.content for chunk in _chats(lines)]
    except _UNUSUAL:
        return None
