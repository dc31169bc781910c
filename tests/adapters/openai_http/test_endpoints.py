"""base_url in any form that people paste."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.openai_http import OpenAIHttpAdapter, OpenAIHttpConfig
from adapters.openai_http.endpoints import Endpoints


def _resolve(base_url: str, **options: Any) -> Endpoints:
    return OpenAIHttpConfig(base_url, **options).endpoints()


@pytest.mark.parametrize(
    ("base_url", "completions"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1/completions"),
        ("http://localhost:8000/", "http://localhost:8000/v1/completions"),
        ("http://localhost:8000//", "http://localhost:8000/v1/completions"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1/completions"),
        ("http://localhost:8000/v1//", "http://localhost:8000/v1/completions"),
        (" http://localhost:8000/v1/ \n", "http://localhost:8000/v1/completions"),
        ("HTTP://LocalHost:8000", "http://localhost:8000/v1/completions"),
        ("http://h:80", "http://h/v1/completions"),
        ("http://gw/team-a", "http://gw/team-a/v1/completions"),
        ("http://gw/team-a/v1", "http://gw/team-a/v1/completions"),
        ("http://gw/v1/team-a", "http://gw/v1/team-a/completions"),
        ("http://gw/vault", "http://gw/vault/v1/completions"),
        ("http://gw/a%20b/v1", "http://gw/a%20b/v1/completions"),
        ("http://gw/a%2Fb%3Fc", "http://gw/a%2Fb%3Fc/v1/completions"),
        ("http://gw/straße", "http://gw/stra%C3%9Fe/v1/completions"),
        ("https://host/v1beta/openai", "https://host/v1beta/openai/completions"),
        ("https://host/api/v3", "https://host/api/v3/completions"),
        ("http://h/v1/chat/completions", "http://h/v1/completions"),
        ("http://h/v1/completions/", "http://h/v1/completions"),
        ("http://h/v1/models", "http://h/v1/completions"),
        ("http://h/v1/responses", "http://h/v1/completions"),
        ("http://h/chat/completions", "http://h/completions"),
        ("https://h/inference/chat/completions", "https://h/inference/completions"),
        ("https://h/inference/completions/", "https://h/inference/completions"),
        ("https://h/a/b/models", "https://h/a/b/completions"),
        ("http://[::1]:8000", "http://[::1]:8000/v1/completions"),
        ("http://[::1]/v1", "http://[::1]/v1/completions"),
        ("https://api.openai.com", "https://api.openai.com/v1/completions"),
    ],
)
def test_v1_is_added_only_where_it_is_missing(base_url: str, completions: str) -> None:
    """Slashes, prefixes, version segments and pasted endpoints lead to the same place."""
    endpoints = _resolve(base_url)
    assert str(endpoints.completions) == completions
    assert str(endpoints.chat) == completions.replace("/completions", "/chat/completions")
    assert str(endpoints.models) == completions.replace("/completions", "/models")
    assert endpoints.key_header == "Authorization"


@pytest.mark.parametrize(
    ("base_url", "health"),
    [
        ("http://h", "http://h/health"),
        ("http://h/v1", "http://h/health"),
        ("http://gw/team-a", "http://gw/team-a/health"),
        ("http://gw/team-a/v1", "http://gw/team-a/health"),
        ("http://gw/a%2Fb/v1", "http://gw/a%2Fb/health"),
        ("https://host/v1beta/openai", "https://host/health"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/health"),
    ],
)
def test_health_is_below_the_root(base_url: str, health: str) -> None:
    """Health and version paths do not have the /v1."""
    endpoints = _resolve(base_url)
    assert str(endpoints.at("/health")) == health
    assert str(endpoints.at("/")) == health.removesuffix("health")


AZURE = "https://res.openai.azure.com"
COGNITIVE = "https://res.cognitiveservices.azure.com"
VERSION = "api-version=2024-10-21"
DEPLOYED = f"{AZURE}/openai/deployments/gpt/completions?{VERSION}"
V1 = f"{AZURE}/openai/v1/completions"


@pytest.mark.parametrize(
    ("base_url", "options", "completions"),
    [
        # The five forms that portals and samples show.
        (f"{AZURE}/", {}, V1),
        (f"{AZURE}/openai/v1/", {}, V1),
        (f"{AZURE}/openai/deployments/gpt", {}, DEPLOYED),
        (f"{AZURE}/openai/deployments/gpt/chat/completions?{VERSION}", {}, DEPLOYED),
        (f"{COGNITIVE}/openai/deployments/gpt/completions?{VERSION}", {},
         DEPLOYED.replace(AZURE, COGNITIVE)),
        # And what people make of them.
        (AZURE, {}, V1),
        (f"{AZURE}/openai", {}, V1),
        (f"{AZURE}/openai/", {"api_version": "preview"}, f"{V1}?api-version=preview"),
        (f"{AZURE}/openai/v1?api-version=preview", {}, f"{V1}?api-version=preview"),
        (f"{AZURE}/openai/v1/chat/completions", {}, V1),
        (f"{AZURE}/openai/responses?api-version=2025-04-01-preview", {}, V1),
        (f"{AZURE}/openai?{VERSION}", {}, V1),
        (f"{AZURE}/", {"azure_deployment": "gpt"}, DEPLOYED),
        (AZURE, {"azure_deployment": "gpt", "api_version": "2024-10-21"}, DEPLOYED),
        (f"{AZURE}?api-version=2023-05-15", {"azure_deployment": "gpt"},
         DEPLOYED.replace("2024-10-21", "2023-05-15")),
        (f"{AZURE}/openai/deployments/gpt?api-version=2023-05-15", {"api_version": "2024-10-21"},
         DEPLOYED),
        (f"{AZURE}/openai/deployments/gpt", {"azure_deployment": "gpt"}, DEPLOYED),
        (f"{AZURE}/openai/v1", {"azure_deployment": "gpt"}, DEPLOYED),
        ("https://res.openai.azure.us", {}, "https://res.openai.azure.us/openai/v1/completions"),
        ("https://res.services.ai.azure.com/openai/v1/", {},
         "https://res.services.ai.azure.com/openai/v1/completions"),
        ("https://proxy.example/azure", {"azure_deployment": "gpt"},
         f"https://proxy.example/azure/openai/deployments/gpt/completions?{VERSION}"),
        ("https://proxy.example/a%2Fb/openai/deployments/gpt", {},
         f"https://proxy.example/a%2Fb/openai/deployments/gpt/completions?{VERSION}"),
        ("http://127.0.0.1:9", {"dialect": "azure"}, "http://127.0.0.1:9/openai/v1/completions"),
    ],
)  # fmt: skip
def test_azure_in_the_forms_its_portals_show(
    base_url: str, options: dict[str, str], completions: str
) -> None:
    """Resource, v1, deployment, full URL with api-version: all work, with the api-key header."""
    endpoints = _resolve(base_url, **options)
    assert str(endpoints.completions) == completions
    assert str(endpoints.chat) == completions.replace("/completions", "/chat/completions")
    assert (endpoints.models is None) == ("/deployments/" in completions)
    assert endpoints.key_header == "api-key"


@pytest.mark.parametrize(
    ("base_url", "options", "says"),
    [
        ("localhost:8000", {}, "such as http://localhost:8000"),
        ("//h/v1", {}, "such as http://HOST:PORT"),
        ("api.openai.com/v1", {}, "such as http://api.openai.com/v1"),
        ("[::1]:8000", {}, "such as http://[::1]:8000"),
        ("", {}, "must begin with http://"),
        ("ftp://h", {}, "must begin with http://"),
        ("http://", {}, "name a host"),
        ("http://user:secret", {}, "not a valid URL"),
        ("http://user:secret@h:secret", {}, "not a valid URL"),
        ("http://user:secret@ho st/", {}, "not a valid URL"),
        ("http://user:secret@h..x/", {}, "not a valid URL"),
        ("http://user:secret@-h/", {}, "not a valid URL"),
        ("http://user/secret@h/", {}, "write '/' as %2F"),
        ("http://user:secret@h", {"basic_auth": "a:secret"}, "leave one of them out"),
        ("http://user:secret@h", {"api_key": "secret"}, "leave one of them out"),
        ("sk-secretsecret", {}, "such as http://HOST:PORT"),
        ("my-own-secret-key", {}, "such as http://HOST:PORT"),
        ("eyJhbGciOi.eyJsecret.abc", {}, "such as http://HOST:PORT"),
        ("https://sk-secretsecret0123456", {}, "put the key into api_key"),
        ("https://hf_secretSECRET0123456/v1", {}, "put the key into api_key"),
        ("http://h?key=secret", {}, "query"),
        ("http://h/v1/models?key=secret", {}, "query"),
        ("http://h/chat/completions", {"api_path": "/x"}, "leave api_path out"),
        ("http://h/v1/models", {"api_path": "/x"}, "leave api_path out"),
        (AZURE, {"azure_deployment": "a", "api_path": "/x"}, "leave api_path out"),
        (AZURE, {"azure_deployment": "."}, "other than '.' and '..'"),
        (AZURE, {"azure_deployment": ".."}, "other than '.' and '..'"),
        ("http://h#x", {}, "fragment"),
        ("http://h:port", {}, "not a valid URL"),
        ("http://h:99999999", {}, "a port from 1 to 65535"),
        ("http://h:0", {}, "a port from 1 to 65535"),
        ("user:secret@h x", {}, "such as http://HOST:PORT"),
        (AZURE, {"api_version": "2024-10-21"}, "set azure_deployment"),
        ("http://h", {"api_version": "2024-10-21"}, "set azure_deployment or dialect='azure'"),
        (f"{AZURE}/openai/deployments/a", {"azure_deployment": "b"}, "leave one of them out"),
        (AZURE, {"azure_deployment": "a/b"}, "letters, digits"),
        (AZURE, {"azure_deployment": "a?b"}, "letters, digits"),
        (f"{AZURE}/openai/deployments/a%20b", {}, "letters, digits"),
        (AZURE, {"azure_deployment": "a", "api_version": "a b"}, "letters, digits"),
        (AZURE, {"azure_deployment": "a", "api_version": "1&x=2"}, "letters, digits"),
    ],
)
def test_a_wrong_base_url_says_what_to_write(
    base_url: str, options: dict[str, str], says: str
) -> None:
    """The message helps and never repeats a credential."""
    with pytest.raises(
        ValueError, match=r"must|perhaps|set|leave|not a valid|letters|cannot|write"
    ) as caught:
        OpenAIHttpAdapter(base_url, **options)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("base_url", "chat", "pasted"),
    [
        ("https://h/inference/chat/completions", "https://h/inference/chat/completions", "chat"),
        ("https://h/chat/completions/", "https://h/chat/completions", "chat"),
        ("https://h/v1/chat/completions", "https://h/v1/chat/completions", "chat"),
        ("https://h/x/chat/completions?a=b%20c", "https://h/x/chat/completions?a=b%20c", "chat"),
        ("https://h/x/completions?a=b", "https://h/x/chat/completions?a=b", "completions"),
        ("https://h/v1", "https://h/v1/chat/completions", None),
        ("https://h/v1/chat", "https://h/v1/chat/completions", None),
        ("http://sk-llm-01/v1", "http://sk-llm-01/v1/chat/completions", None),
        ("https://sk-bratislava-engine01.example.com",
         "https://sk-bratislava-engine01.example.com/v1/chat/completions", None),
        ("https://h/v1/models", "https://h/v1/chat/completions", None),
        ("https://res.services.ai.azure.com/models/chat/completions?api-version=2024-05-01-preview",
         "https://res.services.ai.azure.com/models/chat/completions?api-version=2024-05-01-preview",
         "chat"),
        (f"{AZURE}/openai/v1/chat/completions", f"{AZURE}/openai/v1/chat/completions", "chat"),
    ],
)  # fmt: skip
def test_a_pasted_endpoint_is_used_unchanged(base_url: str, chat: str, pasted: str | None) -> None:
    """The whole URL as a provider's documentation shows it, with its query."""
    endpoints = _resolve(base_url)
    assert str(endpoints.chat) == chat
    assert endpoints.pasted == pasted


@pytest.mark.parametrize(
    ("base_url", "api_path", "completions", "health"),
    [
        ("http://h", "/inference", "http://h/inference/completions", "http://h/health"),
        ("http://h/", "/inference/", "http://h/inference/completions", "http://h/health"),
        ("http://h/gw", "/api/openai", "http://h/gw/api/openai/completions", "http://h/gw/health"),
        ("http://h/inference", "/inference", "http://h/inference/completions", "http://h/health"),
        ("http://h", "/", "http://h/completions", "http://h/health"),
        ("http://h", "", "http://h/completions", "http://h/health"),
        ("http://h/v1", "/v2", "http://h/v1/v2/completions", "http://h/v1/health"),
    ],
)
def test_an_api_without_v1_has_a_path_of_its_own(
    base_url: str, api_path: str, completions: str, health: str
) -> None:
    """api_path takes the place of /v1; health stays below base_url."""
    endpoints = _resolve(base_url, api_path=api_path)
    assert str(endpoints.completions) == completions
    assert str(endpoints.at("/health")) == health


@pytest.mark.parametrize(
    ("base_url", "userinfo"),
    [
        ("http://me:pw@h", "me:pw"),
        ("http://me%40x:p%3Aw@h/v1", "me@x:p:w"),
        ("http://me@h", "me"),
        ("http://h", None),
    ],
)
def test_a_user_in_base_url_is_in_no_url(base_url: str, userinfo: str | None) -> None:
    """It becomes the credentials of HTTP Basic, and no request line or message shows it."""
    endpoints = _resolve(base_url)
    assert endpoints.userinfo == userinfo
    assert str(endpoints.chat) == "http://h/v1/chat/completions"
    assert str(endpoints.root) in ("http://h", "http://h/")
    assert "pw" not in repr(endpoints)


@given(st.text(max_size=60))
def test_no_base_url_raises_anything_else(text: str) -> None:
    """A ValueError that says what to write, whatever is given; and never a long text back."""
    for base_url in (text, f"http://{text}", f"http://h/{text}", f"http://{text}@h"):
        try:
            _resolve(base_url)
        except ValueError as error:
            assert len(str(error)) < 250
