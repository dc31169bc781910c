"""Health checks of servers that hang, drip or answer garbage: bounded."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from adapter_api.faults import Request, Wire
from adapters.http_util import make_client
from adapters.openai_http import OpenAIHttpConfig
from adapters.openai_http.credentials import Credentials
from adapters.openai_http.server import Server
from tests.adapters.openai_http.conftest import Serving
from tests.adapters.openai_http.probing import recording
from tests.fake_openai import (
    ANYTHING,
    FakeOpenAI,
    Handler,
    answers,
    hangs,
    lists,
)
from tests.virtual_time import now_s

PROBE_S = 1.0
"""The time a check may take, where a test has to wait for it."""


@asynccontextmanager
async def _probing(
    routes: Mapping[str, Handler], **options: Any
) -> AsyncIterator[tuple[FakeOpenAI, Server]]:
    """A Server whose checks are over after PROBE_S."""
    async with FakeOpenAI(routes) as fake:
        config = OpenAIHttpConfig(fake.base_url, **options)
        endpoints = config.endpoints()
        async with make_client(config.client_options()) as client:
            credentials = Credentials(config)
            yield (
                fake,
                Server(config, endpoints, client, credentials, probe_timeout_s=PROBE_S),
            )


HANGING: list[tuple[dict[str, Handler], bool]] = [
    ({ANYTHING: hangs}, False),
    ({"/v1/models": hangs}, False),
    ({"/readiness": hangs}, True),
    ({"/v1/models": lists("m", owned_by="vllm"), "/health": hangs}, False),
    (
        {"/health": recording("llama-server/a_get_health.txt"), "/slots": hangs, "/props": hangs},
        True,
    ),
    ({"/version": hangs, "/api/version": hangs}, True),
]


@pytest.mark.parametrize(
    ("routes", "live"), HANGING, ids=[" ".join(routes) for routes, _ in HANGING]
)
async def test_a_hanging_server_costs_a_bounded_time(
    routes: dict[str, Handler], live: bool
) -> None:
    """ADAPT-3005: health, props and version each end within the probe's limit, whatever hangs."""

    async def ask(probe: Callable[[Server], Awaitable[Any]]) -> Any:
        async with _probing(routes) as (_, server):
            began = now_s()
            answer = await probe(server)
            assert now_s() - began < PROBE_S * 2
        return answer

    health, *_ = await asyncio.gather(
        ask(Server.health), ask(Server.props), ask(Server.engine_version)
    )
    assert health.live is live


async def test_a_server_that_drips_costs_a_bounded_time() -> None:
    """Progress that never ends is none."""

    async def drips(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        while not wire.gone:
            await wire.chunk(b" ")
            await asyncio.sleep(0.02)

    async with _probing({ANYTHING: drips}) as (fake, server):
        began = now_s()
        status = await server.health()
        assert now_s() - began < PROBE_S * 2
        assert f"no answer within {PROBE_S:g} s" in status.message
        assert await fake.all_closed()


async def test_a_provider_that_hangs_costs_a_bounded_time() -> None:
    """The key's function is part of the check."""

    async def provider() -> str:
        await asyncio.sleep(60)
        return "never"

    async with _probing({}, api_key=provider) as (fake, server):
        began = now_s()
        assert not (await server.health()).live
        assert now_s() - began < PROBE_S * 2
        assert fake.connections == []


@pytest.mark.parametrize(
    "junk",
    [b"\xff\xfe", b"[" * 5000, b"null", b"5", b'{"data": [1, {}]}', b'{"data": {"id": 1}}',
     b'{"version": 5}', b'{"version": ""}', b'{"data": [{"id": "m", "owned_by": [1]}]}'],
)  # fmt: skip
async def test_garbage_raises_no_exception(serving: Serving, junk: bytes) -> None:
    """Whatever comes back, health, props and version answer."""
    async with serving(answers(junk), dialect="llama-server") as (_, adapter):
        assert (await adapter.health()).live
        assert (await adapter.props()).slots_total is None
        assert await adapter.engine_version() == "unknown"
    async with serving(answers(junk)) as (_, adapter):
        assert (await adapter.health()).live
        assert await adapter.engine_version() == "unknown"


async def test_a_body_without_end_is_read_as_far_as_needed(serving: Serving) -> None:
    """Four mebibytes are enough for any model list; the rest stays where it is."""

    async def endless(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        while not wire.gone:
            await wire.chunk(b"x" * 65536)

    async with serving({"/health": endless}, dialect="transformers") as (server, adapter):
        assert (await adapter.health()).live
        assert server.connections[0].gone.is_set()
