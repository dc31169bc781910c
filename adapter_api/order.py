"""The order of a job's events and what each may contain, for every adapter (ADAPT-3001).

A job is in one state, and each event of the adapter moves it to the next:

                 Started            Token               MetricsFrame           End
    OPENING ───────────▶ ACCEPTED ───────▶ ANSWERING ───────────────▶ COUNTED ─────▶ ENDED

ACCEPTED and ANSWERING may be left for COUNTED and ENDED directly. Error leads to ENDED from every
state. An event that the table below does not list for the current state is a violation, and so is
one with contents that a consumer could not use: the job then ends with INTERNAL.

Three facts keep the table small. Before Started nothing was delivered, so a failure raises and the
job may be sent elsewhere. From Started on, a failure is the last event. The end of the events is
not an event: without End or Error before it, it is STREAM_TRUNCATED.

Token stands for all kinds of Token. Their indexes count 0, 1, 2, ... The first ToolCallDelta of a
call has its id and whole name, later ones neither, and calls count 0, 1, 2, ... as well.

`TokenStream.__anext__` has a fast path for a plain Token in its place, which is nearly every event.
It must accept nothing that this module refuses.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, get_args

from adapter_api.errors import JsonError, WorkerError
from adapter_api.events import (
    End,
    Error,
    Metrics,
    MetricsFrame,
    Proof,
    Reasoning,
    Refusal,
    ScoredToken,
    Started,
    Token,
    TokenEvent,
    TokenLogprob,
    ToolCallDelta,
)
from adapter_api.messages import InvalidToolCall, ToolCall

_PROOFS = get_args(Proof)

MAX_CHECKED_CHARS = 64 << 10
"""Longer arguments of a call are not parsed here: building the values of hostile ones would block
the event loop. The adapter's own check, and `ToolCall.json()`, remain."""


class State(Enum):
    """The state of a job."""

    __hash__ = object.__hash__  # Enum's own, of the name, is a call of Python

    OPENING = auto()  # nothing is known of it
    ACCEPTED = auto()  # the engine answers
    ANSWERING = auto()  # a Token was given
    COUNTED = auto()  # the MetricsFrame was given
    ENDED = auto()


MAX_DEPTH = 200
"""Maximum nesting depth of data that an adapter passes on from a server."""

TRANSITIONS: dict[State, dict[type, State]] = {
    State.OPENING: {
        Started: State.ACCEPTED,
        Error: State.ENDED,
    },
    State.ACCEPTED: {
        Token: State.ANSWERING,
        MetricsFrame: State.COUNTED,
        End: State.ENDED,
        Error: State.ENDED,
    },
    State.ANSWERING: {
        Token: State.ANSWERING,
        MetricsFrame: State.COUNTED,
        End: State.ENDED,
        Error: State.ENDED,
    },
    State.COUNTED: {
        End: State.ENDED,
        Error: State.ENDED,
    },
    State.ENDED: {},
}

_KINDS: tuple[type, ...] = get_args(TokenEvent)
_KIND_OF: dict[type, type] = {kind: kind for kind in _KINDS}
_KIND_OF |= dict.fromkeys((Reasoning, Refusal, ToolCallDelta, ScoredToken), Token)

_LAST = {
    State.OPENING: "nothing",
    State.ACCEPTED: "Started",
    State.ANSWERING: "Token",
    State.COUNTED: "MetricsFrame",
    State.ENDED: "the end",
}


class Violation(Exception):
    """The adapter broke the contract; the text continues "the adapter yielded ..."."""


class EventOrder:
    """Checks the events of one job.

    Attributes:
        state: Where the job is.
    """

    __slots__ = ("_calls", "_refuses", "state")

    def __init__(self) -> None:
        self.state = State.OPENING
        self._calls: dict[int, str] = {}  # the id of each call that was begun
        self._refuses = False  # a piece of a refusal was given

    def admit(self, event: object, index: int) -> None:
        """Check `event`, and move to the state that follows it.

        Args:
            event: The adapter's event.
            index: The index that a Token must have.

        Raises:
            Violation: If it is not an event, comes out of order, or has unusable contents.
        """
        kind = _KIND_OF.get(type(event)) or _kind_of(event)
        if kind is None:
            raise Violation(f"a {_name(event)}, which is not an event")
        state = TRANSITIONS[self.state].get(kind)
        if state is None:
            raise Violation(f"{_name(event)} after {_LAST[self.state]}")
        if isinstance(event, Token) and not (event.index == index and type(event.index) is int):
            raise Violation(f"{_name(event)} index {event.index!r}, expected {index}")
        try:
            problem = self._contents(event)
        except (AttributeError, TypeError, ValueError, RecursionError) as exc:
            problem = f"unusable contents ({type(exc).__name__})"
        if problem is not None:
            raise Violation(f"{_name(event)} with {problem}")
        self.state = state

    def _contents(self, event: object) -> str | None:
        """Return what is wrong with an event's contents, if anything is."""
        if isinstance(event, Token):
            return self._token(event)
        if isinstance(event, Started):
            return _started(event)
        if isinstance(event, End):
            return self._end(event)
        if isinstance(event, Error):
            return (
                None
                if isinstance(event.error, WorkerError)
                else "a value that is not a WorkerError"
            )
        if isinstance(event, MetricsFrame):
            plain = isinstance(event.data, Mapping) and _is_plain(event.data)
            return None if plain else "data that is not a mapping of plain values"
        return None

    def _token(self, token: Token) -> str | None:
        if token.logprob is not None and type(token.logprob) not in (float, int):
            return "a logprob that is not a number"
        if type(token.text) is str and type(token) is Token:
            return None
        if isinstance(token, Reasoning | ToolCallDelta) and token.text != "":
            return "a text"
        if isinstance(token, Reasoning):
            return _texts(token, "text", "reasoning")
        if isinstance(token, ToolCallDelta):
            return self._delta(token)
        if isinstance(token, Refusal):
            self._refuses = True
        if isinstance(token, ScoredToken) and not all(
            isinstance(item, TokenLogprob) for item in token.logprobs
        ):
            return "logprobs that are not TokenLogprobs"
        return _texts(token, "text")

    def _delta(self, delta: ToolCallDelta) -> str | None:
        call = delta.call
        if not isinstance(delta.arguments, str):
            return "arguments that are not a string"
        if call in self._calls:
            later = delta.id is None and delta.name is None
            return None if later else f"a second id or name for call {call}"
        if type(call) is not int or call != len(self._calls):
            return f"call {call!r}, expected {len(self._calls)}"
        if not (_is_text(delta.id) and _is_text(delta.name)):
            return f"no id or no name, and it is the first of call {call}"
        if delta.id in self._calls.values():
            return f"the id of an earlier call for call {call}"
        self._calls[call] = delta.id or ""
        return None

    def _end(self, end: End) -> str | None:
        if not isinstance(end.metrics, Metrics) or type(end.metrics.tokens_generated) is not int:
            return "metrics that are not Metrics with a count of tokens"
        if not (end.finish_reason is None or isinstance(end.finish_reason, str)):
            return "a finish_reason that is not a string"
        if end.proof not in _PROOFS:
            return f"proof {end.proof!r}, which is not one of {', '.join(_PROOFS)}"
        extra = end.message_extra
        if end.refused is not False and not isinstance(end.refused, bool):
            return "refused that is not a bool"
        if self._refuses and not end.refused:
            return "refused False, after a Refusal"
        if extra != {} and not (isinstance(extra, Mapping) and _is_plain(extra)):
            return "message_extra that is not a mapping of plain values"
        return self._end_calls(end.tool_calls, end.invalid_tool_calls)

    def _end_calls(self, whole: Any, invalid: Any) -> str | None:
        if not (whole or invalid or self._calls):
            return None
        for call in whole:
            if not isinstance(call, ToolCall) or isinstance(call, InvalidToolCall):
                return "tool_calls that are not whole ToolCalls"
            if call.extra.get("type") != "custom" and not _is_json(call):
                return f"the call {call.name} among tool_calls, whose arguments are not JSON"
        if not all(isinstance(call, InvalidToolCall) for call in invalid):
            return "invalid_tool_calls that are not InvalidToolCalls"
        ids = [call.id for call in (*whole, *invalid)]
        if len(set(ids)) < len(ids):
            return "two calls of one id"
        lost = [call_id for call_id in self._calls.values() if call_id not in ids]
        return f"no entry for call {lost[0]!r}, which was begun" if lost else None


class CheckedOrder(EventOrder):
    """The order of events whose contents another TokenStream has checked already."""

    __slots__ = ()

    def _contents(self, event: object) -> str | None:
        return None


def _name(event: object) -> str:
    return type(event).__name__


def _kind_of(event: object) -> type | None:
    """Return the kind of event from which the event's class derives."""
    return next((kind for kind in _KINDS if isinstance(event, kind)), None)


def _started(event: Started) -> str | None:
    if event.model is not None and not isinstance(event.model, str):
        return "model that is not a string"
    if event.replica_id is not None and not isinstance(event.replica_id, str):
        return "replica_id that is not a string"
    if event.seed is not None and type(event.seed) is not int:
        return "a seed that is not an integer"
    return _texts(event, "job_id", "engine", "engine_version")


def _is_plain(value: object, depth: int = 0) -> bool:
    """Return whether `value` consists of JSON types, so that a frame can hold it."""
    if value is None or isinstance(value, str | int | float):
        return True
    if depth > MAX_DEPTH:
        return False
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and _is_plain(v, depth + 1) for k, v in value.items())
    return isinstance(value, list | tuple) and all(_is_plain(v, depth + 1) for v in value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _texts(event: object, *names: str) -> str | None:
    for name in names:
        if not isinstance(getattr(event, name), str):
            return f"{name} that is not a string"
    return None


def _is_json(call: ToolCall) -> bool:
    if len(call.arguments) > MAX_CHECKED_CHARS:
        return True
    try:
        call.json()
    except JsonError:
        return False
    return True
