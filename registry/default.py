"""The default Registry, made when the first of its methods is used: `registry.get` and others."""

from registry.registry import Registry

_registry = Registry()

aclose = _registry.aclose
describe = _registry.describe
dispatch = _registry.dispatch
get = _registry.get
names = _registry.names
refresh = _registry.refresh
