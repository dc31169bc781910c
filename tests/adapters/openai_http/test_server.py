"""Health, props and engine_version: what a server tells, without cost in tokens."""

import json

import pytest

from adapter_api import HealthState
from adapters.openai_http import OpenAIHttpAdapter
from adapters.openai_http.dialects import READINESS_PATHS
from tests.adapters.openai_http.conftest import Serving
from tests.adapters.openai_http.probing import health, recording
from tests.fake_openai import (
    Handler,
    answers,
    fails,
    lists,
)

# Health


async def test_a_healthy_server(serving: Serving) -> None:
    """ORCH-3057: healthy, live, ready; the model is listed; two requests where the server is known,
    and for an unknown one some more, once, for a router's readiness."""
    routes = {"/health": answers(), "/v1/models": lists("m")}
    async with serving(routes, model="m", dialect="vllm") as (server, adapter):
        await adapter.health()
        assert server.paths == ["/health", "/v1/models"]
    async with serving(routes, model="m") as (server, adapter):
        status = await adapter.health()
        assert server.paths == ["/v1/models", *READINESS_PATHS]
        await adapter.health()
        assert server.paths[1 + len(READINESS_PATHS) :] == ["/v1/models"]
    assert (status.state, status.live, status.ready) == (HealthState.HEALTHY, True, True)
    assert status.model_listed is True


@pytest.mark.parametrize(
    ("listed", "model", "expected"),
    [
        (["m"], "m", True),
        (["m:latest"], "m", True),
        (["a", "b"], "m", False),
        (["m"], None, None),
        ([], "m", None),
    ],
)
async def test_whether_the_model_is_listed(
    serving: Serving, listed: list[str], model: str | None, expected: bool | None
) -> None:
    """A model that is not listed makes a doubt: degraded, and it says which."""
    status = await health(serving, {"/v1/models": lists(*listed)}, model=model)
    assert status.model_listed is expected
    assert status.ready
    if expected is False:
        assert status.state is HealthState.DEGRADED
        assert "'m'" in status.message
    else:
        assert status.state is HealthState.HEALTHY


HEALTHY, DEGRADED, UNHEALTHY = HealthState.HEALTHY, HealthState.DEGRADED, HealthState.UNHEALTHY
UNEXPECTED = {"error": "Unexpected endpoint or method. (GET /health)"}
KEY_REFUSED = fails(401, "Unauthorized")
NO_PATH = fails(404)


@pytest.mark.parametrize(
    ("routes", "state", "live", "ready", "says"),
    [
        # Loading is live and not ready.
        ({"/health": fails(503, "Loading model", code=503)}, UNHEALTHY, True, False, "loading"),
        ({"/health": answers({"status": "loading model"}, 503)}, UNHEALTHY, True, False,
         "loading"),
        ({"/health": answers(b"starting up", 503)}, UNHEALTHY, True, False, "loading"),
        # Busy is degraded and ready.
        ({"/health": answers(b"", 429)}, DEGRADED, True, True, "busy"),
        ({"/health": fails(503, "server overloaded")}, DEGRADED, True, True, "busy"),
        ({"/health": answers({"status": "no slot available"}, 503)}, DEGRADED, True, True, "busy"),
        # Broken.
        ({"/health": answers(b"down", 503)}, UNHEALTHY, True, False, "503: down"),
        ({"/health": answers(b"oops", 500)}, UNHEALTHY, True, False, "oops"),
        # The key.
        ({"/health": KEY_REFUSED, "/v1/models": KEY_REFUSED}, UNHEALTHY, True, False,
         "refuses the key"),
        ({"/health": answers(), "/v1/models": KEY_REFUSED}, UNHEALTHY, True, False,
         "refuses the key"),
        ({"/health": answers(b"", 403), "/v1/models": lists("m")}, HEALTHY, True, True, "ready"),
        # No such path: the model list speaks.
        ({"/v1/models": lists("m")}, HEALTHY, True, True, "ready"),
        ({"/health": answers(b"", 405), "/v1/models": lists("m")}, HEALTHY, True, True, "ready"),
        ({"/health": answers(b"", 302, {"Location": "/login"}), "/v1/models": lists("m")},
         HEALTHY, True, True, "ready"),
        ({"/health": answers(b"", 400), "/v1/models": lists("m")}, HEALTHY, True, True, "ready"),
        ({"/v1/models": NO_PATH}, DEGRADED, True, True, "does not report its health"),
        ({"/v1/models": answers(b"", 502)}, UNHEALTHY, True, False, "502"),
        # No model list, or none that can be read.
        ({"/health": answers(), "/v1/models": NO_PATH}, HEALTHY, True, True, "ready"),
        ({"/health": answers(), "/v1/models": answers(b"", 501)}, HEALTHY, True, True, "ready"),
        ({"/health": answers(), "/v1/models": answers({"data": None})}, HEALTHY, True, True,
         "ready"),
        ({"/health": answers(), "/v1/models": answers({"data": [1, {}, {"id": 5}]})}, HEALTHY,
         True, True, "ready"),
        ({"/health": answers(), "/v1/models": answers(b"<html>")}, DEGRADED, True, True,
         "does base_url name the API?"),
        ({"/health": answers(), "/v1/models": answers([1])}, DEGRADED, True, True,
         "cannot be read"),
        ({"/health": answers(), "/v1/models": fails(400, "Authentication Error")}, UNHEALTHY, True,
         False, "refuses the key"),
        ({"/health": answers(), "/v1/models": fails(400, "no such organization")}, DEGRADED, True,
         True, "no such organization"),
        ({"/health": answers(), "/v1/models": fails(403, "Forbidden")}, DEGRADED, True, True,
         "the key may not list its models"),
        ({"/health": answers(), "/v1/models": fails(403, "Incorrect API key")}, UNHEALTHY, True,
         False, "refuses the key"),
        # A success that says otherwise.
        ({"/health": answers({"status": "ok"})}, HEALTHY, True, True, "ready"),
        ({"/health": answers({"status": "unhealthy"})}, UNHEALTHY, True, False, "unhealthy"),
        ({"/health": answers({"status": "error"})}, UNHEALTHY, True, False, "error"),
        ({"/health": answers({"ready": False})}, UNHEALTHY, True, False, "not ready"),
        ({"/health": answers({"status": "loading model"})}, UNHEALTHY, True, False, "loading"),
        ({"/health": answers({"status": "no slot available"})}, DEGRADED, True, True, "busy"),
        ({"/health": answers({"error": "engine is dead"})}, UNHEALTHY, True, False, "is dead"),
        ({"/health": answers(UNEXPECTED)}, HEALTHY, True, True, "ready"),
        ({"/health": answers(), "/v1/models": answers({"error": "engine is dead"})}, UNHEALTHY,
         True, False, "engine is dead"),
        ({"/health": answers(), "/v1/models": fails(500, "no key")}, DEGRADED, True, True,
         "no key"),
    ],
)  # fmt: skip
async def test_health_in_every_state(
    serving: Serving,
    routes: dict[str, Handler],
    state: HealthState,
    live: bool,
    ready: bool,
    says: str,
) -> None:
    """ORCH-3057: what the server answers, in one word, two booleans and a sentence."""
    status = await health(serving, routes, dialect="transformers")
    assert (status.state, status.live, status.ready) == (state, live, ready)
    assert says in status.message


UNKNOWN_SERVERS: list[tuple[dict[str, Handler] | Handler, HealthState, bool, str]] = [
    # Routers report that they cannot serve where their /health does not.
    ({"/health": answers(), "/readiness": answers({"status": "not ready"}, 503)}, UNHEALTHY,
     False, "not ready"),
    ({"/v1/models": lists("m", owned_by="vllm"), "/health": answers(),
      "/readiness": answers(b"no healthy workers", 503)}, UNHEALTHY, False, "no healthy workers"),
    ({"/readiness": answers({"status": "not ready"})}, UNHEALTHY, False, "not ready"),
    ({"/readyz": answers(b"starting", 503)}, UNHEALTHY, False, "loading"),
    ({"/health/readiness": answers({"status": "healthy"})}, HEALTHY, True, "ready"),
    ({"/health/readiness": fails(503, "database is down")}, UNHEALTHY, False, "database is down"),
    ({"/readiness": answers(b"", 500), "/readyz": answers(b"", 502)}, HEALTHY, True, "ready"),
    ({"/ready": answers(b"no backend", 503)}, UNHEALTHY, False, "no backend"),
    ({"/v1/health/ready": answers(b"", 503)}, UNHEALTHY, False, "503"),
    ({"/readiness": answers({"status": "no_workers"})}, UNHEALTHY, False, "no workers"),
    ({"/readiness": answers({"status": "ok", "healthy_workers": 0})}, UNHEALTHY, False,
     "0 healthy workers"),
    ({"/readiness": answers({"state": "draining"})}, UNHEALTHY, False, "draining"),
    ({"/readiness": answers({"isReady": False})}, UNHEALTHY, False, "not ready"),
    ({"/readiness": answers({"status": "no error"})}, HEALTHY, True, "ready"),
    ({"/readiness": answers({"status": "ok", "healthy_workers": 2})}, HEALTHY, True, "ready"),
    # Every GET answers 200 with an error.
    (answers({"success": False, "message": "no disk"}), UNHEALTHY, False, "no disk"),
    (answers({"success": False, "message": "unknown route"}), DEGRADED, True, "does not report"),
    (answers({"code": 404, "msg": "not found"}), DEGRADED, True, "cannot be read"),
    (answers({"error_code": 17, "error_msg": "no quota"}), UNHEALTHY, False, "no quota"),
    ({"/readiness": answers({"message": "alive", "last_error": "x", "failed": 3, "errors": 2,
                             "detail": "2 workers", "last": {"status": "failed"}})},
     HEALTHY, True, "ready"),
    (answers([]), DEGRADED, True, "cannot be read"),
    (answers({"error": "Unexpected endpoint or method."}), DEGRADED, True, "does not report"),
    (answers({"error": {"message": "internal failure"}}), UNHEALTHY, False, "internal failure"),
    (answers({"detail": "no license"}), UNHEALTHY, False, "no license"),
    (answers([{"error": {"code": 503, "message": "x"}}]), UNHEALTHY, False, "x"),
    # A key that may chat, but not list models.
    ({"/v1/models": fails(403, "Forbidden")}, DEGRADED, True, "may not list its models"),
    ({"/v1/models": fails(401, "Missing scopes: api.model.read")}, DEGRADED, True,
     "may not list its models"),
    ({"/v1/models": fails(403, "This API key is limited to chat completions")}, DEGRADED, True,
     "may not list its models"),
    ({"/v1/models": fails(403, "Invalid API key")}, UNHEALTHY, False, "refuses the key"),
    ({"/v1/models": KEY_REFUSED}, UNHEALTHY, False, "refuses the key"),
    ({"/v1/models": fails(500, "no api key was passed in")}, UNHEALTHY, False, "refuses the key"),
    # What the model list itself says.
    ({"/v1/models": answers([{"id": "m"}])}, HEALTHY, True, "ready"),
    ({"/v1/models": answers({"models": [{"name": "m"}]})}, HEALTHY, True, "ready"),
    ({"/v1/models": fails(503, "Loading model")}, UNHEALTHY, False, "loading"),
    ({"/v1/models": answers(b"", 429)}, DEGRADED, True, "busy"),
    ({"/v1/models": answers(b"", 500)}, DEGRADED, True, "does not list its models"),
    ({"/v1/models": answers(b"", 502)}, UNHEALTHY, False, "502"),
    (answers(b"", 500), UNHEALTHY, False, "500"),  # it fails at everything
]  # fmt: skip


@pytest.mark.parametrize(("routes", "state", "ready", "says"), UNKNOWN_SERVERS)
async def test_an_unknown_server_is_judged_by_what_it_says(
    serving: Serving,
    routes: dict[str, Handler] | Handler,
    state: HealthState,
    ready: bool,
    says: str,
) -> None:
    """Its model list and a router's readiness; no status alone decides."""
    async with serving(routes) as (_, adapter):
        status = await adapter.health()
    assert (status.state, status.live, status.ready) == (state, True, ready)
    assert says in status.message


async def test_a_check_of_an_unknown_server_costs_nothing(serving: Serving) -> None:
    """LiteLLM runs a completion for each model on GET /health: unknown servers get none,
    and nothing but GET is sent to any."""
    for _ in range(2):
        async with serving(lists("m")) as (server, adapter):
            await adapter.health()
            await adapter.props()
            await adapter.engine_version()
            await adapter.health()
            assert "/health" not in server.paths
            assert {request.method for request in server.requests} == {"GET"}


async def test_readiness_of_a_litellm_proxy_is_queried(serving: Serving) -> None:
    """Recognized by a header of its model list; /health is never requested."""
    listed = json.dumps({"data": [{"id": "m"}]}).encode()
    routes = {
        "/v1/models": answers(listed, 200, {"x-litellm-version": "1.106"}),
        "/health/readiness": answers({"status": "healthy"}),
    }
    async with serving(routes) as (server, adapter):
        assert (await adapter.health()).state is HEALTHY
        assert "/health" not in server.paths


@pytest.mark.parametrize("busy", [0, 1, 2])
async def test_busy_slots(serving: Serving, busy: int) -> None:
    """llama-server with all slots in use is degraded and ready; props counts them."""
    slots = [{"id": i, "is_processing": i < busy} for i in range(2)]
    routes = {
        "/health": recording("llama-server/a_get_health.txt"),
        "/v1/models": recording("llama-server/a_get_v1_models.txt"),
        "/slots": answers(slots),
    }
    status = await health(serving, routes)
    assert status.ready
    assert status.state is (DEGRADED if busy == 2 else HEALTHY)
    assert ("all 2 slots" in status.message) == (busy == 2)
    async with serving(routes) as (_, adapter):
        props = await adapter.props()
    assert (props.slots_total, props.slots_free) == (2, 2 - busy)


@pytest.mark.parametrize("slots", [fails(501, "disabled"), answers({"slots": 1}), answers([])])
async def test_slots_that_are_not_reported(serving: Serving, slots: Handler) -> None:
    """The endpoint may be off: unknown, and no doubt about the server's health."""
    routes = {"/health": recording("llama-server/a_get_health.txt"), "/slots": slots}
    status = await health(serving, routes)
    assert status.state is HEALTHY
    async with serving(routes) as (_, adapter):
        await adapter.health()
        assert not (await adapter.props()).slots_total


async def test_an_unreachable_server_is_an_answer() -> None:
    """Never an exception: unhealthy, not live."""
    async with OpenAIHttpAdapter("http://127.0.0.1:9") as adapter:
        status = await adapter.health()
        assert await adapter.engine_version() == "unknown"
        assert (await adapter.props()).engine_version is None
    assert (status.live, status.ready) == (False, False)
    assert "cannot connect" in status.message


@pytest.mark.parametrize(
    ("dialect", "path"),
    [
        ("vllm", "/health"),
        ("llama-server", "/health"),
        ("transformers", "/health"),
        ("text-generation-webui", "/v1/internal/health"),
        ("litellm", "/health/readiness"),
        ("ollama", "/"),
        ("localai", "/readyz"),
        ("llama-cpp-python", "/v1/models"),
        ("openai", "/v1/models"),
        ("azure", "/openai/v1/models"),
    ],
)
async def test_each_dialect_has_its_health(serving: Serving, dialect: str, path: str) -> None:
    """The dialect's health path is requested first, with the key."""
    handler = lists("m") if path.endswith("models") else answers()
    async with serving({path: handler}, dialect=dialect, api_key="k" * 8) as (server, adapter):
        status = await adapter.health()
        first = server.requests[0]
    assert status.state is HEALTHY
    assert first.path == path
    sent = first.headers["api-key"] if dialect == "azure" else first.headers["authorization"]
    assert sent.endswith("kkkkkkkk")


@pytest.mark.parametrize(
    ("handler", "ready"), [(fails(404), True), (fails(405), True), (fails(401), False)]
)
async def test_a_deployment_of_azure_has_a_health_of_its_own(
    serving: Serving, handler: Handler, ready: bool
) -> None:
    """It lists no models: any answer to a harmless request shows that it lives."""
    async with serving(handler, azure_deployment="gpt", api_key="k" * 8) as (server, adapter):
        status = await adapter.health()
        props = await adapter.props()
        assert await adapter.engine_version() == "unknown"
        assert {request.method for request in server.requests} == {"GET"}
        assert server.requests[0].headers["api-key"] == "k" * 8
        assert server.requests[0].path == "/openai/deployments/gpt/chat/completions"
    assert (status.live, status.ready) == (True, ready)
    assert props.models == ()


async def test_headers_of_the_config_go_with_every_probe(serving: Serving) -> None:
    """A gateway may need them; the answers are asked for uncompressed."""
    async with serving(headers={"X-Team": "a"}) as (server, adapter):
        await adapter.health()
        assert {request.headers["x-team"] for request in server.requests} == {"a"}
        assert {request.headers["accept-encoding"] for request in server.requests} == {"identity"}
