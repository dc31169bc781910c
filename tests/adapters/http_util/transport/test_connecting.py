"""Connecting: addresses are raced (RFC 8305), names are resolved in threads of their own."""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event
from typing import Any

import httpx
import pytest
import uvloop

from adapters.http_util.transport import connecting
from adapters.http_util.transport.connecting import (
    ATTEMPT_DELAY_S,
    MAX_LOOKUP_THREADS,
    AddressInfo,
    Resolver,
    open_socket,
)
from tests.adapters.http_util.conftest import client_of

# uvloop swallows the exception that ends a test after its time.
pytestmark = pytest.mark.timeout(60, method="thread")

RUNS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
Run = Callable[[Coroutine[Any, Any, None]], None]


def place(port: int, host: str = "127.0.0.1") -> AddressInfo:
    """An address as the resolver returns it."""
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)


def open_files() -> int:
    """Return the number of files and sockets this process has open."""
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def listening() -> Iterator[int]:
    """The port of a listener whose kernel accepts connections."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


@contextmanager
def swallowing() -> Iterator[int]:
    """The port of a listener that takes no more connections: packets to it are dropped."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port
        for filler in fillers:
            filler.close()


def refusing() -> int:
    """A port that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@RUNS
def test_a_dead_address_costs_one_delay(run: Run) -> None:
    """If the first address drops packets, the second one answers within 0.3 s."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with swallowing() as dead, listening() as alive:
            began = loop.time()
            sock = await open_socket([place(dead), place(alive)])
            assert sock.getpeername()[1] == alive
            assert loop.time() - began + 0.01 >= ATTEMPT_DELAY_S
            sock.close()

    run(main())
    assert ATTEMPT_DELAY_S < 0.3


async def test_a_refused_address_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is tried at once, not after the delay."""
    monkeypatch.setattr(connecting, "ATTEMPT_DELAY_S", 100.0)
    with listening() as alive:
        (await open_socket([place(refusing()), place(refusing()), place(alive)])).close()


@RUNS
def test_a_failure_says_why_and_leaves_no_socket(run: Run) -> None:
    """All addresses refuse: the system's words, once."""

    async def main() -> None:
        before = open_files()
        with pytest.raises(OSError, match="(?i)^connect(ion refused| call failed)") as caught:
            await open_socket([place(refusing()), place(refusing())])
        assert str(caught.value).count("efused") <= 1
        assert open_files() == before

    run(main())


@RUNS
def test_cancelling_leaves_no_socket(run: Run) -> None:
    """At any moment: while one or two addresses are tried, and when one is just connected."""

    async def main() -> None:
        with swallowing() as dead, listening() as alive:
            before = open_files()
            for addresses in ([place(dead)], [place(dead), place(alive)], [place(alive)] * 2):
                for turns in range(6):
                    for pause_s in (0.0, ATTEMPT_DELAY_S) if turns < 3 else (0.0,):
                        task = asyncio.create_task(open_socket(addresses))
                        await asyncio.sleep(pause_s)
                        for _ in range(turns):
                            await asyncio.sleep(0)
                        task.cancel()
                        with suppress(asyncio.CancelledError):
                            (await task).close()
            for _ in range(3):
                await asyncio.sleep(0)  # the attempts end
            assert open_files() == before

    run(main())


async def test_ip_versions_are_tried_by_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 8305, 4: the family that the resolver prefers goes first."""
    six = [(socket.AF_INET6, 1, 6, "", (f"::{n}", 80, 0, 0)) for n in range(3)]
    four = [place(80, f"127.0.0.{n}") for n in range(2)]

    def getaddrinfo(host: str, port: int, flags: int = 0, **_: Any) -> Sequence[Any]:
        if flags:
            raise socket.gaierror("a name")
        return [*six, *four]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    found = await Resolver().addresses("name.example", 80)
    assert found == [six[0], four[0], six[1], four[1], six[2]]


async def test_names_are_resolved_although_the_executor_is_full() -> None:
    """Hung functions in asyncio's executor do not stop connecting to a name."""
    gate = Event()
    executor = ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(executor)
    hung = loop.run_in_executor(None, gate.wait)
    try:
        async with client_of() as (client, _):
            with pytest.raises(httpx.ConnectError):
                await asyncio.wait_for(client.get(f"http://localhost:{refusing()}"), 5)
    finally:
        gate.set()
        await hung


def hung_lookups(monkeypatch: pytest.MonkeyPatch) -> tuple[Event, list[str]]:
    """Let lookups of names wait; return what they wait for, and the names."""
    gate, asked = Event(), list[str]()

    def getaddrinfo(host: str, port: int, flags: int = 0, **_: Any) -> Sequence[AddressInfo]:
        if flags:
            raise socket.gaierror("a name")
        asked.append(host)
        gate.wait(10)
        return [place(port)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return gate, asked


async def test_one_lookup_serves_all_that_wait_for_the_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It continues for the others when one of them is cancelled."""
    gate, asked = hung_lookups(monkeypatch)
    resolver = Resolver()
    waiting = [asyncio.create_task(resolver.addresses("slow.example", 80)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    gate.set()
    assert await waiting[1] == await waiting[2] == [place(80)]
    assert asked == ["slow.example"]


async def test_hung_lookups_are_bounded_and_end_with_the_connect_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A resolver that hangs takes a few threads, and each request its own time only."""
    gate, asked = hung_lookups(monkeypatch)
    try:
        async with client_of(connect=0.1) as (client, transport):
            names = [f"http://hung{n}.example" for n in range(MAX_LOOKUP_THREADS + 4)]
            outcomes = await asyncio.gather(*map(client.get, names), return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {httpx.ConnectTimeout}
            assert len(asked) == MAX_LOOKUP_THREADS
            assert transport.open_connections == 0
    finally:
        gate.set()
