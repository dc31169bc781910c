"""Rows of every format, and what cannot be one."""

import csv
import json
import os
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.parquet import write_table

from registry.batch import BatchError, Mapped
from registry.batch import rows as rows_module
from registry.batch.source import examine
from registry.serving.openai_api.errors import ApiError


def request(custom_id: str, **more: Any) -> dict[str, Any]:
    """Return a row of OpenAI's batch format."""
    body = {"model": "m", "messages": [{"role": "user", "content": custom_id}]}
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": body,
        **more,
    }


def write(path: Path, *lines: Any) -> Path:
    """Write lines of JSON; texts as they are."""
    path.write_text("".join(f"{x if isinstance(x, str) else json.dumps(x)}\n" for x in lines))
    return path


def test_the_batch_format_is_recognized(tmp_path: Path) -> None:
    """OpenAI's format is found by its first line, and its bodies are the requests."""
    source = examine(write(tmp_path / "in.jsonl", request("a"), "", request("b")), Mapped())
    assert (source.format, source.rows) == ("openai", 2)
    rows = list(source.read())
    assert [row.custom_id for row in rows] == ["a", "b"]
    assert rows[1].request({}).task.messages[0].content == "b"  # type: ignore[index]


def test_a_byte_order_mark_is_not_part_of_the_first_row(tmp_path: Path) -> None:
    """Editors on Windows write one."""
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(request("a")) + "\n", encoding="utf-8-sig")
    source = examine(path, Mapped())
    assert source.format == "openai"
    assert [(row.custom_id, row.problem) for row in source.read()] == [("a", "")]


def test_a_table_in_another_encoding(tmp_path: Path) -> None:
    """A row whose bytes are not UTF-8 fails; its prompt is never sent with characters lost."""
    path = tmp_path / "in.csv"
    path.write_bytes(b"prompt,id\ncaf\xe9,1\ncaf\xc3\xa9,2\n")
    bad, good = examine(path, Mapped()).read()
    assert bad.problem == "the line is not UTF-8: convert the file to it"
    assert (good.problem, good.body["messages"][0]["content"]) == ("", "caf\u00e9")


@pytest.mark.parametrize("first", ["{broken", "[1]", "[" * 100_000])
def test_a_broken_first_line_does_not_hide_the_format(tmp_path: Path, first: str) -> None:
    """Only that row fails."""
    source = examine(write(tmp_path / "in.jsonl", first, request("a")), Mapped())
    assert source.format == "openai"
    assert [bool(row.problem) for row in source.read()] == [True, False]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_columns_become_prompts(tmp_path: Path, suffix: str) -> None:
    """JSON lines, CSV and Parquet give the same requests for the same columns."""
    table = [{"id": "x", "text": "good"}, {"id": "y", "text": 'so "so", really'}]
    path = tmp_path / f"in.{suffix}"
    if suffix == "jsonl":
        write(path, *table)
    elif suffix == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["id", "text"])
            writer.writeheader()
            writer.writerows(table)
    else:
        write_table(pyarrow.Table.from_pylist(table), path)
    mapped = Mapped(template="Label {{this}}: {text}", id_column="id", system="Be brief.")
    source = examine(path, mapped)
    rows = list(source.read())
    assert [row.custom_id for row in rows] == ["x", "y"]
    messages = rows[1].request({"max_tokens": 3}).task.messages
    assert messages is not None
    assert [m.content for m in messages] == ["Be brief.", 'Label {this}: so "so", really']


def test_duplicate_ids_are_refused(tmp_path: Path) -> None:
    """Two rows of one custom_id are an error that names the rows."""
    path = write(tmp_path / "in.jsonl", request("a"), request("b"), request("a"))
    with pytest.raises(BatchError, match="rows 1 and 3"):
        examine(path, Mapped())


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("[1]", "must be a JSON object"),
        (request("b", url="/v1/embeddings"), "url must be one of"),
        (request("b", method="GET"), "method must be POST"),
        (request("b", body=3), "body must be an object"),
        ({**request("b"), "custom_id": 7}, "custom_id must be a text"),
    ],
)
def test_a_bad_row_is_one_bad_row(tmp_path: Path, line: Any, problem: str) -> None:
    """A row that cannot be read is a row with a problem; the others are not touched."""
    source = examine(write(tmp_path / "in.jsonl", request("a"), line, request("c")), Mapped())
    rows = list(source.read())
    assert [bool(row.problem) for row in rows] == [False, True, False]
    with pytest.raises(ApiError, match=problem):
        rows[1].request({})


def test_a_line_that_is_too_long_is_one_bad_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line beyond the bound is passed over as a whole, and what follows is read."""
    monkeypatch.setattr(rows_module, "MAX_LINE_BYTES", 300)
    source = examine(write(tmp_path / "in.jsonl", request("a"), "x" * 1000, request("c")), Mapped())
    rows = list(source.read())
    assert [row.custom_id for row in rows] == ["a", "unreadable-row-2", "c"]
    assert "longer than 300 bytes" in rows[1].problem


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    """A row without the prompt's column says which columns it has."""
    source = examine(write(tmp_path / "in.jsonl", {"text": "x"}), Mapped())
    (row,) = source.read()
    assert "no column is named 'prompt'; the row has text" in row.problem


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("mapped", "name"),
    [
        (Mapped(), "prompt"),
        (Mapped(template="{text} {place}"), "place"),
        (Mapped(prompt_column="text", id_column="key"), "key"),
    ],
    ids=["prompt", "template", "id"],
)
def test_a_table_without_a_column_is_refused(
    tmp_path: Path, suffix: str, mapped: Mapped, name: str
) -> None:
    """All rows of a table have the same columns, so none is sent to fail."""
    path = tmp_path / f"in.{suffix}"
    if suffix == "csv":
        path.write_text("text,label\na,b\n")
    else:
        write_table(pyarrow.Table.from_pylist([{"text": "a", "label": "b"}]), path)
    with pytest.raises(BatchError, match=f"no column '{name}'; its columns: 'text', 'label'"):
        list(examine(path, mapped).read())


@settings(max_examples=20)
@given(skipped=st.sets(st.integers(0, 9)))
def test_finished_rows_are_passed_over(
    tmp_path_factory: pytest.TempPathFactory, skipped: set[int]
) -> None:
    """Rows that are skipped keep their numbers."""
    path = tmp_path_factory.mktemp("rows") / "in.jsonl"
    source = examine(write(path, *(request(str(n)) for n in range(10))), Mapped())
    rows = list(source.read(skipped.__contains__))
    assert [row.number for row in rows] == [n for n in range(10) if n not in skipped]
    assert all(row.custom_id == str(row.number) for row in rows)


def test_an_empty_input_is_refused(tmp_path: Path) -> None:
    """A file without rows, and one that is not there, are errors."""
    with pytest.raises(BatchError, match="has no rows"):
        examine(write(tmp_path / "in.jsonl", ""), Mapped())
    with pytest.raises(BatchError, match="cannot be read"):
        examine(tmp_path / "none.jsonl", Mapped())


@pytest.mark.parametrize("change", ["append", "truncate"])
def test_an_input_that_changes_while_it_is_read_is_refused(tmp_path: Path, change: str) -> None:
    """Rows that are there only now, or no longer, are never mixed with those of the run."""
    path = write(tmp_path / "in.jsonl", *(request(str(n)) for n in range(500)))
    rows = examine(path, Mapped()).read()
    next(rows)
    if change == "append":
        with path.open("a") as file:
            file.write(json.dumps(request("new")) + "\n")
    else:
        path.write_text("")
    with pytest.raises(BatchError, match="has changed while it was read"):
        list(rows)


def test_a_chat_row_is_sent_without_its_name(tmp_path: Path) -> None:
    """Of a row with messages, the columns that name it are not fields of the request."""
    fields = {"custom_id": "a", "key": "b", "messages": [{"role": "user", "content": "x"}], "n": 1}
    (row,) = examine(write(tmp_path / "in.jsonl", fields), Mapped(id_column="key")).read()
    assert row.custom_id == "b"
    assert set(row.body) == {"messages", "n"}


def test_a_csv_line_with_too_many_values_is_one_bad_row(tmp_path: Path) -> None:
    """A line that is quoted wrongly is not answered in part."""
    path = tmp_path / "in.csv"
    path.write_text("prompt,id\ngood,1\na, b and c,2\n,3\n")
    rows = list(examine(path, Mapped()).read())
    assert [row.problem for row in rows] == [
        "",
        "the line has more values than the header has columns",
        "",
    ]


def test_an_empty_column_is_named(tmp_path: Path) -> None:
    """A null is not taken for a column that does not exist."""
    (row,) = examine(write(tmp_path / "in.jsonl", {"prompt": None}), Mapped()).read()
    assert row.problem == "the column 'prompt' is empty"


def test_values_of_parquet_read_as_text(tmp_path: Path) -> None:
    """Dates, decimals and bytes stand in a template as a person would write them."""
    path = tmp_path / "in.parquet"
    fields = {"d": date(2026, 1, 2), "n": Decimal("1.50"), "b": b"raw", "l": [1, 2], "t": True}
    write_table(pyarrow.Table.from_pylist([fields]), path)
    (row,) = examine(path, Mapped(template="{d} {n} {b} {l} {t}")).read()
    assert row.body["messages"][0]["content"] == "2026-01-02 1.50 raw [1, 2] true"


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """An input is read more than once, so it must be a file."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BatchError, match="not a regular file"):
        examine(tmp_path / "pipe", Mapped())
