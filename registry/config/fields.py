"""An adapter's config: from a mapping, from the environment, and described."""

import json
import os
import re
import typing
from collections.abc import Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Any, TypeVar

import attrs

from adapter_api.errors import ConfigError, Problem
from adapter_api.validators import shown
from registry.config import structure as strict
from registry.config.declared import InitField, OptionText, init_fields, option_of, type_text
from registry.config.structure import Problems

_C = TypeVar("_C")

_BOOLEANS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


_UNREAD: Any = object()


@attrs.frozen
class ConfigField:
    """One option of an adapter, as text for display.

    Args:
        name: The option's name.
        type: Its type as text.
        default: Its default as text; None if it has none.
        required: Whether it must be given.
        env: The environment variable it can come from.
        help: One sentence on what it does, "" if the adapter has none.
        secret: Whether its value must not be displayed.
    """

    name: str
    type: str
    default: str | None
    required: bool
    env: str | None
    help: str
    secret: bool


def structure_config(name: str, cls: type[_C], data: Mapping[str, Any]) -> _C:
    """Return an adapter's config from a mapping, strictly typed. The environment is not read.

    Args:
        name: The adapter's name, for the error.
        cls: The attrs class of the config. Nested attrs classes take mappings or instances.
        data: The options by name; an OptionText stands for the value that it means.

    Raises:
        ConfigError: With every problem and its path; it holds no secret.
    """
    return _structured(name, cls, data, None)


def config_from_options(name: str, cls: type[_C], options: Mapping[str, Any]) -> _C:
    """Return an adapter's config from options, then the environment field by field, then defaults.

    An empty variable counts as not set. A secret whose field has `env_scope` in its metadata is
    read from the environment only together with the field of that name: a key is not sent to a
    server other than the one it was set for. This is the only reader of the environment.

    Raises:
        ConfigError: With every problem, its path and the variable behind it; it holds no secret.
    """
    fields = {field.name: field for field in init_fields(cls)}
    texts = {field.name: text for field in fields.values() if (text := _variable(field))}
    used = {
        key: text
        for key, text in texts.items()
        if key not in options and _is_in_scope(fields[key], fields, texts, options)
    }
    return _structured(name, cls, options, used)


def _variable(field: InitField) -> str:
    return os.environ.get(field.env, "") if field.env else ""


def _is_in_scope(
    field: InitField,
    fields: Mapping[str, InitField],
    texts: Mapping[str, str],
    options: Mapping[str, Any],
) -> bool:
    """Return whether a variable may be used together with the explicit options."""
    scope = field.attribute.metadata.get("env_scope")
    if not field.secret or scope is None or scope not in fields:
        return True
    return scope not in options or scope not in texts or options[scope] == texts[scope]


def _structured(
    name: str, cls: type[_C], options: Mapping[str, Any], environment: Mapping[str, str] | None
) -> _C:
    """Structure options and texts, typed or of the environment, which are read as the fields'
    types."""
    typed = {key: text for key, text in options.items() if isinstance(text, OptionText)}
    texts = {**typed, **(environment or {})}
    fields = {field.name: field for field in init_fields(cls)}
    known = texts.keys() & fields.keys()
    values = {key: value_of(str(texts[key]), fields[key].accepts) for key in known}
    try:
        return typing.cast(_C, strict.structure(cls, {**options, **values}))
    except Problems as problems:
        found = [_problem(problem, fields, texts, environment) for problem in problems.items]
    # Outside of `except`: the original exception may hold a secret.
    raise ConfigError(name, found)


def describe_fields(cls: type) -> tuple[ConfigField, ...]:
    """Return the options that a config class takes, in its order."""
    return tuple(
        ConfigField(
            name=field.name,
            type=type_text(Any if field.type is None else field.type),
            default=_default_text(field),
            required=field.required,
            env=field.env,
            help=field.attribute.metadata.get("help") or "",
            secret=field.secret,
        )
        for field in init_fields(cls)
    )


def secrets_of(config: object) -> list[object]:
    """Return the values of a config's secret fields, for hiding them in messages."""
    return [
        getattr(config, field.attribute.name) for field in init_fields(type(config)) if field.secret
    ]


def _default_text(field: InitField) -> str | None:
    default: Any = field.attribute.default
    if field.required:
        return None
    if field.secret and default is not None:
        return "[hidden]"
    factory = getattr(default, "factory", None)
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        if factory in (dict, list, set, tuple, frozenset):
            return repr(factory())
        name = getattr(factory, "__name__", None)  # a partial has none
        takes_self = getattr(default, "takes_self", False)
        return "computed" if takes_self or name is None else f"{name}()"
    return repr(default.value if isinstance(default, Enum) else default)


def _problem(
    problem: strict.Problem,
    fields: Mapping[str, InitField],
    texts: Mapping[str, str],
    environment: Mapping[str, str] | None,
) -> Problem:
    """Return the problem for the user, with the variable that a value came from, or can come from.

    Args:
        problem: The problem.
        fields: The fields of the config class.
        texts: The texts that were read as values, by field.
        environment: Those from the environment, by field; None if it is not read.
    """
    used = environment or {}
    text, option = problem.text, option_of(problem.path)
    field = fields.get(option)
    if field is None:  # the options do not go together, or the class itself has checked them
        variables = sorted(str(fields[each].env) for each in used)
    else:
        variables = [str(field.env)] if option in used else []
        if option in texts and problem.path == f".{field.name}" and not field.secret:
            text = re.sub(", got str$", f", got {shown(texts[field.name])}", text)
        if problem.kind == "missing" and field.env and environment is not None:
            text += f", or set {field.env}"
    source = f" (from {', '.join(variables)})" if variables else ""
    return Problem(f"${problem.path}", f"{text}{source}", problem.kind)


# Texts of command lines and environment variables


def value_of(text: str, kind: Any) -> Any:
    """Return the value that `text` means for a field of type `kind`; `text` itself if none.

    Booleans and None are words, collections are written with commas or as JSON, and what has
    fields or keys as JSON.
    """
    value = _read(text, kind)
    return text if value is _UNREAD else value


def _read(text: str, kind: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, UnionType):
        # For an optional list, too, "none" is no list; for an optional string it is a string.
        first = [NoneType] if NoneType in arguments and str not in arguments else []
        values = (_read(text, member) for member in (*first, *arguments))
        return next((value for value in values if value is not _UNREAD), _UNREAD)
    if kind is str:
        return text
    word = text.strip().lower()
    if kind is NoneType:
        return None if word in ("none", "null") else _UNREAD
    if kind is bool:
        return _BOOLEANS.get(word, _UNREAD)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return _UNREAD
    if origin is typing.Literal or (isinstance(kind, type) and issubclass(kind, Enum)):
        options = arguments or tuple(kind)
        return next((option for option in options if _word(option) == text), _UNREAD)
    if word[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    if (origin or kind) in strict.BUILDERS:
        item = arguments[0] if arguments else str
        return [value_of(part.strip(), item) for part in text.split(",") if part.strip()]
    return _UNREAD


def _word(option: Any) -> str:
    return str(option.value if isinstance(option, Enum) else option)
