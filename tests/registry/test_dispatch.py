"""Registry.dispatch: adapters that are kept by their configs."""

import asyncio
import gc
import importlib
import threading
import weakref

import pytest

from adapter_api import (
    AdapterNotFound,
    AmbiguousAdapter,
    Cancelled,
    ConfigError,
    Started,
    TaskRequest,
)
from registry.kept import MAX_IDLE
from registry.registry import Registry


def task(prompt: str = "one two") -> TaskRequest:
    """A job."""
    return TaskRequest(prompt=prompt)


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


async def test_aclose_closes_all_before_it_fails(counted):
    """One adapter that cannot be closed does not keep the others open."""
    registry = Registry()
    for size in (13, 2):
        await registry.dispatch("counted", task(), size=size).text()
    with pytest.raises(ExceptionGroup) as caught:
        await registry.aclose()
    assert isinstance(caught.value.exceptions[0], OSError)
    assert [config.size for config in counted.closed] == [13, 2]
