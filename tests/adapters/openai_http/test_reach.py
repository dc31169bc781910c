"""Servers that are set up in unusual ways: paths, authentication, statuses, bounds."""

import json
import logging
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

import registry
from adapter_api import ErrorCode, TaskRequest, WorkerError
from adapter_api.faults import Request, Wire
from adapters.openai_http import OpenAIHttpAdapter
from registry import AdapterHost
from tests.adapters.openai_http.conftest import FAST_RETRY, Serving
from tests.fake_openai import ANYTHING, FakeOpenAI, fails, sse, streams
from tests.openai_chunks import piece

PROMPT = TaskRequest(prompt="x")
MESSAGES = TaskRequest(messages=[{"role": "user", "content": "x"}])
TEXT = "Hello world"
USER, PASSWORD = "me@team", "hunter:2-for-me"
BASIC = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def _with_user(base_url: str) -> str:
    return base_url.replace("http://", "http://me%40team:hunter%3A2-for-me@")


async def _run(base_url: str, task: TaskRequest, **options: Any) -> str:
    async with OpenAIHttpAdapter(base_url, retry=FAST_RETRY, **options) as adapter:
        return await adapter.submit(task).text()


# Paths


@pytest.mark.parametrize("task", [PROMPT, MESSAGES], ids=["prompt", "messages"])
@pytest.mark.parametrize(
    ("pasted", "options", "path"),
    [
        ("/inference/chat/completions", {}, "/inference/chat/completions"),
        ("/inference/chat/completions?team=a%20b", {}, "/inference/chat/completions?team=a%20b"),
        ("/v1/chat/completions/", {}, "/v1/chat/completions"),
        ("", {"api_path": "/inference", "api": "chat"}, "/inference/chat/completions"),
        ("", {"api_path": "/", "api": "chat"}, "/chat/completions"),
    ],
)
async def test_an_api_without_v1_is_reached(
    task: TaskRequest, pasted: str, options: dict[str, Any], path: str
) -> None:
    """A pasted endpoint takes every job, a prompt as a chat message; or the path is an option."""
    async with FakeOpenAI() as server:
        assert await _run(server.base_url + pasted, task, **options) == TEXT
        assert [request.target for request in server.posts] == [path]


async def test_a_pasted_endpoint_of_completions_takes_prompts_only() -> None:
    """Messages go beside it: it could not read them."""
    async with FakeOpenAI() as server:
        await _run(server.base_url + "/gw/completions", PROMPT)
        await _run(server.base_url + "/gw/completions", MESSAGES)
        await _run(server.base_url + "/gw/chat/completions", PROMPT, api="completions")
        assert [request.path for request in server.posts] == [
            "/gw/completions",
            "/gw/chat/completions",
            "/gw/completions",
        ]


# HTTP Basic


async def _wants_basic(request: Request, wire: Wire) -> None:
    if request.headers.get("authorization") != BASIC:
        await wire.reply(b"", 401, {"WWW-Authenticate": 'Basic realm="x"'})
    elif request.method == "GET":
        await wire.reply({"data": [{"id": "m"}]})
    else:
        await streams(piece(TEXT, "stop"), "[DONE]")(request, wire)


async def test_basic_authentication_in_code() -> None:
    """As an option, and as the user of base_url, for jobs and for probes."""
    async with FakeOpenAI({ANYTHING: _wants_basic}) as server:
        assert await _run(server.base_url, PROMPT, basic_auth=f"{USER}:{PASSWORD}") == TEXT
        assert await _run(_with_user(server.base_url), PROMPT) == TEXT
        async with OpenAIHttpAdapter(_with_user(server.base_url)) as adapter:
            assert (await adapter.health()).ready
        with pytest.raises(WorkerError, match="set basic_auth"):
            await _run(server.base_url, PROMPT)


async def test_basic_authentication_in_a_workers_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The password comes from a variable, or stands in the URL; nothing shows it."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TEAM_PROXY", f"{USER}:{PASSWORD}")
    async with FakeOpenAI({ANYTHING: _wants_basic}) as server:
        file = tmp_path / "workers.toml"
        file.write_text(
            f"""
            [[replicas]]
            pool = "a"
            replica = "r0"
            adapter = "openai-http"
            options = {{ base_url = "{server.base_url}" }}
            secrets = {{ basic_auth = "TEAM_PROXY" }}

            [[replicas]]
            pool = "b"
            replica = "r0"
            adapter = "openai-http"
            options = {{ base_url = "{_with_user(server.base_url)}" }}
            """
        )
        async with AdapterHost.from_file(file) as host:
            for pool in ("a", "b"):
                assert await host.submit(pool, PROMPT).text() == TEXT
            shown = repr(host) + repr(host.snapshot())
    shown += "".join(str(vars(record)) for record in caplog.records)
    _assert_hidden(shown)


async def test_no_text_shows_a_user_of_base_url(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """HTU-1004: a server that repeats what it was sent, in every form it can."""
    caplog.set_level(logging.DEBUG)

    async def echoes(request: Request, wire: Wire) -> None:
        said = f"{request.headers['authorization']} {USER}:{PASSWORD} me%40team:hunter%3A2-for-me"
        await wire.reply({"error": {"message": f"no {said}"}}, 400)

    async with FakeOpenAI({ANYTHING: echoes}) as server:
        async with OpenAIHttpAdapter(_with_user(server.base_url)) as adapter:
            shown = [repr(adapter), repr(adapter.config), repr(await adapter.health())]
            shown.append(repr(await adapter.props()))
            with pytest.raises(WorkerError) as caught:
                await adapter.submit(PROMPT).text()
            shown.append(repr(caught.value.fields()))
        assert all(request.headers["host"] in server.base_url for request in server.requests)
    shown += [str(vars(record)) for record in caplog.records]
    _assert_hidden("\n".join(shown))


def _assert_hidden(text: str) -> None:
    for secret in (PASSWORD, "hunter", BASIC.partition(" ")[2]):
        assert secret not in text


# Statuses and types


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206])
@pytest.mark.parametrize("whole", [True, False], ids=["json", "stream"])
async def test_every_success_with_a_body_is_an_answer(
    serving: Serving, status: int, whole: bool
) -> None:
    """Some servers create a completion and say 201."""

    async def handler(request: Request, wire: Wire) -> None:
        answer = piece(TEXT, "stop")
        kind = "application/json" if whole else "text/event-stream"
        body = json.dumps(answer).encode() if whole else sse(answer, "[DONE]")
        await wire.answer(status, body, kind=kind)

    async with serving({"/v1/completions": handler}) as (_, adapter):
        assert await adapter.submit(PROMPT).text() == TEXT


@pytest.mark.parametrize("status", [204, 205])
async def test_a_success_without_a_body_is_none(serving: Serving, status: int) -> None:
    """No Content is not an answer."""

    async def handler(request: Request, wire: Wire) -> None:
        await wire.raw(f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n".encode())

    async with serving({"/v1/completions": handler}) as (_, adapter):
        with pytest.raises(WorkerError) as caught:
            await adapter.submit(PROMPT).text()
        assert caught.value.code is ErrorCode.UPSTREAM_PROTOCOL


@pytest.mark.parametrize(
    ("options", "accept"),
    [
        ({}, "text/event-stream, application/json"),
        ({"accept": "*/*"}, "*/*"),
        ({"accept": "text/event-stream"}, "text/event-stream"),
    ],
)
async def test_the_accept_header_can_be_set(
    serving: Serving, options: dict[str, Any], accept: str
) -> None:
    """By default it lets JSON through: some servers answer 406 otherwise (orchard#257)."""
    async with serving(**options) as (server, adapter):
        await adapter.submit(PROMPT).text()
        assert server.posts[0].headers["accept"] == accept


# Bounds


@pytest.mark.parametrize(
    ("options", "whole"),
    [
        ({}, True),
        ({"max_line_bytes": 1 << 20}, False),
        ({"max_event_bytes": 1 << 20}, False),
        ({"max_line_bytes": 2 << 20, "max_event_bytes": 2 << 20}, True),
    ],
)
async def test_the_longest_line_is_an_option(
    serving: Serving, options: dict[str, Any], whole: bool
) -> None:
    """One data line of 1.6 MB, as an image has (open-webui#20634)."""
    text = "x" * 1_600_000
    async with serving({"/v1/completions": streams(piece(text, "stop"))}, **options) as (
        _,
        adapter,
    ):
        if whole:
            assert await adapter.submit(PROMPT).text() == text
        else:
            with pytest.raises(WorkerError) as caught:
                await adapter.submit(PROMPT).text()
            assert caught.value.code is ErrorCode.UPSTREAM_PROTOCOL


# The environment


@pytest.mark.parametrize(
    ("variables", "given", "sent"),
    [
        ({"KEY": "k-of-the-environment"}, True, True),
        ({"URL": "http://other", "KEY": "k-of-the-environment"}, True, False),
        ({"URL": "SERVER", "KEY": "k-of-the-environment"}, False, True),
    ],
)
async def test_a_key_of_the_environment_goes_to_its_own_server_only(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], given: bool, sent: bool
) -> None:
    """It is used if base_url came from the environment, too, or the environment names none;
    otherwise the 401 says why it was not."""
    for name in ("URL", "API_KEY", "POOL", "REPLICA"):
        monkeypatch.delenv(f"ORCHD_OPENAI_{name}", raising=False)
    async with FakeOpenAI({ANYTHING: fails(401, "no")}) as server:
        if (url := variables.get("URL")) is not None:
            monkeypatch.setenv("ORCHD_OPENAI_URL", url.replace("SERVER", server.base_url))
        monkeypatch.setenv("ORCHD_OPENAI_API_KEY", variables["KEY"])
        options = {"base_url": server.base_url} if given else {}
        async with registry.get("openai-http", **options) as adapter:
            with pytest.raises(WorkerError) as caught:
                await adapter.submit(PROMPT).text()
        assert ("authorization" in server.posts[0].headers) is sent
    assert ("ORCHD_OPENAI_API_KEY was not used" in caught.value.message) is not sent
