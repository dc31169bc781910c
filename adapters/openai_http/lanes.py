"""The fast lanes of a stream: many chunks that bring one kind of thing only, decoded at once.

Nearly every chunk brings a piece of text, or a piece of a call's arguments, and nothing else. What
such a chunk may hold is declared in types, and msgspec checks them in C. A batch with any other
chunk is refused whole and read by `AnswerReader`, which is slower and forgiving.

Fields stand in the order in which servers send them, because msgspec looks them up in their order.
Classes that are nearly alike therefore share no base: its fields would come first, and reading text
would take a third longer.
"""

from typing import Annotated, Generic, Literal, TypeVar

import msgspec

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Nothing = Annotated[list[None], msgspec.Meta(max_length=0)] | None
_Blank = Annotated[str, msgspec.Meta(max_length=0)] | None


class _Choice(msgspec.Struct, gc=False):
    text: _Text
    index: Literal[0] = 0
    finish_reason: None = None
    logprobs: None = None
    error: None = None
    delta: None = None  # it, or `message`, could hold an error
    message: None = None
    usage: None = None


class _Delta(msgspec.Struct, gc=False):
    content: _Text
    error: None = None
    tool_calls: _Nothing = None
    reasoning_content: _Blank = None
    reasoning: _Blank = None
    refusal: _Blank = None
    thinking: _Blank = None
    reasoning_details: _Nothing = None
    function_call: None = None
    audio: None = None
    extra_content: None = None


class _ChatChoice(msgspec.Struct, gc=False):
    delta: _Delta
    index: Literal[0] = 0
    finish_reason: None = None
    logprobs: None = None
    error: None = None
    message: None = None
    text: None = None  # it would go before the delta's
    usage: None = None


class _Function(msgspec.Struct, gc=False):
    arguments: _Text
    name: _Blank = None
    error: None = None


class _Call(msgspec.Struct, gc=False):
    function: _Function
    index: int
    id: _Blank = None
    custom: None = None
    error: None = None
    extra_content: None = None


class _CallDelta(msgspec.Struct, gc=False):
    tool_calls: tuple[_Call]
    content: _Blank = None
    error: None = None
    reasoning_content: _Blank = None
    reasoning: _Blank = None
    refusal: _Blank = None
    thinking: _Blank = None
    reasoning_details: _Nothing = None
    function_call: None = None
    audio: None = None
    extra_content: None = None


class _CallChoice(msgspec.Struct, gc=False):
    delta: _CallDelta
    index: Literal[0] = 0
    finish_reason: None = None
    logprobs: None = None
    error: None = None
    message: None = None
    text: None = None
    usage: None = None


_T = TypeVar("_T")


class _Chunk(msgspec.Struct, Generic[_T], gc=False):
    choices: tuple[_T]
    usage: None = None
    error: None = None


_completions = msgspec.json.Decoder(_Chunk[_Choice]).decode_lines
_chats = msgspec.json.Decoder(_Chunk[_ChatChoice]).decode_lines
_calls = msgspec.json.Decoder(_Chunk[_CallChoice]).decode_lines
_UNUSUAL = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def completion_texts(lines: bytes) -> list[str] | None:
    """Return the text of each chunk, none of them empty; None if any chunk is unusual.

    Args:
        lines: One chunk a line. Empty lines count for nothing, as empty events do.
    """
    try:
        return [chunk.choices[0].text for chunk in _completions(lines)]
    except _UNUSUAL:
        return None


def chat_texts(lines: bytes) -> list[str] | None:
    """Return what completion_texts does, of chat chunks."""
    try:
        return [chunk.choices[0].delta.content for chunk in _chats(lines)]
    except _UNUSUAL:
        return None


def call_arguments(lines: bytes) -> tuple[int, list[str]] | None:
    """Return the index of the one call that all chunks continue, and their pieces of arguments.

    None if any chunk is unusual or continues another call.
    """
    try:
        calls = [chunk.choices[0].delta.tool_calls[0] for chunk in _calls(lines)]
    except _UNUSUAL:
        return None
    if not calls:
        return None
    index = calls[0].index
    if len(calls) > 1 and any(call.index != index for call in calls):
        return None
    return index, [call.function.arguments for call in calls]
