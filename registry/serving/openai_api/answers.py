"""Answers in the shape of OpenAI's API: chunks of a stream, and whole objects."""

import re
from collections.abc import Iterable, Mapping
from time import time
from typing import Any

import msgspec

from adapter_api import (
    Answer,
    End,
    Metrics,
    MetricsFrame,
    Reasoning,
    Refusal,
    ScoredToken,
    Token,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
)
from adapter_api.messages import DETAIL_KEYS
from registry.serving.openai_api.requests import ApiRequest

_encode = msgspec.json.encode

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
_ROLE: dict[str, Any] = {"role": "assistant"}

_CUT = re.compile(r"(?:^|_)(?:length|limit|max|window)(?:_|$)")
"""The parts of engines' words for an answer that was cut at a limit: max_tokens, model_length."""

_FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
"""The finish_reasons that clients of OpenAI's API know."""


class Chunks:
    """Turns the events of one job into the server-sent events of its stream.

    Everything that stays the same in a stream is encoded once.

    Args:
        request: The request.
    """

    def __init__(self, request: ApiRequest) -> None:
        self._chat = request.kind == "chat"
        self._include_usage = request.include_usage
        self._head = _head(request, chunk=True)
        self._open = b"data: " + _encode(self._head)[:-1] + b',"choices":'
        lead = b'[{"index":0,"delta":{"content":' if self._chat else b'[{"index":0,"text":'
        self._text_open = self._open + lead
        self._text_close = (
            b'},"finish_reason":null}]}\n\n' if self._chat else b',"finish_reason":null}]}\n\n'
        )
        self._arguments_open = self._open + b'[{"index":0,"delta":{"tool_calls":[{"index":'
        self._keeps_reasoning = request.task.include_reasoning
        self._custom_tools = frozenset(filter(None, map(_custom_name, request.task.tools)))
        self._custom_calls: set[int] = set()
        self._refuses = False
        self._numbers: Mapping[str, Any] = {}  # the engine's own
        self._places: dict[str, int] = {}  # of calls, by their ids

    def begin(self) -> bytes:
        """Return the role, with which a chat begins."""
        return self._choice(_ROLE | {"content": ""}) if self._chat else b""

    def first(self, token: Token) -> bytes:
        """Return the events of the first piece. Its content is null if it is not text."""
        delta = self._delta(token) if self._chat else None
        if delta is None:
            return self.begin() + self.token(token)
        return self._choice(_ROLE | {"content": None} | delta)

    def token(self, token: Token) -> bytes:
        """Return the event of one piece of the answer."""
        if type(token) is Token:
            return self._text_open + _encode(token.text) + self._text_close
        if isinstance(token, ToolCallDelta) and token.name is None:
            return self._arguments(token)
        if self._chat and (delta := self._delta(token)) is not None:
            return self._choice(delta)
        logprobs = None
        if isinstance(token, ScoredToken):
            logprobs = (_chat_logprobs if self._chat else _completion_logprobs)(token.logprobs)
        if self._chat:
            return self._choice({"content": token.text}, logprobs=logprobs)
        return self._choice(token.text, logprobs=logprobs)

    def tokens(self, tokens: Iterable[Token]) -> bytes:
        """Return the events of several pieces."""
        return b"".join(map(self.token, tokens))

    def note(self, frame: MetricsFrame) -> None:
        """Keep the engine's own numbers for the end."""
        self._numbers = frame.data

    def end(self, end: End) -> bytes:
        """Return the events at the end of a whole answer."""
        if self._chat:
            delta: Any = _opaque(end.message_extra, reasoning=self._keeps_reasoning)
            if end.refused and not self._refuses:  # streamed as text: now it is marked
                delta["refusal"] = end.message_extra.get("refusal") or ""
            if signed := [
                {"index": self._places[call.id], **_no_more(call), **extra}
                for call in (*end.tool_calls, *end.invalid_tool_calls)
                if call.id in self._places and (extra := _signature(call))
            ]:
                delta["tool_calls"] = signed
        else:
            delta = ""
        beside = _beside(self._numbers, self._head)
        chunks = [self._choice(delta, finish_reason=_finish(end), beside=beside)]
        if self._include_usage:
            counts = _encode(usage(end.metrics, self._numbers))
            chunks.append(self._open + b'[],"usage":' + counts + b"}\n\n")
        chunks.append(DONE)
        return b"".join(chunks)

    def _arguments(self, delta: ToolCallDelta) -> bytes:
        if delta.call in self._custom_calls:
            custom = {"index": delta.call, "custom": {"input": delta.arguments}}
            return self._choice({"tool_calls": [custom]})
        arguments = _encode(delta.arguments)
        number = str(delta.call).encode()
        function = b',"function":{"arguments":' + arguments + b"}}]}"
        return self._arguments_open + number + function + b',"finish_reason":null}]}\n\n'

    def _delta(self, token: Token) -> dict[str, Any] | None:
        """Return the delta of a piece that is not text of the answer."""
        if isinstance(token, ToolCallDelta):
            return {"tool_calls": [self._call(token)]}
        if isinstance(token, Reasoning):
            return {"reasoning_content": token.reasoning}
        if isinstance(token, Refusal):
            self._refuses = True
            return {"refusal": token.text}
        return None

    def _call(self, delta: ToolCallDelta) -> dict[str, Any]:
        """Return the first piece of a call."""
        assert delta.id is not None
        assert delta.name is not None
        self._places[delta.id] = delta.call
        kind = {"type": "custom"} if delta.name in self._custom_tools else {}
        if kind:
            self._custom_calls.add(delta.call)
        call = ToolCall(delta.id, delta.name, delta.arguments, kind)
        return {"index": delta.call, **call.to_wire()}

    def _choice(
        self,
        content: Any,
        *,
        finish_reason: str | None = None,
        logprobs: Any = None,
        beside: Mapping[str, Any] | None = None,
    ) -> bytes:
        choice: dict[str, Any] = {"index": 0, "delta" if self._chat else "text": content}
        if logprobs is not None:
            choice["logprobs"] = logprobs
        choice["finish_reason"] = finish_reason
        more = b"," + _encode(beside)[1:-1] if beside else b""
        return self._open + _encode([choice]) + more + b"}\n\n"


def whole(request: ApiRequest, answer: Answer, numbers: Mapping[str, Any] | None = None) -> bytes:
    """Return a whole answer as one JSON object, with the engine's own numbers."""
    choice: dict[str, Any] = {"index": 0}
    scored = answer.logprobs
    if request.kind == "chat":
        choice["message"] = _message(answer, reasoning=request.task.include_reasoning)
        if scored:
            choice["logprobs"] = _chat_logprobs(scored)
    else:
        choice["text"] = answer.text
        if scored:
            choice["logprobs"] = _completion_logprobs(scored)
    choice["finish_reason"] = _finish(answer)
    fields = _head(request, chunk=False)
    fields |= {"choices": [choice], "usage": usage(answer.metrics, numbers or {})}
    return _encode(fields | _beside(numbers or {}, fields))


def usage(metrics: Metrics, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the token counts of an answer; `counted` marks those that no engine gave.

    Args:
        metrics: The job's numbers.
        numbers: The engine's own, which may have further counts.
    """
    own = numbers.get("usage")
    found: dict[str, Any] = dict(own) if isinstance(own, Mapping) else {}
    prompt, completion = metrics.prompt_tokens or 0, metrics.tokens_generated
    found |= {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    for group, name, count in (
        ("prompt_tokens_details", "cached_tokens", metrics.cached_tokens),
        ("completion_tokens_details", "reasoning_tokens", metrics.reasoning_tokens),
    ):
        if count is not None:
            details = found.get(group)
            found[group] = {**(details if isinstance(details, Mapping) else {}), name: count}
    if metrics.usage_source == "counted":
        found["counted"] = True
    return found


def _beside(numbers: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the engine's own numbers that stand beside `usage`, such as `service_tier`."""
    return {
        name: value
        for name, value in numbers.items()
        if name not in fields and name not in ("choices", "usage")
    }


def _head(request: ApiRequest, *, chunk: bool) -> dict[str, Any]:
    chat = request.kind == "chat"
    prefix = "chatcmpl-" if chat else "cmpl-"
    kind = ("chat.completion" + ".chunk" * chunk) if chat else "text_completion"
    return {
        "id": prefix + request.task.job_id,
        "object": kind,
        "created": int(time()),
        "model": request.model,
    }


def _finish(ended: End | Answer) -> str:
    """Return a finish_reason that clients know; whole calls take precedence."""
    if ended.finish_reason == "stop" and not (ended.tool_calls or ended.invalid_tool_calls):
        return "stop"
    reason = re.sub(r"[^a-z]+", "_", (ended.finish_reason or "stop").lower())
    if _CUT.search(reason) or any(call.reason == "cut" for call in ended.invalid_tool_calls):
        return "length"
    if ended.tool_calls:
        return "tool_calls"
    return reason if reason in _FINISH_REASONS else "stop"


def _message(answer: Answer, *, reasoning: bool) -> dict[str, Any]:
    refusal = answer.refusal
    text = answer.text.removesuffix(refusal) or (None if answer.tool_calls or refusal else "")
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": refusal or None}
    if answer.reasoning and reasoning:
        message["reasoning_content"] = answer.reasoning
    message |= _opaque(answer.message_extra, reasoning=reasoning)
    calls = [*answer.tool_calls, *answer.invalid_tool_calls]
    if calls:
        message["tool_calls"] = [call.to_wire() for call in calls]
    return message


def _opaque(extra: Mapping[str, Any], *, reasoning: bool) -> dict[str, Any]:
    """Return the parts of a message that its engine requires back unchanged."""
    names = (*DETAIL_KEYS, "extra_content") if reasoning else ("extra_content",)
    return {name: extra[name] for name in names if extra.get(name)}


def _signature(call: ToolCall) -> dict[str, Any]:
    return {name: value for name, value in call.extra.items() if name != "type"}


def _no_more(call: ToolCall) -> dict[str, Any]:
    """Return a piece without arguments: openai's client wants one in every piece of a call."""
    if call.extra.get("type") == "custom":
        return {"custom": {"input": ""}}
    return {"function": {"arguments": ""}}


def _custom_name(tool: Tool | Mapping[str, Any]) -> str | None:
    """Return the name of a custom tool, whose calls have another form."""
    if isinstance(tool, Tool) or tool.get("type") != "custom":
        return None
    custom = tool.get("custom", tool)
    name = custom.get("name") if isinstance(custom, Mapping) else None
    return name if isinstance(name, str) else None


def _chat_logprobs(scored: Iterable[TokenLogprob]) -> dict[str, Any]:
    return {
        "content": [
            {
                "token": one.token,
                "logprob": one.logprob,
                "bytes": _bytes_of(one.token),
                "top_logprobs": [
                    {"token": token, "logprob": logprob, "bytes": _bytes_of(token)}
                    for token, logprob in one.top.items()
                ],
            }
            for one in scored
        ]
    }


def _bytes_of(token: str) -> list[int] | None:
    """Return a token's bytes; None if a part of a character was replaced, so they are unknown."""
    return None if "\ufffd" in token else list(token.encode())


def _completion_logprobs(scored: Iterable[TokenLogprob]) -> dict[str, Any]:
    ones = tuple(scored)
    return {
        "tokens": [one.token for one in ones],
        "token_logprobs": [one.logprob for one in ones],
        "top_logprobs": [dict(one.top) for one in ones],
        "text_offset": [],
    }
