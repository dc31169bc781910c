"""The end of a gateway: readiness first, then jobs, then the rest."""

import asyncio

import httpx
import pytest

import registry
from adapter_api import ErrorCode
from tests.registry.gateway.conftest import CHAT, Start
from tests.registry.gateway.raw import RawClient, events, text_of

STREAM = {**CHAT, "stream": True}


async def test_readiness_goes_first(start: Start, http: httpx.AsyncClient) -> None:
    """On a signal readiness is 503 while requests are still answered; liveness stays."""
    served = await start(server={"notice_s": 5.0})
    assert (await http.get(f"{served.url}/health/ready")).status_code == 200
    served.stop()
    await asyncio.sleep(0)
    while not served.gateway.is_leaving:
        await asyncio.sleep(0)
    assert (await http.get(f"{served.url}/health/ready")).status_code == 503
    assert (await http.get(f"{served.url}/health/live")).status_code == 200
    answer = await http.post(f"{served.url}/v1/chat/completions", json=CHAT)
    assert answer.status_code == 200


async def test_streams_come_to_their_end(start: Start) -> None:
    """A stream in flight ends whole; new requests are refused; the gateway says all was well."""
    served = await start(registry.get("mock", {"delay_s": 0.05}))
    async with RawClient(served.port) as client, RawClient(served.port) as late:
        client.post("/v1/chat/completions", STREAM)
        await client.head()
        served.stop()
        while not served.gateway.is_draining:
            await asyncio.sleep(0)
        late.post("/v1/chat/completions", STREAM)
        status, _ = await late.head()
        found = events(await client.body())
    assert status == 503
    assert found[-1] == "[DONE]"
    assert await served.task is True


async def test_what_takes_too_long_gets_an_error(start: Start) -> None:
    """After the grace the streams that are left end with an error event, never as whole."""
    served = await start(
        registry.get("mock", {"stall_after": 2, "stall_timeout_s": None}),
        server={"grace_s": 0.1},
    )
    async with RawClient(served.port) as client:
        client.post("/v1/chat/completions", STREAM)
        await client.head()
        served.stop()
        found = events(await client.body())
    assert text_of(found[:-1]) == "Once upon"
    assert found[-1]["error"]["code"] == "shutting_down"
    assert await served.task is False
    assert served.gateway.recent[-1].code == ErrorCode.CANCELLED


async def test_a_port_in_use_is_an_error(start: Start) -> None:
    """A port that is taken raises the system's error."""
    served = await start()
    with pytest.raises(OSError, match="in use"):
        await start(server={"port": served.port})


async def test_a_second_signal_cuts_jobs_off(start: Start) -> None:
    """It does not wait for the grace; a whole answer that is cut off is a 503, to be sent again."""
    served = await start(registry.get("mock", {"delay_s": 30}), server={"grace_s": 3600.0})
    async with RawClient(served.port) as client:
        client.post("/v1/chat/completions", CHAT)
        while not served.gateway.table:
            await asyncio.sleep(0)
        served.stop()
        served.stop()
        status, headers = await client.head()
    assert (status, headers["x-worker-replica"]) == (503, "r0")
    assert await served.task is False


async def test_readers_that_stall_and_open_pages_do_not_hold_up_the_end(start: Start) -> None:
    """A client that does not read is cut off with its job, and an open dashboard ends."""
    served = await start(
        registry.get("mock", {"tokens": ["x" * 4096] * 20_000}),
        server={"grace_s": 0.1},
        stall_s=0.0,
    )
    async with RawClient(served.port) as client, RawClient(served.port) as page:
        page.writer.write(b"GET /dashboard/events HTTP/1.1\r\nHost: gateway\r\n\r\n")
        await page.head()
        client.writer.transport.pause_reading()
        client.post("/v1/chat/completions", STREAM)
        while not served.gateway.table:
            await asyncio.sleep(0)
        served.stop()
        assert await served.task is False
    assert not served.gateway.table
