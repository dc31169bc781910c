"""The check of an application's objects for a registry: middleware and observers."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import FunctionType

from adapter_api.hookspecs import PROJECT, ObserverHooks
from registry.plugins.contract import HOOKS, IMPL, argument_problems, hook_methods, unknown_hook

NOTICES = tuple(
    name for name, hook in vars(ObserverHooks).items() if hasattr(hook, f"{PROJECT}_spec")
)
"""The hooks of an observer."""


def middleware_problems(plugin: object, before: Sequence[object] = ()) -> list[str]:
    """Return every reason why `plugin` cannot be middleware.

    Args:
        plugin: The object with `@hookimpl(wrapper=True)` methods.
        before: The middleware that precedes it.

    Returns:
        One sentence for each problem; empty if there is none.
    """
    problems = _identity_problems(plugin, before)
    if problems:
        return problems
    decorated, undecorated, problems = hook_methods(type(plugin))
    if not decorated:
        problems.append(
            "it has no hook: write `def submit(self, task)` and @hookimpl(wrapper=True)"
        )
    for name in sorted(undecorated.keys() & HOOKS.keys()):
        # It may have methods of its own, such as `aclose`. One that yields, or submit, is a hook.
        if name == "submit" or inspect.isgeneratorfunction(undecorated[name]):
            problems.append(f"{name} is not decorated: put @hookimpl(wrapper=True) above it")
    for attribute, function in decorated.items():
        problems += _wrapper_problems(attribute, function)
    return problems


def _wrapper_problems(attribute: str, function: FunctionType) -> Iterator[str]:
    options = getattr(function, IMPL)
    name = options.get("specname") or attribute
    if not options.get("wrapper"):
        yield f"{attribute} would take the adapter's place: use @hookimpl(wrapper=True)"
    elif not inspect.isgeneratorfunction(function):
        yield (
            f"{attribute} must be a generator: `events = yield`, then `return` what is "
            "to be seen instead"
        )
    elif name not in HOOKS:
        yield unknown_hook(name)
    else:
        arguments = HOOKS[name].arguments
        form = f"`def {attribute}({', '.join(('self', *arguments))})`"
        for problem in argument_problems(function, arguments, optional=True):
            yield f"{attribute}: {problem}; write {form}"


def observer_problems(plugin: object, before: Sequence[object] = ()) -> list[str]:
    """Return every reason why `plugin` cannot be an observer.

    Args:
        plugin: The object with `@hookimpl` methods of ObserverHooks.
        before: The observers that precede it.

    Returns:
        One sentence for each problem; empty if there is none.
    """
    problems = _identity_problems(plugin, before)
    if problems:
        return problems
    decorated, undecorated, problems = hook_methods(type(plugin), NOTICES)
    if not decorated:
        problems.append(f"it has no hook: put @hookimpl above one of {', '.join(NOTICES)}")
    for name in sorted(undecorated.keys() & set(NOTICES)):
        problems.append(f"{name} is not decorated: put @hookimpl (from adapter_api) above it")
    for attribute, function in decorated.items():
        problems += _notice_problems(attribute, function)
    return problems


def _notice_problems(attribute: str, function: FunctionType) -> Iterator[str]:
    options = getattr(function, IMPL)
    name = options.get("specname") or attribute
    if name not in NOTICES:
        yield unknown_hook(name, NOTICES)
        return
    if options.get("wrapper") or options.get("hookwrapper"):
        yield f"{attribute} is a wrapper, and observers change nothing: use a bare @hookimpl"
    elif not _plain(function):
        yield f"{attribute} must be a plain function: observers are not awaited"
    (wanted,) = inspect.signature(getattr(ObserverHooks, name)).parameters.keys() - {"self"}
    for problem in argument_problems(function, [wanted], optional=True):
        yield f"{attribute}: {problem}; write `def {attribute}(self, {wanted})`"


def observing_methods(plugin: object) -> dict[str, Callable[[object], object]]:
    """Return an observer's methods by hook, each to be called with the notice."""
    found: dict[str, Callable[[object], object]] = {}
    for attribute, function in hook_methods(type(plugin), NOTICES)[0].items():
        method = getattr(plugin, attribute)
        name = getattr(function, IMPL).get("specname") or attribute
        takes_notice = function.__code__.co_argcount > 1
        found[name] = method if takes_notice else partial(_without_notice, method)
    return found


def _without_notice(method: Callable[[], object], _: object) -> object:
    return method()


def _identity_problems(plugin: object, before: Sequence[object]) -> list[str]:
    if isinstance(plugin, type):
        return ["give an object, not the class"]
    if any(plugin is other or plugin == other for other in before):
        return [
            "it is equal to another one, and pluggy compares plugins with ==: "
            "give each once, and use @attrs.define(eq=False)"
        ]
    return []


def _plain(function: object) -> bool:
    return not (
        inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
        or inspect.isgeneratorfunction(function)
    )
