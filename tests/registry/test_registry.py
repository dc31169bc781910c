"""Registry: adapters by name."""

import asyncio
import gc
import importlib
import threading
import weakref

import attrs
import pytest

from adapter_api import (
    AdapterLoadError,
    AdapterNotFound,
    AmbiguousAdapter,
    Cancelled,
    ConfigError,
    ContractError,
    EngineUnavailable,
    Started,
    TaskRequest,
    Token,
    hookimpl,
)
from registry.adapter import BoundAdapter
from registry.config.fields import ConfigField
from registry.kept import MAX_IDLE
from registry.registry import Registry


def task(prompt: str = "one two") -> TaskRequest:
    """A job."""
    return TaskRequest(prompt=prompt)


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
        ({}, {"times": 1}, "give either a config or options, not both"),
        (
            "http://a",
            {},
            r"'acme-echo': expected EchoConfig or a mapping, got str; give options by their names",
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


def test_broken_plugins_disturb_nobody(samples):
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


async def test_dispatch_runs_a_task(samples):
    """Awaiting dispatch opens the stream (ORCH-3055)."""
    samples("acme_echo")
    async with Registry() as registry:
        stream = await registry.dispatch("acme-echo", task())
        assert isinstance(await anext(stream), Started)
        assert await stream.text() == "onetwo"


COUNTING = """
    def __attrs_post_init__(self):
        built.append(self.config)

    @hookimpl
    async def aclose(self):
        closed.append(self.config)
        if self.config.size == 13:
            raise OSError("stuck")
"""


@pytest.fixture
def counting(site, adapter_source):
    """Install an adapter that counts how often it is built and closed; returns its module."""

    def install(name: str, change=lambda source: source):
        source = f"built = []\nclosed = []\n{change(adapter_source)}{COUNTING}"
        site.install(f"made-{name}", f"{name} = made_{name}:Adapter", {f"made_{name}.py": source})
        return importlib.import_module(f"made_{name}")

    return install


@pytest.fixture
def counted(counting):
    """The module of an adapter that counts, under the name of "counted"."""
    return counting("counted")


async def test_dispatch_builds_once_for_equal_configs(counted):
    """Equal configs share an adapter, however they are given; others do not."""
    async with Registry() as registry:
        for config, options in (
            (None, {"size": 2}),
            ({"size": 2}, {}),
            (counted.Config(2), {}),
            (counted.Config(3), {}),
            (None, {}),
            (None, {}),
        ):
            assert await registry.dispatch("counted", task(), config, **options).text() == ""
        assert [config.size for config in counted.built] == [2, 3, 1]
    assert [config.size for config in counted.closed] == [2, 3, 1]


async def test_dispatch_follows_the_environment(counting, monkeypatch):
    """Without config, the environment at each dispatch decides which adapter is meant."""
    option = "= attrs.field(default=1, metadata={'env': 'MADE_SIZE'})"
    module = counting("env", lambda source: source.replace("= 1", option))
    async with Registry() as registry:
        first = registry.dispatch("env", task())
        monkeypatch.setenv("MADE_SIZE", "5")
        second = registry.dispatch("env", task())
        assert [config.size for config in module.built] == [1, 5]
        await first.aclose()
        await second.aclose()


async def test_configs_that_compare_by_identity(counting):
    """Configs without == are compared field by field; what cannot be compared is not shared."""

    def change(source: str) -> str:
        source = source.replace("@attrs.frozen", "@attrs.define(eq=False)")
        return source.replace("size: int = 1", "size: object = 1")

    class Prickly:
        def __eq__(self, other):
            if isinstance(other, int):
                return False
            raise ValueError("the truth of this is ambiguous")

    module = counting("plain", change)
    prickly = Prickly()
    async with Registry() as registry:
        for size in (1, 1, 2, prickly, Prickly()):
            await registry.dispatch("plain", task(), size=size).text()
        assert len(module.built) == 4


async def test_a_config_of_another_kind_is_another(counting):
    """A subclass's config is not the class's, whatever == says."""
    special = "@attrs.frozen\nclass Special(Config): ...\n\n@attrs.define"
    module = counting("kinds", lambda source: source.replace("@attrs.define", special))
    async with Registry() as registry:
        await registry.dispatch("kinds", task()).text()
        await registry.dispatch("kinds", task(), module.Special()).text()
        assert len(module.built) == 2


@pytest.mark.parametrize("collected", [False, True])
def test_the_next_loop_takes_over_the_adapter_of_one_that_ended(counted, collected):
    """Several asyncio.run calls share an adapter, and the last one can close it."""
    registry = Registry()

    async def run() -> None:
        await registry.dispatch("counted", task()).text()
        await registry.dispatch("counted", task()).text()

    asyncio.run(run())
    if collected:
        gc.collect()
    asyncio.run(run())
    assert len(counted.built) == 1
    asyncio.run(registry.aclose())
    assert len(counted.closed) == 1


def test_loops_that_run_together_share_no_adapter(counted):
    """Two threads with a loop each get an adapter each."""
    registry = Registry()
    both = threading.Barrier(2)

    async def run() -> None:
        await registry.dispatch("counted", task()).text()
        both.wait(10)
        await registry.aclose()

    threads = [threading.Thread(target=asyncio.run, args=(run(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted.built) == len(counted.closed) == 2


async def test_many_configs_keep_few_adapters(counted):
    """Idle adapters beyond MAX_IDLE are closed, the longest unused first; busy ones stay."""
    async with Registry() as registry:
        busy = registry.dispatch("counted", task(), size=1000)
        await busy
        for size in range(100, 100 + 2 * MAX_IDLE):
            await registry.dispatch("counted", task(), size=size).text()
            await registry.dispatch("counted", task(), size=100).text()
        await asyncio.sleep(0.01)
        gone = [config.size for config in counted.closed]
        assert gone == list(range(101, 101 + MAX_IDLE))
        assert await busy.text() == ""


def test_loop_is_not_kept_alive(counted):
    """The cache does not hold a loop that ended."""
    registry = Registry()
    loops = []

    async def run() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await registry.dispatch("counted", task()).text()

    asyncio.run(run())
    gc.collect()
    assert loops[0]() is None


def test_dispatch_outside_of_a_loop(counted):
    """Without a running loop dispatch says so, and builds nothing."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        Registry().dispatch("counted", task())
    assert counted.built == []


async def test_dispatch_fails_as_get_does(samples):
    """An unknown name and wrong options fail at once."""
    samples("acme_echo")
    async with Registry() as registry:
        with pytest.raises(AdapterNotFound):
            registry.dispatch("acme", task())
        with pytest.raises(ConfigError):
            registry.dispatch("acme-echo", task(), tims=2)


async def test_dispatch_sees_what_refresh_found(samples):
    """A name that became ambiguous is refused, even though an adapter of it is kept."""
    samples("acme_echo")
    async with Registry() as registry:
        await registry.dispatch("acme-echo", task()).text()
        samples("rival_echo")
        registry.refresh()
        with pytest.raises(AmbiguousAdapter):
            registry.dispatch("acme-echo", task())
        assert await registry.dispatch("acme-echo:acme-echo", task()).text() == "onetwo"


async def test_aclose_ends_streams_and_can_be_repeated(counted):
    """Closing cancels running jobs; afterwards dispatch builds a new adapter."""
    registry = Registry()
    stream = await registry.dispatch("counted", task())
    await registry.aclose()
    await registry.aclose()
    with pytest.raises(Cancelled):
        await stream.text()
    await registry.dispatch("counted", task()).text()
    assert len(counted.built) == 2
    await registry.aclose()


async def test_aclose_asks_all_before_it_fails(counted):
    """One adapter that cannot be closed does not keep the others open."""
    registry = Registry()
    for size in (13, 2):
        await registry.dispatch("counted", task(), size=size).text()
    with pytest.raises(ExceptionGroup) as caught:
        await registry.aclose()
    assert isinstance(caught.value.exceptions[0], OSError)
    assert [config.size for config in counted.closed] == [13, 2]


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
