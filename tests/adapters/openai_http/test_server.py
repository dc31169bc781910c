"""Health, props and engine_version: what a server tells, without cost in tokens."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from adapter_api import HealthState, HealthStatus, TaskRequest
from adapter_api.faults import Request, Wire
from adapters.http_util import make_client
from adapters.openai_http import OpenAIHttpAdapter, OpenAIHttpConfig
from adapters.openai_http.credentials import Credentials
from adapters.openai_http.dialects import READINESS_PATHS
from adapters.openai_http.models import MAX_MODELS_CHARS
from adapters.openai_http.server import Server
from tests.adapters.openai_http.conftest import Serving
from tests.fake_openai import (
    ANYTHING,
    FakeOpenAI,
    Handler,
    answers,
    fails,
    hangs,
    in_turn,
    lists,
    streams,
)
from tests.openai_chunks import piece, recorded
from tests.virtual_time import now_s

PROMPT = TaskRequest(prompt="x")
PROBE_S = 1.0
"""The time a check may take, where a test has to wait for it."""


def recording(name: str) -> Handler:
    """The recorded answer, with the header that gives its server away."""
    status, headers, body = recorded(name)
    kept = {"Server": headers["server"]} if "server" in headers else {}
    return answers(body, status, kept)


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


async def _health(serving: Serving, routes: Mapping[str, Handler], **options: Any) -> HealthStatus:
    async with serving(routes, **options) as (server, adapter):
        status: HealthStatus = await adapter.health()
        assert all(request.method == "GET" for request in server.requests)
    assert status.latency_ms is not None
    assert status.latency_ms > 0
    return status


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
    status = await _health(serving, {"/v1/models": lists(*listed)}, model=model)
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
    status = await _health(serving, routes, dialect="transformers")
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
    (answers({"success": False, "message": "no"}), DEGRADED, True, "cannot be read"),
    (answers({"code": 404, "msg": "not found"}), DEGRADED, True, "cannot be read"),
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


async def test_a_litellm_proxy_is_asked_for_its_readiness(serving: Serving) -> None:
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
    status = await _health(serving, routes)
    assert status.ready
    assert status.state is (DEGRADED if busy == 2 else HEALTHY)
    assert ("all 2 slots" in status.message) == (busy == 2)
    async with serving(routes) as (_, adapter):
        props = await adapter.props()
    assert (props.slots_total, props.slots_free) == (2, 2 - busy)


@pytest.mark.parametrize("slots", [fails(501, "disabled"), answers({"slots": 1}), answers([])])
async def test_slots_that_are_not_told(serving: Serving, slots: Handler) -> None:
    """The endpoint may be off: unknown, and no doubt about the server's health."""
    routes = {"/health": recording("llama-server/a_get_health.txt"), "/slots": slots}
    status = await _health(serving, routes)
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
async def test_garbage_is_no_exception(serving: Serving, junk: bytes) -> None:
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


# Props


async def test_what_vllm_tells(serving: Serving) -> None:
    """Recognized by its model list; version endpoint and context length are used."""
    routes = {
        "/v1/models": recording("vllm/a_get_v1_models.txt"),
        "/version": recording("vllm/a_get_version.txt"),
    }
    async with serving(routes, model="tiny") as (server, adapter):
        props = await adapter.props()
        assert server.paths == ["/v1/models", "/version"]
    assert (props.engine, props.engine_version) == ("vllm", "0.32.0")
    assert (props.context_length, props.models) == (2048, ("tiny",))
    assert props.features["dialect"] == "vllm"


async def test_what_llama_server_tells(serving: Serving) -> None:
    """build_info of /props is its version; the context it runs with goes before the trained one."""
    build = json.loads(recorded("llama-server/a_get_props.txt")[2])["build_info"]
    routes = {
        "/v1/models": recording("llama-server/a_get_v1_models.txt"),
        "/props": recording("llama-server/a_get_props.txt"),
        "/slots": answers([{"is_processing": False}]),
    }
    async with serving(routes) as (_, adapter):
        props = await adapter.props()
    assert (props.engine, props.engine_version) == ("llama.cpp", build)
    assert (props.context_length, props.models) == (1024, ("tiny",))
    assert (props.slots_total, props.slots_free) == (1, 1)


async def test_what_transformers_does_not_tell(serving: Serving) -> None:
    """An empty model list and no version: nothing is known, which is not an error."""
    names = ("health", "props", "v1_models", "version")
    paths = {"v1_models": "/v1/models"}
    routes = {
        paths.get(name, f"/{name}"): recording(f"transformers-serve/a_get_{name}.txt")
        for name in names
    }
    async with serving(routes, dialect="transformers", model="tiny") as (_, adapter):
        props = await adapter.props()
        status = await adapter.health()
    assert (props.engine, props.engine_version, props.models) == ("transformers", None, ())
    assert (props.context_length, props.slots_total, props.model_digest) == (None, None, None)
    assert (status.state, status.model_listed) == (HEALTHY, None)


@pytest.mark.parametrize(
    ("fields", "context"),
    [
        ({"max_model_len": 10}, 10),
        ({"meta": {"n_ctx": 20, "n_ctx_train": 30}}, 20),
        ({"meta": {"n_ctx_train": 30}}, 30),
        ({"context_length": 40}, 40),
        ({"context_window": 50}, 50),
        ({"max_model_len": 0, "context_length": 60}, 60),
        ({"max_model_len": True, "meta": 5}, None),
        ({"max_model_len": "10"}, None),
        ({}, None),
    ],
)
async def test_where_the_context_length_is_told(
    serving: Serving, fields: dict[str, Any], context: int | None
) -> None:
    """By vLLM, llama-server and others; anything but a positive integer is unknown."""
    async with serving({"/v1/models": lists("m", **fields)}) as (_, adapter):
        assert (await adapter.props()).context_length == context


async def test_of_several_models_the_configs_is_described(serving: Serving) -> None:
    """Without one of ours in the list, several say nothing of any."""
    entries = [
        {"id": "a", "max_model_len": 1, "digest": "sha256:a"},
        {"id": "b", "max_model_len": 2, "digest": "sha256:b"},
    ]
    routes = {"/v1/models": answers({"data": entries})}
    async with serving(routes, model="b") as (_, adapter):
        props = await adapter.props()
    assert (props.context_length, props.model_digest) == (2, "sha256:b")
    async with serving(routes, model="c") as (_, adapter):
        props = await adapter.props()
    assert (props.context_length, props.model_digest) == (None, None)
    assert props.models == ("a", "b")


# The version


async def test_an_unknown_server_is_asked_at_the_usual_places(serving: Serving) -> None:
    """/version, then /api/version; what it answers, later jobs' Started carries."""
    routes = {
        "/version": in_turn(answers({"hello": "world"}), fails(404), answers([1])),
        "/api/version": answers({"version": "0.9.1"}),
    }
    for _ in range(3):
        async with serving(routes) as (server, adapter):
            assert await adapter.engine_version() == "0.9.1"
            assert server.paths == ["/v1/models", "/version", "/api/version"]
            async with adapter.submit(PROMPT) as stream:
                assert (await anext(stream)).engine_version == "0.9.1"


async def test_the_version_of_vllm_is_never_a_name_and_never_changes(serving: Serving) -> None:
    """Its fingerprint comes with the last chunk, and holds what the version endpoint reports."""
    first = piece("a", id="cmpl-993791d3f7663d03")
    last = piece("", "stop", system_fingerprint="vllm-0.32.0-227ce6a1", id=first["id"])
    routes = {
        "/v1/completions": streams(first, last),
        "/version": answers({"version": "0.32.0"}),
    }
    async with serving(routes) as (_, adapter):
        told = []
        for _ in range(2):
            async with adapter.submit(PROMPT) as stream:
                told.append((await anext(stream)).engine_version)
                assert [event async for event in stream]
        told.append(await adapter.engine_version())
        async with adapter.submit(PROMPT) as stream:
            told.append((await anext(stream)).engine_version)
    assert told == ["unknown", "0.32.0", "0.32.0", "0.32.0"]


@pytest.mark.parametrize(
    ("dialect", "path", "key"),
    [
        ("vllm", "/version", "version"),
        ("llama-server", "/props", "build_info"),
        ("ollama", "/api/version", "version"),
        ("localai", "/version", "version"),
    ],
)
async def test_where_each_dialect_tells_its_version(
    serving: Serving, dialect: str, path: str, key: str
) -> None:
    """One request; asked once, as the best source has spoken then."""
    async with serving({path: answers({key: "1.2.3"})}, dialect=dialect) as (server, adapter):
        for _ in range(2):
            assert await adapter.engine_version() == "1.2.3"
        assert server.paths == [path]


async def test_a_server_without_a_version_endpoint_is_not_asked(serving: Serving) -> None:
    """The facts come from its answers alone."""
    async with serving(dialect="openai") as (server, adapter):
        assert await adapter.engine_version() == "unknown"
        assert server.requests == []
        await adapter.submit(PROMPT).text()
        assert await adapter.engine_version() == "m"


async def test_a_version_in_a_header_is_good_enough(serving: Serving) -> None:
    """LiteLLM reports its version with every answer, so no probe is sent."""
    handler = streams(piece("a", "stop"), headers={"x-litellm-version": "1.106.0"})
    async with serving({"/v1/completions": handler}) as (server, adapter):
        await adapter.submit(PROMPT).text()
        assert await adapter.engine_version() == "1.106.0"
        props = await adapter.props()
        assert server.paths == ["/v1/completions", "/v1/models"]
    assert (props.engine, props.engine_version) == ("litellm", "1.106.0")


async def test_a_dialect_that_was_set_stays(serving: Serving) -> None:
    """Whatever the answers look like."""
    handler = streams(piece("a", "stop"), headers={"Server": "llama.cpp"})
    async with serving({"/v1/completions": handler}, dialect="vllm") as (_, adapter):
        async with adapter.submit(PROMPT) as stream:
            assert (await anext(stream)).engine == "vllm"
        assert (await adapter.props()).features["dialect"] == "vllm"


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (answers(b"", 500), "the server answered 500"),
        (answers(b"null", 500), "the server answered 500"),
        (answers({"error": {"message": "out of memory"}}, 500),
         "the server answered 500: out of memory"),
        (answers(b"", 503), "the server answered 503"),
    ],
)  # fmt: skip
async def test_a_refused_check_says_so_once(
    serving: Serving, handler: Handler, message: str
) -> None:
    """The status, and what the server says besides."""
    status = await _health(serving, {"/health": handler}, dialect="transformers")
    assert (status.state, status.message) == (HealthState.UNHEALTHY, message)


async def test_a_redirected_check_says_what_to_set(serving: Serving) -> None:
    """Redirects are not followed."""
    status = await _health(serving, {ANYTHING: answers(b"", 302, {"Location": "http://x"})})
    assert status.message.startswith("the server answered 302, a redirect to http://x.")


async def test_the_key_does_not_show_in_what_a_server_tells(serving: Serving) -> None:
    """HTU-1004: names and messages of a server that echoes it are redacted."""
    key = "my-own-unusual-credential"
    routes = {"/health": answers(f"bad {key}".encode(), 500), "/version": answers({"version": key})}
    async with serving(routes, api_key=key) as (_, adapter):
        assert key not in (await adapter.health()).message
        assert key not in await adapter.engine_version()


async def test_a_model_list_is_kept_within_bounds(serving: Serving) -> None:
    """Redacting names must not hold the event loop; what comes first is kept."""
    names = [f"{number:04d}{'x' * 60}" for number in range(2000)]
    async with serving({"/v1/models": lists(*names)}) as (_, adapter):
        models = (await adapter.props()).models
    assert models == tuple(names[: MAX_MODELS_CHARS // 64])
