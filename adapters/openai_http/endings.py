"""Meanings of a finish_reason: a whole answer, one cut by its length, a failure, or a filter.

Words that mean success are listed. Words that mean a failure or a filter are recognized by their
parts, wherever they occur. Everything else is unknown, and an unknown word never proves an answer.
"""

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any

from adapter_api import ContentFiltered, ErrorCode, StreamingError, WorkerReset
from adapter_api.events import Proof
from adapters.http_util import safe_text
from adapters.openai_http.filters import withheld

MAX_REASON_CHARS = 256
"""A finish_reason is a word or two. Characters beyond this number are neither read nor kept."""


class Ending(StrEnum):
    """The meaning of a finish_reason."""

    NONE = "none"
    WHOLE = "whole"
    LENGTH = "length"
    FAILED = "failed"
    FILTERED = "filtered"
    UNKNOWN = "unknown"


_NOTHING = frozenset({"", "null", "none", "unspecified"})

_WHOLE = frozenset(
    {
        "complete", "completed", "done", "end", "end_of_message", "end_of_sequence", "end_of_text",
        "end_of_turn", "end_turn", "endoftext", "eom", "eom_id", "eos", "eos_found", "eos_reached",
        "eos_token", "eos_token_id", "eot", "eot_id", "finish", "finished", "function_call",
        "function_calls", "im_end", "matched_stop", "message_stop", "normal", "ok", "stop",
        "stop_found", "stop_sequence", "stop_sequences", "stop_str", "stop_string", "stop_token",
        "stop_token_id", "stop_word", "stopped", "success", "tool_call", "tool_calls", "tool_use",
        "tools", "turn_end",
    }
)  # fmt: skip

_CALLS = frozenset(
    {"function_call", "function_calls", "tool_call", "tool_calls", "tool_use", "tools"}
)

_LENGTH = frozenset(
    {
        "context_length", "context_window_exceeded", "length", "length_limit", "max_length",
        "max_completion_tokens", "max_new_tokens", "max_output_tokens", "max_token", "max_tokens",
        "max_tokens_reached", "model_context_window_exceeded", "model_length", "output_limit",
        "token_limit", "token_limit_reached",
    }
)  # fmt: skip

# Parts are recognized by their beginnings, which all forms of a word share. Some servers leave out
# the separator behind "content", as in "contentfilter". Compiled when the first such word comes.
_FILTERED = (
    r"(?:^|_)(?:content_?)?(?:"
    r"abus|banned|blacklist|block|censor|copyright|csam|dangerous|disallow|filter|flagged|forbid"
    r"|guardrail|harass|harm|hate|illegal|inappropriate|jailbreak|moderat|nsfw|pii(?:_|$)|polic"
    r"|profan|prohibit|prompt_inject|rai(?:_|$)|recitation|redact|refus|responsible_?ai|restrict"
    r"|risk|safety|sensitiv|sexual|spii|suppress|toxic|unsafe|violat|violen|withheld"
    r")"
)
_FAILED = (
    r"(?:^|_)(?:"
    r"abandon|abort|bad_gateway|broke|budget|busy|cancel|capacity|closed|connection|corrupt|crash"
    r"|deadline|dead(?:_|$)|died|disconnect|drain|err(?:or|_|$)|evict|exception|exhaust|expired"
    r"|fail|fatal|fault|hang|hung|incomplete|insufficient|internal|interrupt|invalid|kill|lost"
    r"|malformed|memory|missing|network|oom|overload|panic|partial|preempt|premature|quota"
    r"|rate_?(?:limit|$)|reset|resource|restart|segfault|segv|shut|sig(?:kill|term)|stall|suspend"
    r"|terminat|throttl|tim(?:e|ed)(?:_|$)|timeout|too_many|truncat|unavailable|unexpected"
    r"|unfinished|unload"
    r")|(?:error|timeout|cancell?ed|aborted|exception)(?:_|$)"
)

_PREFIX = re.compile(r"(?:(?:finish|finished|stop|end|done)_?)?reason_")


def classify(reason: str) -> Ending:
    """Return the meaning of `reason`, regardless of case, separators, prefix and details."""
    return _classify(reason[:MAX_REASON_CHARS])


@lru_cache(maxsize=128)  # a server has few words, and each answer has one of them
def _classify(reason: str) -> Ending:
    word = _plain(reason)
    if (listed := _listed(word)) is not None:
        return listed
    if re.search(_FILTERED, word):
        return Ending.FILTERED
    if re.search(_FAILED, word):
        return Ending.FAILED
    head = _plain(reason.partition(":")[0])  # "stop: ###" names the sequence that was found
    return _listed(head) or Ending.UNKNOWN


def _listed(word: str) -> Ending | None:
    for words, ending in ((_NOTHING, Ending.NONE), (_WHOLE, Ending.WHOLE)):
        if word in words:
            return ending
    return Ending.LENGTH if word in _LENGTH else None


@lru_cache(maxsize=128)
def names_calls(reason: str | None) -> bool:
    """Return whether a finish_reason means that the model called tools."""
    return reason is not None and _plain(reason) in _CALLS


def _plain(text: str) -> str:
    """Return `text` in lower case, its words separated by underscores, without a prefix."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    return _PREFIX.sub("", re.sub(r"[\W_]+", "_", spaced).strip("_").lower(), count=1)


_BAD = (Ending.FAILED, Ending.FILTERED)

_REASONS = ("finish_reason", "stop_reason", "done_reason")
"""Names of an ending beside the choices, or in an event without any."""

_DETAIL_ENDS = (
    *("stop_details", "finish_details", "incomplete_details", "done_reason"),
    *("_finish_reason", "FinishReason"),
)
"""OpenRouter's `native_finish_reason`, and the same words of other gateways."""

_STATUSES = ("status", "Status")
"""The status in a Responses API. Every chunk may have "in_progress" or "incomplete", so it counts
only beside a finish_reason."""

OF_CHUNKS = frozenset(
    {"choices", "created", "id", "model", "object", "system_fingerprint", "usage"}
)
"""The names in nearly every chunk."""
_WITHOUT_DETAILS = OF_CHUNKS | {
    *("delta", "finish_reason", "index", "logprobs", "message", "stop_reason", "text"),
}
"""The names in nearly every chunk and choice."""

_WORDS = (str, dict)


class Finish:
    """The end of one answer, and whether it proves the answer whole.

    Args:
        secrets: Credentials to keep out of the finish_reason.
    """

    __slots__ = (
        "_after_answer",
        "_at",
        "_before",
        "_new",
        "_resumed",
        "_secrets",
        "_status",
        "ending",
        "reason",
    )

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = secrets
        self._new = False  # the event that is being read has a finish_reason
        self._status: str | None = None  # the event's own word for a failure
        self._before: tuple[Ending, str | None] = (
            Ending.NONE,
            None,
        )  # the ending of the last event
        self._at = -1  # the number of pieces after the event with the last one
        self._after_answer = False
        self._resumed = False  # pieces came after a finish_reason
        self.ending = Ending.NONE
        self.reason: str | None = None
        """The engine's finish_reason, safe to show."""

    def read(self, source: Mapping[str, Any]) -> None:
        """Read the finish_reason of a choice, and the words beside it.

        Raises:
            StreamingError: UPSTREAM_PROTOCOL if it is not a string.
        """
        reason = source.get("finish_reason")
        if reason is None and isinstance(source.get("finish_details"), dict):
            reason = source["finish_details"].get("type")  # OpenAI's vision preview
        if reason is not None and not isinstance(reason, str):
            raise StreamingError(
                ErrorCode.UPSTREAM_PROTOCOL, "not an OpenAI stream: finish_reason is not a string"
            )
        if reason:
            self.read_reason(reason)
        self._read_details(source)

    def read_reason(self, reason: str) -> None:
        """Read a finish_reason."""
        ending = classify(reason)
        if ending is not Ending.NONE:
            self._note(reason, ending)

    def read_beside(self, source: Mapping[str, Any]) -> None:
        """Read the words beside the choices, of which only a failure or a filter counts."""
        for name in _REASONS:
            reason = source.get(name)
            if isinstance(reason, str) and classify(reason) in _BAD:
                self._note(reason, classify(reason))
        self._read_details(source)

    def read_part(self, part: Mapping[str, Any]) -> None:
        """Read the finish_reason of a delta or a message, where some gateways put it."""
        reason = part.get("finish_reason")
        if isinstance(reason, str):
            self.read_reason(reason)
        self._read_details(part)

    def _read_details(self, source: Mapping[str, Any]) -> None:
        """Read the provider's own words, of which only a failure, a filter or a cut counts."""
        if _WITHOUT_DETAILS.issuperset(source):
            return
        for name in _STATUSES:
            status = source.get(name)
            if isinstance(status, str) and classify(status) in _BAD:
                self._status = status
        if category := withheld(source):
            self._note(f"content_filter: {category}", Ending.FILTERED)
        for name, detail in source.items():
            if type(detail) not in _WORDS or not name.endswith(_DETAIL_ENDS):
                continue
            for word in detail.values() if isinstance(detail, dict) else (detail,):
                if not isinstance(word, str):
                    continue
                ending = classify(word)
                if ending in _BAD or (ending is Ending.LENGTH is not self.ending):
                    self._note(word, ending)
                    return

    def _note(self, reason: str, ending: Ending) -> None:
        cut = self._new and self.ending is Ending.LENGTH and ending is Ending.WHOLE
        self._new = True
        if not (cut or self.ending in _BAD):  # these stay, whatever follows
            self.ending = ending
            self.reason = safe_text(reason, self._secrets, MAX_REASON_CHARS)

    def end_event(self, pieces: int, *, answered: bool) -> None:
        """Note that an event was read.

        Args:
            pieces: How many pieces of any kind the answer has, including those of the event.
            answered: Text or a call had come before the event.
        """
        status, self._status = self._status, None
        if not self._new:
            return
        if status is not None and self.ending is Ending.WHOLE:
            self._note(status, classify(status))
        self._new = False
        if self._at == pieces and self._before[0] is Ending.LENGTH and self.ending is Ending.WHOLE:
            # A gateway sends "stop" after the engine's reason.
            self.ending, self.reason = self._before
        self._before = (self.ending, self.reason)
        self._resumed = self._resumed or -1 < self._at < pieces
        self._at = pieces
        # A finish_reason with the first text may come with every text: then this is not the end.
        self._after_answer = answered and not self._resumed

    def may_be_last(self, pieces: int) -> bool:
        """Return whether the answer is already whole, so that only usage may still follow."""
        return self._after_answer and self._at == pieces

    def proof(self, pieces: int, *, done: bool) -> Proof | None:
        """Return the proof that a finish_reason gives; None if none came.

        Args:
            pieces: As for `end_event`.
            done: `[DONE]` came.

        Raises:
            WorkerError: The failure that the finish_reason means; STREAM_TRUNCATED if it is unknown
                or more of the answer followed it.
        """
        if self.ending is Ending.NONE:
            return None
        if self.ending is Ending.FAILED:
            raise WorkerReset(
                ErrorCode.WORKER_RESET, f"the engine ended the answer with {self.reason!r}"
            )
        if self.ending is Ending.FILTERED:
            raise ContentFiltered(
                ErrorCode.CONTENT_FILTER,
                f"a content filter withheld the rest of the answer (finish_reason {self.reason!r})",
            )
        if self.ending is Ending.UNKNOWN:
            raise _truncated(f"the finish_reason {self.reason!r} is unknown, so it proves nothing")
        if pieces > self._at:
            raise _truncated("more of the answer followed its finish_reason, and then it ended")
        if self._resumed and not done:
            raise _truncated("a finish_reason came before the end, so the last one proves nothing")
        return "finish_reason"


def _truncated(what: str) -> StreamingError:
    return StreamingError(ErrorCode.STREAM_TRUNCATED, what)
