"""Options of `batch run` that cannot be used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["."], ". is a folder: name a file of prompts"),
        (["..", "--max-tokens", "5"], ".. is a folder: name a file of prompts"),
        (["rows.csv", "--template", "@latin.txt"], "--template: latin.txt is not UTF-8"),
        (["rows.csv", "--template", "@none.txt"], "--template: none.txt: No such file"),
        (["rows.csv", "--json-schema", "list.json"], "--json-schema: list.json must hold a JSON"),
        (["rows.csv", "--json-schema", "none.json"], "--json-schema: none.json: No such file"),
        (["rows.csv", "--max-tokens", "0"], "--max-tokens must be an integer of at least 1, got 0"),
        (["rows.csv", "-o", "out.csv"], "--output: out.csv: results are .parquet or OpenAI's"),
        (["rows.csv", "-t", "-1"], "--temperature must be a finite number of at least 0"),
    ],
)
def test_options_that_cannot_be_used(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    """They are refused in one line, in the words of `submit`, before anything runs."""
    monkeypatch.chdir(tmp_path)
    Path("latin.txt").write_bytes(b"caf\xe9 {prompt}")
    Path("list.json").write_text("[1]")
    Path("rows.csv").write_text("prompt\nhi\n")
    done = cli("batch", "run", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {said}")
    assert done.err.count("\n") == 1
    assert not list(tmp_path.glob("*.journal"))
