"""The events of a job: Started, Token*, MetricsFrame?, then End or Error (ADAPT-3001).

Reasoning, Refusal, ToolCallDelta and ScoredToken are Tokens, too. The concatenated `text` of all
Tokens is the text of the answer, whatever else they carry.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import attrs

from adapter_api.errors import WorkerError
from adapter_api.messages import InvalidToolCall, ToolCall

Proof = Literal["finish_reason", "done"]
UsageSource = Literal["engine", "counted"]


@attrs.frozen(weakref_slot=False)
class Metrics:
    """The numbers of one finished job.

    Args:
        tokens_generated: Tokens of the answer.
        prompt_tokens: Tokens of the prompt; None if the engine does not report them.
        time_to_first_token_ms: From submit to the first Token; None without one.
        decode_time_ms: From the first Token to the end.
        usage_source: "engine" if the engine counted the tokens; "counted" if tokens_generated
            is the number of Token events, which may differ from the engine's own count.
        attempts: How many requests the adapter sent for the job.
        ledger: What a host did with the job, step by step: mappings with `at_ms`, `kind`,
            `replica_id`, `reason`, `took_ms` and `detail`. Empty without a host.
        cached_tokens: Tokens of the prompt that the engine had in its cache.
        reasoning_tokens: Tokens of the answer that are reasoning.
    """

    tokens_generated: int
    prompt_tokens: int | None = None
    time_to_first_token_ms: float | None = None
    decode_time_ms: float = 0.0
    usage_source: UsageSource = "counted"
    attempts: int = 1
    ledger: tuple[Mapping[str, Any], ...] = ()
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


@attrs.frozen(weakref_slot=False)
class Started:
    """The engine accepted the job and began to answer.

    Args:
        job_id: The task's job_id.
        engine: The kind of engine ("vllm", "llama.cpp", "openai", ...).
        engine_version: The most exact version that the engine reported so far (OC-ADAPT-OAI 6010).
        model: The model that answers, in the engine's words.
        seed: The seed that was sent, if any.
        replica_id: The replica that answers, where the adapter knows it.
    """

    job_id: str
    engine: str
    engine_version: str
    model: str | None = None
    seed: int | None = None
    replica_id: str | None = None


@attrs.frozen(weakref_slot=False)
class Token:
    """A piece of the answer as the engine sent it, usually one token of the model.

    Args:
        text: The piece's text; empty only in a Reasoning or ToolCallDelta.
        index: Counts 0, 1, 2, ... over all Tokens of the stream.
        logprob: The natural logarithm of its probability, if requested.
    """

    text: str
    index: int
    logprob: float | None = None


@attrs.frozen(weakref_slot=False)
class Reasoning(Token):
    """A piece of the model's reasoning; its `text` is empty.

    Args:
        reasoning: The piece, not empty.
    """

    reasoning: str = attrs.field(kw_only=True)


@attrs.frozen(weakref_slot=False)
class Refusal(Token):
    """A piece of the model's refusal, which is its `text`; the End that follows has `refused`."""


@attrs.frozen(weakref_slot=False)
class ToolCallDelta(Token):
    """A piece of a tool call; its `text` is empty. Run no call before End lists it as whole.

    Args:
        call: Which call of the answer: 0, 1, 2, ...
        id: The call's id in its first piece, None in later ones.
        name: The whole name of the tool in the call's first piece, None in later ones.
        arguments: The next piece of the arguments' JSON text.
    """

    call: int = attrs.field(kw_only=True)
    id: str | None = attrs.field(default=None, kw_only=True)
    name: str | None = attrs.field(default=None, kw_only=True)
    arguments: str = attrs.field(default="", kw_only=True)


@attrs.frozen
class TokenLogprob:
    """The log-probability of one token of the model.

    Args:
        token: The token's text.
        logprob: The natural logarithm of its probability.
        top: The likeliest tokens at this place, with their log-probabilities.
    """

    token: str
    logprob: float
    top: Mapping[str, float] = attrs.field(factory=dict)


@attrs.frozen(weakref_slot=False)
class ScoredToken(Token):
    """A piece of text with log-probabilities.

    Args:
        logprobs: One for each token of the model in the piece.
    """

    logprobs: tuple[TokenLogprob, ...] = attrs.field(kw_only=True)


@attrs.frozen
class MetricsFrame:
    """Numbers that the engine reports itself; JSON-able, with engine-specific keys."""

    data: Mapping[str, Any]


@attrs.frozen(weakref_slot=False)
class End:
    """The answer is whole.

    Args:
        metrics: The job's numbers.
        finish_reason: As the engine sent it ("stop", "length", ...); None if it gave none.
        proof: The proof that the answer is whole: "finish_reason", or "done" for a
            `[DONE]` after at least one choice.
        tool_calls: The calls that may be run, whole and in order.
        invalid_tool_calls: The calls that are cut or not JSON.
        refused: The model refused; the text is its refusal.
        message_extra: Keys of the assistant's message on the wire that the next request sends back,
            such as `reasoning_content`.
    """

    metrics: Metrics
    finish_reason: str | None
    proof: Proof
    tool_calls: tuple[ToolCall, ...] = ()
    invalid_tool_calls: tuple[InvalidToolCall, ...] = ()
    refused: bool = False
    message_extra: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Error:
    """The job failed after it had started; what was delivered is not a whole answer."""

    error: WorkerError


TokenEvent = Started | Token | MetricsFrame | End | Error


class _Draft:
    __slots__ = ("index", "logprob", "text")

    def __init__(self, text: str, index: int) -> None:
        self.text = text
        self.index = index
        self.logprob = None


def tokens_of(texts: Iterable[str], index: int) -> list[Token]:
    """Make a Token of each text, at half the cost of calling Token for each.

    The `__init__` of a frozen attrs class has to bypass its own `__setattr__` for each attribute,
    which took a fifth of the time on the token path. Instead, a draft of the same layout is filled
    and then becomes a Token by assigning its `__class__`, which costs one check in C.

    Args:
        texts: The texts, none of them empty.
        index: The first Token's index.
    """
    tokens: list[Token] = []
    for at, text in enumerate(texts, index):
        token = _Draft(text, at)
        token.__class__ = Token  # type: ignore[assignment]
        tokens.append(token)  # type: ignore[arg-type]
    return tokens
