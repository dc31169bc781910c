"""A job's wishes for its answer, the answer's phases, and its outcome."""

from enum import Enum, auto
from typing import Any, NamedTuple

from adapter_api import InvalidToolCall, Token, ToolCall
from adapter_api.events import Proof


class Phase(Enum):
    """The phases of an answer; answer.py shows the transitions."""

    OPEN = auto()
    FINISHED = auto()
    CLOSED = auto()


class Wanted(NamedTuple):
    """The parts of an answer that a job wants in addition to text.

    Args:
        reasoning: Deliver reasoning as events.
        history: Keep reasoning for the next turn, as a job with tools needs it.
        logprobs: Deliver log-probabilities with each piece of text.
        max_tokens: The limit that was sent, None for none.
        salt: Makes replaced call ids unique among answers, and repeatable.
    """

    reasoning: bool = False
    history: bool = False
    logprobs: bool = False
    max_tokens: int | None = None
    salt: str = ""


class Verdict(NamedTuple):
    """A whole answer: its proof, and what End says of it.

    Args:
        proof: What proves it whole.
        tokens: Pieces that were held back until the end.
        tool_calls: The calls that may be run.
        invalid_tool_calls: The others.
        refused: The model refused.
        message_extra: What the next request sends back.
        said_nothing: Neither text nor a call came, but reasoning.
        lost_calls: The finish_reason says that tools were called, and no call came.
        unread: Names under which something came that no event holds, such as "images".
    """

    proof: Proof
    tokens: list[Token]
    tool_calls: tuple[ToolCall, ...]
    invalid_tool_calls: tuple[InvalidToolCall, ...]
    refused: bool
    message_extra: dict[str, Any]
    said_nothing: bool
    lost_calls: bool
    unread: tuple[str, ...]
