"""One job for an engine, checked at construction."""

from collections.abc import Mapping
from os import urandom
from typing import Any, Literal

import attrs

from adapter_api import validators
from adapter_api.errors import ErrorCode, InvalidRequest
from adapter_api.fields import (
    MAX_ID_CHARS,
    boolean,
    boolean_or_none,
    identifier,
    identifier_or_none,
    integer,
    invalid,
    is_list,
    must_be,
    number,
    text_or_none,
    to_extra,
)
from adapter_api.messages import InvalidToolCall, Message, Tool, ToolCall, to_message

__all__ = [
    "MAX_ID_CHARS",
    "InvalidToolCall",
    "Message",
    "TaskRequest",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "new_id",
    "require_task",
]

ToolChoice = Literal["auto", "none", "required"]


def new_id() -> str:
    """Return a random UUID of version 4 (RFC 9562) as text.

    `uuid.uuid4` also builds an object, which takes a third of the time of a whole TaskRequest.
    """
    raw = urandom(16)
    digits = raw.hex()
    variant = "89ab"[raw[8] >> 6]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _to_messages(value: Any) -> tuple[Message, ...] | None:
    if value is None:
        return None
    if not is_list(value) or not value:
        raise invalid("messages", "a non-empty list of messages (or None)", value)
    return tuple(to_message(item, f"messages[{i}]") for i, item in enumerate(value))


def _to_stop(value: Any) -> tuple[str, ...]:
    if value is None or value == ():
        return ()
    if isinstance(value, str):
        value = (value,)
    if not is_list(value) or not all(isinstance(s, str) and s for s in value):
        raise invalid("stop", "a non-empty string or a list of them (or None)", value)
    return tuple(value)


def _to_tools(value: Any) -> tuple[Tool | Mapping[str, Any], ...]:
    if value is None or value == ():
        return ()
    if not is_list(value):
        raise invalid("tools", "a list of Tool objects or mappings", value)
    for at, tool in enumerate(value):
        if not isinstance(tool, Tool | Mapping):
            raise invalid(f"tools[{at}]", "a Tool or a mapping in the wire form", tool)
    return tuple(value)


def _is_choice(value: object) -> bool:
    return isinstance(value, Mapping) or value in ("auto", "none", "required")


@attrs.frozen(kw_only=True, weakref_slot=False)
class TaskRequest:
    """One job for one engine. Immutable; every field is checked at construction.

    A field that is None is not sent: the engine uses its own default.

    Args:
        model: The engine's name of the model. None leaves it to the adapter's default.
        prompt: The text to complete. Exactly one of prompt and messages is given.
        messages: The chat to answer: Message objects, or mappings in the wire form.
        max_tokens: The maximum number of tokens to generate, at least 1; None for the engine's own
            limit.
        job_id: Unique name of the job (ORCH-3024); by default a random UUID.
        temperature: 0 or more.
        top_p: 0 to 1.
        seed: Any integer. With one engine version it makes the stream repeatable (ORCH-3045).
        stop: A text, or several, at which generation ends.
        session_id: Tasks of one session go to one replica where possible (ORCH-3009).
        correlation_id: Sent to the engine as X-Correlation-Id and logged (AH-1003).
        deadline_s: Seconds from submit to the last event, with all waits and retries.
        max_attempts: The maximum number of attempts, at least 1; None leaves it to the policy of
            the adapter or pool. A pool allows an adapter one and chooses the next replica itself.
        tools: The tools that the model may call: Tool objects, or mappings that are sent unchanged.
        tool_choice: "auto", "none", "required", or the wire's mapping, which names one tool.
        parallel_tool_calls: Whether the model may make several calls in one answer.
        response_format: The wire's mapping, such as `{"type": "json_object"}`.
        reasoning_effort: How much the model should reason: a level that the engine supports.
        logprobs: How many alternatives to report for each token; 0 reports the chosen token only.
        include_reasoning: Deliver Reasoning events. Delivered reasoning rules out a failover.
        extra: More keys for the engine's request body. Keys that the adapter sets are refused.

    Raises:
        InvalidRequest: INVALID_PARAMS; the message names the field and what is allowed.
    """

    model: str | None = attrs.field(
        default=None, validator=must_be("a non-empty string", validators.is_text, optional=True)
    )
    prompt: str | None = attrs.field(
        default=None, validator=must_be("a string", lambda v: isinstance(v, str), optional=True)
    )
    messages: tuple[Message, ...] | None = attrs.field(default=None, converter=_to_messages)
    max_tokens: int | None = attrs.field(default=None, validator=integer(1, optional=True))
    job_id: str = attrs.field(factory=new_id, validator=identifier)
    temperature: float | None = attrs.field(default=None, validator=number(0, optional=True))
    top_p: float | None = attrs.field(default=None, validator=number(0, maximum=1, optional=True))
    seed: int | None = attrs.field(default=None, validator=integer(optional=True))
    stop: tuple[str, ...] = attrs.field(default=(), converter=_to_stop)
    session_id: str | None = attrs.field(default=None, validator=identifier_or_none)
    correlation_id: str | None = attrs.field(default=None, validator=identifier_or_none)
    deadline_s: float | None = attrs.field(
        default=None, validator=number(above=0, unit="seconds", optional=True)
    )
    max_attempts: int | None = attrs.field(default=None, validator=integer(1, optional=True))
    tools: tuple[Tool | Mapping[str, Any], ...] = attrs.field(default=(), converter=_to_tools)
    tool_choice: ToolChoice | Mapping[str, Any] | None = attrs.field(
        default=None,
        validator=must_be(
            '"auto", "none", "required" or a mapping that names a tool', _is_choice, optional=True
        ),
    )
    parallel_tool_calls: bool | None = attrs.field(default=None, validator=boolean_or_none)
    response_format: Mapping[str, Any] | None = attrs.field(
        default=None,
        validator=must_be("a mapping", lambda v: isinstance(v, Mapping), optional=True),
    )
    reasoning_effort: str | None = attrs.field(default=None, validator=text_or_none)
    logprobs: int | None = attrs.field(default=None, validator=integer(0, optional=True))
    include_reasoning: bool = attrs.field(default=False, validator=boolean)
    extra: Mapping[str, Any] = attrs.field(factory=dict, converter=to_extra)

    def __attrs_post_init__(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            both = "both" if self.prompt is not None else "neither"
            raise InvalidRequest(
                ErrorCode.INVALID_PARAMS,
                f"exactly one of prompt and messages must be given, got {both}",
            )


def require_task(task: object) -> None:
    """Raise TypeError for an object that a program passes by mistake instead of a task."""
    if not isinstance(task, TaskRequest):
        raise TypeError(
            'submit takes a task, such as TaskRequest(prompt="Hello"), '
            f"and got an object of type {type(task).__name__}"
        )
