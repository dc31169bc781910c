"""The package itself: a default Registry, and what importing it costs."""

import importlib

import pytest

import adapter_api
import registry
from registry.registry import Registry

METHODS = ("aclose", "describe", "dispatch", "get", "names", "refresh")


def test_all_is_sorted_and_complete():
    """Every public name is there, and __all__ lists exactly those."""
    assert registry.__all__ == sorted(registry.__all__)
    for name in registry.__all__:
        assert getattr(registry, name) is not None


def test_functions_are_methods_of_one_registry():
    """`registry.get` and the others share one default Registry, and keep it."""
    owners = {getattr(registry, name).__self__ for name in METHODS}
    assert len(owners) == 1
    assert isinstance(owners.pop(), Registry)
    assert registry.get == registry.get


def test_errors_are_the_contracts():
    """The error classes are adapter_api's."""
    for name in registry.__all__:
        if name.endswith("Error") or name in ("AdapterNotFound", "AmbiguousAdapter"):
            assert getattr(registry, name) is getattr(adapter_api, name)


def test_unknown_name_is_an_attribute_error():
    """A package with lazy names still has no others."""
    with pytest.raises(AttributeError, match="'registry' has no attribute 'absent'"):
        _ = registry.absent
    with pytest.raises(ImportError):
        importlib.import_module("registry.absent")


def test_default_registry_works(distributions):
    """The module's functions find what is installed."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(distributions / "acme_echo")
            registry.refresh()
            assert "acme-echo" in registry.names()
            assert registry.describe("acme-echo").status == "ok"
            assert registry.get("acme-echo", times=2).config.times == 2
    finally:
        registry.refresh()  # without the sample


def test_lazy_names_of_the_contract():
    """Each name of adapter_api is there on first use, and no other."""
    for name in adapter_api.__all__:
        assert getattr(adapter_api, name) is not None
    with pytest.raises(AttributeError, match="'adapter_api' has no attribute 'absent'"):
        _ = adapter_api.absent


def test_import_loads_nothing_heavy(fresh_python):
    """Importing registry and adapter_api loads neither asyncio, attrs, cattrs nor pluggy, and
    reads no metadata and no environment."""
    code = """
        import os, sys
        before = dict(os.environ)
        os.environ.clear()
        import registry, adapter_api
        heavy = ("asyncio", "attr", "cattrs", "pluggy", "importlib_metadata", "difflib", "inspect",
                 "logging", "httpx", "registry.", "adapters")
        print([name for name in sys.modules if name.startswith(heavy)])
    """
    assert fresh_python(code) == "[]"


def test_listing_names_loads_no_attrs(fresh_python):
    """What names() needs besides the metadata is cheap to import: no attrs, asyncio or logging."""
    code = """
        import importlib.metadata, sys
        needed = set(sys.modules)  # from Python 3.12 on, inspect is among them
        import registry
        assert "openai-http" in registry.names()
        heavy = ("asyncio", "attr", "cattrs", "pluggy", "inspect", "logging", "httpx", "adapters")
        print([name for name in sys.modules if name.startswith(heavy) and name not in needed])
    """
    assert fresh_python(code) == "[]"


def test_an_adapter_alone_loads_no_host_and_no_metrics(fresh_python):
    """What only pools, bulk runs, metrics and recordings need is imported with these."""
    code = """
        import sys
        import registry
        registry.get("openai-http", base_url="http://127.0.0.1:9")
        rare = ("registry.host", "registry.workers", "registry.serving", "registry.sync",
                "registry.observers.metrics", "adapters.http_util.recording", "adapter_api.faults")
        print([name for name in sys.modules if name.startswith(rare)])
    """
    assert fresh_python(code) == "[]"


def test_first_uses_from_two_threads_share_a_registry(fresh_python):
    """The first use makes the default Registry, once."""
    code = """
        import threading
        import registry
        owners = []
        threads = [
            threading.Thread(target=lambda: owners.append(registry.names.__self__))
            for _ in range(8)
        ]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(len(owners), len(set(map(id, owners))))
    """
    assert fresh_python(code) == "8 1"
