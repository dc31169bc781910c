"""Registry.names: which adapters there are, blocked ones, and those of several distributions."""

import pytest

from adapter_api import (
    AdapterNotFound,
    AmbiguousAdapter,
)
from registry.registry import Registry

# Names


def test_names_are_sorted_and_without_blocked_ones(samples):
    """Installed adapters are listed by name, blocked names excepted (ORCH-3054)."""
    samples("plane", "acme_echo", "broken_pack")
    registry = Registry(blocked=["plane"])
    names = registry.names()
    assert names == sorted(names)
    assert {"acme-echo", "pack-ok", "pack-malformed"} <= set(names)
    assert "plane" not in names


def test_names_and_import_load_no_plugin(fresh_python):
    """Listing imports no plugin, and neither asyncio nor cattrs (ORCH-3054)."""
    code = """
        import sys
        import registry
        names = registry.names()
        heavy = ("acme", "pack", "asyncio", "cattrs", "pluggy", "adapters")
        print("acme-echo" in names, [name for name in sys.modules if name.startswith(heavy)])
    """
    assert fresh_python(code, "acme_echo", "broken_pack") == "True []"


def test_getting_one_imports_one(fresh_python):
    """A plugin is imported when it is named, and no other with it."""
    code = """
        import sys
        import registry
        registry.get("acme-echo")
        print([name for name in sys.modules if name.startswith(("acme", "rival", "pack"))])
    """
    assert fresh_python(code, "acme_echo", "broken_pack") == "['acme_echo']"


@pytest.mark.parametrize("blocked", ["acme-echo, plane", ["acme-echo", "plane"]])
def test_blocked_names(samples, blocked):
    """A blocked name is refused, and the message says how to unblock it."""
    samples("plane", "acme_echo")
    registry = Registry(blocked=blocked)
    with pytest.raises(AdapterNotFound, match="WORKER_ADAPTERS_BLOCKED") as caught:
        registry.get("acme-echo")
    assert caught.value.blocked
    with pytest.raises(AdapterNotFound, match="is blocked"):
        registry.get("acme-echo:acme-echo")
    assert registry.describe("plane").status == "blocked"


def test_blocked_names_from_the_environment(samples, monkeypatch):
    """The environment blocks names for registries made from then on, not for others."""
    samples("acme_echo")
    before = Registry()
    monkeypatch.setenv("WORKER_ADAPTERS_BLOCKED", "acme-echo,")
    assert "acme-echo" in before.names()
    assert "acme-echo" not in Registry().names()
    assert "acme-echo" in Registry(blocked=()).names()


def test_refresh_reads_the_environment_again(samples, monkeypatch):
    """A name can be blocked and unblocked while the process runs; `blocked` goes before."""
    samples("acme_echo")
    registry, own = Registry(), Registry(blocked=())
    assert registry.get("acme-echo").name == "acme-echo"
    monkeypatch.setenv("WORKER_ADAPTERS_BLOCKED", "acme-echo")
    registry.refresh()
    own.refresh()
    assert "acme-echo" not in registry.names()
    with pytest.raises(AdapterNotFound, match="is blocked"):
        registry.get("acme-echo")
    assert own.get("acme-echo").name == "acme-echo"
    monkeypatch.delenv("WORKER_ADAPTERS_BLOCKED")
    registry.refresh()
    assert "acme-echo" in registry.names()


@pytest.mark.parametrize("name", [None, 5, b"mock", ["mock"]])
def test_a_name_that_is_not_a_string_is_a_type_error(name):
    """It says what was given."""
    for call in (Registry().get, Registry().describe, Registry().configure):
        with pytest.raises(TypeError, match=f"is a string, got {type(name).__name__}"):
            call(name)


@pytest.mark.parametrize("entry", ["acme-echo:acme-echo", "Acme.Echo:acme-echo"])
def test_a_name_blocked_for_one_distribution(samples, entry, monkeypatch):
    """One distribution's adapter can be blocked; the name is then the other's alone."""
    samples("acme_echo", "rival_echo")
    monkeypatch.setenv("WORKER_ADAPTERS_BLOCKED", entry)
    registry = Registry()
    assert registry.get("acme-echo").distribution == "Rival_Echo"
    assert "acme-echo" in registry.names()
    info = registry.describe("acme-echo")
    assert (info.status, info.distribution) == ("ok", "Rival_Echo")
    with pytest.raises(AdapterNotFound, match="'acme-echo:acme-echo' is blocked"):
        registry.get("acme-echo:acme-echo")
    assert registry.describe("acme-echo:acme-echo").status == "blocked"


def test_a_name_blocked_for_its_only_distribution(samples):
    """Nothing is left of the name, and nothing else is touched."""
    samples("acme_echo")
    registry = Registry(blocked=["acme-echo:acme-echo", "acme-echo:absent", "absent:mock"])
    assert "acme-echo" not in registry.names()
    assert "mock" in registry.names()
    with pytest.raises(AdapterNotFound, match="is blocked"):
        registry.get("acme-echo")
    assert registry.describe("acme-echo").status == "blocked"


def test_unknown_name(samples):
    """An unknown name gets the installed names and the nearest."""
    samples("acme_echo")
    with pytest.raises(AdapterNotFound, match="did you mean 'acme-echo'") as caught:
        Registry().get("acme_echo")
    assert caught.value.nearest == "acme-echo"
    assert "acme-echo" in caught.value.installed
    with pytest.raises(AdapterNotFound, match="did you mean 'acme-echo:acme-echo'"):
        Registry().get("acme:acme-echo")
    with pytest.raises(AdapterNotFound):
        Registry().describe("acme_echo")


def test_two_distributions_with_one_name(samples):
    """Ambiguity is an error only for that name, names both, and "distribution:name" picks."""
    samples("acme_echo", "rival_echo", "plane")
    registry = Registry()
    assert "acme-echo" in registry.names()
    for order in (("acme_echo", "rival_echo"), ("rival_echo", "acme_echo")):
        samples(*order)
        registry.refresh()
        with pytest.raises(AmbiguousAdapter, match="acme-echo and Rival_Echo"):
            registry.get("acme-echo")
        assert registry.describe("acme-echo").distribution == "acme-echo, Rival_Echo"
    assert registry.get("plane").name == "plane"
    assert registry.get("acme-echo:acme-echo").distribution == "acme-echo"
    bound = registry.get("rival-echo:acme-echo")
    assert (bound.name, bound.distribution, bound.version) == ("acme-echo", "Rival_Echo", "0.9")
