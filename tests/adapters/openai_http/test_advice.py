"""Advice about a refusal: given where it is right, and nowhere else."""

from collections.abc import Mapping
from typing import Any

import pytest

from adapter_api import ErrorCode, TaskRequest, WorkerError
from adapters.openai_http import OpenAIHttpAdapter
from tests.adapters.openai_http.conftest import Serving
from tests.fake_openai import Handler, answers, fails

PROMPT = TaskRequest(prompt="x")
KEY_ADVICE = "Set api_key"


async def _refusal(
    serving: Serving, handler: Handler, task: TaskRequest = PROMPT, **options: Any
) -> WorkerError:
    async with serving(handler, **options) as (_, adapter):
        with pytest.raises(WorkerError) as caught:
            await adapter.submit(task).text()
    return caught.value


@pytest.mark.parametrize(
    ("handler", "advised"),
    [
        (answers(b"", 401), True),
        (fails(401, "no"), True),
        (fails(403, "Incorrect API key provided"), True),
        (fails(403, "no", code="invalid_api_key"), True),
        (fails(400, "API key not valid. Please pass a valid API key."), True),
        (answers(b"error code: 1010", 403), False),
        (answers(b"<html><h1>403 Forbidden</h1><hr>cloudflare</html>", 403), False),
        (fails(403, "Country, region, or territory not supported"), False),
        (fails(403, "Your input was flagged"), False),
        (fails(404, "no such key in the cache"), False),
        (fails(500, "the api key of our upstream"), False),
    ],
)
async def test_keys_are_mentioned_where_the_key_is_the_cause(
    serving: Serving, handler: Handler, advised: bool
) -> None:
    """A firewall, a region and a policy answer 403, too: another key does not help."""
    error = await _refusal(serving, handler, api_key="k" * 9)
    assert (KEY_ADVICE in error.message) is advised


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, "Set api_key (or ORCHD_OPENAI_API_KEY) to a key this server accepts"),
        ({"KEY": "sk-hidden-key"}, "made without the registry reads no environment"),
        ({"KEY": "sk-hidden-key", "URL": "http://other"},
         "was not used: it belongs to the server that ORCHD_OPENAI_URL names"),
    ],
)  # fmt: skip
async def test_a_401_explains_why_the_environments_key_was_not_used(
    serving: Serving,
    monkeypatch: pytest.MonkeyPatch,
    variables: Mapping[str, str],
    says: str,
) -> None:
    """A key of another server is never sent; the error says so."""
    monkeypatch.delenv("ORCHD_OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("ORCHD_OPENAI_URL", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv({"KEY": "ORCHD_OPENAI_API_KEY", "URL": "ORCHD_OPENAI_URL"}[name], value)
    error = await _refusal(serving, answers(b"", 401))
    assert says in error.message
    assert "hidden" not in error.message


async def test_a_challenge_for_basic_auth_names_the_option(serving: Serving) -> None:
    """A reverse proxy says which scheme it wants (RFC 9110, 11.6.1)."""
    challenge = {"WWW-Authenticate": 'Basic realm="models"'}
    error = await _refusal(serving, answers(b"", 401, challenge), api_key="k" * 9)
    assert 'set basic_auth to "user:password"' in error.message
    assert KEY_ADVICE not in error.message


@pytest.mark.parametrize(
    "handler",
    [
        fails(500, "upstream http://h/v1/chat/completions failed"),
        fails(500, "POST /v1/chat/completions: internal error"),
        fails(502, "no answer from http://h/v1/chat/completions"),
        fails(400, "invalid body for /v1/chat/completions"),
        fails(404, "model x not found at /v1/chat/completions"),
        fails(429, "too many chat requests"),
    ],
)
async def test_a_url_in_a_text_does_not_mean_a_missing_endpoint(
    serving: Serving, handler: Handler
) -> None:
    """Routers repeat the path of the request in every error."""
    for task in (PROMPT, TaskRequest(messages=[{"role": "user", "content": "x"}])):
        error = await _refusal(serving, handler, task)
        assert "endpoint," not in error.message


async def test_a_proxy_that_wants_credentials_is_named(serving: Serving) -> None:
    """407 comes from the proxy, so that api_key would not help."""
    error = await _refusal(serving, answers(b"", 407))
    assert error.code is ErrorCode.UPSTREAM_AUTH
    assert "write them into proxy" in error.message
    assert KEY_ADVICE not in error.message


def test_the_adapter_shows_no_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter that is made without the registry reads none."""
    monkeypatch.setenv("ORCHD_OPENAI_API_KEY", "sk-hidden-key")
    assert OpenAIHttpAdapter("http://h").config.api_key is None
