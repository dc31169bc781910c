"""`worker-adapters gateway key`, and wrong options of `gateway`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_key_is_printed_once(cli: Callable[..., Any], tmp_path: Path) -> None:
    """Standard output has the key alone; the remark on standard error says what the file has."""
    file = tmp_path / "keys.toml"
    done = cli("gateway", "key", "laptop", "--keys", str(file))
    assert (done.code, done.out.count("\n"), done.out[:3]) == (0, 1, "wa-")
    assert done.err == f"note: {file} has the key's hash; the key is not shown again\n"
    assert done.out.strip() not in file.read_text()
    again = cli("gateway", "key", "laptop", "--keys", str(file))
    assert again.code == 2
    assert "has a key 'laptop' already" in again.err


def test_without_a_file_the_lines_for_it_are_shown(cli: Callable[..., Any], tmp_path: Path) -> None:
    """They can be copied into the key file as they stand."""
    done = cli("gateway", "key", "laptop")
    note, *lines = done.err.splitlines()
    file = tmp_path / "keys.toml"
    file.write_text("\n".join(lines))
    assert note == "note: add these lines to the key file:"
    assert cli("gateway", "key", "laptop", "--keys", str(file)).code == 2


def test_a_key_file_that_cannot_be_written(cli: Callable[..., Any], tmp_path: Path) -> None:
    """The message names the option and the file, in words."""
    path = tmp_path / "none" / "keys.toml"
    done = cli("gateway", "key", "x", "--keys", str(path))
    assert (done.code, done.out) == (2, "")
    assert done.err == f"error: --keys: {path}: No such file or directory\n"


def test_a_wrong_origin_is_named(cli: Callable[..., Any]) -> None:
    """The gateway does not start with an origin that no browser sends."""
    done = cli("gateway", "--cors", "nope")
    assert done.code == 2
    assert "--cors must be an origin such as https://chat.example.org, or *, got 'nope'" in done.err
