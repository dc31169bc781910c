"""The pool: connections are used again, bounded, shared in turn, and never lost."""

import asyncio
import gc
import weakref

import httpx
import pytest

from adapter_api.faults import Request, Script, ScriptServer, Wire
from adapters.http_util import Connection
from adapters.http_util.transport.wire import announced_idle_s
from tests.adapters.http_util.conftest import (
    OK,
    client_of,
    pool_at,
    pool_of,
    raw,
    transport_of,
    until,
)


class Gate:
    """A script that holds every answer until it is let go."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.open = asyncio.Semaphore(0)

    async def __call__(self, request: Request, wire: Wire) -> None:
        self.order.append(request.target)
        async with asyncio.timeout(5):
            await self.open.acquire()
        await wire.raw(OK)


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


# Stale connections


def second_time(action: str) -> Script:
    """Answers the first request of each connection; with the second it does what `action` says."""

    async def script(request: Request, wire: Wire) -> None:
        if request.connection.requests == 1:
            await wire.raw(OK)
        elif action == "close":
            await wire.close()
        elif action == "reset":
            await wire.reset()
        elif action == "half":
            await wire.raw(b"H")
            await wire.close()
        else:
            await wire.raw(b"nonsense\r\n\r\n")

    return script


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


async def test_nobody_pushes_in() -> None:
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


async def test_who_waits_too_long_is_told_and_leaves_no_trace() -> None:
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
