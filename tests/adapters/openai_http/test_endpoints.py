"""base_url in any form people paste."""

import pytest

from adapters.openai_http import OpenAIHttpAdapter, OpenAIHttpConfig
from adapters.openai_http.endpoints import Endpoints, resolve


def _resolve(base_url: str, **options: str) -> Endpoints:
    return resolve(OpenAIHttpConfig(base_url, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("base_url", "completions"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1/completions"),
        ("http://localhost:8000/", "http://localhost:8000/v1/completions"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1/completions"),
        ("http://localhost:8000/v1//", "http://localhost:8000/v1/completions"),
        (" http://localhost:8000/v1/ ", "http://localhost:8000/v1/completions"),
        ("http://gw/team-a", "http://gw/team-a/v1/completions"),
        ("http://gw/team-a/v1", "http://gw/team-a/v1/completions"),
        ("http://gw/v1/team-a", "http://gw/v1/team-a/completions"),
        ("https://host/v1beta/openai", "https://host/v1beta/openai/completions"),
        ("http://h/v1/chat/completions", "http://h/v1/completions"),
        ("http://h/v1/completions/", "http://h/v1/completions"),
        ("http://h/v1/models", "http://h/v1/completions"),
        ("http://[::1]:8000", "http://[::1]:8000/v1/completions"),
        ("https://api.openai.com", "https://api.openai.com/v1/completions"),
    ],
)
def test_v1_is_added_only_where_it_is_missing(base_url: str, completions: str) -> None:
    """Slashes, prefixes and pasted endpoints lead to the same place."""
    endpoints = _resolve(base_url)
    assert str(endpoints.completions) == completions
    assert str(endpoints.chat) == completions.replace("/completions", "/chat/completions")
    assert endpoints.key_header == "Authorization"


@pytest.mark.parametrize(
    ("base_url", "health"),
    [
        ("http://h", "http://h/health"),
        ("http://h/v1", "http://h/health"),
        ("http://gw/team-a/v1", "http://gw/team-a/health"),
    ],
)
def test_health_is_below_the_root(base_url: str, health: str) -> None:
    """Health and version paths do not have the /v1."""
    assert str(_resolve(base_url).at("/health")) == health


AZURE = "https://res.openai.azure.com"
DEPLOYED = f"{AZURE}/openai/deployments/gpt/completions?api-version=2024-10-21"


@pytest.mark.parametrize(
    ("base_url", "options", "completions"),
    [
        (AZURE, {}, f"{AZURE}/openai/v1/completions"),
        (f"{AZURE}/openai/v1/", {}, f"{AZURE}/openai/v1/completions"),
        (f"{AZURE}/openai", {"api_version": "preview"},
         f"{AZURE}/openai/v1/completions?api-version=preview"),
        (f"{AZURE}/openai/deployments/gpt", {}, DEPLOYED),
        (f"{AZURE}/openai/deployments/gpt/chat/completions?api-version=2024-10-21", {}, DEPLOYED),
        (f"{AZURE}/", {"azure_deployment": "gpt"}, DEPLOYED),
        (AZURE, {"azure_deployment": "gpt", "api_version": "2024-10-21"}, DEPLOYED),
        (f"{AZURE}/openai/v1", {"azure_deployment": "gpt"}, DEPLOYED),
        ("https://res.cognitiveservices.azure.com/openai/deployments/gpt/completions", {},
         DEPLOYED.replace("openai.azure", "cognitiveservices.azure")),
        ("https://res.services.ai.azure.com/openai/v1/", {},
         "https://res.services.ai.azure.com/openai/v1/completions"),
        ("https://proxy.example/azure", {"azure_deployment": "gpt"},
         "https://proxy.example/azure/openai/deployments/gpt/completions?api-version=2024-10-21"),
        ("http://127.0.0.1:9", {"dialect": "azure"}, "http://127.0.0.1:9/openai/v1/completions"),
    ],
)  # fmt: skip
def test_azure_in_the_forms_its_portal_shows(
    base_url: str, options: dict[str, str], completions: str
) -> None:
    """Resource, v1, deployment, full URL with api-version: all work, with the api-key header."""
    endpoints = _resolve(base_url, **options)
    assert str(endpoints.completions) == completions
    assert endpoints.key_header == "api-key"


@pytest.mark.parametrize(
    ("base_url", "options", "says"),
    [
        ("localhost:8000", {}, "perhaps http://localhost:8000"),
        ("", {}, "must begin with http://"),
        ("ftp://h", {}, "must begin with http://"),
        ("http://", {}, "name a host"),
        ("http://user:secret@h", {}, "api_key"),
        ("http://h?key=secret", {}, "query"),
        ("http://h#x", {}, "fragment"),
        ("http://h:port", {}, "not a valid URL"),
        ("user:secret@h x", {}, "perhaps http://HOST:PORT"),
        (AZURE, {"api_version": "2024-10-21"}, "set azure_deployment"),
        (f"{AZURE}/openai/deployments/a", {"azure_deployment": "b"}, "leave one of them out"),
        (AZURE, {"azure_deployment": "a/b"}, "letters, digits"),
        (AZURE, {"azure_deployment": "a", "api_version": "a b"}, "letters, digits"),
    ],
)
def test_a_wrong_base_url_says_what_to_write(
    base_url: str, options: dict[str, str], says: str
) -> None:
    """The message helps and never repeats a credential."""
    with pytest.raises(ValueError, match="must|perhaps|set|leave|not a valid|letters") as caught:
        OpenAIHttpAdapter(base_url, **options)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"api": "both"}, "api must be auto, completions or chat"),
        ({"dialect": "grok"}, "dialect must be auto"),
        ({"stall_timeout_s": 0}, "stall_timeout_s must be a number of seconds above 0"),
        ({"connect_timeout_s": float("nan")}, "connect_timeout_s"),
        ({"max_connections": 0}, "max_connections must be an integer of at least 1"),
        ({"headers": {"authorization": "x"}}, "credentials go into api_key"),
        ({"headers": {"x": "a\r\nb"}}, "printable ASCII"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], says: str) -> None:
    """Every validator names the option and what is allowed."""
    with pytest.raises(ValueError, match="must|header") as caught:
        OpenAIHttpConfig("http://h", **options)  # type: ignore[arg-type]
    assert says in str(caught.value)


def test_no_secret_in_a_repr() -> None:
    """HTU-1004: keys, providers, proxies and secret headers stay out of reprs."""
    config = OpenAIHttpConfig(
        "http://h",
        api_key="sk-very-secret-key",
        proxy="http://u:very-secret@p",
        headers={"X-Api-Key": "very-secret", "X-Team": "blue"},
        azure_token_provider=lambda: "very-secret",
    )
    text = f"{config!r} {OpenAIHttpAdapter(config)!r}"
    assert "secret" not in text
    assert "blue" in text


def test_config_and_options_do_not_mix() -> None:
    """Either a config or a base_url with options."""
    with pytest.raises(TypeError):
        OpenAIHttpAdapter(OpenAIHttpConfig("http://h"), model="x")
