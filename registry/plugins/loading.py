"""Loads an adapter from its record; any failure is an error that names the adapter."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from threading import Lock, get_ident
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import attrs

from adapter_api.errors import ContractError
from registry.near import nearest
from registry.plugins.contract import contract_problems, find_config_class
from registry.plugins.discovery import AdapterRecord, module_and_attribute
from registry.plugins.guard import attempt, exception_text, guarded, load_error, short

if TYPE_CHECKING:
    from registry.config.fields import ConfigField

# Why a module is not there, or another one is, is imported when an import fails.

Status = Literal["ok", "installed", "blocked", "ambiguous", "broken"]


@attrs.frozen
class AdapterInfo:
    """The description of an installed adapter.

    Args:
        name: The requested name.
        distribution: The distribution that offers it; several with commas if it is ambiguous.
        version: The version of each.
        target: The target of each, as "module:attribute".
        status: "ok", "blocked", "ambiguous" or "broken"; "installed" if it was not loaded.
        reason: Why it cannot be used; "" if there is no known problem.
        config_fields: Its options; empty unless it is ok.
        notes: Remarks about its installation, such as a shadowed version.
    """

    name: str
    distribution: str
    version: str
    target: str
    status: Status
    reason: str = ""
    config_fields: "tuple[ConfigField, ...]" = ()
    notes: tuple[str, ...] = ()


class LoadedAdapter(NamedTuple):
    """An adapter class that fulfils the contract.

    Args:
        record: Where it comes from.
        cls: The adapter class.
        config_class: The attrs class of its options.
    """

    record: AdapterRecord
    cls: type
    config_class: type


def load(record: AdapterRecord, *, rivals: bool = False) -> LoadedAdapter:
    """Import an adapter's class and check it against the contract.

    Args:
        record: The adapter.
        rivals: Whether another distribution has a module of the same name, so that the imported
            module may not be its own.

    Raises:
        AdapterLoadError: If it cannot be imported.
        ContractError: If it does not fulfil the contract, with all its problems.
    """
    if record.problem is not None:
        raise load_error(record, record.problem)
    with _once(record), _without_stdout():
        cls = _imported(record, rivals=rivals)
        problems, config_class = guarded(record, "checking it", lambda: _checked(cls))
    if problems or config_class is None:
        raise ContractError(
            record.name, record.target, problems, record.distribution, record.version
        )
    return LoadedAdapter(record, cls, config_class)


def build(loaded: LoadedAdapter, config: object) -> Any:
    """Make the adapter's object from its config.

    Raises:
        AdapterLoadError: Whatever the constructor raised; the message holds no secret option.
    """
    with _without_stdout():
        return guarded(
            loaded.record,
            "building it",
            lambda: _built(loaded.cls, config),
            show=hiding(config),
        )


def hiding(config: object) -> Callable[[str], str]:
    """Return a function that removes the secrets of a config from a text."""

    def hidden(text: str) -> str:
        from registry.config.declared import hide
        from registry.config.fields import secrets_of  # with cattrs, which loading does not need

        return hide(text, secrets_of(config))

    return hidden


_loading: ContextVar[tuple[AdapterRecord, ...]] = ContextVar("_loading", default=())


@contextmanager
def _once(record: AdapterRecord) -> Iterator[None]:
    """Refuse an adapter that requests itself while it is being loaded."""
    outer = _loading.get()
    if record in outer:
        raise load_error(
            record,
            f"its module requests {record.name!r} from the registry while it is imported: do "
            "that in a "
            "function that is called later",
        )
    token = _loading.set((*outer, record))
    try:
        yield
    finally:
        _loading.reset(token)


class _Diverted:
    """Stands for sys.stdout while plugins are loaded: their threads write to sys.stderr."""

    def __init__(self, stdout: Any) -> None:
        self.stdout = stdout
        self.threads: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr if get_ident() in self.threads else self.stdout, name)


_diverting = Lock()


@contextmanager
def _without_stdout() -> Iterator[None]:
    """Send what a plugin prints to stderr: a program's stdout may be read by another program."""
    with _diverting:
        now: Any = sys.stdout
        diverted = now if isinstance(now, _Diverted) else _Diverted(now)
        sys.stdout = diverted
        diverted.threads.append(get_ident())
    try:
        yield
    finally:
        with _diverting:
            diverted.threads.remove(get_ident())
            if not diverted.threads and sys.stdout is diverted:
                sys.stdout = diverted.stdout


def _checked(cls: Any) -> tuple[list[str], type | None]:
    return contract_problems(cls), find_config_class(cls)[0]


def _built(cls: type, config: object) -> Any:
    adapter = cls(config)
    if not isinstance(adapter, cls):
        raise TypeError(
            f"{cls.__name__}(config) returned a {type(adapter).__name__}: let __new__ return an "
            "object "
            f"of {cls.__name__}"
        )
    return adapter


def _imported(record: AdapterRecord, *, rivals: bool) -> Any:
    module, attribute = module_and_attribute(record.target)
    value: Any = guarded(
        record,
        f"importing {module}",
        partial(importlib.import_module, module),
        explain=partial(_import_reason, record, module),
    )
    if rivals:
        from registry.plugins.origin import foreign_module

        foreign = foreign_module(record, value)
        if foreign is not None:
            raise load_error(record, foreign)
    for part in attribute.split("."):
        value = guarded(
            record,
            f"looking up {part}",
            partial(getattr, value, part),
            explain=partial(_attribute_reason, value, part),
        )
    return value


def _import_reason(record: AdapterRecord, module: str, error: BaseException) -> str:
    from registry.plugins.origin import hiding_package
    from registry.plugins.requirements import missing_module, unmet

    raised = f"importing {module} raised {exception_text(error)}"
    in_the_way = hiding_package(record, module)
    if in_the_way is not None:
        return f"{in_the_way} ({raised})"
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is not None and f"{module}.".startswith(f"{missing}."):
        return _module_is_missing(record, missing)
    if missing is not None:
        return f"{module} needs the module {missing}, {missing_module(record, missing)}"
    if isinstance(error, ImportError) and "partially initialized" in str(error):
        return f"{raised}: its modules import each other in a circle, or import the registry"
    requirements = unmet(record)
    return f"{raised}; {requirements}" if requirements else raised


def _module_is_missing(record: AdapterRecord, missing: str) -> str:
    from registry.plugins.origin import is_editable

    if is_editable(record.distribution):
        return (
            f"there is no module {missing}: {record.distribution} is an editable install. If it "
            "was installed while this process runs, restart it; otherwise install it again"
        )
    return (
        f"there is no module {missing}: the entry point of {record.distribution} is wrong, or its "
        "installation is incomplete; install it again or report it to its maintainers"
    )


def _attribute_reason(value: object, part: str, error: BaseException) -> str:
    shown = value.__name__ if isinstance(value, ModuleType) else _shown(value)
    if not isinstance(error, AttributeError):
        return f"looking up {part} in {shown} raised {exception_text(error)}"
    near = nearest(part, [name for name in dir(value) if not name.startswith("_")])
    hint = f"; did its author mean {near}?" if near is not None else ""
    return f"{shown} has no {part}{hint}"


def _shown(value: object) -> str:
    return short(attempt(partial(repr, value), f"an object of {type(value).__name__}"))
