"""The messages of a chat, its tools, and the calls that a model makes of them.

Source: the OpenAI API reference, "Create chat completion".
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from adapter_api.errors import JsonError
from adapter_api.fields import (
    any_text,
    below,
    boolean_or_none,
    invalid,
    is_list,
    is_mapping,
    must_be,
    text,
    text_or_none,
    to_extra,
)

REASONING_KEYS = (
    *("reasoning_content", "reasoning", "thinking", "reasoning_text", "thinking_content"),
    *("reasoning_summary", "thought", "thoughts"),
)
"""Names of plain reasoning in an assistant's message; the first non-empty one counts."""

DETAIL_KEYS = ("reasoning_details", "thinking_blocks")
"""Names of opaque parts of the reasoning, such as signatures, which go back unchanged."""

_OWN_KEYS = ("role", "content", "name", "tool_calls", "tool_call_id")

# Other keys that servers put into an assistant's message or accept in a request.
_WIRE_KEYS = (
    *REASONING_KEYS,
    *DETAIL_KEYS,
    "refusal",
    "audio",
    "annotations",
    "prefix",
    "cache_control",
    "extra_content",
    "function_call",
)

_CLIENT_KEYS = ("parsed",)
"""Keys that client libraries add to a message for their own use: openai's `parse` and `stream`."""

InvalidReason = Literal["cut", "not_json"]


def read_json(source: str, what: str) -> Any:
    """Parse `source` as strict JSON (RFC 8259): without NaN and Infinity, and never repaired.

    Raises:
        JsonError: NOT_JSON; the message names `what`.
    """
    try:
        return json.loads(source, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise JsonError("not_json", f"{what} is not JSON: {reason}") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


@attrs.frozen
class Tool:
    """A function that the model may call.

    Args:
        name: Its name.
        description: Its description, for the model.
        parameters: The JSON schema of its arguments.
        strict: Whether the engine must enforce the schema; None leaves it to the engine.
    """

    name: str = attrs.field(validator=text)
    description: str = attrs.field(default="", validator=any_text)
    parameters: Mapping[str, Any] = attrs.field(
        factory=dict, validator=must_be("a JSON schema as a mapping", is_mapping)
    )
    strict: bool | None = attrs.field(default=None, validator=boolean_or_none)

    def to_wire(self) -> dict[str, Any]:
        """Return the mapping that goes into a request's `tools`."""
        function: dict[str, Any] = {"name": self.name}
        if self.description:
            function["description"] = self.description
        # Some servers refuse a schema without a type, which means "no arguments" here.
        function["parameters"] = dict(self.parameters) or {"type": "object", "properties": {}}
        if self.strict is not None:
            function["strict"] = self.strict
        return {"type": "function", "function": function}


@attrs.frozen
class ToolCall:
    """A call that the model made, whole and ready to run.

    Args:
        id: The call's id; the tool's result names it.
        name: The tool.
        arguments: The arguments as the model wrote them: a JSON text.
        extra: Other keys of the call on the wire, such as `extra_content` with a signature.
            `{"type": "custom"}` marks a call of a custom tool, whose input is plain text.
    """

    id: str = attrs.field(validator=text)
    name: str = attrs.field(validator=text)
    arguments: str = attrs.field(default="{}", validator=any_text)
    extra: Mapping[str, Any] = attrs.field(factory=dict, converter=to_extra)

    def json(self) -> Any:
        """Parse the arguments, which are never repaired.

        Raises:
            JsonError: If they are not JSON.
        """
        return read_json(self.arguments, f"the arguments of the call {self.name} ({self.id})")

    def result(self, content: Any) -> "Message":
        """Return the message that sends `content`, a text or content parts, back to the model."""
        return Message("tool", content, tool_call_id=self.id)

    def to_wire(self) -> dict[str, Any]:
        """Return the mapping that goes into a message's `tool_calls`."""
        if self.extra.get("type") == "custom":
            body = {"custom": {"name": self.name, "input": self.arguments}}
        else:
            body = {"function": {"name": self.name, "arguments": self.arguments}}
        return {"id": self.id, "type": "function", **body, **self.extra}


@attrs.frozen
class InvalidToolCall(ToolCall):
    """A call that must not be run.

    Args:
        reason: "cut" if the answer ended inside the call, "not_json" if its arguments are not JSON.
    """

    reason: InvalidReason = attrs.field(
        kw_only=True,
        validator=must_be('"cut" or "not_json"', lambda value: value in ("cut", "not_json")),
    )


def to_tool_call(value: object, where: str) -> ToolCall:
    """Return the ToolCall of a wire entry, or of the flat form that frames have.

    Raises:
        InvalidRequest: Naming the field below `where`.
    """
    if isinstance(value, InvalidToolCall):
        raise invalid(where, "a call that is whole", value)
    if isinstance(value, ToolCall):
        return value
    if not isinstance(value, Mapping):
        raise invalid(where, 'a ToolCall or a {"id", "type", "function"} mapping', value)
    key = "custom" if "custom" in value else "function"
    body = value.get(key, value)
    if not isinstance(body, Mapping):
        raise invalid(f"{where}.{key}", "a mapping with a name", body)
    body_where = where if body is value else f"{where}.{key}"
    for needed, source, place in (("id", value, where), ("name", body, body_where)):
        if needed not in source:
            raise invalid(f"{place}.{needed}", "a non-empty string", None)
    arguments = body.get("input" if key == "custom" else "arguments")
    extra = {
        name: item
        for name, item in value.items()
        if item is not None
        and name not in ("id", "index", key, "type")
        and not (body is value and name in _FLAT_KEYS)
    }
    if key == "custom":
        extra["type"] = "custom"
    extra.update(value.get("extra", {}) if body is value else {})
    given = (value["id"], body["name"], _to_arguments(arguments, key), extra)
    return below(where, ToolCall, *given)


_FLAT_KEYS = ("name", "arguments", "extra")


def _to_arguments(value: object, key: str) -> Any:
    if key == "custom":
        return "" if value is None else value
    if value is None or value == "":
        return "{}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping) else value


def _to_content(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _is_content(value: object) -> bool:
    if isinstance(value, tuple):
        return value != () and all(isinstance(part, Mapping) for part in value)
    return value is None or isinstance(value, str)


def _to_calls(value: Any) -> tuple[ToolCall, ...]:
    if value is None or value == ():
        return ()
    if not is_list(value):
        raise invalid("tool_calls", "a list of calls", value)
    return tuple(to_tool_call(call, f"tool_calls[{at}]") for at, call in enumerate(value))


def _no_own_keys(_: object, __: object, value: Mapping[str, Any]) -> None:
    own = value and [key for key in value if key in _OWN_KEYS]
    if own:
        raise invalid("extra", f"without {', '.join(_OWN_KEYS)}, which have fields", own)


@attrs.frozen
class Message:
    """One message of a chat.

    Args:
        role: "system", "user", "assistant", "tool" or another that the engine's template knows.
        content: The text, or a list of content parts as mappings, which are sent unchanged. None
            only beside tool_calls or extra.
        name: The speaker, where the engine's template uses it.
        tool_calls: The calls of an assistant's message; mappings take the wire form.
        tool_call_id: The call that a message of role "tool" answers.
        extra: Other keys of the message on the wire, such as `reasoning_content`.
    """

    role: str = attrs.field(validator=text)
    content: str | tuple[Mapping[str, Any], ...] | None = attrs.field(
        default=None,
        converter=_to_content,
        validator=must_be("a string or a list of content parts", _is_content),
    )
    name: str | None = attrs.field(default=None, validator=text_or_none)
    tool_calls: tuple[ToolCall, ...] = attrs.field(default=(), converter=_to_calls)
    tool_call_id: str | None = attrs.field(default=None, validator=text_or_none)
    extra: Mapping[str, Any] = attrs.field(factory=dict, converter=to_extra, validator=_no_own_keys)

    def __attrs_post_init__(self) -> None:
        if self.content is None and not self.tool_calls and not self.extra:
            allowed = "a string or a list of content parts (None only beside tool_calls or extra)"
            raise invalid("content", allowed, None)
        if self.role == "tool" and self.tool_call_id is None:
            raise invalid("tool_call_id", 'the id of a call in a message of role "tool"', None)

    def to_wire(self) -> dict[str, Any]:
        """Return the mapping that goes into a request's `messages`.

        `content` is always present; it is null if there are only tool calls.
        """
        content = list(self.content) if isinstance(self.content, tuple) else self.content
        wire: dict[str, Any] = {"role": self.role, "content": content}
        if self.name is not None:
            wire["name"] = self.name
        if self.tool_calls:
            wire["tool_calls"] = [call.to_wire() for call in self.tool_calls]
        if self.tool_call_id is not None:
            wire["tool_call_id"] = self.tool_call_id
        return {**wire, **self.extra}


_PLAIN_KEYS = {"role", "content"}
_KNOWN_KEYS = frozenset((*_OWN_KEYS, *_WIRE_KEYS, *_CLIENT_KEYS))


def to_message(value: object, where: str) -> Message:
    """Return the Message of a mapping in the wire form.

    Known keys of the wire for which Message has no field go to `extra`. Nulls, and keys that a
    client library added for itself, are dropped.

    Raises:
        InvalidRequest: Naming the field below `where`.
    """
    if isinstance(value, Message):
        return value
    if type(value) is not dict and not isinstance(value, Mapping):
        raise invalid(where, 'a Message or a {"role", "content"} mapping', value)
    if value.keys() == _PLAIN_KEYS:  # most messages
        return below(where, Message, value["role"], value["content"])
    unknown = [key for key in value if key not in _KNOWN_KEYS and value[key] is not None]
    if unknown:
        own = ", ".join(_OWN_KEYS)
        raise invalid(where, f"a mapping with {own}; Message(extra=...) sends other keys", unknown)
    if "role" not in value:
        raise invalid(where, "a mapping with role and content", dict(value))
    fields: dict[str, Any] = {key: value[key] for key in _OWN_KEYS if key in value}
    extra = {key: value[key] for key in _WIRE_KEYS if value.get(key) is not None}
    return below(where, Message, **fields, extra=extra)
