"""The script of a mock adapter."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from adapter_api import ErrorCode, HealthState, ToolCall
from adapter_api.validators import integer, number, one_of

WORDS = ("Once", " upon", " a", " time", " there", " was", " a", " test", ".")


_limit = number(0, unit="seconds", optional=True)


def _to_texts(value: tuple[str, ...] | str) -> tuple[str, ...]:
    # A string is a sequence of strings, too; the validator reports it as what it is.
    return (value, "") if isinstance(value, str) else tuple(value)


def _texts(_: object, field: "attrs.Attribute[Any]", value: tuple[str, ...]) -> None:
    if not all(isinstance(text, str) and text for text in value):
        got = value[0] if len(value) == 2 and value[1] == "" else list(value)
        raise ValueError(f"{field.name} must be a list of non-empty strings, got {got!r}")


def _to_call(value: ToolCall | Mapping[str, Any], number: int) -> ToolCall:
    if isinstance(value, ToolCall):
        return value
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ValueError(
            f"tool_calls must be a list of mappings with a name and arguments, got {value!r}"
        )
    arguments = value.get("arguments", {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ToolCall(value.get("id", f"call_{number}"), value["name"], text)


def _to_calls(value: Iterable[ToolCall | Mapping[str, Any]]) -> tuple[ToolCall, ...]:
    if isinstance(value, str | Mapping):
        raise ValueError(f"tool_calls must be a list, got {value!r}")
    return tuple(_to_call(one, number) for number, one in enumerate(value))


_WHOLE = ("stop", "length", "eos", "end_turn")
"""Words that prove an answer whole. Any other word would be a failure that looks like an answer."""


@attrs.frozen
class MockConfig:
    """The script. The same config and task give the same events."""

    tokens: tuple[str, ...] = attrs.field(
        default=WORDS,
        converter=_to_texts,
        validator=_texts,
        metadata={"help": "The texts of the tokens, in order"},
    )
    reasoning: tuple[str, ...] = attrs.field(
        default=(),
        converter=_to_texts,
        validator=_texts,
        metadata={"help": "Pieces of reasoning before the text, for tasks that ask for it"},
    )
    tool_calls: tuple[ToolCall | Mapping[str, Any], ...] = attrs.field(
        default=(),
        converter=_to_calls,
        metadata={"help": "Calls after the text, for tasks with tools: name, arguments, id"},
    )
    refuses: bool = attrs.field(
        default=False, metadata={"help": "The tokens are the words of a refusal"}
    )
    delay_s: float = attrs.field(
        default=0.0, validator=number(0), metadata={"help": "Seconds before each token"}
    )
    echo: bool = attrs.field(
        default=False, metadata={"help": "Answer with the words of the prompt instead of tokens"}
    )
    finish_reason: str = attrs.field(
        default="stop",
        validator=one_of(*_WHOLE),
        metadata={"help": "How the answer ends; error_code makes it fail"},
    )
    engine_version: str = attrs.field(
        default="1.0", metadata={"help": "The engine version to report"}
    )
    model: str = attrs.field(default="mock", metadata={"help": "The model of tasks without one"})
    health: HealthState = attrs.field(
        default=HealthState.HEALTHY,
        converter=HealthState,
        metadata={"help": "healthy, degraded or unhealthy"},
    )
    live: bool | None = attrs.field(
        default=None, metadata={"help": "Overrides the liveness that health implies"}
    )
    ready: bool | None = attrs.field(
        default=None, metadata={"help": "Overrides the readiness that health implies"}
    )
    error_code: str | None = attrs.field(
        default=None,
        validator=one_of(*ErrorCode, optional=True),
        metadata={"help": "The error with which every job ends"},
    )
    error_after: int = attrs.field(
        default=0,
        validator=integer(0),
        metadata={"help": "Tokens before the error; 0: it comes before Started"},
    )
    retry_after_ms: int | None = attrs.field(
        default=None,
        validator=integer(0, optional=True),
        metadata={"help": "The delay that the error requests"},
    )
    stall_after: int | None = attrs.field(
        default=None,
        validator=integer(0, optional=True),
        metadata={"help": "Tokens after which the stream stalls"},
    )
    first_token_timeout_s: float | None = attrs.field(
        default=30.0,
        validator=number(0, unit="seconds", optional=True),
        metadata={"help": "Limit for the first token"},
    )
    stall_timeout_s: float | None = attrs.field(
        default=30.0,
        validator=number(0, unit="seconds", optional=True),
        metadata={"help": "Limit between two tokens"},
    )
    replica_id: str | None = attrs.field(default=None, metadata={"help": "The replica's name"})
