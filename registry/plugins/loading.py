"""From a record to the adapter's object; whatever goes wrong is an error that names the adapter."""

import importlib
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import attrs

from adapter_api.errors import ContractError
from registry.near import nearest
from registry.plugins.contract import contract_problems, find_config_class
from registry.plugins.discovery import AdapterRecord, module_and_attribute
from registry.plugins.guard import attempt, guarded, load_error, said, short
from registry.plugins.inplace import is_editable
from registry.plugins.origin import intruder, stranger


@attrs.frozen
class LoadedAdapter:
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
        record: Which one.
        rivals: Whether another distribution names a module of that name too, so that the one that
            is imported may not be its own.

    Raises:
        AdapterLoadError: If it cannot be imported.
        ContractError: If it does not fulfil the contract, with all its problems.
    """
    if record.problem is not None:
        raise load_error(record, record.problem)
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
    return guarded(
        loaded.record,
        "building it",
        lambda: _built(loaded.cls, config),
        show=hiding(config),
    )


def hiding(config: object) -> Callable[[str], str]:
    """What takes the secrets of a config out of a text."""

    def hidden(text: str) -> str:
        from registry.config.fields import secrets_of  # cattrs, which loading alone does not need
        from registry.config.structure import hide

        return hide(text, secrets_of(config))

    return hidden


def _checked(cls: Any) -> tuple[list[str], type | None]:
    return contract_problems(cls), find_config_class(cls)[0]


def _built(cls: type, config: object) -> Any:
    adapter = cls(config)
    if not isinstance(adapter, cls):
        raise TypeError(
            f"{cls.__name__}(config) gave a {type(adapter).__name__}: let __new__ return an object "
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
    foreign = stranger(record, value) if rivals else None
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
    in_the_way = intruder(record, module)
    if in_the_way is not None:
        return f"{in_the_way} (importing {module} raised {said(error)})"
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is None:
        return f"importing {module} raised {said(error)}"
    if module == missing or module.startswith(f"{missing}."):
        if is_editable(record.distribution):
            return (
                f"there is no module {missing}: {record.distribution} is installed in place (pip "
                "install -e). If that was done while this process runs, restart it; otherwise "
                "install it again"
            )
        return (
            f"there is no module {missing}: the entry point of {record.distribution} is wrong, or "
            "its installation is incomplete; install it again or tell its maintainers"
        )
    return (
        f"{module} needs the module {missing}, which is not installed: "
        "install the distribution that provides it"
    )


def _attribute_reason(value: object, part: str, error: BaseException) -> str:
    shown = value.__name__ if isinstance(value, ModuleType) else _shown(value)
    if not isinstance(error, AttributeError):
        return f"looking up {part} in {shown} raised {said(error)}"
    near = nearest(part, [name for name in dir(value) if not name.startswith("_")])
    hint = f"; did its author mean {near}?" if near is not None else ""
    return f"{shown} has no {part}{hint}"


def _shown(value: object) -> str:
    return short(attempt(partial(repr, value), f"an object of {type(value).__name__}"))
