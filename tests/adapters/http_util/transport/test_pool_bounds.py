"""The pool of connections: its bounds, and its end."""

import asyncio
import gc
import weakref

import httpx
import pytest

from adapter_api.faults import Request, ScriptServer, Wire
from adapters.http_util import Connection
from tests.adapters.http_util.conftest import (
    OK,
    client_of,
    pool_at,
    pool_of,
    raw,
    transport_of,
    until,
)
from tests.adapters.http_util.transport.gates import Gate, second_time

# Bounds


async def test_connections_are_bounded_and_waited_for_in_turn() -> None:
    """max_connections holds, and who came first is served first."""

    async def slow(request: Request, wire: Wire) -> None:
        await asyncio.sleep(0.005)
        await wire.raw(OK)

    async with pool_at(slow, max_connections=3) as (server, client, _):
        answers = [client.get(f"{server.base_url}/{i}") for i in range(20)]
        assert all(response.content == b"ok" for response in await asyncio.gather(*answers))
        assert len(server.connections) == 3
        order = [int(request.target[1:]) for request in server.requests]
        assert sorted(order[:3]) == [0, 1, 2]
        assert order[3:] == list(range(3, 20))


async def test_waiting_requests_keep_their_order() -> None:
    """A request that comes when a connection is just given back waits behind those who wait."""
    gate = Gate()
    gate.open = asyncio.Semaphore(100)
    async with pool_at(gate, max_connections=1) as (server, client, transport):
        holder = await client.send(client.build_request("GET", server.base_url), stream=True)
        waiting = [asyncio.create_task(client.get(f"{server.base_url}/{n}")) for n in range(3)]
        await until(lambda: len(pool_of(transport)._waiters) == 3)
        late = asyncio.create_task(client.get(f"{server.base_url}/late"))
        await holder.aclose()  # late runs before those who are woken by this
        await asyncio.gather(*waiting, late)
        assert gate.order == ["/", "/0", "/1", "/2", "/late"]


async def test_waiting_too_long_is_an_error_and_leaves_no_trace() -> None:
    """PoolTimeout; the others keep their places, and the queue does not grow by those who left."""
    gate = Gate()
    timeouts = {"pool": 0.02}
    async with pool_at(gate, max_connections=1, timeouts=timeouts) as (server, client, transport):
        holder = asyncio.create_task(client.get(server.base_url))
        await until(lambda: gate.order)
        for _ in range(3):
            with pytest.raises(httpx.PoolTimeout):
                await client.get(server.base_url)
        assert not pool_of(transport)._waiters
        assert pool_of(transport)._promised == 0
        gate.open.release()
        assert (await holder).content == b"ok"


@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 3])
async def test_room_that_was_promised_to_one_who_left_goes_to_the_next(turns: int) -> None:
    """Cancelled just before a connection is given back, just after, or some turns later."""
    gate = Gate()
    gate.open = asyncio.Semaphore(100)
    async with pool_at(gate, max_connections=1) as (server, client, transport):
        holder = await client.send(client.build_request("GET", server.base_url), stream=True)
        waiting = [asyncio.create_task(client.get(f"{server.base_url}/{n}")) for n in range(3)]
        await until(lambda: len(pool_of(transport)._waiters) == 3)
        if turns < 0:
            waiting[0].cancel()
            waiting[1].cancel()
        await holder.aclose()
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[1].cancel()
        assert (await asyncio.wait_for(waiting[2], 2)).content == b"ok"
        await asyncio.wait(waiting)
        assert pool_of(transport)._promised == 0
        assert not pool_of(transport)._waiters


async def test_an_idle_connection_to_elsewhere_makes_room() -> None:
    """With the pool full of idle connections, another origin is not locked out."""
    async with (
        ScriptServer(raw(OK)) as one,
        ScriptServer(raw(OK)) as two,
        client_of(transport_of(max_connections=1)) as (client, transport),
    ):
        for server in (one, two, one):
            assert (await client.get(server.base_url)).content == b"ok"
            assert transport.open_connections == transport.idle_connections == 1
        await until(lambda: all(c.gone.is_set() for c in (*one.connections[:1], *two.connections)))


async def test_waiting_for_elsewhere_is_served_by_an_idle_connection_too() -> None:
    """One origin waits while the other holds the only place; its release is enough."""
    gate = Gate()
    async with (
        ScriptServer(gate) as one,
        ScriptServer(raw(OK)) as two,
        client_of(transport_of(max_connections=1)) as (client, transport),
    ):
        holder = asyncio.create_task(client.get(one.base_url))
        await until(lambda: gate.order)
        waiting = asyncio.create_task(client.get(two.base_url))
        await until(lambda: pool_of(transport)._waiters)
        gate.open.release()
        assert (await asyncio.wait_for(waiting, 2)).content == b"ok"
        await holder


async def test_a_failed_connect_gives_its_room_to_the_next() -> None:
    """A failed connect wakes the tasks that wait for its room."""
    async with (
        ScriptServer(raw(OK)) as server,
        client_of(transport_of(max_connections=1)) as (
            client,
            transport,
        ),
    ):
        failing = [asyncio.create_task(client.get("http://127.0.0.1:9")) for _ in range(3)]
        working = asyncio.create_task(client.get(server.base_url))
        assert (await asyncio.wait_for(working, 2)).content == b"ok"
        for task in failing:
            with pytest.raises(httpx.ConnectError):
                await task
        assert transport.open_connections == 1


# Closing


async def test_closing_ends_what_runs_waits_and_connects() -> None:
    """aclose breaks running requests, wakes those who wait, refuses new ones; no socket stays."""
    gate = Gate()
    async with ScriptServer(gate) as server:
        transport = transport_of(max_connections=2)
        client = httpx.AsyncClient(transport=transport, timeout=None)
        running = asyncio.create_task(client.get(server.base_url))
        await until(lambda: gate.order)
        connecting = asyncio.create_task(client.get(server.base_url))
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(client.get(server.base_url)) for _ in range(3)]
        await until(lambda: len(pool_of(transport)._waiters) == 3)
        await transport.aclose()
        outcomes = await asyncio.gather(running, connecting, *waiting, return_exceptions=True)
        assert isinstance(outcomes[0], httpx.ReadError)
        assert all(
            isinstance(outcome, httpx.ReadError | httpx.ConnectError) for outcome in outcomes
        )
        assert all("closed" in str(outcome) for outcome in outcomes)
        assert transport.open_connections == 0
        with pytest.raises(httpx.ConnectError, match="the transport is closed"):
            await client.get(server.base_url)
        await transport.aclose()
        await client.aclose()
        assert await server.all_closed()


async def test_a_request_that_connects_while_the_transport_is_closed_is_refused() -> None:
    """No connection appears after the end."""
    transport = transport_of()
    async with ScriptServer(raw(OK)) as server, httpx.AsyncClient(transport=transport) as client:
        request = asyncio.create_task(client.get(server.base_url))
        await asyncio.sleep(0)
        assert transport.open_connections == 1
        await transport.aclose()
        with pytest.raises(httpx.ConnectError, match="closed"):
            await request
        assert transport.open_connections == 0
        assert await server.all_closed()


async def test_a_body_read_to_its_end_after_the_transport_closed_closes_its_connection() -> None:
    """Nothing goes back into a closed pool."""
    transport = transport_of()
    async with ScriptServer(raw(OK)) as server, httpx.AsyncClient(transport=transport) as client:
        response = await client.send(client.build_request("GET", server.base_url), stream=True)
        pool_of(transport)._closed = True
        assert await response.aread() == b"ok"
        assert transport.open_connections == 0


async def test_a_body_that_was_given_back_cannot_be_read() -> None:
    """Its connection may serve another request by now."""
    async with pool_at(raw(OK)) as (server, client, _):
        async with client.stream("GET", server.base_url) as response:
            body = response.extensions["body_stream"]
        with pytest.raises(httpx.StreamClosed):
            await body.read()
        await body.aclose()


async def test_what_is_closed_is_collected() -> None:
    """No connection outlives its transport, and there is no ResourceWarning."""
    async with pool_at(second_time("close")) as (server, client, transport):
        for _ in range(3):
            await client.get(server.base_url)
        connections: weakref.WeakSet[Connection] = weakref.WeakSet(pool_of(transport)._open)
        assert connections
    del transport, client
    await asyncio.sleep(0)
    gc.collect()
    assert not connections
