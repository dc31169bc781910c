"""Errors on one line, and their exit statuses."""

import pytest

from adapter_api import (
    AdapterNotFound,
    ConfigError,
    ContractError,
    ErrorCode,
    Problem,
    WorkerError,
)
from registry.cli.terminal import status
from registry.cli.terminal.status import UsageError, harmless, one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("", ""),
        ("  a \n\n b\n", "a; b"),
        ("problems:\n  - one\n  - two", "problems: one; two"),
        (
            ConfigError("x", [Problem("$.a", "bad"), Problem("$.b", "worse")]),
            "configuration of 'x': $.a: bad; $.b: worse",
        ),
    ],
)
def test_every_message_fits_a_line(text: object, line: str) -> None:
    """Lists and paragraphs are drawn together, nothing of them is lost."""
    assert one_line(text) == line


def test_what_others_write_does_not_steer_the_terminal() -> None:
    """Control characters are replaced, line feeds and tabs stay, carriage returns go."""
    assert harmless("a\x1b[31mb\x07\x9b2Jc\r\n\td\x7f") == "a\ufffd[31mb\ufffd\ufffd2Jc\n\td\ufffd"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), status.USAGE),
        (ConfigError("x", [Problem("", "y")]), status.USAGE),
        (AdapterNotFound("x", [], None), status.NO_ADAPTER),
        (ContractError("x", "y:z", ["w"]), status.NO_ADAPTER),
        (WorkerError.of(ErrorCode.INVALID_PARAMS, "x"), status.FAILED),
        (WorkerError.of(ErrorCode.CANCELLED, "x"), status.FAILED),
    ],
)
def test_each_kind_of_error_has_its_status(error: UsageError, code: int) -> None:
    """Usage and configuration, adapters, and jobs can be told apart by the exit status."""
    assert status.status_of(error) == code
