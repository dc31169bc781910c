"""The pieces of one answer: turns the parts of deltas and messages into Tokens. No I/O."""

import io
from typing import Any

from adapter_api import (
    ErrorCode,
    Reasoning,
    Refusal,
    ScoredToken,
    StreamingError,
    Token,
    TokenLogprob,
    ToolCallDelta,
)
from adapters.http_util import safe_text
from adapters.openai_http.calls import CallPiece, Calls
from adapters.openai_http.lanes import call_arguments, thoughts
from adapters.openai_http.tags import TagSplitter
from adapters.openai_http.template import Templates
from adapters.openai_http.thinking import MEDIA, READ, Thinking, content_parts, unread_in
from adapters.openai_http.unicode import Halves

MAX_REFUSAL_CHARS = 1 << 20
"""The maximum length of a refusal, which is kept for the next turn; it is a few sentences."""

MAX_UNREAD = 16
"""Names of unread fields that are kept."""

MAX_NAME_CHARS = 40
"""The maximum shown length of such a name."""

_CALL_KEYS = frozenset({"tool_calls", "tool_call", "function_call", "extra_content"})


class Pieces:
    """Makes Tokens of the parts of an answer, and counts them.

    Args:
        deliver_reasoning: Make events of reasoning, instead of only keeping it.
        salt: Makes replaced call ids unique among answers, and repeatable.
        tags: Tags around reasoning at the beginning of the text; None to leave them.
    """

    def __init__(
        self,
        deliver_reasoning: bool,
        salt: str,
        tags: tuple[str, str] | None,
    ) -> None:
        self._deliver_reasoning = deliver_reasoning
        self._tags = TagSplitter(tags) if tags else None
        self._halves = Halves()
        self.templates = Templates()
        """Shorten large reads."""
        self._salt = salt
        # Few answers have these parts, and each is a collection of its own.
        self._calls: Calls | None = None
        self._thinking: Thinking | None = None
        self._refusal: io.StringIO | None = None
        self.scores: list[TokenLogprob] = []
        """Log-probabilities that wait for their text."""
        self.index = 0
        """The number of Tokens made."""
        self.count = 0
        """The number of pieces of any kind: text, reasoning and calls, delivered or not."""
        self.other_work = 0
        """The number of deltas whose other fields show that the engine works, as when it
        reasons."""
        self.unread: set[str] = set()
        """Names of received parts that are not read; at most MAX_UNREAD."""
        self.answered = False
        """True once text or a call came."""
        self.spoken = 0
        """The number of pieces of text that came."""
        self.thought = 0
        """The number of pieces of reasoning that came."""
        self.in_call = False
        """True if the last delta continued a call."""
        self.in_thought = False
        """True if the last delta brought reasoning."""

    @property
    def undecided(self) -> bool:
        """True while text is held back, or scores wait for theirs: the next piece, which completes
        them, cannot take the fast lane."""
        return self._tags is not None or bool(self._halves.held or self.scores)

    @property
    def extents(self) -> tuple[int, int, int]:
        """The amounts of text, reasoning and calls so far."""
        return self.spoken, self.thought, 0 if self._calls is None else self._calls.extent

    @property
    def refused(self) -> bool:
        """True if the model refused."""
        return self._refusal is not None

    @property
    def calls(self) -> Calls:
        """The calls of the answer."""
        if self._calls is None:
            self._calls = Calls(self._salt)
        return self._calls

    @property
    def has_calls(self) -> bool:
        """True if any call came."""
        return bool(self._calls)

    @property
    def thinking(self) -> Thinking:
        """The reasoning of the answer."""
        if self._thinking is None:
            self._thinking = Thinking()
        return self._thinking

    @property
    def said_nothing(self) -> bool:
        """True if reasoning came, but neither text nor a call."""
        return not self.answered and self._thinking is not None and self._thinking.text != ""

    # The fast lanes

    def add_plain(self, texts: int) -> None:
        """Count pieces of text whose Tokens were made elsewhere."""
        self.index += texts
        self.count += texts
        self.spoken += texts
        self.answered = True

    def add_arguments(self, lines: bytes) -> list[Token] | None:
        """Return the Tokens of chunks that continue one call; None if any of them does not."""
        found = self.templates.read(lines, call_arguments)
        number = None if found is None else self.calls.append(*found)
        if found is None or number is None:
            return None
        index, pieces = self.index, found[1]
        self.index = index + len(pieces)
        self.count += len(pieces)
        return [
            ToolCallDelta("", at, call=number, arguments=piece)
            for at, piece in enumerate(pieces, index)
        ]

    def add_thoughts(self, lines: bytes) -> list[Token] | None:
        """Return the Tokens of chunks that bring reasoning only; None if any of them does not."""
        found = None if self._halves.held else self.templates.read(lines, thoughts)
        if found is None:
            return None
        self.thinking.name, pieces = found
        self.count += len(pieces)
        self.thought += len(pieces)
        for piece in pieces:
            self.thinking.keep(piece)
        if not self._deliver_reasoning:
            return []
        index = self.index
        self.index = index + len(pieces)
        return [Reasoning("", at, reasoning=piece) for at, piece in enumerate(pieces, index)]

    # One by one

    def read(
        self,
        part: dict[str, Any],
        tokens: list[Token],
        logprob: float | None,
        *,
        skip_text: bool = False,
    ) -> None:
        """Add the Tokens of a delta or a message: reasoning, text and calls, in this order.

        Raises:
            StreamingError: UPSTREAM_PROTOCOL for a wrong type, an exceeded bound, or audio.
        """
        reasoning, works = self.thinking.read(part)
        content, refusal = part.get("content") or part.get("text"), part.get("refusal")
        if isinstance(content, list | dict):
            thought, content, refused = content_parts(content)
            reasoning, refusal = reasoning or thought, refusal or refused
        if reasoning:
            self.add_reasoning(reasoning, tokens)
        elif works:
            self.count += 1
            self.thought += 1
        elif part.get("extra_content"):
            self.other_work += 1
        if not READ.issuperset(part):
            self._note_unread(unread_in(part), thinks=bool(reasoning or works))
        if reasoning and not (content or refusal):
            self.scores.clear()  # they are of the reasoning
        if not skip_text and (content or refusal):
            if content and content != refusal:  # some servers repeat a refusal as content
                self.add_text(content, tokens, logprob)
            if refusal:
                self._refuse(refusal, tokens)
        if part.get("audio"):
            raise _protocol_error("the answer is audio, for which this contract has no event")
        self._read_calls(part, tokens)

    def add_text(
        self, text: Any, tokens: list[Token], logprob: float | None = None, channel: str = "content"
    ) -> None:
        """Add the Token of a piece of text."""
        if not isinstance(text, str):
            raise _protocol_error("the text of a choice is not a string")
        text = self._halves.join(channel, text)
        if self._tags is not None:
            reasoning, text = self._tags.split(text)
            if self._tags.done:
                self._tags = None
            if reasoning:
                self.add_reasoning(reasoning, tokens)
                if not text:
                    self.scores.clear()
        self.count += 1
        if text:
            self.in_thought = False
            self.answered = True
            self.spoken += 1
            tokens.append(self._token(text, logprob, refuses=channel == "refusal"))

    def add_reasoning(self, reasoning: str, tokens: list[Token]) -> None:
        """Keep a piece of reasoning, and add its Token if it is delivered."""
        self.count += 1
        self.thought += 1
        self.in_thought = True
        reasoning = self._halves.join("reasoning", reasoning)
        if not reasoning:
            return
        self.thinking.keep(reasoning)
        if self._deliver_reasoning:
            tokens.append(Reasoning("", self.index, reasoning=reasoning))
            self.index += 1

    def _token(self, text: str, logprob: float | None, *, refuses: bool) -> Token:
        index = self.index
        self.index = index + 1
        if refuses:
            self.scores.clear()  # of an answer that has none
            return Refusal(text, index, logprob)
        if not self.scores:
            return Token(text, index, logprob)
        scores, self.scores = tuple(self.scores), []
        return ScoredToken(text, index, logprob, logprobs=scores)

    def _refuse(self, refusal: Any, tokens: list[Token]) -> None:
        self._refusal = self._refusal or io.StringIO()
        self.add_text(refusal, tokens, channel="refusal")
        if self._refusal.tell() + len(refusal) > MAX_REFUSAL_CHARS:
            raise _protocol_error(f"a refusal of more than {MAX_REFUSAL_CHARS} characters")
        self._refusal.write(refusal.encode("utf-8", "replace").decode())

    def _note_unread(self, names: list[str], *, thinks: bool) -> None:
        if not (thinks or MEDIA.issuperset(names)):
            self.other_work += 1
        self.unread.update(names[: MAX_UNREAD - len(self.unread)])

    def unread_names(self) -> tuple[str, ...]:
        """Return the names of parts that a reader may miss: media, calls, anything if it is
        empty."""
        if not self.unread:
            return ()
        found = self.unread
        if self.answered:
            found = {name for name in found if name in MEDIA or "call" in name or "tool" in name}
        return tuple(sorted(safe_text(name, (), MAX_NAME_CHARS) for name in found))

    def _read_calls(self, part: dict[str, Any], tokens: list[Token]) -> None:
        self.in_call = False
        if self._calls is None and _CALL_KEYS.isdisjoint(part):
            return
        count, extent = self.count, self.calls.extent
        for piece in self.calls.read(part.get("tool_calls") or part.get("tool_call")):
            self._add_call(piece, tokens)
            self.in_call = True
        if part.get("function_call"):
            for piece in self.calls.read_function_call(part["function_call"]):
                self._add_call(piece, tokens)
        if self.count == count and self.calls.extent > extent:
            self.count += 1  # a part of a call that is held back counts, too
        if part.get("extra_content"):
            self.thinking.read_extra(part["extra_content"])

    def _add_call(self, piece: CallPiece, tokens: list[Token]) -> None:
        self.count += 1
        self.answered = True
        self.in_thought = False
        self.scores.clear()
        call, call_id, name, arguments = piece
        tokens.append(
            ToolCallDelta("", self.index, call=call, id=call_id, name=name, arguments=arguments)
        )
        self.index += 1

    # The end

    def close(self, tokens: list[Token]) -> None:
        """Add the Tokens that were held back.

        Raises:
            StreamingError: UPSTREAM_PROTOCOL if a call never got a name.
        """
        if self._tags is not None:
            reasoning, text = self._tags.rest()
            self._tags = None
            if reasoning:
                self.add_reasoning(reasoning, tokens)
            if text:
                self.add_text(text, tokens)
        for channel in ("content", "refusal"):
            if rest := self._halves.rest(channel):
                self.add_text(rest, tokens, channel=channel)
        for piece in () if self._calls is None else self._calls.close():
            self._add_call(piece, tokens)

    def message_extra(self, *, history: bool) -> dict[str, Any]:
        """Return the keys of the message that the next request sends back.

        Args:
            history: Reasoning goes back, too, as where the job has tools.
        """
        extra = {} if self._thinking is None else self._thinking.details()
        if self._refusal is not None:
            extra["refusal"] = self._refusal.getvalue()
        reasoning = "" if self._thinking is None else self._thinking.text
        if reasoning and (self.said_nothing or extra or self._calls or history):
            extra[self.thinking.name or "reasoning_content"] = reasoning
        return extra


def _protocol_error(what: str) -> StreamingError:
    return StreamingError(ErrorCode.UPSTREAM_PROTOCOL, f"not an OpenAI stream: {what}")
