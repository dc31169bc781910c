"""Health, props and engine_version: what a server tells, without cost in tokens."""

import asyncio
import json
import time
from typing import Any

import pytest

from adapter_api import HealthState, HealthStatus, TaskRequest
from adapters.openai_http import OpenAIHttpAdapter
from tests.adapters.openai_http.conftest import Serving
from tests.openai_chunks import recorded, well_behaved, whole_answer
from tests.script_server import Request, Script, Wire

Route = tuple[int, Any]
MODELS: Route = (200, {"object": "list", "data": [{"id": "m", "owned_by": "someone"}]})


def routes(paths: dict[str, Route], *, headers: dict[str, str] | None = None) -> Script:
    """Serves GETs by path, 404 elsewhere, whole answers to POSTs."""

    async def script(request: Request, wire: Wire) -> None:
        if request.method == "POST":
            await whole_answer(wire)
        else:
            status, payload = paths.get(request.path, (404, {"error": "no such path"}))
            await wire.answer(payload, status, headers)

    return script


def recording(name: str) -> Route:
    """The recorded answer as a route."""
    status, _, body = recorded(name)
    return status, body


async def _health(serving: Serving, script: Script, **options: Any) -> HealthStatus:
    async with serving(script, **options) as (server, adapter):
        status: HealthStatus = await adapter.health()
        assert all(request.method == "GET" for request in server.requests)
    assert status.latency_ms is not None
    return status


async def test_a_healthy_server(serving: Serving) -> None:
    """ORCH-3057: healthy, live, ready; the model is listed."""
    script = routes({"/health": (200, b""), "/v1/models": MODELS})
    status = await _health(serving, script, model="m")
    assert (status.state, status.live, status.ready) == (HealthState.HEALTHY, True, True)
    assert status.model_listed is True


async def test_a_model_that_is_not_listed(serving: Serving) -> None:
    """Works, with a doubt: degraded, and it says which model."""
    script = routes({"/health": (200, b""), "/v1/models": MODELS})
    status = await _health(serving, script, model="other")
    assert (status.state, status.model_listed) == (HealthState.DEGRADED, False)
    assert "'other'" in status.message


@pytest.mark.parametrize(
    ("paths", "state", "live", "ready", "says"),
    [
        ({"/health": (503, {"error": {"message": "Loading model", "code": 503}})},
         HealthState.UNHEALTHY, True, False, "loading"),
        ({"/health": (503, b"down")}, HealthState.UNHEALTHY, True, False, "503"),
        ({"/health": (500, b"oops")}, HealthState.UNHEALTHY, True, False, "oops"),
        ({"/health": (429, b"")}, HealthState.DEGRADED, True, True, "busy"),
        ({"/v1/models": MODELS}, HealthState.HEALTHY, True, True, "ready"),
        ({"/health": (401, b""), "/v1/models": (401, {"error": "Unauthorized"})},
         HealthState.UNHEALTHY, True, False, "refuses the key"),
        ({"/health": (200, b""), "/v1/models": (401, {"error": "Unauthorized"})},
         HealthState.UNHEALTHY, True, False, "refuses the key"),
        ({}, HealthState.DEGRADED, True, True, "tells nothing"),
        ({"/health": (200, b""), "/v1/models": (200, b"<html>")},
         HealthState.DEGRADED, True, True, "ready"),
        ({"/health": (200, b""), "/v1/models": (200, [1])},
         HealthState.DEGRADED, True, True, "ready"),
    ],
)  # fmt: skip
async def test_health_in_every_state(
    serving: Serving,
    paths: dict[str, Route],
    state: HealthState,
    live: bool,
    ready: bool,
    says: str,
) -> None:
    """Loading is live and not ready; busy is degraded and ready; a refused key is not ready."""
    status = await _health(serving, routes(paths))
    assert (status.state, status.live, status.ready) == (state, live, ready)
    assert says in status.message


async def test_busy_slots(serving: Serving) -> None:
    """llama-server with all slots in use is degraded and ready; props counts them."""
    slots = [{"id": 0, "is_processing": True}, {"id": 1, "is_processing": True}]
    paths: dict[str, Route] = {"/health": (200, {"status": "ok"}), "/slots": (200, slots)}
    paths["/v1/models"] = recording("llama-server/a_get_v1_models.txt")
    script = routes(paths, headers={"Server": "llama.cpp"})
    status = await _health(serving, script)
    assert (status.state, status.ready) == (HealthState.DEGRADED, True)
    async with serving(script) as (_, adapter):
        props = await adapter.props()
    assert (props.slots_total, props.slots_free) == (2, 0)
    assert (props.engine, props.context_length, props.models) == ("llama.cpp", 1024, ("tiny",))


async def test_an_unreachable_server_is_an_answer() -> None:
    """Never an exception: unhealthy, not live."""
    async with OpenAIHttpAdapter("http://127.0.0.1:9") as adapter:
        status = await adapter.health()
        assert await adapter.engine_version() == "unknown"
        assert (await adapter.props()).engine_version is None
    assert (status.live, status.ready) == (False, False)
    assert "cannot connect" in status.message


async def test_a_hanging_server_costs_a_bounded_time(serving: Serving) -> None:
    """Health gives up after its timeout; a submit never waits for any of it."""

    async def script(request: Request, wire: Wire) -> None:
        if request.method == "POST":
            await whole_answer(wire)
        else:
            await wire.until_closed()

    async with serving(script) as (_, adapter):
        await adapter.submit(TaskRequest(prompt="x")).text()
        _, _, known = adapter._connect()
        known._probe_timeout_s = 0.3
        began = time.monotonic()
        health = asyncio.create_task(adapter.health())
        await asyncio.sleep(0.05)
        assert await adapter.submit(TaskRequest(prompt="x")).text() == "Hello world"
        assert time.monotonic() - began < 0.25
        assert not (await health).live
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("junk", [b"\xff\xfe", b"[" * 5000, b"null", b"5", b'{"data": [1, {}]}'])
async def test_garbage_is_no_exception(serving: Serving, junk: bytes) -> None:
    """Whatever comes back, health, props and version answer."""
    paths = dict.fromkeys(("/health", "/v1/models", "/version", "/slots"), (200, junk))
    async with serving(routes(paths)) as (_, adapter):
        assert (await adapter.health()).live
        assert (await adapter.props()).models == ()
        assert await adapter.engine_version() == "unknown"


async def test_what_vllm_tells(serving: Serving) -> None:
    """Recognized by its model list; version endpoint and context length are used."""
    paths = {
        "/v1/models": recording("vllm/a_get_v1_models.txt"),
        "/version": recording("vllm/a_get_version.txt"),
    }
    async with serving(routes(paths), model="tiny") as (_, adapter):
        props = await adapter.props()
    assert (props.engine, props.engine_version) == ("vllm", "0.32.0")
    assert (props.context_length, props.models) == (2048, ("tiny",))


async def test_what_llama_server_tells(serving: Serving) -> None:
    """build_info of /props is its version."""
    paths = {
        "/v1/models": recording("llama-server/a_get_v1_models.txt"),
        "/props": recording("llama-server/a_get_props.txt"),
    }
    build = json.loads(recorded("llama-server/a_get_props.txt")[2])["build_info"]
    async with serving(routes(paths)) as (server, adapter):
        assert await adapter.engine_version() == build
        asked = len(server.requests)
        assert await adapter.engine_version() == build
        assert len(server.requests) == asked  # the best source has spoken


async def test_an_unknown_server_is_asked_at_the_usual_places(serving: Serving) -> None:
    """/version, then /api/version; what answers later jobs' Started carries."""
    async with serving(routes({"/api/version": (200, {"version": "0.9.1"})})) as (_, adapter):
        assert await adapter.engine_version() == "0.9.1"
        started = await anext(stream := adapter.submit(TaskRequest(prompt="x")))
        await stream.aclose()
    assert started.engine_version == "0.9.1"


async def test_a_deployment_of_azure_has_a_health_of_its_own(serving: Serving) -> None:
    """It lists no models: any answer to a harmless request shows that it lives."""
    async with serving(well_behaved(), azure_deployment="gpt", api_key="k" * 8) as (
        server,
        adapter,
    ):
        status = await adapter.health()
        props = await adapter.props()
        assert all(r.method == "GET" and r.headers["api-key"] == "k" * 8 for r in server.requests)
    assert status.ready
    assert props.models == ()
