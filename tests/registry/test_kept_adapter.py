"""An adapter that is kept works in one event loop after another, and in one at a time."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from adapter_api import HealthState, TaskRequest
from registry import Registry
from registry.adapter import BoundAdapter
from tests.word_server import WordServer


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server that runs in a loop of its own."""
    ready, over = threading.Event(), threading.Event()
    found: list[str] = []

    async def serve() -> None:
        async with WordServer() as server:
            found.append(server.base_url)
            ready.set()
            while not over.is_set():
                await asyncio.sleep(0.005)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield found[0]
    over.set()
    thread.join()


async def _use(adapter: BoundAdapter) -> str:
    """Run several jobs at once, so that locks are contended and connections are pooled."""
    task = TaskRequest(prompt="x", max_tokens=3)
    texts = await asyncio.gather(*(adapter.submit(task).text() for _ in range(5)))
    assert (await adapter.health()).state is HealthState.HEALTHY
    assert len(set(texts)) == 1
    return texts[0]


def test_several_asyncio_runs(server: str) -> None:
    """Connections of a loop that has ended are not used again (openai-python#1254)."""
    adapter = Registry().get("openai-http", base_url=server)
    assert len({asyncio.run(_use(adapter)) for _ in range(4)}) == 1
    asyncio.run(adapter.aclose())


def test_an_adapter_with_a_start_hook(site, adapter_source) -> None:
    """It is started once, and not again in the next loop."""
    source = "started = []\n" + adapter_source
    source += "\n    @hookimpl\n    async def start(self):\n        started.append(self)\n"
    site.install("made-it", "made = made_start:Adapter", {"made_start.py": source})
    adapter = Registry().get("made", {})
    for _ in range(3):
        asyncio.run(_use(adapter))
    import made_start  # type: ignore[import-not-found]

    assert len(made_start.started) == 1


def test_two_running_loops_are_refused(site, adapter_source) -> None:
    """A second loop beside the first one raises an error that says to get another adapter."""
    source = adapter_source
    source += "\n    @hookimpl\n    async def start(self):\n        pass\n"
    site.install("made-it", "made = made_two:Adapter", {"made_two.py": source})
    adapter = Registry().get("made", {})
    refused: list[str] = []

    def other() -> None:
        try:
            asyncio.run(adapter.aclose())
        except RuntimeError as error:
            refused.append(str(error))

    async def first() -> None:
        await adapter.start()
        await asyncio.to_thread(other)

    asyncio.run(first())
    assert refused == [
        "adapter 'made' is in use in another running event loop: get an adapter for each loop"
    ]
