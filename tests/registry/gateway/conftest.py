"""Gateways on loopback ports, over hosts whose engines do what a test says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

import registry
from registry import AdapterHost
from registry.gateway import EventLog, Gateway, Keyring, Settings
from registry.gateway.app import application
from registry.gateway.server import ServerSettings, Stop, serve
from tests.virtual_time import pytest_asyncio_loop_factories, virtual_clock

__all__ = ["pytest_asyncio_loop_factories", "virtual_clock"]

# Suites of their own, `-m clients` and `-m browser`, import what only their extras install.
collect_ignore = [
    file
    for package, file in (
        ("langchain_openai", "test_clients.py"),
        ("openai", "test_contents.py"),
        ("selenium", "test_browser.py"),
    )
    if find_spec(package) is None
]

CHAT = {"model": "mock", "messages": [{"role": "user", "content": "Hello"}]}
TEXT = "Once upon a time there was a test."


@attrs.define(eq=False)
class Served:
    """A gateway that serves.

    Args:
        url: Its base URL.
        gateway: The gateway.
        host: Its host.
        stop: Ends it.
        task: Ends with whether every job came to its own end.
    """

    url: str
    gateway: Gateway
    host: AdapterHost
    stop: Stop
    task: "asyncio.Task[bool]"

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.url.rpartition(":")[2])


Start = Callable[..., Awaitable[Served]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a gateway: over replicas `r0`, `r1`, ... of pool `default`, one for each adapter."""
    async with AsyncExitStack() as stack:

        async def begin(
            *adapters: Any,
            host: AdapterHost | None = None,
            keys: Keyring | None = None,
            server: dict[str, Any] | None = None,
            **settings: Any,
        ) -> Served:
            events = EventLog()
            if host is None:
                host = await stack.enter_async_context(AdapterHost(observers=[events]))
                for number, adapter in enumerate(adapters or (registry.get("mock", {}),)):
                    host.bind("default", f"r{number}", adapter)
                await host.check("default")
            gateway = Gateway(host, keys, Settings(**settings))
            stop, url = Stop(), asyncio.get_running_loop().create_future()
            serving = serve(
                gateway,
                application(gateway, events=events),
                ServerSettings(**{"port": 0, **(server or {})}),
                stop,
                listening=url.set_result,
            )
            task = asyncio.create_task(serving)
            await asyncio.wait({task, url}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            stack.push_async_callback(_end, stop, task)
            return Served(url.result(), gateway, host, stop, task)

        yield begin


async def _end(stop: Stop, task: "asyncio.Task[bool]") -> None:
    stop()
    stop()
    await task


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client that reads whole answers."""
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        yield client


@pytest.fixture
def keyring(tmp_path: Path) -> Callable[[str], Keyring]:
    """Read a key file with this text."""

    def read(text: str) -> Keyring:
        path = tmp_path / "keys.toml"
        path.write_text(text)
        return Keyring.from_file(path)

    return read
