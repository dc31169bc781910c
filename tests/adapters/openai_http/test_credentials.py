"""Keys: their sources, their headers, and that no text shows them."""

import asyncio
import functools
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from adapter_api import (
    AuthenticationFailed,
    EngineUnavailable,
    ErrorCode,
    TaskRequest,
    WorkerError,
)
from adapter_api.faults import Request, Wire
from adapters.http_util import redact
from adapters.openai_http import OpenAIHttpAdapter, OpenAIHttpConfig, credentials
from adapters.openai_http.credentials import MAX_REMEMBERED, Credentials
from tests.adapters.openai_http.conftest import FAST_RETRY, Serving
from tests.fake_openai import FakeOpenAI, Handler, fails, in_turn, well
from tests.virtual_time import now_s

PROMPT = TaskRequest(prompt="hi")
OK = "Hello world"


async def _failure(adapter: OpenAIHttpAdapter) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        await adapter.submit(PROMPT).text()
    return caught.value


@asynccontextmanager
async def _azure(handler: Handler, provider: Any) -> Any:
    async with (
        FakeOpenAI({"/openai/deployments/gpt/completions": handler}) as server,
        OpenAIHttpAdapter(
            server.base_url,
            azure_deployment="gpt",
            azure_token_provider=provider,
            retry=FAST_RETRY,
        ) as adapter,
    ):
        yield server, adapter
    assert server.failures == []


class Provider:
    """Counts how often it was asked; gives token-1, token-2, ..."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.asked = 0
        self.pause_s = pause_s
        self.threads: set[str] = set()

    async def __call__(self) -> str:
        """The next token."""
        self.asked += 1
        await asyncio.sleep(self.pause_s)
        return f"token-{self.asked}"

    def sync(self) -> str:
        """The next token, for those who do not await."""
        self.asked += 1
        self.threads.add(threading.current_thread().name)
        return f"token-{self.asked}"


def _needs(*good: str) -> Handler:
    """Answers jobs with one of these tokens, refuses the rest."""

    async def handler(request: Request, wire: Wire) -> None:
        ok = request.headers.get("authorization") in [f"Bearer {token}" for token in good]
        await (well if ok else fails(401, "expired"))(request, wire)

    return handler


# Keys


@pytest.mark.parametrize(
    ("options", "headers"),
    [
        ({}, {}),
        ({"api_key": ""}, {}),
        ({"api_key": "sk-1"}, {"Authorization": "Bearer sk-1"}),
        ({"api_key": lambda: "sk-2"}, {"Authorization": "Bearer sk-2"}),
        ({"api_key": "sk-1", "azure_token_provider": lambda: "t"}, {"Authorization": "Bearer t"}),
        ({"basic_auth": "me:p:w"}, {"Authorization": "Basic bWU6cDp3"}),
    ],
)
async def test_which_header_a_key_goes_into(
    options: dict[str, Any], headers: dict[str, str]
) -> None:
    """Bearer by default, Basic for a user; a token provider goes before a key."""
    config = OpenAIHttpConfig("http://h", **options)
    assert await Credentials(config).headers() == headers


async def test_azure_has_a_header_of_its_own() -> None:
    """api-key takes the bare key, so that Basic fits beside it; a token is a bearer token."""
    both = OpenAIHttpConfig("https://me:pw@r.openai.azure.com", api_key="k-1")
    assert await Credentials(both).headers() == {
        "Authorization": "Basic bWU6cHc=",
        "api-key": "k-1",
    }
    config = OpenAIHttpConfig("https://r.openai.azure.com", api_key="k-1")
    assert await Credentials(config).headers() == {"api-key": "k-1"}
    entra = OpenAIHttpConfig("https://r.openai.azure.com", azure_token_provider=lambda: "t-1")
    assert await Credentials(entra).headers() == {"Authorization": "Bearer t-1"}


async def test_a_key_function_is_called_for_each_request(serving: Serving) -> None:
    """Sync, async, or an object that is called, so that keys can be rotated."""
    keys = iter(["key-1", "key-2"])

    async def later() -> str:
        return "key-3"

    for source, sent in (
        (lambda: next(keys), ["key-1", "key-2"]),
        (later, ["key-3", "key-3"]),
        (Provider(), ["token-1", "token-2"]),
        (functools.partial(later), ["key-3", "key-3"]),
    ):
        async with serving(api_key=source) as (server, adapter):
            for _ in range(2):
                await adapter.submit(PROMPT).text()
            headers = [request.headers["authorization"] for request in server.requests]
        assert headers == [f"Bearer {key}" for key in sent]


async def test_a_key_function_is_not_called_again_after_401(serving: Serving) -> None:
    """It has just been asked: a refused key is the answer."""
    async with serving(fails(401), api_key=Provider()) as (server, adapter):
        assert isinstance(await _failure(adapter), AuthenticationFailed)
        assert len(server.requests) == 1


@pytest.mark.parametrize("key", ["hush\n", " hush", "schlüssel", "hu\0sh"])
async def test_a_key_that_no_header_may_have_is_refused(serving: Serving, key: str) -> None:
    """Read from a file with its newline: a clear error, no header injection, no connection."""
    for source in (key, lambda: key):
        async with serving(api_key=source) as (server, adapter):
            error = await _failure(adapter)
            assert server.connections == []
        assert "line break" in error.message
        assert key.strip() not in error.message


# Entra tokens


async def test_a_token_is_fetched_once_for_many() -> None:
    """Many callers, one refresh; the token is kept, and goes to the deployment as bearer."""
    provider = Provider(0.05)
    async with _azure(well, provider) as (server, adapter):
        assert set(await asyncio.gather(*(adapter.submit(PROMPT).text() for _ in range(8)))) == {OK}
        await adapter.submit(PROMPT).text()
        request = server.posts[0]
    assert provider.asked == 1
    assert request.headers["authorization"] == "Bearer token-1"
    assert "api-key" not in request.headers
    assert request.target == "/openai/deployments/gpt/completions?api-version=2024-10-21"


async def test_a_provider_that_does_not_await_works_off_the_loop() -> None:
    """It may go to the network: it gets a thread, so that other jobs continue."""
    provider = Provider()
    async with _azure(well, provider.sync) as (_, adapter):
        assert await adapter.submit(PROMPT).text() == OK
    assert provider.asked == 1
    assert threading.current_thread().name not in provider.threads


async def test_a_token_is_fetched_again_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider is called every few minutes, since it refreshes tokens early."""
    monkeypatch.setattr(credentials, "TOKEN_LIFETIME_S", 0.0)
    provider = Provider()
    async with _azure(well, provider) as (_, adapter):
        for _ in range(3):
            await adapter.submit(PROMPT).text()
    assert provider.asked == 3


async def test_a_refused_token_is_renewed_once() -> None:
    """401 with a kept token: a new one, one more request; a second 401 is the answer."""
    provider = Provider()
    async with _azure(_needs("token-2"), provider) as (server, adapter):
        assert await adapter.submit(PROMPT).text() == OK
        assert len(server.requests) == 2
        await adapter.submit(PROMPT).text()
    assert provider.asked == 2
    async with _azure(_needs(), Provider()) as (server, adapter):
        assert isinstance(await _failure(adapter), AuthenticationFailed)
        assert len(server.requests) == 2


async def test_many_refusals_of_one_token_renew_it_once() -> None:
    """A job refused with the old token takes the new one that another job has fetched."""
    provider = Provider(0.02)
    async with _azure(_needs("token-2"), provider) as (_, adapter):
        texts = await asyncio.gather(*(adapter.submit(PROMPT).text() for _ in range(6)))
    assert set(texts) == {OK}
    assert provider.asked == 2


async def test_a_late_refusal_of_an_old_token_does_not_cost_the_new_one() -> None:
    """Another job has renewed it already."""
    provider = Provider()
    source = Credentials(OpenAIHttpConfig("http://h", azure_token_provider=provider))
    old = (await source.headers())["Authorization"]
    assert source.renew(old)
    new = await source.headers()
    assert source.renew(old)
    assert await source.headers() == new != {"Authorization": old}
    assert provider.asked == 2


async def test_a_new_token_is_not_a_new_attempt() -> None:
    """The retry policy counts from the accepted token on; both requests are attempts."""
    provider = Provider()
    handler = in_turn(fails(401, "expired"), fails(503), well)
    async with _azure(handler, provider) as (_, adapter):
        events = [event async for event in adapter.submit(PROMPT)]
    assert events[-1].metrics.attempts == 3


@pytest.mark.parametrize("result", [5, None, "", "bad\ntoken", ValueError("secret-detail")])
@pytest.mark.parametrize("what", ["azure_token_provider", "api_key"])
async def test_a_failing_provider_is_a_clear_error(
    serving: Serving, result: Any, what: str
) -> None:
    """Its own words, which may hold anything, are not shown; nothing is sent."""

    def provider() -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    async with serving(**{what: provider}) as (server, adapter):
        error = await _failure(adapter)
        status = await adapter.health()
        assert server.connections == []
    assert what in error.message
    assert "secret-detail" not in error.message
    assert what in status.message
    assert not status.live


async def test_a_provider_that_hangs_is_bounded(serving: Serving) -> None:
    """ADAPT-3005: the first token's limit includes the time the key takes."""
    async with serving(api_key=Provider(60), first_token_timeout_s=0.1) as (server, adapter):
        began = now_s()
        error = await _failure(adapter)
        assert now_s() - began < 10
        assert server.connections == []
    assert isinstance(error, EngineUnavailable)
    assert error.retriable
    assert "function for the key" in error.message


# What must not be seen


@pytest.fixture
def keys() -> Iterator[Callable[[], str]]:
    """A function that gives another key each time, none of which looks like one."""
    names = iter(f"my-own-unusual-credential-{n}" for n in range(MAX_REMEMBERED + 1))
    yield lambda: next(names)


async def test_a_key_never_shows(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """HTU-1004, OC-ADAPT-OAI 6020: a server that echoes credentials does not get them into errors
    or logs, be they the key's or a header's."""
    key, other = "my-own-unusual-credential", "another-odd-credential"
    caplog.set_level(logging.DEBUG, "worker_adapters")

    async def script(request: Request, wire: Wire) -> None:
        said = f"bad: {request.headers['authorization']} {request.headers['x-api-key']}"
        await fails(503 if len(server.requests) < 2 else 401, said)(request, wire)

    options = {"api_key": key, "headers": {"X-Api-Key": other}}
    async with serving(script, **options) as (server, adapter):
        error = await _failure(adapter)
        message = (await adapter.health()).message
    assert isinstance(error, AuthenticationFailed)
    assert "ORCHD_OPENAI_API_KEY" in error.message
    everything = f"{error!r} {error} {error.__cause__!r} {caplog.text} {message}"
    assert key not in everything
    assert other not in everything


async def test_the_exception_of_a_key_function_never_shows(serving: Serving) -> None:
    """Its text may contain the key. The error names its kind and its place, and has no cause."""

    def fetch() -> str:
        raise ValueError("the vault said my-own-unusual-credential")

    async with serving(well, api_key=fetch) as (server, adapter):
        error = await _failure(adapter)
        message = (await adapter.health()).message
    assert error.code is ErrorCode.UPSTREAM_AUTH
    assert "the api_key function failed with ValueError at test_credentials.py:" in error.message
    shown = "".join(traceback.format_exception(error)) + str(message)
    assert "unusual" not in shown
    assert server.requests == []


async def test_a_key_function_cannot_cancel_who_asks(serving: Serving) -> None:
    """A CancelledError of its own is a failure like any other."""

    async def fetch() -> str:
        raise asyncio.CancelledError

    async with serving(well, api_key=fetch) as (_, adapter):
        assert (await _failure(adapter)).code is ErrorCode.UPSTREAM_AUTH
        assert not (await adapter.health()).ready


async def test_an_earlier_key_never_shows_either(serving: Serving, keys: Callable[[], str]) -> None:
    """The answer to one request may come after the next request's key was fetched."""

    async def script(request: Request, wire: Wire) -> None:
        key = request.headers["authorization"].split()[-1]
        if len(server.requests) == 1:
            await asyncio.sleep(0.1)
        await fails(400, f"no {key}")(request, wire)

    async with serving(script, api_key=keys) as (server, adapter):
        first, second = await asyncio.gather(_failure(adapter), _failure(adapter))
    assert "unusual" not in first.message + second.message


async def test_only_so_many_keys_are_remembered(keys: Callable[[], str]) -> None:
    """A function that gives ever new keys takes no memory for it; the same key counts once."""
    source = Credentials(OpenAIHttpConfig("http://h", api_key=keys))
    for _ in range(MAX_REMEMBERED + 1):
        await source.headers()
    assert len(source.secrets) == MAX_REMEMBERED
    assert source.secrets[-1].endswith(str(MAX_REMEMBERED))
    fixed = Credentials(OpenAIHttpConfig("http://h", api_key=lambda: "same"))
    for _ in range(3):
        await fixed.headers()
    assert fixed.secrets == ("same",)


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": "hunter2-key"},
        {"basic_auth": "me:hunter2-key"},
        {"base_url": "http://me:hunter2-key@h"},
        {"base_url": "http://h/x/chat/completions?sig=hunter2-key"},
        {"proxy": "http://me:hunter2-key@proxy:8080"},
        {"headers": {"X-Api-Key": "hunter2-key"}},
    ],
)
def test_every_option_that_holds_a_secret_is_kept_out_of_texts(options: dict[str, Any]) -> None:
    """HTU-1004: whatever repeats it, a server, a proxy or a library."""
    secrets = Credentials(OpenAIHttpConfig(**{"base_url": "http://h", **options})).secrets
    for said in ("hunter2-key", "http://me:hunter2-key@proxy:8080 is down"):
        assert "hunter2" not in redact(f"no: {said}", secrets)


async def test_hung_key_functions_stop_nothing_else() -> None:
    """They take a few threads of their own: asyncio's executor stays free, and so do other keys."""
    gate = threading.Event()
    hung = Credentials(OpenAIHttpConfig("http://host", api_key=lambda: str(gate.wait(10))))
    other = Credentials(OpenAIHttpConfig("http://host", api_key=lambda: "the-key"))
    waiting = [asyncio.create_task(hung.headers()) for _ in range(40)]
    try:
        async with asyncio.timeout(5):
            assert await asyncio.to_thread(lambda: "free") == "free"
            assert (await other.headers())["Authorization"] == "Bearer the-key"
    finally:
        gate.set()
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
