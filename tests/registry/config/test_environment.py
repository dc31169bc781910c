"""Options from the environment."""

from typing import Annotated

import attrs
import pytest

from adapter_api import ConfigError
from registry.config.fields import (
    config_from_options,
    structure_config,
)
from tests.registry.config.options import Config, Mode

# The environment


def test_environment_gives_the_config(monkeypatch):
    """Each variable is read as its field's type; unset and empty ones leave the default."""
    values = {
        "MADE_URL": "http://a",
        "MADE_KEY": "hunter2",
        "MADE_TIMEOUT": "2.5",
        "MADE_STRICT": "Yes",
        "MADE_SLOTS": "3",
        "MADE_API": "chat",
        "MADE_MODE": "slow",
        "MADE_ALLOW": "a, b,",
        "MADE_PORTS": "1,2",
    }
    for variable, value in values.items():
        monkeypatch.setenv(variable, value)
    assert config_from_options("made", Config, {}) == Config(
        "http://a",
        api_key="hunter2",
        timeout_s=2.5,
        strict=True,
        slots=3,
        api="chat",
        mode=Mode.SLOW,
        allow=("a", "b"),
        ports=[1, 2],
    )
    for variable in values:
        monkeypatch.setenv(variable, "")
    monkeypatch.setenv("MADE_URL", "http://a")
    monkeypatch.setenv("MADE_STRICT", "0")
    assert config_from_options("made", Config, {}) == Config("http://a")


def test_environment_problems_name_the_variable(monkeypatch):
    """A value that cannot be read, or is missing, is reported with its variable."""
    for variable, value in {
        "MADE_KEY": "abc",
        "MADE_TIMEOUT": "soon",
        "MADE_STRICT": "maybe",
        "MADE_SLOTS": "1.5",
        "MADE_API": "completions",
        "MADE_MODE": "medium",
        "MADE_PORTS": "1,x",
    }.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as caught:
        config_from_options("made", Config, {})
    assert tuple(map(str, caught.value.problems)) == (
        "$.base_url: missing; set base_url=..., or set MADE_URL",
        "$.timeout_s: expected float, got 'soon' (from MADE_TIMEOUT)",
        "$.strict: expected bool, got 'maybe' (from MADE_STRICT)",
        "$.slots: expected int | None, got '1.5' (from MADE_SLOTS)",
        "$.api: expected 'auto' | 'chat', got 'completions' (from MADE_API)",
        "$.mode: expected 'fast' | 'slow', got 'medium' (from MADE_MODE)",
        "$.ports[1]: expected int, got str (from MADE_PORTS)",
        "$.api_key: it is not valid (the value is secret) (from MADE_KEY)",
    )


def test_secret_variable_is_not_shown(monkeypatch):
    """A secret variable of the wrong type is reported without its value."""

    @attrs.frozen
    class Pin:
        pin: int = attrs.field(metadata={"env": "MADE_PIN", "secret": True})

    monkeypatch.setenv("MADE_PIN", "hunter2")
    with pytest.raises(ConfigError) as caught:
        config_from_options("made", Pin, {})
    assert tuple(map(str, caught.value.problems)) == (
        "$.pin: expected int, got str (from MADE_PIN)",
    )


def test_missing_variable(monkeypatch):
    """With nothing set at all the missing option still says which variable to set."""
    monkeypatch.delenv("MADE_URL", raising=False)
    with pytest.raises(ConfigError, match=r"missing; set base_url=\.\.\., or set MADE_URL"):
        config_from_options("made", Config, {})


def test_variable_of_an_annotated_field(monkeypatch):
    """A note on the type says nothing about what a text means."""

    @attrs.frozen
    class Noted:
        size: Annotated[int, "bytes"] = attrs.field(metadata={"env": "MADE_SIZE"})

    monkeypatch.setenv("MADE_SIZE", "7")
    assert config_from_options("made", Noted, {}) == Noted(7)


def test_variable_follows_the_converter(monkeypatch):
    """A text for a field with a converter is read as what the converter takes."""

    def seconds(value: str | float) -> float:
        return 60.0 if value == "minute" else float(value)

    @attrs.frozen
    class Timed:
        limit_s: float = attrs.field(converter=seconds, metadata={"env": "MADE_LIMIT"})

    monkeypatch.setenv("MADE_LIMIT", "minute")
    assert config_from_options("made", Timed, {}) == Timed(60.0)
    monkeypatch.setenv("MADE_LIMIT", "2")
    assert config_from_options("made", Timed, {}) == Timed(2.0)


@attrs.frozen
class Server:
    """Options with a secret that belongs to the address."""

    url: str = attrs.field(metadata={"env": "MADE_URL"})
    key: str | None = attrs.field(
        default=None, metadata={"env": "MADE_KEY", "env_scope": "url", "secret": True}
    )
    timeout_s: float = attrs.field(default=5.0, metadata={"env": "MADE_TIMEOUT"})


@pytest.mark.parametrize(
    ("options", "environment", "key"),
    [
        ({}, {"MADE_URL": "http://a", "MADE_KEY": "k"}, "k"),
        ({"url": "http://b"}, {"MADE_URL": "http://a", "MADE_KEY": "k"}, None),
        ({"url": "http://a"}, {"MADE_URL": "http://a", "MADE_KEY": "k"}, "k"),
        ({"url": "http://b"}, {"MADE_KEY": "k"}, "k"),
        ({"url": "http://b"}, {"MADE_URL": "", "MADE_KEY": "k"}, "k"),
        ({"url": "http://b", "key": "own"}, {"MADE_URL": "http://a", "MADE_KEY": "k"}, "own"),
        ({"key": None}, {"MADE_URL": "http://a", "MADE_KEY": "k"}, None),
    ],
)
def test_a_secret_is_read_within_its_scope(monkeypatch, options, environment, key):
    """A key from the environment goes to the server of the environment, or to the only one."""
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    config = config_from_options("made", Server, options)
    assert config.key == key
    assert config.url == options.get("url", environment.get("MADE_URL"))


def test_options_go_before_the_environment_field_by_field(monkeypatch):
    """One option given does not switch the environment off for the others."""
    monkeypatch.setenv("MADE_URL", "http://a")
    monkeypatch.setenv("MADE_TIMEOUT", "7")
    assert config_from_options("made", Server, {"url": "http://b"}) == Server("http://b", None, 7.0)
    assert config_from_options("made", Server, {"timeout_s": 1.0}) == Server("http://a", None, 1.0)
    with pytest.raises(ConfigError) as caught:
        config_from_options("made", Server, {"url": 5})
    (problem,) = caught.value.problems
    assert (problem.path, problem.kind) == ("$.url", "type")
    assert problem.message == "expected str, got int"


def test_a_mapping_is_complete_as_given(monkeypatch):
    """structure_config, which files use, never reads the environment."""
    monkeypatch.setenv("MADE_TIMEOUT", "7")
    assert structure_config("made", Server, {"url": "http://b"}).timeout_s == 5.0
