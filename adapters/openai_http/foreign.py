"""Answers of other APIs, caused by a wrong base_url, recognized by the fields of one event.

Without this they would end as an answer without a choice, which looks like a failure of the engine
and is retried.
"""

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, NamedTuple

from adapter_api import ErrorCode, StreamingError
from adapters.http_util import safe_text

_Sign = Callable[[Mapping[str, Any]], bool]

MAX_FIELDS = 16
"""Fields of an event whose names are shown."""

MAX_FIELDS_CHARS = 120
"""The maximum shown length of the names of an event's fields."""

_USUAL = frozenset({"choices", "created", "id", "model", "object", "usage"})

_OPENAI = "set base_url to the server's OpenAI-compatible API, which usually ends in /v1"


class _Api(NamedTuple):
    """An API that is not OpenAI's chat or completions.

    Args:
        name: Its name in the error.
        advice: The advice in the error.
        signs: Return whether an event is one of this API.
    """

    name: str
    signs: _Sign
    advice: str = _OPENAI


def _has(*names: str) -> _Sign:
    return lambda event: all(name in event for name in names)


def _is_kind(name: str, *beginnings: str) -> _Sign:
    return lambda event: isinstance(event.get(name), str) and event[name].startswith(beginnings)


def _any(*signs: _Sign) -> _Sign:
    return lambda event: any(sign(event) for sign in signs)


def _is_anthropic(event: Mapping[str, Any]) -> bool:
    kind = event.get("type")
    return kind in ("message_start", "message_delta", "message_stop") or (
        isinstance(kind, str)
        and (kind.startswith("content_block_") or (kind == "message" and "content" in event))
    )


def _is_list(event: Mapping[str, Any]) -> bool:
    return isinstance(event.get("data"), list) and ("created" in event or "object" in event)


def _is_llama_cpp(event: Mapping[str, Any]) -> bool:
    return isinstance(event.get("content"), str) and isinstance(event.get("stop"), bool)


_APIS = (
    _Api(
        "Google's Gemini API",
        _has("candidates"),
        "set base_url to https://generativelanguage.googleapis.com/v1beta/openai",
    ),
    _Api(
        "Anthropic's Messages API",
        _is_anthropic,
        "set base_url to https://api.anthropic.com/v1, or to a gateway with OpenAI's API",
    ),
    _Api(
        "OpenAI's Responses API",
        _any(_is_kind("type", "response."), _is_kind("object", "response")),
        "set base_url to the API without /responses; the adapter then uses its chat endpoint",
    ),
    _Api(
        "OpenAI's API of models, embeddings or images",
        _is_list,
        "set base_url to the API itself, such as https://api.openai.com/v1",
    ),
    _Api(
        "OpenAI's Assistants API",
        _is_kind("object", "thread."),
        "set base_url to the API itself, such as https://api.openai.com/v1",
    ),
    _Api(
        "Ollama's own API",
        _any(_has("done", "response"), _has("done", "message"), _has("done", "created_at")),
        "set base_url to the server's /v1, such as http://localhost:11434/v1",
    ),
    _Api(
        "Cohere's API",
        _any(
            _is_kind("type", "message-", "content-", "tool-call-", "tool-plan-"),
            _is_kind("event_type", "stream-", "text-"),
        ),
        "set base_url to https://api.cohere.ai/compatibility/v1",
    ),
    _Api(
        "Alibaba's DashScope API",
        _has("output", "request_id"),
        "set base_url to https://dashscope.aliyuncs.com/compatible-mode/v1",
    ),
    _Api(
        "Amazon's Converse API",
        _any(_has("contentBlockDelta"), _has("contentBlockStart"), _has("messageStart")),
    ),
    _Api("the generate API of TGI", _any(_has("token", "generated_text"), _has("generated_text"))),
    _Api("KoboldCpp's own API", _any(_has("token", "finish_reason"), _has("results"))),
    _Api("llama.cpp's own completion API", _is_llama_cpp),
    _Api("the generate API of SGLang", _has("text", "meta_info")),
    _Api("Triton's generate API", _has("model_name", "text_output")),
    _Api("the generate API of vLLM", lambda event: list(event) == ["text"]),
    _Api("the run API of Workers AI", _has("response", "p")),
    _Api("Dify's API", _has("event", "conversation_id")),
)


def refuse_foreign(event: Any) -> None:
    """Raise if an event without choices is one of another API.

    Args:
        event: The event's JSON; of a list, the first item counts.

    Raises:
        StreamingError: UPSTREAM_PROTOCOL, which names the API and what to set instead.
    """
    if isinstance(event, list) and event:
        event = event[0]
    if not isinstance(event, dict):
        return
    for api in _APIS:
        if api.signs(event):
            raise StreamingError(
                ErrorCode.UPSTREAM_PROTOCOL,
                f"the server answers with {api.name}, not OpenAI's chat or completions: "
                f"{api.advice}",
            )


def strange_fields(event: Mapping[str, Any]) -> str:
    """Return the names, safe to show, of an event's fields that no chunk of OpenAI's has."""
    names = (repr(name) for name in islice(event, MAX_FIELDS) if name not in _USUAL)
    return safe_text(", ".join(names), (), MAX_FIELDS_CHARS)
