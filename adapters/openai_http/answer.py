"""One answer: bytes in, events out, and a verdict on whether it is whole. No I/O.

Phases:

    OPEN      --finish_reason after text or a call-->  FINISHED
    FINISHED  --more text, reasoning or a call------>  OPEN, and that finish_reason proves nothing
    any       --[DONE]------------------------------>  CLOSED
    any       --anything unreadable, an error------->  CLOSED, and the answer fails with it

In OPEN, the reader of the body waits with the limits of the job. In FINISHED it waits only briefly
for what may follow, and in CLOSED not at all. `finish` gives the verdict, whatever ended the body.
"""

from collections.abc import Callable, Iterable
from copy import copy
from typing import Any, TypeVar

from adapter_api import (
    ErrorCode,
    InvalidToolCall,
    StreamingError,
    Token,
    ToolCall,
    WorkerError,
)
from adapter_api.events import Proof, tokens_of
from adapters.http_util import (
    DecodeLimitError,
    ServerSentEvent,
    SSEDecoder,
    error_from_payload,
    safe_text,
)
from adapters.http_util.failed import is_error
from adapters.openai_http.choices import Choices
from adapters.openai_http.endings import OF_CHUNKS, Ending, Finish, names_calls
from adapters.openai_http.facts import Facts
from adapters.openai_http.foreign import refuse_foreign, strange_fields
from adapters.openai_http.framing import DONE, Framing, names_error
from adapters.openai_http.lanes import usual_chunk
from adapters.openai_http.misplaced import misplaced_text, wrapped
from adapters.openai_http.names import plain
from adapters.openai_http.outcome import Phase, Verdict, Wanted
from adapters.openai_http.payload import NOT_JSON, decode
from adapters.openai_http.pieces import Pieces
from adapters.openai_http.thinking import MEDIA

_Event = TypeVar("_Event", bytes, ServerSentEvent)

_QUIET_EVENTS = frozenset({"", "message"})  # the names of nearly all events

_DONES = frozenset({DONE, b"[done]", b'"[DONE]"', b"[ DONE ]", b"DONE", b"'[DONE]'", b'"DONE"'})
MAX_DONE_BYTES = max(map(len, _DONES))
"""Hashing a longer event would take time."""

_PINGS = frozenset({"ping", "heartbeat", "keepalive", "keep-alive", "keep_alive"})
"""Names of events that only keep the connection open; their data may be anything."""

MAX_SHOWN_CHARS = 120
"""The maximum length of an unreadable event that an error shows."""

MAX_JOINED = 4096
"""The maximum number of chunks in one event, from a server that omits the blank lines between them.
Reading that many takes about 40 ms."""


class AnswerReader:
    """Reads one answer.

    Args:
        wanted: The parts that the job wants in addition to text.
        decoder: Decodes the stream; None for the default bounds.
        error_text: Text that begins with this is a failure (a trait of the dialect).
        reasoning_tags: Tags around reasoning at the beginning of the text; None to leave them.
        secrets: Credentials to keep out of error messages.
    """

    def __init__(
        self,
        wanted: Wanted | None = None,
        *,
        decoder: SSEDecoder | None = None,
        error_text: str | None = None,
        reasoning_tags: tuple[str, str] | None = None,
        secrets: Iterable[str] = (),
    ) -> None:
        self._wanted = wanted = wanted or Wanted()
        self._secrets = secrets = tuple(secrets)
        self._framing = Framing(decoder, secrets)
        self._finish = Finish(secrets)
        self._pieces = Pieces(wanted.reasoning, wanted.salt, reasoning_tags)
        self.facts = Facts(secrets)
        """The facts that the answer states about itself."""
        self._choices = Choices(
            self._pieces,
            self._finish,
            self.facts,
            wanted.logprobs,
            error_text,
            secrets,
        )
        self._undecided = self._choices.undecided
        self._slow = True  # the first event shows which endpoint answers
        self._failure: WorkerError | None = None
        self._done = False
        self._strange = ""  # the fields of an event without choices, before any choice
        self._misplaced = ""  # where text stood that is not read
        self.phase = Phase.OPEN
        """The phase of the answer."""
        self.progressed = False
        """True if the last piece of the body brought anything, delivered or not."""

    @property
    def begun(self) -> bool:
        """True once a choice came."""
        return self._choices.begun

    @property
    def pieces(self) -> int:
        """The number of pieces of any kind so far: text, reasoning under any name, calls."""
        return self._pieces.count + self._pieces.other_work

    @property
    def tokens(self) -> int:
        """The number of Tokens made."""
        return self._pieces.index

    @property
    def finish_reason(self) -> str | None:
        """The engine's finish_reason."""
        return self._finish.reason

    # Reading

    def feed(self, piece: bytes) -> list[Token]:
        """Return the Tokens in a piece of the body. Errors are kept for `finish`."""
        before = self.pieces
        try:
            framing = self._framing
            decode = framing.decode or framing.feed  # calling a local variable is faster
            batch = decode(piece)
        except (WorkerError, DecodeLimitError) as error:
            self._fail(error)
            return []
        if isinstance(batch, bytes):
            tokens = self.read_plain(batch)
            if tokens is None:
                tokens = self._read_all(batch.split(b"\n"), self.read_line)
        else:
            tokens = self._read_all(batch, self.read)
        self.progressed = self.pieces > before
        return tokens

    def end(self) -> list[Token]:
        """Return the Tokens that the end of the body completes; `finish` gives the verdict."""
        if self.phase is Phase.CLOSED:
            return []
        try:
            return self._read_all(self._framing.finish(), self.read)
        except (WorkerError, DecodeLimitError) as error:
            self._fail(error)
            return []

    def _fail(self, error: WorkerError | DecodeLimitError) -> None:
        if not isinstance(error, WorkerError):
            limit = f"the stream exceeds a limit: {error}"
            error = StreamingError(ErrorCode.UPSTREAM_PROTOCOL, limit)
        self._failure = error.with_traceback(None)
        self.phase = Phase.CLOSED

    def _note_phase(self) -> None:
        if self._done or self._failure is not None:
            self.phase = Phase.CLOSED
        else:
            last = self._finish.may_be_last(self._pieces.count)
            self.phase = Phase.FINISHED if last else Phase.OPEN

    def _read_all(
        self, events: Iterable[_Event], read: Callable[[_Event, list[Token]], None]
    ) -> list[Token]:
        tokens: list[Token] = []
        for event in events:
            count = len(tokens)
            try:
                read(event, tokens)
            except WorkerError as error:
                del tokens[count:]  # no part of an event that cannot be read is delivered
                self._failure = error.with_traceback(None)  # its frames hold this reader
            if self._done or self._failure is not None:
                break
        self._failure = self._failure or self._framing.unknown()
        self._note_phase()
        return tokens

    def read_plain(self, lines: bytes) -> list[Token] | None:
        """Return the Tokens of events that each have one part and nothing else, as nearly all do.

        Args:
            lines: The data of the events, with a line feed between them.

        Returns:
            None if anything in them is unusual: `read_line` understands them, one by one.
        """
        if self._slow:
            return None
        pieces = self._pieces
        if pieces.in_call:
            tokens = pieces.add_arguments(lines)
        elif pieces.in_thought:
            tokens = pieces.add_thoughts(lines)
        else:
            read = pieces.templates.read(lines, self._choices.texts)
            if read is None:
                return None
            texts = read[1]
            tokens = tokens_of(texts, pieces.index)
            pieces.add_plain(len(texts))
        if self.phase is not Phase.OPEN:
            self._note_phase()
        return tokens

    def read_line(self, line: bytes, tokens: list[Token]) -> None:
        """Add the Tokens of an event that is one line of data to `tokens`. Raises as `read`."""
        if line == DONE:
            self._done = True
            return
        choices, pieces = self._choices, self._pieces
        chunk = None if self._undecided else usual_chunk(line)
        if chunk is None or not (chunk.choices or choices.begun):
            self.read(ServerSentEvent(line), tokens)
            return
        answered = pieces.answered
        self.facts.note_names(chunk.id, chunk.model, chunk.system_fingerprint)
        if chunk.usage:
            self.facts.note_usage({"usage": chunk.usage})
        if chunk.choices:
            choices.read_usual(chunk.choices[0], tokens)
        self._slow = self._undecided = choices.undecided
        self._finish.end_event(pieces.count, answered=answered)

    def read(self, event: ServerSentEvent, tokens: list[Token]) -> None:
        """Add the Tokens of an event to `tokens`, leniently if nothing is lost by that.

        Raises:
            WorkerError: If the event is an error, or not valid here.
        """
        data = event.data.strip()
        quiet = event.event in _QUIET_EVENTS
        failed = not quiet and names_error(event.event)
        if not (data or failed) or (not quiet and event.event in _PINGS and b"error" not in data):
            return
        for document in _documents(data):
            if len(document) <= MAX_DONE_BYTES and document in _DONES:
                self._done = True
                return
            self._read_payload(self._parse(document, failed=failed), tokens, failed=failed)

    def _read_payload(self, payload: Any, tokens: list[Token], *, failed: bool) -> None:
        if failed:
            raise error_from_payload(payload or "", secrets=self._secrets)
        if payload is None or payload == {}:
            return
        if isinstance(payload, list) and any(map(_is_chunk, payload)):
            for item in payload:
                self._read_payload(item, tokens, failed=False)
            return
        if not isinstance(payload, dict) or is_error(payload):
            if isinstance(payload, list):
                refuse_foreign(payload)
            raise error_from_payload(payload, secrets=self._secrets)
        payload = wrapped(payload) or payload
        usual = OF_CHUNKS.issuperset(payload)
        if not usual:
            payload = plain(payload)
        choices = payload.get("choices")
        if not (choices or self.begun):
            refuse_foreign(payload)
            self._strange = self._strange or strange_fields(payload)
        self.facts.note(payload)
        if choices is not None and not isinstance(choices, list):
            raise _protocol_error("choices is not a list")
        answered, pieces = self._pieces.answered, self._pieces.count
        if not usual:
            self._finish.read_beside(payload)
        self._choices.read(choices or (), tokens)
        self._undecided = self._choices.undecided
        self._slow = self._undecided or not self._choices.begun
        self._finish.end_event(self._pieces.count, answered=answered)
        if not (self._pieces.answered or self._misplaced or self._pieces.count > pieces):
            self._misplaced = misplaced_text(payload)

    def _parse(self, data: bytes, *, failed: bool) -> Any:
        try:
            return decode(data)
        except NOT_JSON:
            text = data.decode("utf-8", "replace")
        if failed:
            return text
        shown = safe_text(text, self._secrets, MAX_SHOWN_CHARS)
        raise _protocol_error(f"an event is not JSON: {shown!r}")

    # The verdict

    def finish(self, *, always_finishes: bool = False) -> Verdict:
        """Return the verdict, after `end`.

        Args:
            always_finishes: `[DONE]` without a finish_reason proves nothing (a trait of the
                dialect).

        Raises:
            WorkerError: STREAM_TRUNCATED if nothing proves the answer whole; the server's own error
                if it failed.
        """
        tokens: list[Token] = []
        if self._failure is not None:
            raise copy(self._failure)  # its traceback holds this reader, too
        pieces = self._pieces
        proof = self._finish.proof(pieces.count, done=self._done) or self._done_proof(
            always_finishes
        )
        bare = pieces.has_calls and pieces.calls.lacks_arguments
        pieces.close(tokens)
        valid, invalid = self._calls() if pieces.has_calls else ((), ())
        if proof == "done" and (invalid or bare):
            raise _truncated("the answer ended with [DONE], without a finish_reason, in a call")
        if self._misplaced and not pieces.answered:
            raise _protocol_error(f"its text is under {self._misplaced!r}, where no chunk has it")
        if pieces.unread:
            self._refuse_media()
        return Verdict(
            proof,
            tokens,
            valid,
            invalid,
            pieces.refused,
            pieces.message_extra(history=self._wanted.history),
            pieces.said_nothing,
            names_calls(self._finish.reason) and not (valid or invalid),
            pieces.unread_names(),
        )

    def _refuse_media(self) -> None:
        media = MEDIA.intersection(self._pieces.unread)
        if media and not (self._pieces.answered or self._pieces.said_nothing):
            shown = ", ".join(sorted(media))
            raise _protocol_error(f"the answer is only {shown}, for which there is no event")

    def _calls(self) -> tuple[tuple[ToolCall, ...], tuple[InvalidToolCall, ...]]:
        """Return the calls that may be run, and the others."""
        usage, limit = self.facts.usage, self._wanted.max_tokens
        valid, invalid = self._pieces.calls.sort(
            cut=self._finish.ending is Ending.LENGTH,
            full=usage is not None and limit is not None and usage.completion_tokens >= limit,
        )
        return tuple(valid), tuple(invalid)

    def _done_proof(self, always_finishes: bool) -> Proof:
        if not self.begun:
            only = f", only events with the fields {self._strange}" if self._strange else ""
            raise _truncated(f"the server answered 200 and sent no answer{only}")
        if not self._done:
            raise _truncated("the answer ended without a finish_reason and without [DONE]")
        if always_finishes:
            raise _truncated(
                "the answer ended with [DONE] but without a finish_reason, which means it was cut"
            )
        return "done"


def _documents(data: bytes) -> list[bytes]:
    """Return the documents of an event, which may have several, one per line."""
    if data.startswith(b"data:"):  # a gateway has put it before an event that had it
        data = data.removeprefix(b"data:").lstrip()
    if b"\n" not in data or _is_json(data):
        return [data]
    return [*filter(None, map(bytes.strip, data.split(b"\n", MAX_JOINED)))]


def _is_chunk(item: object) -> bool:
    return isinstance(item, dict) and "choices" in item


def _is_json(data: bytes) -> bool:
    try:
        decode(data)
    except NOT_JSON:
        return False
    return True


def _truncated(what: str) -> StreamingError:
    return StreamingError(ErrorCode.STREAM_TRUNCATED, what)


def _protocol_error(what: str) -> StreamingError:
    return StreamingError(ErrorCode.UPSTREAM_PROTOCOL, f"not an OpenAI stream: {what}")
