"""Config: from a mapping or the environment, strictly; and described."""

import pickle
from functools import partial

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import ConfigError
from registry.config.fields import (
    ConfigField,
    describe_fields,
    secrets_of,
    structure_config,
)
from tests.registry.config.options import Config, Mode, Retry


def problems_of(cls: type = Config, /, **data: object) -> tuple[str, ...]:
    """The problems of these options."""
    with pytest.raises(ConfigError) as caught:
        structure_config("made", cls, data)
    return tuple(map(str, caught.value.problems))


def test_options_become_the_config():
    """Every option of the right type arrives as it is, nested ones from a mapping."""
    config = structure_config(
        "made",
        Config,
        {
            "base_url": "http://a",
            "timeout_s": 3,
            "slots": 2,
            "mode": "slow",
            "allow": ["a", "b"],
            "headers": {"x": "y"},
            "retry": {"attempts": 2},
        },
    )
    assert config == Config(
        "http://a",
        timeout_s=3.0,
        slots=2,
        mode=Mode.SLOW,
        allow=("a", "b"),
        headers={"x": "y"},
        retry=Retry(2),
    )
    assert type(config.timeout_s) is float


def test_all_problems_come_together():
    """Unknown, missing, mistyped and refused options are reported together, each with its path."""
    assert problems_of(base_ur="http://a", timeout_s=-1, strict="yes", retry={"attempts": 0}) == (
        "$.base_ur: unknown option; did you mean base_url?",
        "$.base_url: missing; set base_url=...",
        "$.strict: expected bool, got str",
        "$.retry.attempts: 'attempts' must be >= 1: 0",
        "$.timeout_s: timeout_s must not be below 0, got -1.0",
    )


def test_error_names_the_adapter_and_survives_pickling():
    """A ConfigError names the adapter whose options are wrong, in this process and in another."""
    with pytest.raises(ConfigError, match="configuration of 'made'") as caught:
        structure_config("made", Config, {})
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_unknown_option_without_a_near_one():
    """An option unlike any other gets the list."""
    (problem,) = problems_of(Retry, zzz=1)
    assert problem == "$.zzz: unknown option; the options are: attempts, key"


def test_config_without_options():
    """A config class without fields says that there are no options."""

    @attrs.frozen
    class Bare: ...

    assert structure_config("made", Bare, {}) == Bare()
    assert problems_of(Bare, x=1) == ("$.x: unknown option; the options are: none",)


def test_missing_option_without_a_variable():
    """An option without a variable is only reported as missing."""

    @attrs.frozen
    class Plain:
        size: int

    assert problems_of(Plain) == ("$.size: missing; set size=...",)


def test_private_field_is_known_by_its_alias():
    """The constructor's word for a field is the option's name."""

    @attrs.frozen
    class Private:
        _size: int = 1
        made: int = attrs.field(init=False, default=2)

    assert structure_config("made", Private, {"size": 3}) == Private(3)
    assert problems_of(Private, _size=3)[0].startswith(
        "$._size: unknown option; did you mean size?"
    )
    assert problems_of(Private, made=3)[0].startswith("$.made: unknown option")


# Secrets


@pytest.mark.parametrize("data", [{"api_key": "abc"}, {"api_key": 12345}])
def test_secret_value_is_never_shown(data):
    """A secret that is refused or mistyped does not appear in the error (HTU-1004)."""
    with pytest.raises(ConfigError) as caught:
        structure_config("made", Config, {"base_url": "http://a", **data})
    (problem,) = map(str, caught.value.problems)
    assert problem.startswith("$.api_key: ")
    assert str(data["api_key"]) not in problem
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_secret_in_the_text_of_another_problem():
    """A check over several fields may quote a secret: it is taken out."""

    @attrs.frozen
    class Pair:
        user: str
        key: str = attrs.field(metadata={"secret": True})

        def __attrs_post_init__(self) -> None:
            raise ValueError(f"{self.user} may not use {self.key}")

    assert problems_of(Pair, user="me", key="hunter2") == ("me may not use [hidden]",)


def test_nested_secret_is_hidden():
    """A secret of a nested config is one too."""
    problem = problems_of(base_url="http://a", retry={"key": "hunter2", "attempts": "hunter2"})[0]
    assert problem == "$.retry.attempts: expected int, got str"


def test_secrets_of_a_config():
    """The secrets of a config can be asked for, to hide them elsewhere."""
    assert secrets_of(Config("http://a", api_key="hunter2")) == ["hunter2"]


# Describing


def test_fields_are_described():
    """Each option has its type, default, variable, help and secrecy."""
    fields = {field.name: field for field in describe_fields(Config)}
    assert fields["base_url"] == ConfigField(
        "base_url", "str", None, True, "MADE_URL", "Where the engine is.", False
    )
    assert fields["api_key"].type == "str | callable | None"
    assert fields["api_key"].secret
    assert (fields["timeout_s"].default, fields["timeout_s"].required) == ("5.0", False)
    assert fields["mode"].default == "'fast'"
    assert (fields["ports"].type, fields["ports"].default) == ("list[int]", "[]")
    assert fields["headers"].default == "{}"
    assert fields["retry"].default == "Retry()"
    assert list(fields) == [field.name for field in attrs.fields(Config)]


def test_default_that_is_secret_or_computed():
    """A secret default is not shown, and a computed one is called so."""

    @attrs.frozen
    class Odd:
        key: str = attrs.field(default="hunter2", metadata={"secret": True})
        none: str | None = attrs.field(default=None, metadata={"secret": True})
        twice: int = attrs.field(default=attrs.Factory(lambda self: 2, takes_self=True))
        bare: object = attrs.field(default=1, type=None)
        part: int = attrs.field(factory=partial(int, "7"))

    defaults = {field.name: field.default for field in describe_fields(Odd)}
    assert (defaults.pop("key"), defaults.pop("none")) == ("[hidden]", "None")
    assert defaults == {"twice": "computed", "bare": "1", "part": "computed"}


def test_field_without_a_type():
    """A field without annotation takes anything."""
    loose = attrs.make_class("Loose", {"size": attrs.field()})
    assert describe_fields(loose)[0].type == "Any"
    assert structure_config("made", loose, {"size": object}).size is object


_TEXTS = st.text("ab", max_size=3)
_VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | _TEXTS
    | st.lists(_TEXTS)
    | st.dictionaries(_TEXTS, st.none() | st.integers())
    | st.builds(object)
)


_NAMES = st.sampled_from([*(field.name for field in attrs.fields(Config)), "other", ""])


@given(st.dictionaries(_NAMES, _VALUES))
def test_any_mapping_gives_a_config_or_a_config_error(data):
    """Whatever the values, the outcome is a config of the declared types, or a ConfigError."""
    problems: tuple[str, ...] = ()
    config = None
    try:
        config = structure_config("made", Config, data)
    except ConfigError as error:
        problems = list(map(str, error.problems))
    assert (config is None) == bool(problems)
    assert all(problem.startswith("$") for problem in problems)
    if config is not None:
        assert type(config.base_url) is str
        assert type(config.timeout_s) is float
        assert type(config.strict) is bool
        assert type(config.slots) in (int, type(None))
        assert all(type(item) is str for item in config.allow)
