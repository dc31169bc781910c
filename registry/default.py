"""The default Registry, created on first use of one of its methods, such as `registry.get`."""

from registry.registry import Registry

_registry = Registry()

aclose = _registry.aclose
describe = _registry.describe
dispatch = _registry.dispatch
get = _registry.get
names = _registry.names
refresh = _registry.refresh
