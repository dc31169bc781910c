"""The options: defaults, what is allowed, what is shown."""

import math
from typing import Any

import attrs
import httpx
import pytest

import registry
from adapter_api import ConfigError
from adapters.http_util import RetryPolicy
from adapters.openai_http import OpenAIHttpAdapter, OpenAIHttpConfig
from adapters.openai_http.config import OWNED_HEADERS

URL = "http://h"


def test_only_the_base_url_is_required() -> None:
    """Everything else has the default that DESIGN and HTU-1001, HTU-1002 name."""
    config = OpenAIHttpConfig(URL)
    assert (config.connect_timeout_s, config.stall_timeout_s) == (5.0, 30.0)
    assert (config.api, config.dialect, config.strict) == ("auto", "auto", False)
    assert config.first_token_timeout_s == 30.0
    assert config.retry == RetryPolicy(attempts=4, base_s=0.1, multiplier=2.0, cap_s=2.0)
    assert (config.pool_id, config.replica_id) == ("default", "r0")


def test_every_option_has_a_sentence_of_help() -> None:
    """`describe` shows it; the four environment names are the ones that are promised."""
    fields = attrs.fields(OpenAIHttpConfig)
    assert all(field.metadata["help"] for field in fields)
    assert {f.name: f.metadata["env"] for f in fields if "env" in f.metadata} == {
        "base_url": "ORCHD_OPENAI_URL",
        "api_key": "ORCHD_OPENAI_API_KEY",
        "pool_id": "ORCHD_OPENAI_POOL",
        "replica_id": "ORCHD_OPENAI_REPLICA",
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"api": "both"}, "api must be auto, completions or chat, got 'both'"),
        ({"dialect": "grok"}, "dialect must be auto, azure, "),
        ({"stall_timeout_s": 0}, "stall_timeout_s must be a number of seconds above 0"),
        ({"stall_timeout_s": True}, "stall_timeout_s must be a number of seconds above 0"),
        ({"first_token_timeout_s": -1}, "first_token_timeout_s must be a number"),
        ({"first_token_timeout_s": "5"}, "first_token_timeout_s must be a number"),
        ({"connect_timeout_s": math.nan}, "connect_timeout_s must be a number"),
        ({"connect_timeout_s": math.inf}, "connect_timeout_s must be a number"),
        ({"max_connections": 0}, "max_connections must be an integer of at least 1"),
        ({"max_connections": 1.5}, "max_connections must be an integer of at least 1"),
        ({"max_connections": True}, "max_connections must be an integer of at least 1"),
        ({"headers": {"x": "a\r\nb"}}, "headers: x must be a string of printable ASCII"),
        ({"headers": {"x": "naïve"}}, "headers: x must be a string of printable ASCII"),
        ({"headers": {"x": 5}}, "headers: x must be a string of printable ASCII"),
        ({"headers": {"a b": "c"}}, "headers: 'a b' is no name a header may have"),
        ({"headers": {5: "c"}}, "headers: 5 is no name a header may have"),
        ({"headers": {"": "c"}}, "headers: '' is no name a header may have"),
        ({"client": httpx.AsyncClient(), "transport": httpx.AsyncHTTPTransport()},
         "transport cannot be used together with client"),
        ({"client": httpx.AsyncClient(), "http2": True}, "http2 cannot be used together with"),
        ({"transport": httpx.AsyncHTTPTransport(), "ca_file": "x.pem", "proxy": "http://p"},
         "proxy, ca_file cannot be used together with transport"),
    ],
)  # fmt: skip
def test_wrong_options_are_named(options: dict[str, Any], says: str) -> None:
    """Every message names the option and what is allowed."""
    with pytest.raises(ValueError, match=r"must|header|together") as caught:
        OpenAIHttpConfig(URL, **options)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", sorted(OWNED_HEADERS))
def test_owned_headers_cannot_be_set(name: str) -> None:
    """In any case; the message says where credentials and ids go instead, and shows no value."""
    for header in (name, name.title()):
        with pytest.raises(ValueError, match=f"headers must not set {header}") as caught:
            OpenAIHttpConfig(URL, headers={header: "a-hidden-value"})
        assert "api_key" in str(caught.value)
        assert "correlation_id" in str(caught.value)
        assert "hidden" not in str(caught.value)


def test_no_limit_is_an_option() -> None:
    """None for the limits in time; a connect always has one."""
    config = OpenAIHttpConfig(URL, first_token_timeout_s=None, stall_timeout_s=None)
    assert config.first_token_timeout_s is config.stall_timeout_s is None


def test_no_secret_in_a_repr() -> None:
    """HTU-1004: keys, providers, proxies and secret headers stay out of reprs."""
    config = OpenAIHttpConfig(
        URL,
        api_key="sk-very-secret-key",
        proxy="http://u:very-secret@p",
        headers={"X-Api-Key": "very-secret", "X-Team": "blue", "Cookie": "s=very-secret"},
        azure_token_provider=lambda: "very-secret",
    )
    text = f"{config!r} {OpenAIHttpAdapter(config)!r}"
    assert "secret" not in text
    assert "blue" in text


def test_secrets_are_marked_as_such() -> None:
    """What `describe` and error messages must not show is marked in the metadata."""
    secret = {f.name for f in attrs.fields(OpenAIHttpConfig) if f.metadata.get("secret")}
    assert secret == {"api_key", "azure_token_provider", "proxy"}


def test_config_and_options_do_not_mix() -> None:
    """Either a config or a base_url with options."""
    with pytest.raises(TypeError, match="belong into the OpenAIHttpConfig"):
        OpenAIHttpAdapter(OpenAIHttpConfig(URL), model="x")


def test_connecting_options_reach_the_client() -> None:
    """client_options is the part that says how to connect."""
    options = OpenAIHttpConfig(
        URL, connect_timeout_s=2, max_connections=7, ca_file="ca.pem", client_cert=("c", "k")
    ).client_options()
    assert (options.connect_timeout_s, options.max_connections) == (2, 7)
    assert (options.ca_file, options.client_cert) == ("ca.pem", ("c", "k"))
    timeouts = OpenAIHttpConfig(URL, connect_timeout_s=2).timeouts()
    assert (timeouts.connect, timeouts.read, timeouts.write) == (2, None, None)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"base_url": "localhost:8000"}, "perhaps http://localhost:8000"),
        ({"base_url": URL, "api_version": "2024-10-21"}, "azure_deployment"),
        ({"base_url": URL, "stall_timeout_s": 0}, "stall_timeout_s"),
        ({"base_url": URL, "modle": "x"}, "model"),
        ({"base_url": URL, "proxy": "http://p", "transport": httpx.AsyncHTTPTransport()}, "proxy"),
    ],
)
def test_the_registry_reports_the_same(options: dict[str, Any], says: str) -> None:
    """Through registry.get each of these is a ConfigError with the same words."""
    with pytest.raises(ConfigError) as caught:
        registry.get("openai-http", **options)
    assert says in str(caught.value)


@pytest.mark.parametrize("proxy", ["user:pw-not-shown@host:88", "pw-not-shown", "http://", ""])
def test_a_proxy_that_is_no_url_is_refused_unseen(proxy: str) -> None:
    """The message says what a proxy looks like, and does not repeat a password (HTU-1004)."""
    with pytest.raises(ValueError, match="proxy must be a URL") as caught:
        OpenAIHttpConfig("http://localhost", proxy=proxy)
    assert "pw-not-shown" not in str(caught.value)
