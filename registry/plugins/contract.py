"""The contract check of an adapter class: a pure function from a class to its problems."""

import inspect
import re
import sys
import typing
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping, Sequence
from functools import partialmethod
from types import FunctionType, UnionType
from typing import Any, Literal, NamedTuple

import attrs

from adapter_api.hookspecs import ADAPTER_HOOKS, API_VERSION, PROJECT
from registry.near import nearest

REQUIRED = ("submit", "health")
"""The hooks every adapter has; the others are optional."""

IMPL = f"{PROJECT}_impl"
_SPEC = f"{PROJECT}_spec"

_STREAMS = re.compile(r"(?:\w+\.)*(?:TokenStream|Async(?:Iterator|Iterable|Generator))\b")

_Kind = Literal["async generator", "coroutine", "generator", "plain function"]


class _Hook(NamedTuple):
    """One hook of the contract, as adapter_api.hookspecs defines it."""

    name: str
    arguments: tuple[str, ...]
    streams: bool

    @property
    def form(self) -> str:
        """The hook as an author writes it."""
        head = f"async def {self.name}({', '.join(('self', *self.arguments))})"
        return f"`{head}: ... yield event`" if self.streams else f"`{head}`"


_DECLARED = {name: value for hooks in ADAPTER_HOOKS for name, value in vars(hooks).items()}


def _hooks() -> dict[str, _Hook]:
    hooks = {}
    for name, function in _DECLARED.items():
        if hasattr(function, _SPEC):
            code = function.__code__
            arguments = code.co_varnames[1 : code.co_argcount]
            hooks[name] = _Hook(name, arguments, not inspect.iscoroutinefunction(function))
    return hooks


HOOKS: Mapping[str, _Hook] = _hooks()


def contract_problems(cls: object) -> list[str]:
    """Return every problem of `cls` as an adapter class.

    Args:
        cls: The object that the entry point names.

    Returns:
        One sentence for each problem, with what to write instead; empty if there is none.
    """
    if not isinstance(cls, type):
        return [
            f"the target is a {type(cls).__name__}, not a class: "
            "let the entry point name the adapter class"
        ]
    return [
        *_hook_problems(cls),
        *_identity_problems(cls),
        *_config_problems(cls),
        *_construction_problems(cls),
        *_version_problems(cls),
    ]


def find_config_class(cls: type) -> tuple[type | None, str | None]:
    """Return the attrs class of an adapter's options, or the problem with it.

    Args:
        cls: The adapter class; its `Config` attribute, or else the annotation of its `config`
            attribute, names the class.

    Returns:
        The class and None, or None and a sentence that says what to write.
    """
    try:
        named = getattr(cls, "Config", None) or _annotation_of_config(cls)
    except Exception as error:  # evaluating the author's text may raise anything
        return None, (
            f"the annotation of `config` cannot be resolved ({error}): define the class at module "
            "level and import it at run time, or set `Config = ...` in the class"
        )
    if typing.get_origin(named) in (typing.Union, UnionType):
        members = [member for member in typing.get_args(named) if attrs_class(member)]
        named = members[0] if len(members) == 1 else named
    if named is None:
        return None, (
            "no config class: annotate `config: YourConfig` with an attrs class, or set "
            "`Config = YourConfig` (without options: an attrs class without fields)"
        )
    return (named, None) if attrs_class(named) else (None, _not_attrs_class(named))


def _not_attrs_class(named: Any) -> str:
    """Return the problem of a config that is not an attrs class, with matching advice."""
    shown = getattr(named, "__name__", None) or repr(named)
    if attrs.has(type(named)):
        return f"the config {shown} is an object: let `Config` be its class"
    plain = type(named) is type and named.__mro__[1:] == (object,)
    if plain and named.__module__ != "builtins":
        return f"the config class {shown} is not an attrs class: decorate it with @attrs.frozen"
    return (
        f"the config {shown} is not an attrs class, which would declare the options: write a class "
        "with a field for each and @attrs.frozen above it, and name that"
    )


def attrs_class(cls: object) -> bool:
    """Return whether `cls` is an attrs class."""
    return isinstance(cls, type) and attrs.has(cls)


def _annotation_of_config(cls: type) -> Any:
    for base in cls.__mro__:
        annotation = inspect.get_annotations(base).get("config")
        if isinstance(annotation, str):
            # Only this one: other annotations may exist for type checkers alone.
            scope = vars(sys.modules[base.__module__])
            annotation = eval(annotation, scope, dict(vars(base)))
        if annotation is not None:
            return annotation
    return None


# Hooks


def _hook_problems(cls: type) -> Iterator[str]:
    decorated, undecorated, misfits = hook_methods(cls)
    yield from misfits
    implemented: dict[str, list[str]] = {}
    for attribute, function in decorated.items():
        options = getattr(function, IMPL)
        name = options.get("specname") or attribute
        implemented.setdefault(name, []).append(attribute)
        if options.get("wrapper") or options.get("hookwrapper"):
            yield (
                f"{attribute} is a hook wrapper, which only middleware may be: use a bare @hookimpl"
            )
        elif name in HOOKS:
            yield from _function_problems(attribute, function, HOOKS[name])
        elif not options.get("optionalhook"):
            yield unknown_hook(name)
    for name, attributes in implemented.items():
        if len(attributes) > 1:
            yield f"{' and '.join(attributes)} both implement {name}: keep one"
    for name, hook in HOOKS.items():
        if name in implemented:
            continue
        if name in undecorated:
            yield f"{name} is not decorated: put @hookimpl (from adapter_api) above it"
        elif name in REQUIRED and not any(m.startswith(f"{name} ") for m in misfits):
            yield _missing_hook(hook, [m for m in undecorated if m not in HOOKS])


def hook_methods(
    cls: type, hooks: Iterable[str] = HOOKS
) -> tuple[dict[str, FunctionType], dict[str, FunctionType], list[str]]:
    """Return the methods with and without @hookimpl, and the problems of other attributes."""
    names = set(hooks)
    decorated: dict[str, FunctionType] = {}
    undecorated: dict[str, FunctionType] = {}
    misfits = []
    for name in dir(cls):
        value = inspect.getattr_static(cls, name)
        if isinstance(value, staticmethod | classmethod):
            if name in names or hasattr(value, IMPL):
                kind = type(value).__name__
                misfits.append(f"{name} is a {kind}: make it an ordinary method with @hookimpl")
        elif not inspect.isfunction(value):
            if _is_marked(value) or (name in names and _is_callable(value)):
                kind = type(value).__name__.lstrip("_")
                misfits.append(
                    f"{name} is a {kind} object, which is never called as a hook: write a plain "
                    "method with @hookimpl, which may call it"
                )
        elif _is_marked(value):
            decorated[name] = value
        elif not name.startswith("_") and value is not _DECLARED.get(name):
            undecorated[name] = value
    return decorated, undecorated, misfits


def _is_marked(value: object) -> bool:
    # Statically, because evaluating an attribute may run foreign code.
    return isinstance(inspect.getattr_static(value, IMPL, None), dict)


def _is_callable(value: object) -> bool:
    return callable(value) or isinstance(value, partialmethod)


def unknown_hook(name: str, hooks: Iterable[str] = HOOKS) -> str:
    """Return the problem of a method that is marked as a hook that does not exist."""
    near = nearest(name, hooks)
    if near is not None:
        return f"{name} is not a hook: did you mean {near}?"
    return f"{name} is not a hook: remove @hookimpl from it; the hooks are {', '.join(hooks)}"


def _missing_hook(hook: _Hook, others: list[str]) -> str:
    near = nearest(hook.name, others)
    hint = f" (did you mean it by {near}?)" if near is not None else ""
    return f"{hook.name} is missing{hint}: write {hook.form} with @hookimpl above it"


def _function_problems(name: str, function: FunctionType, hook: _Hook) -> Iterator[str]:
    kind = _kind(function)
    if hook.streams:
        yield from _stream_kind_problems(name, function, hook, kind)
    elif kind == "async generator":
        yield f"{name} is an async generator: return one value, do not yield; write {hook.form}"
    elif kind != "coroutine":
        yield f"{name} is a {kind}, not async: write {hook.form}"
    for problem in argument_problems(function, hook.arguments):
        yield f"{name}: {problem}; write {hook.form}"


def _kind(function: FunctionType) -> _Kind:
    # A decorator around an async function returns its coroutine.
    for candidate in (function, inspect.unwrap(function)):
        if inspect.isasyncgenfunction(candidate):
            return "async generator"
        if inspect.iscoroutinefunction(candidate):
            return "coroutine"
        if inspect.isgeneratorfunction(candidate):
            return "generator"
    return "plain function"


def _stream_kind_problems(
    name: str, function: FunctionType, hook: _Hook, kind: _Kind
) -> Iterator[str]:
    if kind == "coroutine":
        yield (
            f"{name} is a coroutine, which returns one value: yield the events in it (an async "
            "generator), or make it a plain `def` that returns a TokenStream and is annotated so"
        )
    elif kind == "generator":
        yield f"{name} is a generator, not async: write {hook.form}"
    elif kind == "plain function" and not _returns_stream(function):
        yield (
            f"{name} is a plain function: write {hook.form}, or annotate that it returns "
            "a TokenStream or an AsyncIterator[TokenEvent]"
        )


def _returns_stream(function: FunctionType) -> bool:
    annotation = inspect.unwrap(function).__annotations__.get("return")
    if isinstance(annotation, str):
        return _STREAMS.match(annotation) is not None
    origin = typing.get_origin(annotation) or annotation
    return isinstance(origin, type) and issubclass(origin, AsyncIterable)


def argument_problems(
    function: FunctionType, arguments: Sequence[str], *, optional: bool = False
) -> Iterator[str]:
    """Yield the problems of the arguments of a method that implements a hook.

    Args:
        function: The method.
        arguments: The hook's arguments.
        optional: Whether they may be left out.
    """
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        yield "it takes no self"
        return
    given = []
    for parameter in parameters[1:]:
        name = parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            shown = parameter.replace(annotation=parameter.empty)
            yield f"`{shown}` receives no value (hooks are called by argument name): remove it"
            continue
        given.append(name)
        if parameter.kind is parameter.KEYWORD_ONLY:
            yield f"argument `{name}` is keyword-only: remove the `*` before it"
        if parameter.default is not parameter.empty:
            yield f"argument `{name}` has a default, so it would never be given: remove the default"
    missing = [name for name in arguments if name not in given]
    unknown = [name for name in given if name not in arguments]
    if len(missing) == len(unknown) == 1:
        yield f"argument `{unknown[0]}` must be named `{missing[0]}`"
        return
    for name in [] if optional else missing:
        yield f"argument `{name}` is missing"
    for name in unknown:
        yield f"argument `{name}` is unknown: remove it"


# The class itself


def _identity_problems(cls: type) -> Iterator[str]:
    if any("__eq__" in vars(base) for base in cls.__mro__ if base is not object):
        yield (
            "its objects compare by value, and pluggy compares plugins with ==: "
            "use @attrs.define(eq=False), or remove __eq__"
        )
    elif cls.__hash__ is None:
        yield "its objects are unhashable: remove `__hash__ = None`"
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        yield f"it is abstract: implement {missing}"


def _config_problems(cls: type) -> Iterator[str]:
    config, problem = find_config_class(cls)
    if problem is not None:
        yield problem
    if config is None:
        return
    try:
        typing.get_type_hints(config)
    except Exception as error:
        yield (
            f"the annotations of {config.__name__} cannot be resolved ({error}): "
            "import what they name at run time, not only under TYPE_CHECKING"
        )


def _construction_problems(cls: type) -> Iterator[str]:
    try:
        signature = inspect.signature(cls)
    except (TypeError, ValueError):  # some classes written in C have none
        return
    try:
        signature.bind(None)
    except TypeError:
        yield (
            f"it cannot be built as {cls.__name__}(config), its constructor being "
            f"{cls.__name__}{signature}: take the config first, and give the rest defaults"
        )


def _version_problems(cls: type) -> Iterator[str]:
    version = getattr(cls, "API_VERSION", API_VERSION)
    if type(version) is not int:
        yield f"API_VERSION must be an int, got {version!r}: write `API_VERSION = {API_VERSION}`"
    elif version > API_VERSION:
        yield (
            f"it is written for API_VERSION {version}, and the installed worker-adapters has "
            f"{API_VERSION}: upgrade worker-adapters"
        )
    elif version < API_VERSION:
        yield (
            f"it is written for API_VERSION {version}, and the installed worker-adapters has "
            f"{API_VERSION}: upgrade the adapter's distribution"
        )
