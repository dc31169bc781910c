"""Adapters by name: found among installed distributions, loaded, configured, used (ORCH-3054).

`get`, `names`, `describe`, `refresh`, `dispatch` and `aclose` are methods of one default Registry.
`registry.sync` has blocking versions. Every name loads on first use.
"""

from typing import TYPE_CHECKING

from adapter_api.lazy import lazy_exports

if TYPE_CHECKING:
    from adapter_api.errors import (
        AdapterLoadError,
        AdapterNotFound,
        AmbiguousAdapter,
        ConfigError,
        ContractError,
        Problem,
        RegistryError,
    )
    from adapter_api.version import __version__
    from registry import sync
    from registry.adapter import BoundAdapter
    from registry.config.fields import ConfigField
    from registry.default import aclose, describe, dispatch, get, names, refresh
    from registry.host import HostSnapshot, PoolPolicy, PoolSnapshot, ReplicaSnapshot
    from registry.plugins.loading import AdapterInfo
    from registry.registry import Registry
    from registry.workers import AdapterHost

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
    "Problem",
    "Registry",
    "RegistryError",
    "ReplicaSnapshot",
    "__version__",
    "aclose",
    "describe",
    "dispatch",
    "get",
    "names",
    "refresh",
    "sync",
]

__getattr__ = lazy_exports(__name__)
