"""From a record to the adapter's object; whatever goes wrong is an error that names the adapter.

A plugin is other people's code: at import and construction it may raise anything, SystemExit
included. Only KeyboardInterrupt, which is the user's, passes.
"""

import importlib
import importlib.util
import os
import sys
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

import attrs
import importlib_metadata

from adapter_api.errors import AdapterLoadError, ContractError
from registry.contract import contract_problems, find_config_class
from registry.discovery import AdapterRecord, identify, module_and_attribute, normalized
from registry.near import nearest

# A plugin's exception may quote a whole document; its beginning says enough.
_MAX_REASON_CHARS = 300


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


def load(record: AdapterRecord) -> LoadedAdapter:
    """Import an adapter's class and check it against the contract.

    Raises:
        AdapterLoadError: If it cannot be imported.
        ContractError: If it does not fulfil the contract, with all its problems.
    """
    if record.problem is not None:
        raise load_error(record, record.problem)
    cls = _imported(record)
    try:
        problems = contract_problems(cls)
        config_class, _ = find_config_class(cls)
    except Exception as error:  # a metaclass, say, is the plugin's code too
        raise load_error(record, f"checking it raised {_text(error)}") from error
    if problems or config_class is None:
        raise ContractError(record.name, record.target, problems)
    return LoadedAdapter(record, cls, config_class)


def build(loaded: LoadedAdapter, config: object) -> Any:
    """Make the adapter's object from its config.

    Raises:
        AdapterLoadError: Whatever the constructor raised; the message holds no secret option.
    """
    from registry.configure import secrets_of  # cattrs, which loading alone does not need
    from registry.strict import hide

    reason = ""
    try:
        return loaded.cls(config)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        whole = _text(error)
        reason = hide(whole, secrets_of(config))
        if reason == whole:
            raise load_error(loaded.record, f"building it raised {reason}") from error
    # Outside of `except`: the cause holds a secret.
    raise load_error(loaded.record, f"building it raised {reason}")


def load_error(record: AdapterRecord, reason: str) -> AdapterLoadError:
    """The error that says why the adapter of `record` cannot be used."""
    return AdapterLoadError(record.name, record.distribution, record.version, record.target, reason)


def _imported(record: AdapterRecord) -> Any:
    module_name, attribute = module_and_attribute(record.target)
    try:
        value: Any = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise load_error(record, _import_reason(record, module_name, error)) from error
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise load_error(record, _attribute_reason(value, part, error)) from error
    return value


def _import_reason(record: AdapterRecord, module: str, error: BaseException) -> str:
    intruder = _intruder(record, module)
    if intruder is not None:
        return f"{intruder} (importing {module} raised {_text(error)})"
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is None:
        return f"importing {module} raised {_text(error)}"
    if module == missing or module.startswith(f"{missing}."):
        return (
            f"there is no module {missing}: the entry point of {record.distribution} is wrong, or "
            "its installation is incomplete; install it again or tell its maintainers"
        )
    return (
        f"{module} needs the module {missing}, which is not installed: "
        "install the distribution that provides it"
    )


def _attribute_reason(value: object, part: str, error: BaseException) -> str:
    shown = value.__name__ if isinstance(value, ModuleType) else repr(value)
    if not isinstance(error, AttributeError):
        return f"looking up {part} in {shown} raised {_text(error)}"
    near = nearest(part, [name for name in dir(value) if not name.startswith("_")])
    hint = f"; did its author mean {near}?" if near is not None else ""
    return f"{shown} has no {part}{hint}"


def _text(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    return text if len(text) <= _MAX_REASON_CHARS else text[: _MAX_REASON_CHARS - 3] + "..."


# Foreign packages under the name of ours. `adapters` is a namespace package that several
# distributions fill; one regular package of that name, anywhere on sys.path, hides it.


def _intruder(record: AdapterRecord, module: str) -> str | None:
    """Whose package stands in the way of `module`, and what to do; None if none does."""
    package, _, rest = module.partition(".")
    if not rest or f"{package}.{rest.partition('.')[0]}" in sys.modules:
        return None
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not os.path.exists(spec.origin):
        return None
    owner = _owner(package, spec.origin)
    advice = f"uninstall {owner[0]} or" if owner else "rename or remove it, or"
    whose = f"of the distribution {owner[0]} {owner[1]}" if owner else "of no distribution"
    here = f"the package {package!r} at {spec.origin}, {whose},"
    if _is_elsewhere(module, spec.submodule_search_locations or []):
        return (
            f"{here} hides the namespace package of the same name that holds {module}: "
            f"{advice} keep {record.distribution} in an environment of its own"
        )
    foreign = owner is not None and normalized(owner[0]) != normalized(record.distribution)
    if foreign and package not in sys.modules:
        return (
            f"{here} cannot be imported, and {module} lies within it: "
            f"{advice} keep {record.distribution} in an environment of its own"
        )
    return None


def _is_elsewhere(module: str, locations: list[str]) -> bool:
    """Whether the target's second level lies in a folder that the found package hides."""
    package, second = module.split(".")[:2]
    folders = [os.path.join(entry, package) for entry in sys.path]
    hidden = [folder for folder in folders if folder not in locations]
    return PathFinder.find_spec(f"{package}.{second}", hidden) is not None


def _owner(package: str, origin: str) -> tuple[str, str] | None:
    """The name and version of the distribution that installed the file `origin`."""
    try:
        names = importlib_metadata.packages_distributions().get(package, ())
        for name in dict.fromkeys(names):
            distribution = importlib_metadata.distribution(name)
            for file in distribution.files or ():
                path = os.path.realpath(str(distribution.locate_file(file)))
                if path == os.path.realpath(origin):
                    return identify(distribution)
    except Exception:  # one malformed distribution must not replace the error being explained
        return None
    return None
