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
from adapters.openai_http.validators import OWNED_HEADERS

URL = "http://h"


def test_only_the_base_url_is_required() -> None:
    """Everything else has its specified default (HTU-1001, HTU-1002)."""
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
        ({"api": "both"}, "api must be one of auto, completions, chat, got 'both'"),
        ({"dialect": "grok"}, "dialect must be one of auto, azure, "),
        ({"stall_timeout_s": 0}, "stall_timeout_s must be a finite number of seconds above 0"),
        ({"stall_timeout_s": True}, "stall_timeout_s must be a finite number of seconds above 0"),
        ({"first_token_timeout_s": -1}, "first_token_timeout_s must be a finite number"),
        ({"first_token_timeout_s": "5"}, "first_token_timeout_s must be a finite number"),
        ({"connect_timeout_s": math.nan}, "connect_timeout_s must be a finite number"),
        ({"connect_timeout_s": math.inf}, "connect_timeout_s must be a finite number"),
        ({"max_connections": 0}, "max_connections must be an integer of at least 1"),
        ({"max_connections": 1.5}, "max_connections must be an integer of at least 1"),
        ({"max_connections": True}, "max_connections must be an integer of at least 1"),
        ({"headers": {"x": "a\r\nb"}}, "headers: x must be a string of printable ASCII"),
        ({"headers": {"x": "naïve"}}, "headers: x must be a string of printable ASCII"),
        ({"headers": {"x": 5}}, "headers: x must be a string of printable ASCII"),
        ({"headers": {"a b": "c"}}, "headers: 'a b' is not a valid header name"),
        ({"api_path": "inference"}, 'api_path must be a path such as "/inference" or "/"'),
        ({"api_path": "/a/../b"}, "api_path must be a path"),
        ({"api_path": "/a/%2E%2e/b"}, "api_path must be a path"),
        ({"api_path": "/a?key=x"}, "api_path must be a path"),
        ({"api_path": "/a\r\nb"}, "api_path must be a path"),
        ({"api_path": 5}, "api_path must be a path"),
        ({"accept": ""}, "accept must be a non-empty string of printable ASCII characters"),
        ({"accept": "a\r\nX: y"}, "accept must be a non-empty string of printable ASCII"),
        ({"basic_auth": "no-colon-hidden"}, 'basic_auth must be "user:password"'),
        ({"basic_auth": "hidden:\n"}, 'basic_auth must be "user:password"'),
        ({"basic_auth": 5}, 'basic_auth must be "user:password"'),
        ({"basic_auth": "me:hidden", "api_key": "hidden"}, "api_key and HTTP Basic"),
        ({"max_line_bytes": 10}, "max_line_bytes must be an integer of at least 1024"),
        ({"max_event_bytes": 0}, "max_event_bytes must be an integer of at least 1024"),
        ({"headers": {5: "c"}}, "headers: 5 is not a valid header name"),
        ({"headers": {"": "c"}}, "headers: '' is not a valid header name"),
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
    assert "hidden" not in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"base_url": None}, "base_url must be a string, got NoneType"),
        ({"base_url": b"http://h"}, "base_url must be a string, got bytes"),
        ({"base_url": {"base_url": URL}}, "base_url must be a string, got dict"),
        (
            {"api_key": 5},
            "api_key must be a string or a function that returns one (or None), got int",
        ),
        ({"api_key": b"hidden"}, "api_key must be a string"),
        ({"azure_token_provider": "hidden"}, "azure_token_provider must be a function"),
        ({"model": 5}, "model must be a string (or None), got int"),
        ({"azure_deployment": 5}, "azure_deployment must be a string (or None)"),
        ({"api_version": 2024}, "api_version must be a string (or None)"),
        ({"proxy": 5}, "proxy must be a string (or None)"),
        ({"ca_file": 5}, "ca_file must be a string (or None)"),
        ({"record": 5}, "record must be a string (or None)"),
        ({"pool_id": None}, "pool_id must be a string, got NoneType"),
        ({"replica_id": 0}, "replica_id must be a string, got int"),
        ({"strict": "no"}, "strict must be True or False, got str"),
        ({"http2": 1}, "http2 must be True or False, got int"),
        ({"api": None}, "api must be one of auto, completions, chat, got None"),
        ({"dialect": ["vllm"]}, "dialect must be one of auto, azure, "),
        (
            {"connect_timeout_s": None},
            "connect_timeout_s must be a finite number of seconds above 0",
        ),
        ({"headers": None}, "headers must be a mapping of names to values, got NoneType"),
        ({"headers": [("x", "hidden")]}, "headers must be a mapping of names to values, got list"),
        ({"retry": None}, "retry must be a RetryPolicy, such as RetryPolicy(attempts=1)"),
        ({"retry": 3}, "retry must be a RetryPolicy, such as RetryPolicy(attempts=1)"),
        ({"retry": {"attemps": 1}}, "retry has no attemps; it has attempts, base_s,"),
        ({"retry": {"attempts": 0}}, "retry: attempts must be an integer of at least 1, got 0"),
        ({"retry": {"attempts": "1"}}, "retry: attempts must be an integer of at least 1, got '1'"),
        (
            {"retry": {"cap_s": None}},
            "retry: cap_s must be a finite number of at least 0, got None",
        ),
        ({"retry": {"seed": 1.5}}, "retry: seed must be an integer (or None), got 1.5"),
        ({"egress_allow": "*.h"}, 'egress_allow must be a tuple of host patterns, such as ("*'),
        ({"egress_allow": ["h", 5]}, "egress_allow must be a tuple of host patterns"),
        ({"client_cert": ("a", "b", "c")}, "client_cert must be a file name or a pair of them"),
        (
            {"client_cert": 5},
            "client_cert must be a file name or a pair of them (or None), got int",
        ),
        ({"client": "httpx"}, "client must be an httpx.AsyncClient (or None), got str"),
        ({"client": httpx.Client()}, "client must be an httpx.AsyncClient (or None), got Client"),
        ({"transport": "t"}, "transport must be an httpx.AsyncBaseTransport (or None), got str"),
    ],
)
def test_wrong_types_are_named(options: dict[str, Any], says: str) -> None:
    """Every message names the option and what it may be, and shows no value that may be secret."""
    with pytest.raises(ValueError, match="^(?!.*hidden)") as caught:
        OpenAIHttpConfig(**{"base_url": URL, **options})
    assert str(caught.value).startswith(says)


def test_lists_and_mappings_become_what_the_options_hold() -> None:
    """As the registry takes them, so does the config itself."""
    config = OpenAIHttpConfig(
        URL, retry={"attempts": 1}, egress_allow=["h"], client_cert=["a", "b"]
    )
    assert config.retry == RetryPolicy(attempts=1)
    assert (config.egress_allow, config.client_cert) == (("h",), ("a", "b"))
    assert attrs.evolve(config, model="x").retry == config.retry
    assert OpenAIHttpAdapter(URL, retry={"attempts": 1}).config.retry.attempts == 1


def test_an_adapter_is_made_in_each_way_there_is() -> None:
    """A base_url or a config, by its place or by its name."""
    config = OpenAIHttpConfig(URL, model="x")
    for adapter in (
        OpenAIHttpAdapter(URL, model="x"),
        OpenAIHttpAdapter(base_url=URL, model="x"),
        OpenAIHttpAdapter(config),
        OpenAIHttpAdapter(config=config),
        OpenAIHttpAdapter(**{"base_url": URL, "model": "x"}),
    ):
        assert adapter.config == config


@pytest.mark.parametrize("given", [{"base_url": URL}, None, 5])
def test_an_adapter_cannot_be_made_from_anything_else(given: Any) -> None:
    """The message says how options in a mapping are given."""
    with pytest.raises(TypeError, match=r"from a base_url or an OpenAIHttpConfig.*\*\*options"):
        OpenAIHttpAdapter(given)
    with pytest.raises(TypeError, match="unexpected keyword argument 'modle'"):
        OpenAIHttpAdapter(URL, modle="x")


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
    others = [
        OpenAIHttpConfig(URL, basic_auth="me:very-secret"),
        OpenAIHttpConfig("http://me:very-secret@h"),
        OpenAIHttpConfig("http://very-secret@h/v1"),
        OpenAIHttpConfig("http://h/x/chat/completions?token=very-secret"),
    ]
    text = f"{config!r} {OpenAIHttpAdapter(config)!r} {others!r}"
    text += "".join(repr(OpenAIHttpAdapter(other)) + repr(other.endpoints()) for other in others)
    assert "secret" not in text
    assert "blue" in text


def test_secrets_are_marked_as_such() -> None:
    """Options that `describe` and error messages must not show are marked in the metadata."""
    secret = {f.name for f in attrs.fields(OpenAIHttpConfig) if f.metadata.get("secret")}
    assert secret == {"api_key", "azure_token_provider", "basic_auth", "proxy"}
    assert attrs.fields(OpenAIHttpConfig).api_key.metadata["env_scope"] == "base_url"


def test_config_and_options_do_not_mix() -> None:
    """Either a config or a base_url with options."""
    with pytest.raises(TypeError, match="put the options into the OpenAIHttpConfig"):
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
        ({"base_url": "localhost:8000"}, "such as http://localhost:8000"),
        ({"base_url": URL, "api_version": "2024-10-21"}, "azure_deployment"),
        ({"base_url": URL, "stall_timeout_s": 0}, "stall_timeout_s"),
        ({"base_url": URL, "modle": "x"}, "model"),
        ({"base_url": URL, "retry": {"attemps": 1}}, "$.retry.attemps: unknown option"),
        (
            {"base_url": URL, "retry": {"attempts": 0}},
            "$.retry.attempts: attempts must be an integer of at least 1",
        ),
        ({"base_url": URL, "egress_allow": ["h", 5]}, "$.egress_allow[1]: expected str"),
        ({"base_url": URL, "client_cert": ["a"]}, "$.client_cert"),
        ({"base_url": URL, "proxy": "http://p", "transport": httpx.AsyncHTTPTransport()}, "proxy"),
    ],
)
def test_the_registry_reports_the_same(options: dict[str, Any], says: str) -> None:
    """Through registry.get each of these is a ConfigError with the same words."""
    with pytest.raises(ConfigError) as caught:
        registry.get("openai-http", **options)
    assert says in str(caught.value)


@pytest.mark.parametrize("proxy", ["user:pw-not-shown@host:88", "pw-not-shown", "http://", ""])
def test_a_proxy_that_is_not_a_url_is_refused_unseen(proxy: str) -> None:
    """The message says what a proxy looks like, and does not repeat a password (HTU-1004)."""
    with pytest.raises(ValueError, match="proxy must be a URL") as caught:
        OpenAIHttpConfig("http://localhost", proxy=proxy)
    assert "pw-not-shown" not in str(caught.value)
