"""The choices of a chunk, read into pieces and an ending. No I/O.

A choice has its parts in a delta, in a message, or beside them. From a message that repeats the
deltas, only the parts that no delta had are read, so that nothing is lost.
"""

from collections.abc import Sequence
from typing import Any

from adapter_api import ErrorCode, StreamingError, Token
from adapter_api.messages import DETAIL_KEYS, REASONING_KEYS
from adapters.http_util import error_from_payload
from adapters.http_util.failed import failure_in
from adapters.openai_http.endings import Finish
from adapters.openai_http.facts import Facts
from adapters.openai_http.lanes import (
    Lane,
    UsualChoice,
    UsualDelta,
    chat_texts,
    completion_texts,
    filtered_texts,
)
from adapters.openai_http.names import plain
from adapters.openai_http.pieces import Pieces
from adapters.openai_http.usage import single_logprob, token_logprobs

_TEXT = ("content", "refusal")
_REASONING = (*REASONING_KEYS, *DETAIL_KEYS)
_CALLS = ("tool_calls", "tool_call", "function_call")
_CHANNELS = (_TEXT, _REASONING, _CALLS)
_BESIDE = frozenset({*_TEXT, *_REASONING, *_CALLS})
"""Parts that some servers put into the choice itself."""
_CHOICE_NAMES = _BESIDE | {
    *("content_filter_offsets", "content_filter_results", "delta", "error", "finish_reason"),
    *("index", "logprobs", "message", "native_finish_reason", "stop_reason", "text", "token_ids"),
    "usage",
}
_PART_NAMES = _BESIDE | {
    *("annotations", "audio", "content", "error", "extra_content", "images", "name", "refusal"),
    *("role", "text"),
}
"""Names that nearly every choice, delta or message has, and that report no failure."""


class Choices:
    """Reads the choices of one answer.

    Args:
        pieces: Makes Tokens of the choices' parts.
        finish: Receives each finish_reason.
        facts: Receives the usage in a choice.
        logprobs: Read the log-probabilities.
        error_text: Text that begins with this is a failure (a trait of the dialect).
        secrets: Credentials to keep out of error messages.

    Attributes:
        begun: True once a choice came.
        texts: Reads chunks that only bring text, of the endpoint that answers.
    """

    __slots__ = (
        "_error_text",
        "_facts",
        "_finish",
        "_from_messages",
        "_logprobs",
        "_pieces",
        "_secrets",
        "begun",
        "texts",
    )

    def __init__(
        self,
        pieces: Pieces,
        finish: Finish,
        facts: Facts,
        logprobs: bool,
        error_text: str | None,
        secrets: tuple[str, ...],
    ) -> None:
        self._pieces = pieces
        self._finish = finish
        self._facts = facts
        self._logprobs = logprobs
        self._error_text = error_text
        self._secrets = secrets
        self._from_messages = [0, 0, 0]  # how much of each channel messages brought
        self.begun = False
        self.texts: Lane[None] = completion_texts

    @property
    def undecided(self) -> bool:
        """True while the next piece of text cannot take the fast lane."""
        return self._error_text is not None or self._pieces.undecided

    def read_usual(self, choice: UsualChoice, tokens: list[Token]) -> None:
        """Add the Token of a usual choice to `tokens`, as `read` would."""
        self.begun = True
        text, delta = choice.text, choice.delta
        if delta is not None:
            if self.texts is completion_texts:
                self.texts = chat_texts
            text = text or delta.content
            self._pieces.in_call = False
            if delta.reasoning_content or delta.reasoning:
                self._read_reasoning(delta, tokens)
        if choice.finish_reason:
            self._finish.read_reason(choice.finish_reason)
        if text:
            self._pieces.add_text(text, tokens)

    def _read_reasoning(self, delta: UsualDelta, tokens: list[Token]) -> None:
        pieces, named = self._pieces, delta.reasoning_content
        pieces.thinking.name = "reasoning_content" if named else "reasoning"
        pieces.add_reasoning(named or delta.reasoning or "", tokens)
        if not delta.content:
            pieces.scores.clear()  # they are of the reasoning

    def read(self, choices: Sequence[Any], tokens: list[Token]) -> None:
        """Add the Tokens of a chunk's choices to `tokens`.

        Raises:
            WorkerError: If a choice is an error, or not valid here.
        """
        pieces = self._pieces
        before = pieces.spoken
        for choice in choices:
            spoken = pieces.spoken
            self._read_choice(choice, tokens)
            if before < spoken < pieces.spoken:
                raise _protocol_error("a chunk has two choices, although one was requested")

    def _read_choice(self, choice: Any, tokens: list[Token]) -> None:
        if not isinstance(choice, dict):
            raise _protocol_error("a choice is not an object")
        if not _CHOICE_NAMES.issuperset(choice):
            choice = self._read_names(choice, _CHOICE_NAMES)
        if choice.get("error"):
            self._refuse_error(choice)
        index = choice.get("index") or 0
        if type(index) is not int or index != 0:
            raise _protocol_error(
                "a choice has an index other than 0, although one choice was requested"
            )
        self.begun = True
        self._finish.read(choice)
        self._facts.note_usage(choice)
        logprobs = choice.get("logprobs")
        if logprobs and self._logprobs:
            self._pieces.scores += token_logprobs(logprobs)
        self._read_parts(choice, tokens, single_logprob(logprobs) if logprobs else None)

    def _read_parts(
        self, choice: dict[str, Any], tokens: list[Token], logprob: float | None
    ) -> None:
        """Read the text, the delta and the message of a choice."""
        pieces = self._pieces
        delta, message = self._part(choice, "delta"), self._part(choice, "message")
        if "delta" in choice:
            filtered = "content_filter_results" in choice or self.texts is filtered_texts
            self.texts = filtered_texts if filtered else chat_texts
        if not _BESIDE.isdisjoint(choice):
            beside = {name: choice[name] for name in _BESIDE if choice.get(name)}
            delta = beside | {name: value for name, value in delta.items() if value}
        text = choice.get("text")
        if text:
            self._refuse_failure(text)
            pieces.add_text(text, tokens, logprob)
        if delta:
            self._refuse_failure(delta.get("content"))
            pieces.read(delta, tokens, logprob, skip_text=bool(text))
        if message and (unsaid := self._unsaid(message)):
            before = pieces.extents
            self._refuse_failure(unsaid.get("content"))
            pieces.read(unsaid, tokens, logprob)
            for channel, (earlier, now) in enumerate(zip(before, pieces.extents, strict=True)):
                self._from_messages[channel] += now - earlier

    def _unsaid(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return the parts of a message that no delta had."""
        said = [
            name
            for names, came, brought in zip(
                _CHANNELS, self._pieces.extents, self._from_messages, strict=True
            )
            if came > brought
            for name in names
        ]
        return {name: value for name, value in message.items() if name not in said}

    def _part(self, choice: dict[str, Any], key: str) -> dict[str, Any]:
        part = choice.get(key)
        if part is None:
            return {}
        if not isinstance(part, dict):
            raise _protocol_error(f"{key} is not an object")
        if not _PART_NAMES.issuperset(part):
            part = self._read_names(part, _PART_NAMES)
            self._finish.read_part(part)
        if part.get("error"):
            self._refuse_error(part)
        calls = part.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                self._refuse_error(call)
                self._refuse_error(call.get("function"))
        return part

    def _read_names(self, part: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
        """Return a choice, a delta or a message with OpenAI's names; raise a failure in it."""
        part = plain(part)
        if failure := failure_in(part, known):
            raise error_from_payload(failure, secrets=self._secrets)
        return part

    def _refuse_error(self, part: Any) -> None:
        if isinstance(part, dict) and part.get("error"):
            raise error_from_payload({"error": part["error"]}, secrets=self._secrets)

    def _refuse_failure(self, text: Any) -> None:
        """Raise the failure that a text is, on servers that report failures as text."""
        if self._error_text and isinstance(text, str) and text.startswith(self._error_text):
            raise error_from_payload(text, secrets=self._secrets)


def _protocol_error(what: str) -> StreamingError:
    return StreamingError(ErrorCode.UPSTREAM_PROTOCOL, f"not an OpenAI stream: {what}")
