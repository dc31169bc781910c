"""The fast lanes of a stream: chunks whose whole content is declared in types.

Nearly every chunk has only a piece of text, or a piece of a call's arguments: many of these are
decoded at once. The first and the last ones also have names and a finish_reason: they are decoded
one by one. msgspec checks the types in C. A chunk with anything else, known or not, is refused, and
so is its whole batch. Then `AnswerReader` reads it, which is slower but lenient: an unknown name
may report a failure.
"""

from collections.abc import Callable
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Nothing = Annotated[list[None], msgspec.Meta(max_length=0)] | None
_Empty = Annotated[dict[str, None], msgspec.Meta(max_length=0)] | None
_Blank = Annotated[str, msgspec.Meta(max_length=0)] | None
_Object = Literal["text_completion", "chat.completion.chunk"] | None


MAX_USUAL_BYTES = 16 << 10
"""Maximum size of a usual chunk: its counts are decoded whatever they hold."""


class _Alone(msgspec.Struct, gc=False, kw_only=True, forbid_unknown_fields=True):
    """A choice with one part and nothing else of meaning."""

    index: Literal[0] = 0
    finish_reason: None = None
    logprobs: None = None
    tool_calls: _Nothing = None
    content_filter_results: _Empty = None
    # of OpenRouter, SGLang and vLLM
    native_finish_reason: None = None
    matched_stop: None = None
    stop_reason: None = None
    token_ids: None = None
    prompt_logprobs: None = None
    prompt_token_ids: None = None


class _Quiet(msgspec.Struct, gc=False, kw_only=True, forbid_unknown_fields=True):
    """A delta without reasoning, refusal or opaque parts."""

    role: str | None = None
    reasoning_content: _Blank = None
    reasoning: _Blank = None
    reasoning_details: _Nothing = None
    refusal: _Blank = None
    tool_calls: _Nothing = None
    function_call: None = None
    audio: None = None
    channel: str | None = None


class _Choice(_Alone, gc=False, kw_only=True):
    text: _Text


class _Delta(_Quiet, gc=False, kw_only=True):
    content: _Text


class _ChatChoice(_Alone, gc=False, kw_only=True):
    delta: _Delta
    text: None = None  # it would go before the delta's


class _Category(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    filtered: bool = False
    severity: str | None = None
    detected: Literal[False] | None = None
    details: _Nothing = None


class _FilteredChoice(_Alone, gc=False, kw_only=True):
    delta: _Delta
    text: None = None
    content_filter_results: dict[str, _Category] | None = None  # type: ignore[assignment]


class _Function(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    arguments: _Text
    name: _Blank = None


class _Call(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    function: _Function
    index: int
    id: _Blank = None
    type: str | None = None


class _ThoughtDelta(_Quiet, gc=False, kw_only=True):
    reasoning_content: str | None = None
    reasoning: str | None = None
    content: _Blank = None


class _ThoughtChoice(_Alone, gc=False, kw_only=True):
    delta: _ThoughtDelta
    text: None = None


class _CallDelta(_Quiet, gc=False, kw_only=True):
    tool_calls: tuple[_Call]  # type: ignore[assignment]
    content: _Blank = None


class _CallChoice(_Alone, gc=False, kw_only=True):
    delta: _CallDelta
    text: None = None


_T = TypeVar("_T")


class _Chunk(msgspec.Struct, Generic[_T], gc=False, forbid_unknown_fields=True):
    """A chunk with one choice. Its names are not read: those of the first chunk are enough."""

    choices: tuple[_T]
    id: str | None = None
    object: _Object = None
    created: float | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    usage: None = None
    error: None = None
    # of OpenAI, OpenRouter, Mistral, Groq and vLLM
    obfuscation: str | None = None
    provider: str | None = None
    p: str | None = None
    x_groq: None = None
    prompt_token_ids: None = None


class UsualDelta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The delta of a usual chunk."""

    role: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    content: str | None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None


class UsualChoice(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The one choice of a usual chunk. Its text is in it or in its delta."""

    index: Literal[0] = 0
    text: str | None = None
    delta: UsualDelta | None = None
    finish_reason: str | None = None
    logprobs: None = None
    stop_reason: None = None
    prompt_logprobs: None = None
    prompt_token_ids: None = None
    token_ids: None = None


class UsualChunk(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A chunk with nothing in it but names, reasoning, text, a finish_reason and counts."""

    choices: Annotated[list[UsualChoice], msgspec.Meta(max_length=1)]
    id: str | None = None
    object: _Object = None
    created: int | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    service_tier: None = None
    usage: dict[str, Any] | None = None
    prompt_token_ids: None = None


_completions = msgspec.json.Decoder(_Chunk[_Choice]).decode_lines
_chats = msgspec.json.Decoder(_Chunk[_ChatChoice]).decode_lines
_filtered_chats = msgspec.json.Decoder(_Chunk[_FilteredChoice]).decode_lines
_thoughts = msgspec.json.Decoder(_Chunk[_ThoughtChoice]).decode_lines
_calls = msgspec.json.Decoder(_Chunk[_CallChoice]).decode_lines
_usual = msgspec.json.Decoder(UsualChunk).decode

_Common = TypeVar("_Common")
Read = tuple[_Common, list[str]]
"""What the chunks of one read have in common, and the text of each, which is not empty."""
Lane = Callable[[bytes], Read[_Common] | None]
"""Reads chunks, one a line; None if any chunk is unusual."""

_UNUSUAL = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def completion_texts(lines: bytes) -> Read[None] | None:
    """Return the text of each chunk, none of them empty; None if any chunk is unusual.

    Args:
        lines: One chunk per line. Empty lines are ignored, like empty events.
    """
    try:
        return None, [chunk.choices[0].text for chunk in _completions(lines)]
    except _UNUSUAL:
        return None


def chat_texts(lines: bytes) -> Read[None] | None:
    """Return the same as completion_texts, for chat chunks."""
    try:
        return None, [chunk.choices[0].delta.content for chunk in _chats(lines)]
    except _UNUSUAL:
        return None


def filtered_texts(lines: bytes) -> Read[None] | None:
    """Return the same as chat_texts, for a server that reports its filter's result for each
    piece."""
    try:
        choices = [chunk.choices[0] for chunk in _filtered_chats(lines)]
    except _UNUSUAL:
        return None
    for choice in choices:
        for category in (choice.content_filter_results or {}).values():
            if category.filtered:
                return None
    return None, [choice.delta.content for choice in choices]


def thoughts(lines: bytes) -> Read[str] | None:
    """Return the server's name for reasoning, and the reasoning of each chunk.

    None if any chunk is unusual or has no reasoning.
    """
    try:
        deltas = [chunk.choices[0].delta for chunk in _thoughts(lines)]
    except _UNUSUAL:
        return None
    found = [delta.reasoning_content or delta.reasoning or "" for delta in deltas]
    if not found or not all(found):
        return None
    return "reasoning_content" if deltas[-1].reasoning_content else "reasoning", found


def call_arguments(lines: bytes) -> Read[int] | None:
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


def usual_chunk(line: bytes) -> UsualChunk | None:
    """Return a usual chunk; None if there is anything else in it."""
    if len(line) > MAX_USUAL_BYTES:
        return None
    try:
        chunk = _usual(line)
    except _UNUSUAL:
        return None
    for choice in chunk.choices:
        if choice.text and choice.delta is not None:
            return None
    return chunk
