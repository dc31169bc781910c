"""Texts of options, typed on a command line or in the environment, and the values they mean."""

from collections.abc import Mapping
from typing import Any, Literal

import attrs
import pytest

from adapter_api import ConfigError
from registry.config.declared import OptionText
from registry.config.fields import structure_config, value_of
from tests.registry.config.options import Config, Mode, Retry


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("5", str, "5"),
        ("null", str | None, "null"),
        ("5", int | None, 5),
        ("0.5", float, 0.5),
        ("None", float | None, None),
        ("null", float | None, None),
        ("true", bool, True),
        ("Off", bool, False),
        ("0", bool, False),
        ("chat", Literal["auto", "chat"], "chat"),
        ("1", Literal["1", "2"], "1"),
        ("2", Literal[1, 2], 2),
        ("slow", Mode | None, Mode.SLOW),
        ("a, b", tuple[str, ...] | None, ["a", "b"]),
        ("none", tuple[str, ...] | None, None),
        ('[" a"]', tuple[str, ...], [" a"]),
        ("5", tuple[str, ...], ["5"]),
        ("1, 2", tuple[int, ...], [1, 2]),
        ("[1, 2]", list[int], [1, 2]),
        ('{"a": "b"}', Mapping[str, str], {"a": "b"}),
        ('{"attempts": 2}', Retry, {"attempts": 2}),
        ("5", Any, "5"),
        ("many", int, "many"),
        ("{", Mapping[str, str], "{"),
        ("[" * 100_000, int, "[" * 100_000),
        ("[" * 100_000, Any, "[" * 100_000),
    ],
)
def test_a_text_is_read_as_the_type_of_its_option(text: str, kind: Any, value: Any) -> None:
    """A text that means no value of the type stays as it is, for the check of the type."""
    assert value_of(text, kind) == value


def test_typed_options_become_the_config() -> None:
    """Typed texts and values may stand side by side."""
    typed = {"base_url": "5", "timeout_s": "3", "mode": "slow", "allow": "a,b", "retry": "{}"}
    options = {name: OptionText(text) for name, text in typed.items()}
    config = structure_config("made", Config, {**options, "slots": 2})
    assert config == Config("5", timeout_s=3.0, slots=2, mode=Mode.SLOW, allow=("a", "b"))
    assert type(config.base_url) is str


def test_a_typed_option_that_is_refused_is_shown() -> None:
    """The error shows what was typed, unless it is a secret."""

    @attrs.frozen
    class Sized:
        size: int = 1
        pin: int = attrs.field(default=0, metadata={"secret": True})

    options = {"size": OptionText("many"), "pin": OptionText("hunter2"), "sise": OptionText("2")}
    with pytest.raises(ConfigError) as caught:
        structure_config("made", Sized, options)
    assert sorted(map(str, caught.value.problems)) == [
        "$.pin: expected int, got str",
        "$.sise: unknown option; did you mean size?",
        "$.size: expected int, got 'many'",
    ]
