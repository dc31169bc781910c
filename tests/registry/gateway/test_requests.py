"""Requests to the gateway: what is refused, and how."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import registry
from registry.gateway import Keyring
from registry.gateway.key_file import new_key
from tests.registry.gateway.conftest import CHAT, Served, Start
from tests.registry.gateway.raw import RawClient

PATH = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 7, "messages": CHAT["messages"]}, "model"),
        ({**CHAT, "n": 2}, "n"),
        ({**CHAT, "n": True}, "n"),
        ({**CHAT, "best_of": 2}, "best_of"),
        ({**CHAT, "functions": [{"name": "f"}]}, "functions"),
        ({**CHAT, "function_call": "auto"}, "function_call"),
        ({**CHAT, "temperature": "hot"}, "temperature"),
        ({**CHAT, "stream": "yes"}, "stream"),
        ({**CHAT, "stream": "true"}, "stream"),
        ({**CHAT, "stop": 5}, "stop"),
        ({**CHAT, "stream_options": 1}, "stream_options"),
        ({**CHAT, "stream_options": {"include_usage": "no"}}, "stream_options.include_usage"),
        ({**CHAT, "max_completion_tokens": "5"}, "max_completion_tokens"),
        ({**CHAT, "top_logprobs": 2}, "top_logprobs"),
        ({**CHAT, "max_tokens": 0}, "max_tokens"),
        ({**CHAT, "prompt": "x"}, "prompt"),
        ({"model": "mock", "messages": CHAT["messages"] * 20_001}, "messages"),
        (
            {"model": "mock", "messages": [{"role": "assistant", "tool_calls": [{}] * 20_000}]},
            "messages",
        ),
        ({"model": "mock"}, "messages"),
        ({"model": "mock", "messages": [{"role": "user"}]}, "messages[0].content"),
    ],
)
async def test_a_wrong_field_is_named(
    start: Start, http: httpx.AsyncClient, fields: dict[str, Any], param: str
) -> None:
    """A field that is wrong gets a 400 in OpenAI's shape that names it."""
    served = await start()
    answer = await http.post(served.url + PATH, json=fields)
    error = answer.json()["error"]
    assert answer.status_code == 400, error
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert param in error["message"]
    assert error["source"] == "gateway"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", PATH, b"{", 400),
        ("POST", PATH, b"[]", 400),
        ("POST", PATH, b"\xff\xfe", 400),
        ("POST", PATH, b'{"model": "mock", "temperature": NaN}', 400),
        ("POST", PATH, b'{"model": "mock", "user": "\xe9"}', 400),
        ("POST", PATH, b"", 400),
        ("OPTIONS", PATH, b"", 405),
        ("GET", PATH, b"", 405),
        ("POST", "/v1/embeddings", b"{}", 404),
        ("GET", "/nothing", b"", 404),
    ],
)
async def test_every_refusal_has_one_shape(
    start: Start, http: httpx.AsyncClient, method: str, path: str, body: bytes, status: int
) -> None:
    """Unknown paths, wrong methods and broken JSON get an error object as well."""
    served = await start()
    answer = await http.request(method, served.url + path, content=body)
    assert answer.status_code == status
    assert answer.json()["error"].keys() >= {"message", "type", "param", "code"}
    if status == 404:
        assert PATH in answer.json()["error"]["message"]
        assert "/dashboard/" not in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/chat/completions/", PATH),
        ("//v1//chat/completions", PATH),
        ("/v1/v1/chat/completions", PATH),
        ("/openai/deployments/mock/chat/completions", PATH),
        ("/completions", "/v1/completions"),
        ("/models", "/v1/models"),
        ("/v1/models/", "/v1/models"),
        ("/v1/health", "/health"),
    ],
)
async def test_a_path_with_another_base_names_the_right_one(
    start: Start, http: httpx.AsyncClient, path: str, meant: str
) -> None:
    """A wrong base URL, or a slash too many, is a 404 that says which path is meant."""
    served = await start()
    answer = await http.get(served.url + path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_url"
    assert answer.json()["error"]["message"].endswith(f"Did you mean {meant}?")


async def test_a_field_of_the_other_endpoint_is_named(
    start: Start, http: httpx.AsyncClient
) -> None:
    """A field of chats in a completion is refused by its own name; a null one is absent."""
    served = await start()
    for name in ("messages", "max_completion_tokens", "tools"):
        fields = {"model": "mock", "prompt": "x", name: [], "tool_choice": None}
        answer = await http.post(f"{served.url}/v1/completions", json=fields)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, name)
        assert error["message"] == f"{name} is a field of {PATH}, not of this endpoint."


@pytest.mark.parametrize("text", ["a\ud83d", "\ude00", "\ud83d\ude00\ud83d", "\ud83dx"])
async def test_half_of_a_character_is_named(
    start: Start, http: httpx.AsyncClient, text: str
) -> None:
    """JavaScript sends a text that was cut within a character as half of a surrogate pair."""
    served = await start()
    fields = {**CHAT, "messages": [{"role": "user", "content": text}]}
    answer = await http.post(served.url + PATH, content=json.dumps(fields).encode())
    assert answer.status_code == 400
    assert "is half of a character" in answer.json()["error"]["message"]


async def test_an_unknown_model_is_not_found(start: Start, http: httpx.AsyncClient) -> None:
    """A model that no pool serves is a 404 model_not_found that names those that are."""
    served = await start()
    answer = await http.post(served.url + PATH, json={**CHAT, "model": "gpt-17"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "model_not_found")
    assert "mock" in error["message"] or "default" in error["message"]


async def test_models_are_listed_once(start: Start, http: httpx.AsyncClient) -> None:
    """The list merges pools and aliases without duplicates; one model can be fetched."""
    served = await start(
        registry.get("mock", {}), registry.get("mock", {}), aliases={"gpt-4o": "default"}
    )
    listed = (await http.get(f"{served.url}/v1/models")).json()
    names = [model["id"] for model in listed["data"]]
    assert names == sorted(set(names))
    assert "gpt-4o" in names
    assert (await http.get(f"{served.url}/v1/models/gpt-4o")).json()["id"] == "gpt-4o"
    assert (await http.get(f"{served.url}/v1/models/none")).status_code == 404


async def test_an_alias_answers_under_its_own_name(start: Start, http: httpx.AsyncClient) -> None:
    """The answer says the model that was asked for."""
    served = await start(aliases={"gpt-4o": "default"})
    answer = await http.post(served.url + PATH, json={**CHAT, "model": "gpt-4o"})
    assert answer.json()["model"] == "gpt-4o"


async def test_a_large_body_is_refused(start: Start, http: httpx.AsyncClient) -> None:
    """A body beyond the maximum is a 413, be its length announced or not."""
    served = await start(max_body_bytes=1000)
    large = json.dumps({**CHAT, "user": "x" * 2000}).encode()
    answer = await http.post(served.url + PATH, content=large)
    assert answer.status_code == 413

    async def pieces() -> Any:
        yield large

    answer = await http.post(served.url + PATH, content=pieces())
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


async def test_the_request_id_is_the_clients(start: Start, http: httpx.AsyncClient) -> None:
    """A valid X-Request-Id becomes the job's id; an invalid one is replaced."""
    served = await start()
    answer = await http.post(served.url + PATH, json=CHAT, headers={"X-Request-Id": "req-1"})
    assert answer.headers["x-request-id"] == "req-1"
    assert int(answer.headers["openai-processing-ms"]) >= 0
    explained = await http.get(f"{served.url}/v1/jobs/req-1")
    assert explained.json()["outcome"] == "ok"
    answer = await http.post(served.url + PATH, json=CHAT, headers={"X-Request-Id": "x" * 300})
    assert len(answer.headers["x-request-id"]) == 36


async def test_a_deadline_ends_a_job(start: Start, http: httpx.AsyncClient) -> None:
    """X-Request-Timeout is the job's deadline; a wrong one is refused."""
    served = await start(registry.get("mock", {"delay_s": 30}))
    answer = await http.post(served.url + PATH, json=CHAT, headers={"X-Request-Timeout": "0.2"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_unmet")
    answer = await http.post(served.url + PATH, json=CHAT, headers={"X-Request-Timeout": "soon"})
    assert answer.status_code == 400


async def test_an_id_that_cannot_be_a_jobs_is_replaced(start: Start) -> None:
    """An id with a space at its end, or one that is in flight, gives way to a new one."""
    served = await start(registry.get("mock", {"stall_after": 0, "stall_timeout_s": None}))
    async with RawClient(served.port) as first, RawClient(served.port) as second:
        first.post(PATH, CHAT, X_Request_Id="twice")
        while "twice" not in served.gateway.table:
            await asyncio.sleep(0)
        second.post(PATH, CHAT, X_Request_Id="twice", X_Request_Timeout="0.1")
        status, headers = await second.head()
        assert status == 504
        assert headers["x-request-id"] != "twice"
        await second.reader.readexactly(int(headers["content-length"]))
        second.post(PATH, CHAT, X_Request_Id="a b ", X_Request_Timeout="0.1")
        status, headers = await second.head()
        assert status == 504
        assert len(headers["x-request-id"]) == 36


@pytest.mark.parametrize("access_log", [True, False])
async def test_every_answer_has_an_id(
    start: Start, http: httpx.AsyncClient, *, access_log: bool
) -> None:
    """Refusals and figures have X-Request-Id and openai-processing-ms, too."""
    served = await start(access_log=access_log)
    for method, path in (("GET", "/health/live"), ("GET", "/nothing"), ("POST", PATH)):
        answer = await http.request(method, served.url + path, headers={"X-Request-Id": "mine"})
        assert answer.headers["x-request-id"] == "mine" if path == PATH else True
        assert answer.headers["x-request-id"]
        assert answer.headers["openai-processing-ms"]


async def test_attempts_and_replica_are_named(start: Start, http: httpx.AsyncClient) -> None:
    """X-Worker-Attempts counts until the head; a failed answer names the replica it failed on."""
    failing = {"error_code": "WORKER_RESET"}
    served = await start(registry.get("mock", {}))
    answer = await http.post(served.url + PATH, json=CHAT)
    assert (answer.headers["x-worker-attempts"], answer.headers["x-worker-replica"]) == ("1", "r0")
    answer = await http.post(served.url + PATH, json={**CHAT, "n": 2})
    assert answer.headers["x-worker-attempts"] == "0"
    assert "x-worker-replica" not in answer.headers
    served = await start(registry.get("mock", failing), registry.get("mock", failing))
    answer = await http.post(served.url + PATH, json=CHAT)
    assert answer.status_code == 502
    asked = [step.replica_id for step in _attempts(served, answer.headers["x-request-id"])]
    assert len(asked) > 1
    assert answer.headers["x-worker-attempts"] == str(len(asked))
    assert answer.headers["x-worker-replica"] == asked[-1]


def _attempts(served: Served, job_id: str) -> list[Any]:
    explained = served.host.explain(job_id)
    assert explained is not None
    return [step for step in explained.steps if step.kind == "attempt"]


async def test_any_user_is_a_session(start: Start, http: httpx.AsyncClient) -> None:
    """`user` may be any text: it is the session, or its hash if it is not a valid id."""
    served = await start()
    for user in ("laptop", "M\u00fcller", "u" * 5000, " ", 7):
        answer = await http.post(served.url + PATH, json={**CHAT, "user": user})
        assert answer.status_code == 200, (user, answer.text)


async def test_a_long_value_is_not_repeated(start: Start, http: httpx.AsyncClient) -> None:
    """An error shows the beginning of a wrong value."""
    served = await start()
    answer = await http.post(served.url + PATH, json={**CHAT, "n": "x" * 100_000})
    assert answer.status_code == 400
    assert len(answer.content) < 1000


async def test_a_path_with_a_slash_too_many_is_not_found(
    start: Start, http: httpx.AsyncClient
) -> None:
    """There is no redirect: it would name the gateway's own scheme and host."""
    served = await start()
    answer = await http.post(served.url + PATH + "/", json=CHAT)
    assert answer.status_code == 404


async def test_a_fault_of_the_gateway_has_the_same_shape(
    start: Start, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected exception is a 500 with an error object."""
    served = await start()
    monkeypatch.setattr(served.gateway.models, "find", lambda *_: 1 / 0)
    answer = await http.post(served.url + PATH, json=CHAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")


async def test_cors_is_off_unless_an_origin_is_named(
    start: Start, http: httpx.AsyncClient, keyring: Callable[[str], Keyring]
) -> None:
    """OPTIONS is answered before keys are asked for, and errors have the headers, too."""
    origin = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    closed = await start()
    answer = await http.options(closed.url + PATH, headers=origin)
    assert "access-control-allow-origin" not in answer.headers
    served = await start(keys=keyring(new_key("a")[1]), cors_origins=("https://app.example",))
    answer = await http.options(served.url + PATH, headers=origin)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    refused = await http.post(served.url + PATH, json=CHAT, headers=origin)
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://app.example"


async def test_a_slow_head_is_cut_off(start: Start) -> None:
    """A connection whose request head does not come is closed."""
    served = await start(server={"header_s": 0.2})
    async with RawClient(served.port) as client:
        client.writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: ga")
        try:
            rest = await client.reader.read()
        except ConnectionError:
            rest = b""
    assert rest == b""
