"""An adapter's config: from a mapping, from the environment, and described."""

import os
import typing
from collections.abc import Mapping
from enum import Enum
from types import UnionType
from typing import Any, TypeVar

import attrs

from adapter_api.errors import ConfigError, Problem
from registry.config import structure as strict
from registry.config.structure import InitField, Problems, init_fields

_C = TypeVar("_C")

_BOOLEANS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


@attrs.frozen
class ConfigField:
    """One option of an adapter, for a person to read.

    Args:
        name: The option's name.
        type: Its type as text.
        default: Its default as text; None if it has none.
        required: Whether it must be given.
        env: The environment variable it can come from.
        help: One sentence on what it does, "" if the adapter has none.
        secret: Whether its value is never shown.
    """

    name: str
    type: str
    default: str | None
    required: bool
    env: str | None
    help: str
    secret: bool


def structure_config(name: str, cls: type[_C], data: Mapping[str, Any], env: bool = False) -> _C:
    """An adapter's config from a mapping, strictly typed.

    Args:
        name: The adapter's name, for the error.
        cls: The attrs class of the config. Nested attrs classes take mappings or instances.
        data: The options by name.
        env: Whether the values are texts of environment variables, to be read as the field's
            type; problems then name the variable.

    Returns:
        The config.

    Raises:
        ConfigError: With every problem and its path; it holds no secret.
    """
    fields = {field.name: field for field in init_fields(cls)}
    texts: Mapping[str, str] = {}
    if env:
        texts, data = data, {key: _from_text(data[key], fields[key].accepts) for key in data}
    try:
        return typing.cast(_C, strict.structure(cls, data))
    except Problems as problems:
        found = [_problem(problem, fields, texts) for problem in problems.items]
    # Outside of `except`: what the error came from may hold a secret.
    raise ConfigError(name, found)


def config_from_environment(name: str, cls: type[_C]) -> _C:
    """An adapter's config from the variables that its fields' metadata name.

    A variable that is empty counts as not set. The only reader of the environment for configs.

    Raises:
        ConfigError: Naming the variable of each problem.
    """
    texts = {
        field.name: os.environ[field.env]
        for field in init_fields(cls)
        if field.env and os.environ.get(field.env)
    }
    return structure_config(name, cls, texts, env=True)


def config_from_options(name: str, cls: type[_C], options: Mapping[str, Any]) -> _C:
    """TEMPORARY"""
    return structure_config(name, cls, options) if options else config_from_environment(name, cls)


def describe_fields(cls: type) -> tuple[ConfigField, ...]:
    """The options that a config class takes, in its order."""
    return tuple(
        ConfigField(
            name=field.name,
            type=strict.type_text(Any if field.type is None else field.type),
            default=_default_text(field),
            required=field.required,
            env=field.env,
            help=field.attribute.metadata.get("help") or "",
            secret=field.secret,
        )
        for field in init_fields(cls)
    )


def secrets_of(config: object) -> list[object]:
    """The values of a config's secret fields, for hiding them in messages."""
    return [
        getattr(config, field.attribute.name) for field in init_fields(type(config)) if field.secret
    ]


def _default_text(field: InitField) -> str | None:
    default: Any = field.attribute.default
    if field.required:
        return None
    if field.secret and default is not None:
        return "[hidden]"
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        if default.factory in (dict, list, set, tuple, frozenset):
            return repr(default.factory())
        name = getattr(default.factory, "__name__", None)  # a partial has none
        return "computed" if default.takes_self or name is None else f"{name}()"
    return repr(default.value if isinstance(default, Enum) else default)


def _problem(
    problem: strict.Problem, fields: Mapping[str, InitField], texts: Mapping[str, str]
) -> Problem:
    """Return the problem for the user; `texts` holds what came from the environment, by field."""
    place, text = f"${problem.path}", problem.text
    name = problem.path.removeprefix(".").partition("[")[0].partition(".")[0]
    field = fields.get(name)
    if texts and field is not None and field.env:
        if problem.path == f".{name}" and text.endswith(", got str") and not field.secret:
            text = f"{text.removesuffix('str')}{strict.shown(texts[name])}"
        place = f"{field.env} ({place})"
    elif not name:  # the options do not go together, or the class itself has checked them
        variables = sorted(str(fields[option].env) for option in texts)
        place = f"{', '.join(variables)} ({place})" if variables else place
    return Problem(place, text, problem.kind)


# Texts of environment variables


def _from_text(text: str, kind: Any) -> Any:
    """The value that `text` means for a field of type `kind`; `text` itself if none."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, UnionType):
        for member in arguments:
            value = _from_text(text, member)
            if value is not text:
                return value
        return text
    if kind is bool:
        return _BOOLEANS.get(text.strip().lower(), text)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    if origin in strict.BUILDERS:
        item = arguments[0]
        return [_from_text(part.strip(), item) for part in text.split(",") if part.strip()]
    options = arguments if origin is typing.Literal else _members(kind)
    return next((option for option in options if _word(option) == text), text)


def _members(kind: Any) -> list[Any]:
    return list(kind) if isinstance(kind, type) and issubclass(kind, Enum) else []


def _word(option: Any) -> str:
    return str(option.value if isinstance(option, Enum) else option)
