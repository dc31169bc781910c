"""One answer: bytes in, events out, and a verdict on whether it is whole. No I/O.

Phases:

    OPEN      --finish_reason after text or a call-->  FINISHED
    FINISHED  --more text, reasoning or a call------>  OPEN, and that finish_reason proves nothing
    any       --[DONE]------------------------------>  CLOSED
    any       --anything unreadable, an error------->  CLOSED, and the answer fails with it

The reader of the body waits in OPEN with the limits of the job, in FINISHED only briefly for what
may follow, and not at all in CLOSED. `finish` gives the verdict, whatever ended the body.
"""

from collections.abc import Iterable
from typing import Any

from adapter_api import ErrorCode, StreamingError, Token, WorkerError
from adapter_api.events import Proof, tokens_of
from adapters.http_util import (
    DecodeLimitError,
    ServerSentEvent,
    SSEDecoder,
    error_from_payload,
    safe_text,
)
from adapters.openai_http.endings import Ending, Finish
from adapters.openai_http.framing import Framing, names_error
from adapters.openai_http.lanes import chat_texts, completion_texts
from adapters.openai_http.outcome import Phase, Verdict, Wanted
from adapters.openai_http.payload import NOT_JSON, decode, is_error
from adapters.openai_http.pieces import Pieces
from adapters.openai_http.usage import (
    OWN_NUMBERS,
    Usage,
    own_numbers,
    read_usage,
    single_logprob,
    token_logprobs,
)

DONE = b"[DONE]"

_QUIET_EVENTS = frozenset({"", "message"})  # the names of nearly all events

MAX_NAME_CHARS = 256
"""The maximum length of a model, a fingerprint or an id: they go into logs."""

MAX_SHOWN_CHARS = 120
"""The maximum part of an unreadable event that an error shows."""


class AnswerReader:
    """Reads one answer.

    Args:
        wanted: What the job wants in addition to text.
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
        self._secrets = tuple(secrets)
        self._framing = Framing(decoder, self._secrets)
        self._finish = Finish(self._secrets)
        self._pieces = Pieces(
            deliver_reasoning=wanted.reasoning, salt=wanted.salt, tags=reasoning_tags
        )
        self._error_text = error_text
        self._texts = completion_texts
        self._slow = error_text is not None or reasoning_tags is not None
        self._by_delta = False  # pieces came as deltas, so that a message only repeats them
        self._said: tuple[Any, ...] = ()  # the names as they were noted last
        self._failure: WorkerError | None = None
        self._done = False
        self._usage: Any = None
        self._fallback_usage: Any = None
        self._beside_usage: dict[str, Any] = {}
        self.phase = Phase.OPEN
        """The phase of the answer."""
        self.begun = False
        """True once a choice came."""
        self.model = ""
        self.fingerprint = ""
        self.completion_id = ""

    @property
    def pieces(self) -> int:
        """How many pieces of any kind came: text, reasoning under any name, calls."""
        return self._pieces.count + self._pieces.other_work

    @property
    def tokens(self) -> int:
        """The number of Tokens made."""
        return self._pieces.index

    @property
    def finish_reason(self) -> str | None:
        """The engine's finish_reason."""
        return self._finish.reason

    @property
    def usage(self) -> Usage | None:
        """The engine's latest counts that are not empty."""
        return read_usage(self._usage) or read_usage(self._fallback_usage)

    def own_numbers(self) -> dict[str, Any]:
        """Return what the engine counted beyond what Metrics holds, as it sent it."""
        usage = self._fallback_usage if self._usage is None else self._usage
        return own_numbers(usage, self._beside_usage, self._secrets)

    # Reading

    def feed(self, piece: bytes) -> list[Token]:
        """Return the Tokens that a piece of the body brings. Errors are kept for `finish`."""
        try:
            batch = self._framing.feed(piece)
        except (WorkerError, DecodeLimitError) as error:
            self._fail(error)
            return []
        if isinstance(batch, bytes):
            tokens = self.read_plain(batch)
            if tokens is not None:
                return tokens
            batch = self._framing.events_of(batch)
        return self._read_all(batch)

    def end(self) -> list[Token]:
        """Return the Tokens that the end of the body completes; `finish` gives the verdict."""
        if self.phase is Phase.CLOSED:
            return []
        try:
            return self._read_all(self._framing.finish())
        except (WorkerError, DecodeLimitError) as error:
            self._fail(error)
            return []

    def _fail(self, error: WorkerError | DecodeLimitError) -> None:
        if not isinstance(error, WorkerError):
            limit = f"the stream passes a limit: {error}"
            error = StreamingError(ErrorCode.UPSTREAM_PROTOCOL, limit)
        self._failure = error
        self.phase = Phase.CLOSED

    def _note_phase(self) -> None:
        if self._done or self._failure is not None:
            self.phase = Phase.CLOSED
        else:
            last = self._finish.may_be_last(self._pieces.count)
            self.phase = Phase.FINISHED if last else Phase.OPEN

    def _read_all(self, events: Iterable[ServerSentEvent]) -> list[Token]:
        tokens: list[Token] = []
        for event in events:
            count = len(tokens)
            try:
                self.read(event, tokens)
            except WorkerError as error:
                del tokens[count:]  # no part of an event that cannot be read is delivered
                self._failure = error
            if self._done or self._failure is not None:
                break
        self._failure = self._failure or self._framing.unknown()
        self._note_phase()
        return tokens

    def read_plain(self, lines: bytes) -> list[Token] | None:
        """Return the Tokens of events that each bring one thing and nothing else, as nearly all do.

        Args:
            lines: The data of the events, with a line feed between them.

        Returns:
            None if anything in them is unusual: `read` understands them, one by one.
        """
        if not self.begun or self._slow:  # the first event shows which server answers
            return None
        pieces = self._pieces
        if pieces.in_call:
            tokens = pieces.add_arguments(lines)
        else:
            texts = self._texts(lines)
            if texts is None:
                return None
            tokens = tokens_of(texts, pieces.index)
            pieces.index += len(texts)
            pieces.count += len(texts)
            pieces.answered = True
        if self.phase is not Phase.OPEN:
            self._note_phase()
        return tokens

    def read(self, event: ServerSentEvent, tokens: list[Token]) -> None:
        """Add the Tokens of an event to `tokens`, leniently where nothing is lost by it.

        Raises:
            WorkerError: If the event is an error, or not valid here.
        """
        data = event.data.strip()
        if data == DONE:
            self._done = True
            return
        failed = event.event not in _QUIET_EVENTS and names_error(event.event)
        if event.event == "ping" or not (data or failed):
            return
        payload = self._parse(data, failed=failed)
        if failed:
            raise error_from_payload(payload or "", secrets=self._secrets)
        if payload is None or payload == {}:
            return
        if not isinstance(payload, dict) or is_error(payload):
            raise error_from_payload(payload, secrets=self._secrets)
        self._note_identity(payload)
        self._note_usage(payload)
        choices = payload.get("choices")
        if choices is not None and not isinstance(choices, list):
            raise _protocol_error("choices is not a list")
        answered = self._pieces.answered
        self._finish.read_details(payload)
        self._read_choices(choices or [], tokens)
        self._finish.end_event(self._pieces.count, answered=answered)

    def _parse(self, data: bytes, *, failed: bool) -> Any:
        for part in (data, data.partition(b"\n")[0]):  # more may follow a document
            try:
                return decode(part)
            except NOT_JSON:
                continue
        text = data.decode("utf-8", "replace")
        if failed:
            return text
        shown = safe_text(text, self._secrets, MAX_SHOWN_CHARS)
        raise _protocol_error(f"an event is not JSON: {shown!r}")

    def _read_choices(self, choices: list[Any], tokens: list[Token]) -> None:
        pieces = self._pieces
        before = pieces.spoken
        for choice in choices:
            spoken = pieces.spoken
            self._read_choice(choice, tokens)
            if before < spoken < pieces.spoken:
                raise _protocol_error("a chunk has two choices, although one was requested")
        self._slow = self._error_text is not None or pieces.undecided

    def _read_choice(self, choice: Any, tokens: list[Token]) -> None:
        if not isinstance(choice, dict):
            raise _protocol_error("a choice is not an object")
        self._refuse_error(choice)
        index = choice.get("index") or 0
        if type(index) is not int or index != 0:
            raise _protocol_error(
                "a choice has an index other than 0, although one choice was requested"
            )
        self.begun = True
        self._finish.read(choice)
        self._note_usage(choice)
        logprobs = choice.get("logprobs")
        if logprobs and self._wanted.logprobs:
            self._pieces.scores += token_logprobs(logprobs)
        self._read_parts(choice, tokens, single_logprob(logprobs) if logprobs else None)

    def _read_parts(
        self, choice: dict[str, Any], tokens: list[Token], logprob: float | None
    ) -> None:
        """Read the text, the delta and the message of a choice."""
        pieces = self._pieces
        before = pieces.count
        delta, message = self._part(choice, "delta"), self._part(choice, "message")
        if "delta" in choice:
            self._texts = chat_texts
        text = choice.get("text")
        if text:
            self._refuse_failure(text)
            pieces.add_text(text, tokens, logprob)
        self._refuse_failure(delta.get("content"))
        pieces.read(delta, tokens, logprob, skip_text=bool(text))
        if pieces.count > before:
            self._by_delta = True
        elif message and not self._by_delta:
            self._refuse_failure(message.get("content"))
            pieces.read(message, tokens, logprob)

    def _part(self, choice: dict[str, Any], key: str) -> dict[str, Any]:
        part = choice.get(key)
        if part is None:
            return {}
        if not isinstance(part, dict):
            raise _protocol_error(f"{key} is not an object")
        self._refuse_error(part)
        return part

    def _refuse_error(self, part: dict[str, Any]) -> None:
        if part.get("error"):
            raise error_from_payload(part, secrets=self._secrets)

    def _refuse_failure(self, text: Any) -> None:
        """Raise the failure that a text is, on servers that report failures as text."""
        if self._error_text and isinstance(text, str) and text.startswith(self._error_text):
            raise error_from_payload(text, secrets=self._secrets)

    def _note_identity(self, payload: dict[str, Any]) -> None:
        said = (payload.get("id"), payload.get("model"), payload.get("system_fingerprint"))
        if said == self._said:
            return
        self._said = said
        completion_id, model, fingerprint = (
            safe_text(name, self._secrets, MAX_NAME_CHARS) if name and isinstance(name, str) else ""
            for name in said
        )
        # The first that says something: Started must not depend on how much came in one read.
        self.completion_id = self.completion_id or completion_id
        self.model = self.model or model
        self.fingerprint = self.fingerprint or fingerprint

    def _note_usage(self, source: dict[str, Any]) -> None:
        usage = source.get("usage")
        if usage and read_usage(usage) is not None:
            self._usage = usage
        for name in OWN_NUMBERS:
            if source.get(name):
                self._beside_usage[name] = source[name]
        groq = source.get("x_groq")
        if isinstance(groq, dict):
            self._fallback_usage = groq.get("usage") or self._fallback_usage

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
            raise self._failure
        pieces = self._pieces
        proof = self._finish.proof(pieces.count, done=self._done) or self._done_proof(
            always_finishes
        )
        pieces.close(tokens)
        usage, limit = self.usage, self._wanted.max_tokens
        valid, invalid = pieces.calls.sort(
            cut=self._finish.ending is Ending.LENGTH,
            full=usage is not None and limit is not None and usage.completion_tokens >= limit,
        )
        if proof == "done" and invalid:
            raise _truncated("the answer ended with [DONE], without a finish_reason, in a call")
        silent = not pieces.answered and bool(pieces.thinking.text)
        return Verdict(
            proof=proof,
            tokens=tokens,
            tool_calls=tuple(valid),
            invalid_tool_calls=tuple(invalid),
            refused=pieces.refused,
            message_extra=self._message_extra(silent=silent),
            said_nothing=silent,
        )

    def _done_proof(self, always_finishes: bool) -> Proof:
        if not self.begun:
            raise _truncated("the server answered 200 and sent no answer")
        if not self._done:
            raise _truncated("the answer ended without a finish_reason and without [DONE]")
        if always_finishes:
            raise _truncated(
                "the answer ended with [DONE] but without a finish_reason, which means it was cut"
            )
        return "done"

    def _message_extra(self, *, silent: bool) -> dict[str, Any]:
        pieces = self._pieces
        extra = pieces.thinking.details()
        if pieces.refused:
            extra["refusal"] = pieces.refusal
        reasoning = pieces.thinking.text
        if reasoning and (silent or extra or pieces.calls or self._wanted.history):
            extra[pieces.thinking.name] = reasoning
        return extra


def _truncated(what: str) -> StreamingError:
    return StreamingError(ErrorCode.STREAM_TRUNCATED, what)


def _protocol_error(what: str) -> StreamingError:
    return StreamingError(ErrorCode.UPSTREAM_PROTOCOL, f"not an OpenAI stream: {what}")
