"""A key that was typed in the wrong place does not show in the error about it."""

from collections.abc import Callable
from typing import Any

import pytest

KEYS = ["sk-proj-AbCdEf1234567890abcdef", "correct-horse-battery-staple-9000"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "arguments",
    [
        ("submit", "-o", "dialect={}", "-o", "base_url=http://h", "hi"),
        ("submit", "-o", "{}=1", "hi"),
        ("submit", "--{}", "hi"),
        ("submit", "-a", "{}", "hi"),
        ("describe", "{}"),
        ("{}",),
        ("serve", "{}"),
    ],
)
def test_the_command_line_does_not_repeat_a_key(
    cli: Callable[..., Any], arguments: tuple[str, ...], key: str
) -> None:
    """Not even where a command or the name of an option belongs."""
    done = cli(*(argument.format(key) for argument in arguments))
    assert done.code != 0
    assert key[:12] not in done.out + done.err
