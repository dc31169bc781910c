"""Adapters by name: found among what is installed, loaded, configured, dispatched to (ORCH-3054).

`get`, `names`, `describe`, `refresh`, `dispatch` and `aclose` are methods of one default
Registry, made when the first of them is used. Everything but the errors loads on first use.
"""

from typing import TYPE_CHECKING

from adapter_api.errors import (
    AdapterLoadError,
    AdapterNotFound,
    AmbiguousAdapter,
    ConfigError,
    ContractError,
    RegistryError,
)

if TYPE_CHECKING:
    from registry.adapter import BoundAdapter
    from registry.config.fields import ConfigField
    from registry.host import HostSnapshot, PoolPolicy, PoolSnapshot, ReplicaSnapshot
    from registry.info import AdapterInfo
    from registry.registry import Registry
    from registry.workers import AdapterHost

    _default = Registry()
    aclose = _default.aclose
    describe = _default.describe
    dispatch = _default.dispatch
    get = _default.get
    names = _default.names
    refresh = _default.refresh

__all__ = [
    "AdapterHost",
    "AdapterInfo",
    "AdapterLoadError",
    "AdapterNotFound",
    "AmbiguousAdapter",
    "BoundAdapter",
    "ConfigError",
    "ConfigField",
    "ContractError",
    "HostSnapshot",
    "PoolPolicy",
    "PoolSnapshot",
    "Registry",
    "RegistryError",
    "ReplicaSnapshot",
    "aclose",
    "describe",
    "dispatch",
    "get",
    "names",
    "refresh",
]

_HOMES = {
    "AdapterHost": "registry.workers",
    "AdapterInfo": "registry.info",
    "BoundAdapter": "registry.adapter",
    "ConfigField": "registry.config.fields",
    "HostSnapshot": "registry.host",
    "PoolPolicy": "registry.host",
    "PoolSnapshot": "registry.host",
    "Registry": "registry.registry",
    "ReplicaSnapshot": "registry.host",
}
_METHODS = frozenset({"aclose", "describe", "dispatch", "get", "names", "refresh"})


def __getattr__(name: str) -> object:
    if name in _METHODS:
        from registry.registry import Registry

        # setdefault is atomic: two threads that come first together get one Registry.
        value = getattr(globals().setdefault("_default", Registry()), name)
    elif name in _HOMES:
        from importlib import import_module

        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value
