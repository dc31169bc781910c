"""The parts that a job requests, the phases of its answer, and its outcome."""

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
    """A whole answer: its proof, and the contents of its End.

    Args:
        proof: The proof that it is whole.
        tokens: Pieces that were held back until the end.
        tool_calls: The calls that may be run.
        invalid_tool_calls: The others.
        refused: The model refused.
        message_extra: Keys of the message that the next request sends back.
        said_nothing: Reasoning came, but neither text nor a call.
        lost_calls: The finish_reason means that tools were called, but no call came.
        unread: Names of received parts for which there is no event, such as "images".
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
