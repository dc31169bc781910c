"""The options that count as secret, the kit's values for them, and the places it searches."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from adapter_api.conformance import CHECKS, Result, Status, Subject, run_check
from registry import BoundAdapter
from tests.adapter_api.conformance.conftest import WRONG

SECRETS = next(check for check in CHECKS if check.name == "secrets")

Judge = Callable[..., Result]


@pytest.fixture
def judge_options(monkeypatch: pytest.MonkeyPatch) -> Judge:
    """Judges an otherwise right adapter with these options."""
    monkeypatch.syspath_prepend(WRONG)
    from right_adapter import RightAdapter

    def run(fields: dict[str, Any], **given: Any) -> Result:
        config_class = attrs.make_class("Config", fields, frozen=True)

        def make(**options: Any) -> BoundAdapter:
            config = config_class(**{**given, **options})
            return BoundAdapter(RightAdapter(config), name="made", config=config)

        return run_check(SECRETS, Subject(make))

    return run


@pytest.mark.parametrize(
    "name",
    ["apikey", "API_KEY", "auth", "credentials", "passwd", "db_password", "token", "clientSecret",
     "private_key", "PrivateKey", "hf_token", "pwd", "sshPassphrase"],
)  # fmt: skip
def test_a_name_that_sounds_secret(judge_options: Judge, name: str) -> None:
    """An option of such a name must not show, declared or not."""
    result = judge_options({name: attrs.field(default="none")})
    assert result.status is Status.FAILED
    assert f"the option {name} shows in" in result.remark
    assert "metadata={'secret': False}" in result.remark
    shown = attrs.field(default="none", metadata={"secret": False})
    assert judge_options({name: shown}).status is Status.ABSENT


@pytest.mark.parametrize("name", ["max_tokens", "tokenizer", "keyspace", "author", "model"])
def test_a_name_that_does_not(judge_options: Judge, name: str) -> None:
    """Other options may show."""
    assert judge_options({name: attrs.field(default="none")}).status is Status.ABSENT


def test_a_number_is_not_a_secret(judge_options: Judge) -> None:
    """A limit on the wait for a token only sounds like one."""
    for hint in (float, float | None):
        limit = attrs.field(default=None, type=hint)
        assert judge_options({"first_token_timeout_s": limit}).status is Status.ABSENT


def _begins_with(prefix: str) -> Any:
    def check(_: object, __: object, value: str | None) -> None:
        if value is not None and not value.startswith(prefix):
            raise ValueError(f"begin with {prefix}")

    return check


@pytest.mark.parametrize("prefix", ["sk-", "http://"])
def test_an_option_that_looks_at_its_value(judge_options: Judge, prefix: str) -> None:
    """Keys with the usual prefix and addresses are tried all the same."""
    more = {"validator": _begins_with(prefix), "metadata": {"secret": True}}
    assert judge_options({"key": attrs.field(default=None, **more)}).status is Status.FAILED
    hidden = attrs.field(default=None, repr=False, **more)
    assert judge_options({"key": hidden}).status is Status.PASSED


def test_the_authors_own_value(judge_options: Judge) -> None:
    """If the kit's value is refused, the adapter's own value must not show."""
    more = {"validator": _begins_with("acme:"), "metadata": {"secret": True}}
    fields = {"key": attrs.field(default=None, **more)}
    assert "shows in" in judge_options(fields, key="acme:0123456789").remark
    assert "could not be tried" in judge_options(fields).remark
    hidden = {"key": attrs.field(default=None, repr=False, **more)}
    assert judge_options(hidden, key="acme:0123456789").status is Status.PASSED


def test_options_that_are_not_text_show_nothing(judge_options: Judge) -> None:
    """A secret of another type, such as a function, is not tried with a text."""

    def must_be_callable(_: object, __: object, value: object) -> None:
        if value is not None and not callable(value):
            raise ValueError("a function")

    for hint in (Callable[[], str], Callable[[], str] | None, "Callable[[], str] | None", int):
        field = attrs.field(
            default=None, type=hint, validator=must_be_callable, metadata={"secret": True}
        )
        assert judge_options({"key": field}).status is Status.ABSENT, hint
    field = attrs.field(
        default=None, type="str | None", validator=must_be_callable, metadata={"secret": True}
    )
    assert "could not be tried" in judge_options({"key": field}).remark
