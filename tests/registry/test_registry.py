"""Registry: adapters by name."""

import threading

import attrs
import pytest

from adapter_api import (
    AdapterLoadError,
    AdapterNotFound,
    ConfigError,
    ContractError,
    EngineUnavailable,
    TaskRequest,
    Token,
    hookimpl,
)
from registry.adapter import BoundAdapter
from registry.config.fields import ConfigField
from registry.registry import Registry


def task(prompt: str = "one two") -> TaskRequest:
    """A job."""
    return TaskRequest(prompt=prompt)


# Get


def test_get_builds_a_new_adapter_each_time(samples):
    """Two gets share nothing."""
    samples("acme_echo")
    registry = Registry()
    one, two = registry.get("acme-echo", times=1), registry.get("acme-echo", times=1)
    assert isinstance(one, BoundAdapter)
    assert one is not two
    assert one.adapter is not two.adapter
    assert one.config == two.config


def test_config_in_each_form(samples):
    """Options, a mapping and an object of the config class give the same config."""
    samples("acme_echo")
    registry = Registry()
    by_options = registry.get("acme-echo", times=2)
    assert registry.get("acme-echo", {"times": 2}).config == by_options.config
    assert registry.get("acme-echo", by_options.config).config is by_options.config


def test_option_may_be_called_name_or_config(site, adapter_source):
    """The registry's own arguments take no option's name away."""
    source = adapter_source.replace("size: int = 1", "name: str = ''\n    config: str = ''")
    site.install("made", "a = made_names:Adapter", {"made_names.py": source})
    config = Registry().get("a", name="n", config="c").config
    assert (config.name, config.config) == ("n", "c")


def test_options_are_completed_from_the_environment(samples, monkeypatch):
    """Options go first, then the environment field by field; a mapping is complete as given."""
    samples("acme_echo")
    monkeypatch.setenv("ACME_TIMES", "3")
    monkeypatch.setenv("ACME_KEY", "hunter2")
    registry = Registry()
    assert registry.get("acme-echo").config.times == 3
    assert registry.get("acme-echo").config.api_key == "hunter2"
    assert registry.get("acme-echo", {}).config.times == 1
    assert registry.get("acme-echo", separator="-").config.api_key == "hunter2"
    assert registry.get("acme-echo", times=2).config.times == 2


@pytest.mark.parametrize(
    ("config", "options", "problem"),
    [
        ({}, {"times": 1}, "pass either a config or options, not both"),
        (
            "http://a",
            {},
            r"'acme-echo': expected EchoConfig or a mapping, got str; pass options by their names",
        ),
        (None, {"tims": 1}, r"\$\.tims: unknown option; did you mean times\?"),
        (None, {"times": "1"}, r"\$\.times: expected int, got str"),
    ],
)
def test_wrong_config(samples, config, options, problem):
    """Each way to give wrong options is a ConfigError that says so."""
    samples("acme_echo")
    with pytest.raises(ConfigError, match=problem):
        Registry().get("acme-echo", config, **options)


async def test_one_interface_for_any_engine(samples):
    """The same calls run a task on adapters of different distributions (ORCH-3055)."""
    samples("acme_echo", "rival_echo", "plane")
    registry = Registry()
    texts = []
    for name in ("acme-echo:acme-echo", "rival-echo:acme-echo", "plane"):
        async with registry.get(name) as adapter:
            texts.append(await adapter.submit(task()).text())
    assert texts == ["onetwo", "rival", "plane"]


# Describe


def test_describe_a_good_one(samples):
    """The description of an adapter lists what is needed to use it."""
    samples("acme_echo")
    info = Registry().describe("acme-echo")
    assert (info.name, info.distribution, info.version) == ("acme-echo", "acme-echo", "1.2")
    assert (info.target, info.status, info.reason) == ("acme_echo:EchoAdapter", "ok", "")
    assert info.config_fields[0] == ConfigField(
        "separator", "str", "' '", False, "ACME_SEPARATOR", "What parts the words.", False
    )


def test_describe_never_raises_for_a_broken_one(samples):
    """Everything that cannot be used has a status and a reason."""
    samples("broken_pack", "acme_echo", "rival_echo")
    registry = Registry()
    for name in registry.names():
        if name.startswith("pack-") and name not in ("pack-ok", "pack-wrong-config"):
            info = registry.describe(name)
            assert (info.status, info.config_fields) == ("broken", ())
            assert name in info.reason
    info = registry.describe("acme-echo")
    assert (info.status, info.distribution) == ("ambiguous", "acme-echo, Rival_Echo")
    assert info.target == "acme_echo:EchoAdapter, rival_echo:RivalAdapter"
    assert registry.describe("Rival_Echo:acme-echo").status == "ok"


def test_describe_options_that_cannot_be_shown(site, adapter_source):
    """A default whose repr fails is a broken adapter, not an exception."""
    source = adapter_source.replace("size: int = 1", "size: object = Bad()").replace(
        "import attrs\n", "import attrs\nclass Bad:\n    def __repr__(self): raise OSError\n"
    )
    site.install("made", "a = made_repr:Adapter", {"made_repr.py": source})
    info = Registry().describe("a")
    assert info.status == "broken"
    assert "(made_repr:Adapter, from made 1.0) cannot be loaded" in info.reason
    assert info.reason.endswith("describing its options raised OSError")


def test_describe_without_loading(fresh_python):
    """Where a plugin must not be imported, its status is what metadata tells."""
    code = """
        import sys
        import registry
        registry = registry.Registry(blocked=["pack-ok"])
        for name in ("acme-echo", "pack-no-module", "pack-malformed", "pack-ok"):
            info = registry.describe(name, load=False)
            print(info.status, bool(info.reason), info.config_fields)
        print([name for name in sys.modules if name.startswith(("acme", "pack"))])
    """
    assert fresh_python(code, "acme_echo", "broken_pack").splitlines() == [
        "installed False ()",
        "installed False ()",
        "broken True ()",
        "blocked True ()",
        "[]",
    ]


# Broken ones beside good ones


def test_broken_plugins_affect_no_other(samples):
    """Every broken adapter fails by itself; those beside it work before and after."""
    samples("malformed_neighbour", "broken_pack", "acme_echo")
    registry = Registry()
    for name in registry.names():
        if name.startswith("pack-") and name != "pack-ok":
            with pytest.raises((AdapterLoadError, ContractError)):
                registry.get(name)
            assert registry.get("acme-echo").name == "acme-echo"
    assert registry.get("pack-ok").name == "pack-ok"


def test_failed_load_is_tried_again(site, adapter_source):
    """A dependency that is installed later is found without a new registry."""
    source = "import made_dependency\n" + adapter_source
    site.install("made", "a = made_later:Adapter", {"made_later.py": source})
    registry = Registry()
    with pytest.raises(AdapterLoadError, match="needs the module made_dependency"):
        registry.get("a")
    (site.folder / "made_dependency.py").write_text("")
    registry.refresh()
    assert registry.get("a").name == "a"


# Refresh and isolation


def test_refresh_finds_what_came_since(site, adapter_source):
    """A plugin installed while the process runs is there after refresh()."""
    registry = Registry()
    assert "late" not in registry.names()
    site.install("made", "late = made_late:Adapter", {"made_late.py": adapter_source})
    assert "late" not in registry.names()
    with pytest.raises(AdapterNotFound, match=r"registry\.refresh\(\)"):
        registry.get("late")
    registry.refresh()
    assert "late" in registry.names()
    assert registry.get("late").config.size == 1


def test_registries_are_isolated(site, adapter_source):
    """One registry's refresh, blocked names and middleware are its own."""
    one, two = Registry(blocked=["late"]), Registry()
    assert "late" not in one.names() + two.names()
    site.install("made", "late = made_apart:Adapter", {"made_apart.py": adapter_source})
    two.refresh()
    assert "late" in two.names()
    assert "late" not in one.names()


# Dispatch


class Upper:
    """Makes the text upper case."""

    @hookimpl(wrapper=True)
    def submit(self, task):
        events = yield
        return self.changed(events)

    async def changed(self, events):
        async for event in events:
            yield attrs.evolve(event, text=event.text.upper()) if type(event) is Token else event


# Middleware


async def test_middleware_goes_around_every_adapter(samples):
    """The registry's middleware applies to get and dispatch, and to no other registry."""
    samples("acme_echo")
    async with Registry(middleware=[Upper()]) as registry, Registry() as other:
        assert await registry.dispatch("acme-echo", task()).text() == "ONETWO"
        assert await registry.get("acme-echo").submit(task()).text() == "ONETWO"
        assert await other.dispatch("acme-echo", task()).text() == "onetwo"


def test_wrong_middleware():
    """Invalid middleware is refused when the registry is made."""
    upper = Upper()
    with pytest.raises(ContractError, match="give an object, not the class"):
        Registry(middleware=[Upper])
    with pytest.raises(ContractError, match="equal to another"):
        Registry(middleware=[upper, upper])


def test_installed_middleware_is_not_active(site, samples):
    """Nothing but an argument activates middleware: a hook wrapper as an entry point is refused."""
    source = """
        from adapter_api import hookimpl
        class Wrapper:
            @hookimpl(wrapper=True)
            def submit(self, task):
                return (yield)
    """
    site.install("made", "sneaky = made_sneaky:Wrapper", {"made_sneaky.py": source})
    samples("acme_echo")
    with pytest.raises(ContractError, match="only middleware may be"):
        Registry().get("sneaky")


async def test_closed_adapter_names_itself(samples):
    """A closed adapter's error says how to get another."""
    samples("acme_echo")
    adapter = Registry().get("acme-echo")
    await adapter.aclose()
    with pytest.raises(EngineUnavailable, match=r"registry\.get\('acme-echo'\)"):
        await adapter.submit(task())


def test_a_config_without_its_adapter(samples):
    """`configure` checks options as `get` does, builds nothing, and `get` takes what it gives."""
    samples("acme_echo")
    registry = Registry()
    config = registry.configure("acme-echo", times=3)
    assert registry.get("acme-echo", config).config is config
    with pytest.raises(ConfigError, match=r"\$.times"):
        registry.configure("acme-echo", {"times": "x"})
    with pytest.raises(AdapterNotFound):
        registry.configure("absent", {})


def test_a_refresh_is_never_seen_half_done(samples):
    """Threads that get adapters while others refresh find each name or its whole absence."""
    samples("acme_echo", "plane")
    registry = Registry()
    failures: list[BaseException] = []
    over = threading.Event()

    def read() -> None:
        try:
            while not over.is_set():
                assert registry.get("acme-echo", times=1).name == "acme-echo"
                assert "plane" in registry.names()
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(5):
        registry.refresh()
    over.set()
    for reader in readers:
        reader.join()
    assert failures == []
