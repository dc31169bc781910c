"""From what is typed to an adapter's options."""

from collections.abc import Callable
from typing import Any

import pytest

import registry
from registry.cli.terminal.arguments import get_adapter
from registry.cli.terminal.status import UsageError


@pytest.mark.parametrize("pair", ["sk-secret", "=sk-secret", ""])
def test_an_invalid_pair_is_not_repeated(pair: str) -> None:
    """A malformed --option is refused without showing it: it may hold a key (HTU-1004)."""
    with pytest.raises(UsageError, match="KEY=VALUE") as caught:
        get_adapter("openai-http", None, [pair])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("base_url", ["http://a", None])
def test_an_option_is_given_once(base_url: str | None) -> None:
    """The same option twice is a mistake, not a choice; --base-url is an option too."""
    pairs = ["base_url=http://b"] if base_url else ["base_url=http://b", "base_url=http://c"]
    with pytest.raises(UsageError, match="base_url is given twice"):
        get_adapter("openai-http", base_url, pairs)


def test_keys_come_from_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key on the command line is refused, naming the variable; from there it is used."""
    with pytest.raises(UsageError, match="set ORCHD_OPENAI_API_KEY") as caught:
        get_adapter("openai-http", "http://a", ["api_key=sk-secret"])
    assert "sk-secret" not in str(caught.value)
    monkeypatch.setenv("ORCHD_OPENAI_API_KEY", "sk-secret")
    adapter: Any = get_adapter("openai-http", "http://a", [])
    assert adapter.config.api_key == "sk-secret"


def test_what_is_not_typed_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment fills up what is typed, and is overruled by it."""
    monkeypatch.setenv("ORCHD_OPENAI_URL", "http://env")
    monkeypatch.setenv("ORCHD_OPENAI_POOL", "blue")
    monkeypatch.setenv("ORCHD_OPENAI_REPLICA", "")

    def config(base_url: str | None, *pairs: str) -> Any:
        return get_adapter("openai-http", base_url, list(pairs)).config

    assert config(None).base_url == "http://env"
    assert config("http://typed").base_url == "http://typed"
    mixed = config(None, "stall_timeout_s=5", "egress_allow=a,b")
    assert (mixed.base_url, mixed.pool_id, mixed.replica_id) == ("http://env", "blue", "r0")
    assert (mixed.stall_timeout_s, mixed.egress_allow) == (5.0, ("a", "b"))


def test_a_value_the_constructor_refuses_is_a_wrong_configuration(
    site: Any, monkeypatch: pytest.MonkeyPatch, adapter_source: str
) -> None:
    """An adapter that loads, and refuses what it is given, is not called broken."""
    module = (
        adapter_source + "\n    def __attrs_post_init__(self):\n        raise ValueError('odd')\n"
    )
    site.install("made", "made = made_picky:Adapter", {"made_picky.py": module})
    fresh = registry.Registry()
    monkeypatch.setattr(registry, "get", fresh.get)
    monkeypatch.setattr(registry, "describe", fresh.describe)
    with pytest.raises(UsageError, match="configuration of 'made': odd"):
        get_adapter("made", None, [])


def test_a_constructor_that_fails_otherwise_stays_a_load_error(
    site: Any, monkeypatch: pytest.MonkeyPatch, adapter_source: str
) -> None:
    """Only a ValueError is about the configuration."""
    module = (
        adapter_source + "\n    def __attrs_post_init__(self):\n        raise OSError('gone')\n"
    )
    site.install("made", "made = made_odd:Adapter", {"made_odd.py": module})
    fresh = registry.Registry()
    monkeypatch.setattr(registry, "get", fresh.get)
    monkeypatch.setattr(registry, "describe", fresh.describe)
    with pytest.raises(registry.AdapterLoadError, match="OSError: gone"):
        get_adapter("made", None, ["size=2"])


def test_without_an_address_the_error_says_where_to_give_it(cli: Callable[..., Any]) -> None:
    """Neither --base-url nor environment: one line that names both."""
    done = cli("submit", "hi")
    assert done.code == 2
    assert done.err.startswith("error: --base-url is needed: give it here, or set ORCHD")
    assert "ORCHD_OPENAI_URL" in done.err
    assert done.err.count("\n") == 1


def test_a_missing_option_is_shown_as_it_is_typed(cli: Callable[..., Any]) -> None:
    """Other options than the address are given as --option KEY=VALUE."""
    done = cli("submit", "hi", "--adapter", "replay")
    assert (done.code, done.err) == (2, "error: --option path=... is needed: give it here\n")
