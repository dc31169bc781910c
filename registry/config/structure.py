"""Structuring with cattrs that coerces nothing and gives each problem its path.

By default cattrs turns None into 'None', 7.9 into 7 and True into 1, and splits a string where a
list of strings is expected. Here a value has the declared type or is a problem. The one widening is
an int where a float is expected. A type that cattrs has no hook for (a client, a callable) accepts
its instances unchanged.
"""

import collections.abc as abc
import itertools
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Any, NamedTuple

import attrs
from cattrs import Converter, IterableValidationError, transform_error
from cattrs.errors import ClassValidationError

from adapter_api.errors import ProblemKind, WorkerError
from adapter_api.keys import keys_in, without_keys
from adapter_api.validators import MAX_SEARCHED_CHARS, shown
from registry.config.declared import InitField, hide, init_fields, type_text
from registry.near import nearest

_Hook = Callable[[Any, Any], Any]

BUILDERS: Mapping[Any, Callable[[Iterable[Any]], Any]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    abc.MutableSequence: list,
    abc.Sequence: tuple,
    abc.Collection: tuple,
    abc.Iterable: tuple,
    abc.MutableSet: set,
    abc.Set: frozenset,
}
"""The class that is built for each type of collection."""

_MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)


class Problem(NamedTuple):
    """One problem of one value, before secrets are removed.

    Args:
        path: Its place below the object, as ".retry.attempts" or ".stop[2]".
        text: The problem.
        shows_value: Whether `text` may contain the value, or a part of it.
        kind: As in adapter_api.errors.Problem.
    """

    path: str
    text: str
    shows_value: bool = False
    kind: ProblemKind = "value"


class Problems(Exception):
    """All problems of one object."""

    def __init__(self, items: Iterable[Problem]) -> None:
        super().__init__()
        self.items = tuple(items)


def structure(cls: type, data: Mapping[Any, Any]) -> Any:
    """Return the object of the attrs class `cls` that `data` describes.

    Raises:
        Problems: With every problem.
    """
    return _converter.get_structure_hook(cls)(data, cls)


# Problems


def _mismatch(kind: Any, value: object) -> Problems:
    text = f"expected {type_text(kind)}, got {type(value).__name__}"
    return Problems([Problem("", text, kind="type")])


def _not_among(kind: Any, value: object) -> Problems:
    """Return the problem for a type whose values are listed: it shows the value, not its type."""
    if not isinstance(value, str | int | float):
        return _mismatch(kind, value)
    text = f"expected {type_text(kind)}, got {shown(value)}"
    return Problems([Problem("", text, shows_value=True)])


def _problems_of(error: Exception) -> tuple[Problem, ...]:
    if isinstance(error, Problems):
        return error.items
    if isinstance(error, ClassValidationError | IterableValidationError):
        return (Problem("", "; ".join(transform_error(error)), shows_value=True),)
    if isinstance(error, WorkerError):
        return (Problem("", error.message, shows_value=True),)
    # attrs' validators put the attribute and the value behind the text in args.
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    return (Problem("", text or type(error).__name__, shows_value=True),)


def _at(path: str, error: Exception, *, secret: bool = False) -> Iterator[Problem]:
    for problem in _problems_of(error):
        hidden = secret and problem.shows_value
        yield Problem(
            path + problem.path,
            "it is not valid (the value is secret)" if hidden else problem.text,
            problem.shows_value and not hidden,
            problem.kind,
        )


# Hooks. Each takes the value and the type, as cattrs calls them.


def _structure_scalar(value: Any, kind: Any) -> Any:
    if issubclass(kind, Enum):
        return _structure_enum(value, kind)
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise _mismatch(kind, value)


def _structure_enum(value: Any, kind: type[Enum]) -> Any:
    for member in kind:
        if value is member or (type(value) is type(member.value) and value == member.value):
            return member
    raise _not_among(kind, value)


def _structure_literal(value: Any, kind: Any) -> Any:
    for option in typing.get_args(kind):
        if type(option) is type(value) and option == value:
            return option
    raise _not_among(kind, value)


def _structure_callable(value: Any, kind: Any) -> Any:
    if not callable(value):
        raise _mismatch(kind, value)
    return value


def _structure_union(value: Any, kind: Any) -> Any:
    members = typing.get_args(kind)
    if type(value) in members:  # else a float before an int would take the int
        return value
    deepest: Problems | None = None
    listed = False
    for member in members:
        if member is NoneType:
            continue
        try:
            return _converter.get_structure_hook(member)(value, member)
        except Problems as problems:
            listed = listed or any(p.shows_value and not p.path for p in problems.items)
            if any(problem.path for problem in problems.items):
                deepest = problems
        except Exception:
            listed = True
    if deepest is not None:  # the value has this member's shape, and something in it is wrong
        raise deepest
    raise _not_among(kind, value) if listed else _mismatch(kind, value)


def _structure_collection(value: Any, kind: Any) -> Any:
    if not isinstance(value, abc.Sequence | abc.Set) or isinstance(value, str | bytes | bytearray):
        raise _mismatch(kind, value)
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            text = f"expected {len(arguments)} items ({type_text(kind)}), got {len(value)}"
            raise Problems([Problem("", text, kind="type")])
        return tuple(_structure_items(zip(range(len(value)), value, arguments, strict=True)))
    item = arguments[0] if arguments else Any
    build = BUILDERS[origin]
    return build(_structure_items((index, part, item) for index, part in enumerate(value)))


def _structure_mapping(value: Any, kind: Any) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise _mismatch(kind, value)
    key_kind, value_kind = typing.get_args(kind) or (Any, Any)
    keys = _structure_items((key, key, key_kind) for key in value)
    values = _structure_items((key, part, value_kind) for key, part in value.items())
    return dict(zip(keys, values, strict=True))


def _structure_items(items: Iterable[tuple[Any, Any, Any]]) -> list[Any]:
    """Structure each (index, value, type)."""
    results: list[Any] = []
    problems: list[Problem] = []
    for index, value, kind in items:
        try:
            results.append(_converter.get_structure_hook(kind)(value, kind))
        except Exception as error:
            problems += _at(f"[{without_keys(repr(index))}]", error)
    if problems:
        raise Problems(problems)
    return results


def _instance_hook(kind: Any) -> _Hook:
    """Return the hook of a type that accepts its instances only."""
    checked = typing.get_origin(kind) or kind

    def structure_instance(value: Any, _: Any) -> Any:
        try:
            fits = isinstance(value, checked)
        except TypeError:  # a Protocol that is not for run time, a type variable, a string
            return value
        if not fits:
            raise _mismatch(kind, value)
        return value

    return structure_instance


# attrs classes


def _class_hook(cls: type) -> _Hook:
    fields = init_fields(cls)

    def structure_class(value: Any, _: Any) -> Any:
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            text = f"expected {cls.__name__} or a mapping, got {type(value).__name__}"
            raise Problems([Problem("", text, kind="type")])
        values, problems = _structure_fields(fields, value)
        if not problems:
            try:
                return cls(**values)
            except Exception as error:
                problems = _field_problems(cls, fields, values) or [*_at("", error)]
        else:
            problems += _field_problems(cls, fields, values)
        raise Problems(_without_secrets(problems, fields, value))

    return structure_class


def _structure_fields(
    fields: tuple[InitField, ...], data: Mapping[Any, Any]
) -> tuple[dict[str, Any], list[Problem]]:
    values: dict[str, Any] = {}
    names = [field.name for field in fields]
    problems = [
        Problem(f".{without_keys(str(key))}", _unknown(str(key), names), kind="unknown")
        for key in data
        if key not in names
    ]
    for field in fields:
        if field.name not in data:
            if field.required:
                problems.append(Problem(f".{field.name}", _missing(field), kind="missing"))
            continue
        kind = field.accepts
        try:
            values[field.name] = _converter.get_structure_hook(kind)(data[field.name], kind)
        except Exception as error:
            problems += _at(f".{field.name}", error, secret=field.secret)
    return values, problems


def _unknown(key: str, names: list[str]) -> str:
    near = nearest(key, names)
    if near is not None:
        return f"unknown option; did you mean {near}?"
    return f"unknown option; the options are: {', '.join(names) or 'none'}"


def _missing(field: InitField) -> str:
    return f"missing; set {field.name}=..."


def _field_problems(
    cls: type, fields: tuple[InitField, ...], values: dict[str, Any]
) -> list[Problem]:
    """Run each field's converter and validator alone, to find out which field is wrong."""
    problems: list[Problem] = []
    bare = cls.__new__(cls)  # type: ignore[call-overload]  # cls is not a metaclass
    given = [field for field in fields if field.name in values]
    for field in given:
        try:
            value = _converted(bare, field, values[field.name])
            object.__setattr__(bare, field.attribute.name, value)
        except (TypeError, ValueError) as error:
            problems += _at(f".{field.name}", error, secret=field.secret)
    for field in given:
        attribute = field.attribute
        if attribute.validator is None or not hasattr(bare, attribute.name):
            continue
        try:
            attribute.validator(bare, attribute, getattr(bare, attribute.name))
        except (TypeError, ValueError) as error:
            problems += _at(f".{field.name}", error, secret=field.secret)
        except Exception:  # it may need a field that is missing here; the constructor decides
            continue
    return problems


def _converted(bare: object, field: InitField, value: Any) -> Any:
    converter: Any = field.attribute.converter
    if converter is None:
        return value
    with_self = (bare, field.attribute) if isinstance(converter, attrs.Converter) else ()
    call: Any = converter  # which pyright takes for an attrs.Converter that is not callable
    return call(value, *with_self)


def _without_secrets(
    problems: list[Problem], fields: tuple[InitField, ...], data: Mapping[Any, Any]
) -> Iterator[Problem]:
    secrets = [data[field.name] for field in fields if field.secret and field.name in data]
    secrets += keys_in(" ".join(_texts(data)))  # put into the wrong option
    for problem in problems:
        yield problem._replace(text=hide(problem.text, secrets))


def _texts(value: Any, depth: int = 3) -> Iterator[str]:
    """Yield the texts among options."""
    if isinstance(value, str):
        yield value[:MAX_SEARCHED_CHARS]
    elif isinstance(value, Mapping) and depth:
        for item in itertools.chain.from_iterable(value.items()):
            yield from _texts(item, depth - 1)
    elif isinstance(value, list | tuple | set | frozenset) and depth:
        for item in value:
            yield from _texts(item, depth - 1)


# The converter


def _origin_in(kinds: Iterable[Any]) -> Callable[[Any], bool]:
    known = frozenset(kinds)
    return lambda kind: (typing.get_origin(kind) or kind) in known


def _make_converter() -> Converter:
    converter = Converter(forbid_extra_keys=True, structure_fallback_factory=_instance_hook)
    for scalar in (str, bytes, int, float, bool, Enum):
        converter.register_structure_hook(scalar, _structure_scalar)
    for predicate, hook in (
        (_origin_in([typing.Union, UnionType]), _structure_union),
        (_origin_in([typing.Literal]), _structure_literal),
        (_origin_in([abc.Callable]), _structure_callable),
        (_origin_in(BUILDERS), _structure_collection),
        (_origin_in(_MAPPINGS), _structure_mapping),
    ):
        converter.register_structure_hook_func(predicate, hook)
    converter.register_structure_hook_factory(attrs.has, _class_hook)
    return converter


_converter = _make_converter()
