"""The pool: connections are used again, bounded, shared in turn, and never lost."""

import asyncio

import httpx
import pytest

from adapter_api.faults import Request, Wire
from adapters.http_util.transport.wire import announced_idle_s
from tests.adapters.http_util.conftest import (
    OK,
    pool_at,
    raw,
    until,
)
from tests.adapters.http_util.transport.gates import Gate, second_time

# Use again


async def test_the_connection_used_last_is_used_next() -> None:
    """Last in, first out: the others may grow old and go."""
    async with pool_at(raw(OK)) as (server, client, transport):
        streams = [client.build_request("GET", server.base_url) for _ in range(3)]
        responses = [await client.send(request, stream=True) for request in streams]
        for response in responses:
            await response.aread()
        for _ in range(2):
            await responses[1].aclose()
            assert (await client.get(server.base_url)).content == b"ok"
        assert [connection.requests for connection in server.connections] == [1, 1, 3]
        assert transport.idle_connections == transport.open_connections == 3


async def test_a_connection_is_kept_for_its_time_and_not_longer() -> None:
    """idle_s, or what the server announces, whichever is known."""
    async with pool_at(raw(OK), idle_s=0.05) as (server, client, transport):
        await client.get(server.base_url)
        await client.get(server.base_url)
        assert len(server.connections) == 1
        await asyncio.sleep(0.08)
        await client.get(server.base_url)
        assert len(server.connections) == 2
        assert transport.idle_connections == 1


async def test_old_connections_go_although_young_ones_are_used() -> None:
    """After a burst the pool shrinks to what is needed."""
    gate = Gate()
    async with pool_at(gate, idle_s=0.1) as (server, client, transport):
        burst = [asyncio.create_task(client.get(server.base_url)) for _ in range(5)]
        await until(lambda: len(gate.order) == 5)
        for _ in range(30):
            gate.open.release()
        await asyncio.gather(*burst)
        assert transport.idle_connections == 5
        for _ in range(8):
            await asyncio.sleep(0.03)
            await client.get(server.base_url)
        assert transport.open_connections == 1
        await until(lambda: sum(not c.gone.is_set() for c in server.connections) == 1)


@pytest.mark.parametrize(
    ("value", "limit_s"),
    [
        (b"timeout=5", 4.0),
        (b"timeout=5, max=100", 4.0),
        (b"max=100 , Timeout=15", 14.0),
        (b"timeout=1", 0.0),
        (b"timeout=0", 0.0),
        (b"timeout=", None),
        (b"timeout", None),
        (b"timeout=-5", None),
        (b"timeout=5.5", None),
        (b"timeout=\xb2", None),
        (b"timeout=9999999999", None),
        (b"max=5", None),
        (b"", None),
    ],
)
def test_how_long_a_server_keeps_a_connection(value: bytes, limit_s: float | None) -> None:
    """One second less than it says: our request takes its time to arrive."""
    assert announced_idle_s([(b"X", b"timeout=9"), (b"Keep-Alive", value)]) == limit_s


async def test_an_announced_time_of_a_second_or_less_means_at_once() -> None:
    """Such a connection is closed at once, not only when it is looked at again."""
    answer = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok"
    async with pool_at(raw(answer)) as (server, client, transport):
        await client.get(server.base_url)
        assert transport.open_connections == 0
        assert await server.all_closed()


async def test_a_server_that_closes_is_noticed_before_the_next_request() -> None:
    """FIN on an idle connection: it is gone, nothing has to be sent twice."""

    async def closing(request: Request, wire: Wire) -> None:
        await wire.raw(OK)
        await wire.close()

    async with pool_at(closing) as (server, client, transport):
        for count in (1, 2, 3):
            await client.get(server.base_url)
            await until(lambda: transport.open_connections == 0)
            assert len(server.requests) == count


async def test_bytes_on_an_idle_connection_close_it() -> None:
    """A server has nothing to say unasked; what it says is not taken for the next answer."""

    async def talkative(request: Request, wire: Wire) -> None:
        await wire.raw(OK)
        await asyncio.sleep(0.02)
        await wire.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")

    async with pool_at(talkative) as (server, client, transport):
        await client.get(server.base_url)
        await until(lambda: transport.open_connections == 0)
        assert (await client.get(server.base_url)).content == b"ok"


@pytest.mark.parametrize("action", ["close", "reset"])
async def test_a_request_on_a_stale_connection_is_sent_again(action: str) -> None:
    """If a reused connection gives no byte, the request is resent on a new one, and marked."""
    async with pool_at(second_time(action)) as (server, client, transport):
        for _ in range(3):
            response = await client.post(server.base_url, content=b"x" * 1000)
            assert response.content == b"ok"
        assert response.request.extensions["resent"] is True
        assert [len(request.body) for request in server.requests] == [1000] * 5
        assert transport.open_connections == 1


@pytest.mark.parametrize(("action", "kind"), [("half", httpx.ReadError),
                                              ("junk", httpx.RemoteProtocolError)])  # fmt: skip
async def test_a_request_that_was_answered_is_not_sent_again(
    action: str, kind: type[Exception]
) -> None:
    """One byte of an answer: it was worked on."""
    async with pool_at(second_time(action)) as (server, client, transport):
        await client.get(server.base_url)
        with pytest.raises(kind):
            await client.get(server.base_url)
        assert len(server.requests) == 2
        assert transport.open_connections == 0


async def test_a_request_on_a_fresh_connection_is_not_sent_again() -> None:
    """A request is not resent, because the server may have processed it."""

    async def closing(request: Request, wire: Wire) -> None:
        await wire.close()

    async with pool_at(closing) as (server, client, transport):
        with pytest.raises(httpx.ReadError):
            await client.get(server.base_url)
        assert len(server.requests) == 1
        assert transport.open_connections == 0


async def test_a_request_is_sent_again_once_only() -> None:
    """The second try is on a fresh connection, even if other idle ones are left."""

    async def script(request: Request, wire: Wire) -> None:
        if len(server.requests) <= 3:
            await wire.raw(OK)
        else:
            await wire.close()

    async with pool_at(script) as (server, client, transport):
        await asyncio.gather(*(client.get(server.base_url) for _ in range(3)))
        assert transport.idle_connections == 3
        with pytest.raises(httpx.ReadError):
            await client.get(server.base_url)
        assert len(server.requests) == 5
        assert len(server.connections) == 4
        assert transport.open_connections == transport.idle_connections == 2


async def test_sending_again_waits_for_room_like_any_other() -> None:
    """The room of the stale connection is the second try's."""
    async with pool_at(second_time("close"), max_connections=1) as (server, client, _):
        await client.get(server.base_url)
        assert (await client.get(server.base_url)).content == b"ok"
        assert len(server.connections) == 2
