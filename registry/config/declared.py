"""The fields that a config class declares, and texts about types and values."""

import collections.abc as abc
import inspect
import typing
from collections.abc import Callable, Iterable
from enum import Enum
from types import NoneType, UnionType
from typing import Any, NamedTuple

import attrs


class OptionText(str):
    """An option as it was typed on a command line, to be read as the option's type."""


class InitField(NamedTuple):
    """A field of an attrs class that its constructor takes.

    Args:
        name: Its name in the constructor.
        type: The declared type, resolved where it can be.
        attribute: attrs' own description.
    """

    name: str
    type: Any
    attribute: "attrs.Attribute[Any]"

    @property
    def required(self) -> bool:
        """True if it has no default."""
        return self.attribute.default is attrs.NOTHING

    @property
    def accepts(self) -> Any:
        """The type that its converter accepts, or else the declared type."""
        converter = self.attribute.converter
        function: Any = getattr(converter, "converter", converter)  # out of an attrs.Converter
        if function is not None and not isinstance(function, type):
            try:
                first = next(iter(inspect.signature(function).parameters))
                return typing.get_type_hints(function)[first]
            except (TypeError, ValueError, NameError, AttributeError, StopIteration, KeyError):
                pass  # it has no usable annotation
        return Any if self.type is None or isinstance(self.type, str) else self.type

    @property
    def env(self) -> str | None:
        """The environment variable it can come from."""
        return self.attribute.metadata.get("env")

    @property
    def secret(self) -> bool:
        """True if its value must never be shown."""
        return bool(self.attribute.metadata.get("secret", False))


def init_fields(cls: type) -> tuple[InitField, ...]:
    """Return the fields that the constructor of the attrs class `cls` takes, in its order."""
    try:
        hints = typing.get_type_hints(cls)
    except Exception:  # the contract check reports it; here the annotation stays text
        hints = {}
    return tuple(
        InitField(field.alias or field.name, hints.get(field.name, field.type), field)
        for field in attrs.fields(cls)
        if field.init
    )


def type_text(kind: Any) -> str:
    """Return a type as written in source, without module names."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is None or kind is NoneType:
        return "None"
    if isinstance(kind, str):
        return kind
    if origin in (typing.Union, UnionType):
        return " | ".join(map(type_text, arguments))
    if origin is typing.Literal:
        return " | ".join(map(repr, arguments))
    if origin is typing.Annotated:
        return type_text(arguments[0])
    if abc.Callable in (kind, origin) or kind is Callable:
        return "callable"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " | ".join(repr(member.value) for member in kind)
    if origin is not None:
        inner = ", ".join("..." if a is Ellipsis else type_text(a) for a in arguments)
        return f"{type_text(origin)}[{inner}]"
    return str(getattr(kind, "__name__", kind)).removeprefix("typing.")


def hide(text: str, secrets: Iterable[object]) -> str:
    """Return `text` without those of `secrets` that are strings."""
    for secret in secrets:
        if isinstance(secret, str) and secret:
            text = text.replace(secret, "[hidden]")
    return text


def option_of(path: str) -> str:
    """Return the option that a problem's path begins with: "retry" for "$.retry.attempts"."""
    return path.removeprefix("$").removeprefix(".").partition("[")[0].partition(".")[0]
