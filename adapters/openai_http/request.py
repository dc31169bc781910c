"""The request side of the wire format: a task becomes a request body. No I/O."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from adapter_api import ErrorCode, InvalidRequest, TaskRequest, Tool
from adapters.openai_http.dialects import UNKNOWN, Dialect
from adapters.openai_http.history import wire_messages

_NO_N = (
    "one job has one answer, with one end and one proof. Submit n jobs instead, with the seeds "
    "seed, seed+1, ...; engines with a prefix cache compute the prompt once"
)

OWNED_FIELDS: dict[str, str] = {
    **{
        name: f"use TaskRequest.{name}"
        for name in (
            "model", "prompt", "messages", "max_tokens", "temperature", "top_p", "seed", "stop",
            "tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort",
            "logprobs",
        )
    },
    "max_completion_tokens": "use TaskRequest.max_tokens",
    "top_logprobs": "use TaskRequest.logprobs",
    "functions": "use TaskRequest.tools",
    "function_call": "use TaskRequest.tool_choice",
    "stream": "every answer is streamed",
    "stream_options": "the adapter asks for the usage itself",
    "n": _NO_N,
    "best_of": _NO_N,
}  # fmt: skip
"""Request fields that the adapter sets, with advice. `extra` must not have them."""

DROPPABLE_FIELDS = frozenset(
    {
        "stream_options", "seed", "logprobs", "top_logprobs", "reasoning_effort", "temperature",
        "top_p",
    }
)  # fmt: skip
"""Fields that may be left out if a server refuses them by name. Leaving out any other field, or a
key of `extra`, would change the meaning of the request. `max_tokens` is renamed."""


def request_fields(
    task: TaskRequest,
    *,
    chat: bool,
    model: str | None,
    dialect: Dialect = UNKNOWN,
    without: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Return the fields of a request's JSON body.

    Args:
        task: The job.
        chat: For the chat endpoint, where a prompt becomes one user message.
        model: The model's name; None leaves the field out.
        dialect: The server's dialect.
        without: Fields that the server refuses. For a chat, max_tokens is then sent as
            max_completion_tokens, as OpenAI's newer models require.

    Raises:
        InvalidRequest: If `extra` has a field that the adapter sets, or requests audio.
    """
    _check_extra(task)
    body: dict[str, Any] = {"model": model} if model is not None else {}
    if not chat:
        body["prompt"] = task.prompt
    elif task.messages is None:
        body["messages"] = [{"role": "user", "content": task.prompt}]
    else:
        body["messages"] = wire_messages(task.messages, dialect)
    for name in ("max_tokens", "temperature", "top_p", "seed"):
        value = getattr(task, name)
        if value is not None:
            body[name] = value
    if task.stop:
        body["stop"] = list(task.stop)
    if task.tools:
        body["tools"] = [_tool(tool) for tool in task.tools]
    for name in ("tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort"):
        value = getattr(task, name)
        if value is not None:
            body[name] = value
    if task.logprobs is not None:
        body |= _logprobs(task.logprobs, chat=chat)
    body["stream"] = True
    body["stream_options"] = {"include_usage": True}
    for name in without:
        body.pop(name, None)
    if "logprobs" in without:
        body.pop("top_logprobs", None)  # alone it is an error
    if chat and "max_tokens" in without and task.max_tokens is not None:
        body["max_completion_tokens"] = task.max_tokens
    return {**body, **task.extra}


_encode = msgspec.json.Encoder().encode


def encode(fields: dict[str, Any]) -> bytes:
    """Return the fields as JSON.

    Raises:
        InvalidRequest: If something in them (usually of `extra`) is not JSON.
    """
    try:
        content = _encode(fields)
        # msgspec writes null for a number that JSON lacks.
        lost = [] if b"null" not in content else [n for n, v in fields.items() if not _finite(v)]
        if lost:
            raise ValueError(f"{lost[0]!r} holds NaN or infinity, which JSON does not have")
        return content
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as exc:
        raise InvalidRequest(
            ErrorCode.INVALID_PARAMS, f"the task cannot be sent as JSON: {exc}"
        ) from exc


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    return not isinstance(value, list | tuple | set | frozenset) or all(map(_finite, value))


def _check_extra(task: TaskRequest) -> None:
    for key in task.extra:
        if key in OWNED_FIELDS:
            raise _invalid(task, f"extra must not have {key!r}: {OWNED_FIELDS[key]}")
    modalities = task.extra.get("modalities")
    if "audio" in task.extra or (isinstance(modalities, list | tuple) and "audio" in modalities):
        raise _invalid(
            task,
            "extra requests audio, for which this contract has no event: leave out 'audio' and "
            "\"audio\" in 'modalities', and send the text to a speech endpoint",
        )


def _invalid(task: TaskRequest, message: str) -> InvalidRequest:
    return InvalidRequest(ErrorCode.INVALID_PARAMS, message, job_id=task.job_id)


def _tool(tool: Tool | Mapping[str, Any]) -> Mapping[str, Any]:
    return tool.to_wire() if isinstance(tool, Tool) else tool


def _logprobs(alternatives: int, *, chat: bool) -> dict[str, Any]:
    """Return the fields that request log-probabilities, which differ between the endpoints."""
    if not chat:
        return {"logprobs": alternatives}
    return {"logprobs": True} | ({"top_logprobs": alternatives} if alternatives else {})
