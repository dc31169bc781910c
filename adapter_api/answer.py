"""Answer: a whole answer, assembled from a job's events."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from adapter_api.errors import ErrorCode, JsonError, StreamingError
from adapter_api.events import (
    End,
    Error,
    Metrics,
    Proof,
    Reasoning,
    ScoredToken,
    Token,
    TokenEvent,
    TokenLogprob,
)
from adapter_api.messages import (
    DETAIL_KEYS,
    REASONING_KEYS,
    InvalidToolCall,
    Message,
    ToolCall,
    read_json,
)

_LENGTH_REASONS = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})


@attrs.frozen
class Answer:
    """A whole answer.

    Args:
        text: The text; empty if the model only made calls.
        reasoning: The model's reasoning, where the engine reported it.
        tool_calls: The calls that may be run, in order.
        invalid_tool_calls: The calls that are cut or not JSON; never run them.
        refused: The model refused; `text` is then its refusal.
        finish_reason: The engine's finish_reason; None if it gave none.
        proof: The proof that the answer is whole.
        metrics: The job's numbers.
        logprobs: The log-probabilities of all tokens of the text, in order, if requested.
        message_extra: Keys of the assistant's message on the wire that the next request sends back.
    """

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    invalid_tool_calls: tuple[InvalidToolCall, ...]
    refused: bool
    finish_reason: str | None
    proof: Proof
    metrics: Metrics
    logprobs: tuple[TokenLogprob, ...] = attrs.field(default=(), repr=False)
    message_extra: Mapping[str, Any] = attrs.field(factory=dict, repr=False)

    @classmethod
    def of(cls, events: Iterable[TokenEvent | Mapping[str, Any]]) -> "Answer":
        """Assemble the answer from all events of a job, or from its frames.

        Raises:
            WorkerError: The job's own error if it failed; STREAM_TRUNCATED if there is no End.
            ValueError: If a frame is not valid.
        """
        texts: list[str] = []
        reasoning: list[str] = []
        logprobs: list[TokenLogprob] = []
        for event in map(_to_event, events):
            if isinstance(event, Token):
                texts.append(event.text)
                if isinstance(event, Reasoning):
                    reasoning.append(event.reasoning)
                elif isinstance(event, ScoredToken):
                    logprobs += event.logprobs
            elif isinstance(event, End):
                return cls(
                    text="".join(texts),
                    reasoning="".join(reasoning) or next(_kept_reasoning(event.message_extra), ""),
                    tool_calls=event.tool_calls,
                    invalid_tool_calls=event.invalid_tool_calls,
                    refused=event.refused,
                    finish_reason=event.finish_reason,
                    proof=event.proof,
                    metrics=event.metrics,
                    logprobs=tuple(logprobs),
                    message_extra=event.message_extra,
                )
            elif isinstance(event, Error):
                raise event.error
        raise StreamingError(ErrorCode.STREAM_TRUNCATED, "the events have no End")

    @property
    def cut(self) -> bool:
        """Return whether the answer ended at its token limit."""
        return (self.finish_reason or "").lower() in _LENGTH_REASONS

    @property
    def refusal(self) -> str:
        """Return the words of the refusal, with which `text` ends; empty without one."""
        words = self.message_extra.get("refusal")
        if isinstance(words, str) and words and self.text.endswith(words):
            return words
        return self.text if self.refused else ""

    def json(self) -> Any:
        """Parse the text, which is never repaired.

        Raises:
            JsonError: `reason` is "refused", "cut" or "not_json".
        """
        if self.refused:
            raise JsonError("refused", "the model refused to answer; `text` has its words")
        if self.cut:
            raise JsonError(
                "cut",
                f"the answer was cut at {self.metrics.tokens_generated} tokens "
                f"(finish_reason {self.finish_reason!r}): raise max_tokens",
            )
        if not self.text.strip():
            what = "only tool calls" if self.tool_calls or self.invalid_tool_calls else "no text"
            raise JsonError("not_json", f"the answer has {what}, and so no JSON")
        return read_json(self.text, "the answer")

    def message(self, *, reasoning: bool = True) -> Message:
        """Return the assistant's message for the next request of the conversation.

        It has the whole calls only: servers refuse a history with cut ones. The reasoning is
        part of it, under the server's own name, if there are calls or opaque reasoning details.

        Args:
            reasoning: False leaves the plain reasoning out, for servers that refuse it.
        """
        extra = {key: value for key, value in self.message_extra.items() if value is not None}
        if not reasoning or not (self.tool_calls or any(map(extra.get, DETAIL_KEYS))):
            for key in REASONING_KEYS:
                extra.pop(key, None)
        parts = extra.pop("content", None)  # text and reasoning as one list of parts
        content: Any = parts if reasoning and parts else self._said(extra.get("refusal"))
        if not content:
            content = None if self.tool_calls or extra else ""
        return Message("assistant", content, tool_calls=self.tool_calls, extra=extra)

    def _said(self, refusal: object) -> str:
        """Return the text without the refusal, if the message has that under a key of its own."""
        return self.text.removesuffix(refusal) if isinstance(refusal, str) else self.text


def _to_event(event: TokenEvent | Mapping[str, Any]) -> TokenEvent:
    if isinstance(event, Mapping):
        from adapter_api.frames import from_frame  # cattrs takes as long to import as all the rest

        return from_frame(dict(event))
    return event


def _kept_reasoning(extra: Mapping[str, Any]) -> Iterator[str]:
    return (text for key in REASONING_KEYS if isinstance(text := extra.get(key), str) and text)
