"""Requests of OpenAI's API as jobs: the task, and how the answer is wanted."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Literal

import attrs
import msgspec

from adapter_api import InvalidRequest, TaskRequest
from adapter_api.task import MAX_ID_CHARS
from registry.serving.openai_api.errors import ApiError

Kind = Literal["chat", "completion"]
Priority = Literal["interactive", "batch"]

_BOTH = ("temperature", "top_p", "seed", "stop")
_TASK_FIELDS: dict[Kind, tuple[str, ...]] = {
    "chat": (
        *_BOTH,
        "messages",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "reasoning_effort",
    ),
    "completion": (*_BOTH, "prompt", "response_format"),
}
"""Fields of a request that a TaskRequest has under the same name."""

_CONSUMED: dict[Kind, frozenset[str]] = {
    "chat": frozenset(
        {
            *_TASK_FIELDS["chat"],
            "model",
            "stream",
            "stream_options",
            "n",
            "max_tokens",
            "max_completion_tokens",
            "logprobs",
            "top_logprobs",
            "include_reasoning",
        }
    ),
    "completion": frozenset(
        {
            *_TASK_FIELDS["completion"],
            "model",
            "stream",
            "stream_options",
            "n",
            "max_tokens",
            "logprobs",
        }
    ),
}
"""Fields that are read here. Every other one goes to the engine as it is, unless it is null."""

_ELSEWHERE: dict[Kind, frozenset[str]] = {
    "chat": _CONSUMED["completion"] - _CONSUMED["chat"],
    "completion": _CONSUMED["chat"] - _CONSUMED["completion"],
}
"""Fields that only the other endpoint has."""

_REPLACED = {"functions": "tools", "function_call": "tool_choice"}
_NEVER_SENT = frozenset({"best_of", *_REPLACED})

_HALF = re.compile(
    rb"\\u[dD][89abAB]\w\w(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]\w\w)\\u[dD][c-fC-F]\w\w"
)
"""One half of a surrogate pair, as JavaScript writes a text that was cut in a character."""

_ID = re.compile(rf"[!-~](?:[ -~]{{0,{MAX_ID_CHARS - 2}}}[!-~])?")
_MAX_SHOWN_CHARS = 60

MAX_MESSAGES = 20_000
"""Messages and calls of a chat. Each takes some microseconds, in which no other stream goes on; the
longest context of a model has room for fewer."""

MAX_DEADLINE_S = 24 * 3600.0
"""The longest deadline a client may request, so that a wrong unit is noticed."""


@attrs.frozen
class ApiRequest:
    """A job, and how its answer is wanted.

    Args:
        kind: Which of the two endpoints was called.
        model: The model's name as the client wrote it.
        task: The job.
        stream: Whether the answer is wanted as server-sent events.
        include_usage: Whether a stream is to end with the token counts.
        priority: "interactive" or "batch".
    """

    kind: Kind
    model: str
    task: TaskRequest
    stream: bool
    include_usage: bool
    priority: Priority


def decode(body: bytes | bytearray) -> dict[str, Any]:
    """Return the JSON object of a request's body.

    Raises:
        ApiError: 400 if it is something else.
    """
    if not body:
        raise ApiError(400, "The request has no body: send a JSON object.", code="invalid_json")
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        half = _HALF.search(body)
        why = f"{half[0].decode()} is half of a character" if half else exc
        raise ApiError(400, f"The body is not JSON: {why}.", code="invalid_json") from exc
    if not isinstance(fields, dict):
        raise ApiError(400, "The body must be a JSON object.", code="invalid_json")
    return fields


def requested_model(fields: Mapping[str, Any]) -> str | None:
    """Return the name of the model; None if the request leaves it open.

    Raises:
        ApiError: 400 if it is not a name.
    """
    model = fields.get("model")
    if model is not None and (not isinstance(model, str) or not model.strip()):
        raise _invalid("model", "must be the name of a model: GET /v1/models lists them")
    return model


def read(
    kind: Kind, name: str, fields: Mapping[str, Any], headers: Mapping[str, str], **task: Any
) -> ApiRequest:
    """Read a request.

    Args:
        kind: Which endpoint was called.
        name: The model's name in the answer.
        fields: The JSON object of its body.
        headers: The request's headers, with names in lower case.
        **task: Fields of the TaskRequest that the caller has decided: model, job_id, ...

    Raises:
        ApiError: 400 that names the field that is wrong.
    """
    stream = _flag(fields, "stream") or False
    options = fields.get("stream_options") or {}
    if not isinstance(options, dict):
        raise _invalid("stream_options", "must be an object")
    include_usage = _flag(options, "include_usage", within="stream_options.") or False
    for count in ("n", "best_of"):
        n = fields.get(count)
        if n is not None and (n != 1 or type(n) is not int):
            advice = "send a request for each answer, each with a seed"
            raise _invalid(count, f"must be 1, got {_shown(n)}: {advice}")
    for old, newer in _REPLACED.items():
        if fields.get(old) is not None:
            raise _invalid(old, f"is not supported: use {newer}, which has replaced it")
    for name in fields.keys() & _ELSEWHERE[kind]:
        if fields[name] is not None:
            other = "/v1/completions" if kind == "chat" else "/v1/chat/completions"
            raise _invalid(name, f"is a field of {other}, not of this endpoint")
    given = {name: fields[name] for name in _TASK_FIELDS[kind] if fields.get(name) is not None}
    if kind == "completion":
        given["prompt"] = _prompt(fields.get("prompt"))
    else:
        _check_size(given.setdefault("messages", ()))
        given["include_reasoning"] = _flag(fields, "include_reasoning") is not False
    given |= {
        "max_tokens": _max_tokens(kind, fields),
        "logprobs": _logprobs(kind, fields),
        "session_id": headers.get("x-session-id") or _session_of(fields.get("user")),
        "deadline_s": _deadline_s(headers.get("x-request-timeout")),
        "extra": {
            name: fields[name]
            for name in fields.keys() - _CONSUMED[kind] - _NEVER_SENT
            if fields[name] is not None
        },
    }
    try:
        job = TaskRequest(**given, **task)
    except InvalidRequest as error:
        raise _refused(error, fields) from error
    return ApiRequest(
        kind,
        name,
        job,
        stream,
        include_usage=include_usage,
        priority="batch" if headers.get("x-priority") == "batch" else "interactive",
    )


def _check_size(messages: object) -> None:
    if (
        isinstance(messages, list)
        and len(messages)
        + sum(
            len(calls)
            for message in messages
            if isinstance(message, dict) and isinstance(calls := message.get("tool_calls"), list)
        )
        > MAX_MESSAGES
    ):
        raise _invalid("messages", f"must have at most {MAX_MESSAGES} messages and calls")


def _prompt(value: object) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise _invalid("prompt", "must be one text: send a request for each prompt")
    return value


def _max_tokens(kind: Kind, fields: Mapping[str, Any]) -> Any:
    newer = fields.get("max_completion_tokens") if kind == "chat" else None
    return fields.get("max_tokens") if newer is None else newer


def _logprobs(kind: Kind, fields: Mapping[str, Any]) -> Any:
    """Return the requested number of alternatives, which the endpoints write differently."""
    if kind == "completion":
        return fields.get("logprobs")
    wanted = _flag(fields, "logprobs")
    if not wanted:
        if fields.get("top_logprobs"):
            raise _invalid("top_logprobs", "needs logprobs: true")
        return None
    return fields.get("top_logprobs") or 0


def _deadline_s(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        deadline_s = float(value)
    except ValueError:
        deadline_s = -1.0
    if not 0 < deadline_s <= MAX_DEADLINE_S:
        raise ApiError(
            400,
            f"X-Request-Timeout must be a number of seconds from 0 to {MAX_DEADLINE_S:g}, "
            f"got {value[:60]!r}.",
            code="invalid_value",
        )
    return deadline_s


def _flag(fields: Mapping[str, Any], name: str, within: str = "") -> bool | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise _invalid(within + name, f"must be true or false, got {_shown(value)}")
    return value


def _refused(error: InvalidRequest, fields: Mapping[str, Any]) -> ApiError:
    """Return the answer to a task that is not valid; it names the field as the client wrote it."""
    param, message = getattr(error, "field", None), error.message
    newer = "max_completion_tokens"
    if param == "max_tokens" and fields.get(newer) is not None:
        param, message = newer, newer + message.removeprefix("max_tokens")
    return ApiError(400, message, code="invalid_value", param=param)


def is_id(text: str) -> bool:
    """Return whether a text can be the id of a job or a session."""
    return _ID.fullmatch(text) is not None


def _session_of(user: object) -> str | None:
    """Return the session of a user's name, any text: a hash if it is not a valid id."""
    if not isinstance(user, str) or not user:
        return None
    if is_id(user):
        return user
    return hashlib.sha256(user.encode("utf-8", "replace")).hexdigest()


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN_CHARS else text[:_MAX_SHOWN_CHARS] + "..."


def _invalid(param: str, problem: str) -> ApiError:
    return ApiError(400, f"{param} {problem}.", code="invalid_value", param=param)
