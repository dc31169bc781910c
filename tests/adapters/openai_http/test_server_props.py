"""Props and engine_version: what a server says of itself."""

import json
from typing import Any

import pytest

from adapter_api import HealthState, TaskRequest
from adapters.openai_http.models import MAX_MODELS_CHARS
from tests.adapters.openai_http.conftest import Serving
from tests.adapters.openai_http.probing import health, recording
from tests.fake_openai import (
    ANYTHING,
    Handler,
    answers,
    fails,
    in_turn,
    lists,
    streams,
)
from tests.openai_chunks import piece, recorded

PROMPT = TaskRequest(prompt="x")
HEALTHY, DEGRADED, UNHEALTHY = HealthState.HEALTHY, HealthState.DEGRADED, HealthState.UNHEALTHY


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
async def test_where_the_context_length_is_reported(
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


async def test_an_unknown_server_is_queried_at_the_usual_places(serving: Serving) -> None:
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
async def test_where_each_dialect_reports_its_version(
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
    status = await health(serving, {"/health": handler}, dialect="transformers")
    assert (status.state, status.message) == (HealthState.UNHEALTHY, message)


async def test_a_redirected_check_says_what_to_set(serving: Serving) -> None:
    """Redirects are not followed."""
    status = await health(serving, {ANYTHING: answers(b"", 302, {"Location": "http://x"})})
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
