"""The result files of a run, made from its journal."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from registry.batch.errors import BatchError
from registry.batch.files import whole_file
from registry.batch.journal import Journal

_PARQUET_ROWS = 4096
COLUMNS = {
    "custom_id": "string",
    "ok": "bool_",
    "text": "string",
    "finish_reason": "string",
    "tool_calls": "string",
    "reasoning": "string",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
    "error_code": "string",
    "error_message": "string",
    "body": "string",
}
"""The columns of a table of results, and the names of pyarrow's types."""


def write_results(journal: Journal, output: Path) -> tuple[Path, ...]:
    """Write the finished rows in the input's order; a file appears whole or not at all.

    Args:
        journal: The results of the run.
        output: The file. With the suffix `.parquet` or `.pq` it has one row for each finished row.
            Otherwise it has OpenAI's batch format, and rows that failed go to a second file,
            `NAME.errors.jsonl`.

    Returns:
        The files that were written.

    Raises:
        BatchError: Parquet is requested, and pyarrow is not installed.
        OSError: If a file cannot be written.
    """
    if output.suffix.lower() in (".parquet", ".pq"):
        _write_parquet(journal, output)
        return (output,)
    errors = errors_path(output)
    with (
        whole_file(output) as output_draft,
        whole_file(errors) as errors_draft,
        output_draft.open("wb") as good,
        errors_draft.open("wb") as bad,
    ):
        for _, outcome, result in journal.results():
            (good if outcome == "ok" else bad).write(result + b"\n")
    return (output, errors)


def errors_path(output: Path) -> Path:
    """Return the path of the file with the rows that failed."""
    return output.with_name(f"{output.stem}.errors.jsonl")


def _write_parquet(journal: Journal, output: Path) -> None:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetWriter
    except ImportError as exc:
        raise BatchError(
            "Parquet files need pyarrow: pip install 'worker-adapters[batch]'"
        ) from exc
    schema = pyarrow.schema([(name, getattr(pyarrow, kind)()) for name, kind in COLUMNS.items()])
    with whole_file(output) as draft, ParquetWriter(draft, schema) as writer:
        for rows in _groups(journal):
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))


def _groups(journal: Journal) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    for _, outcome, result in journal.results():
        rows.append(flat(msgspec.json.decode(result), ok=outcome == "ok"))
        if len(rows) == _PARQUET_ROWS:
            yield rows
            rows = []
    yield rows


def flat(result: dict[str, Any], *, ok: bool) -> dict[str, Any]:
    """Return a result as one flat row, with the names of COLUMNS.

    Args:
        result: In OpenAI's batch output format.
        ok: Whether the row is answered.
    """
    body = result["response"]["body"]
    row: dict[str, Any] = {"custom_id": result["custom_id"], "ok": ok}
    row["body"] = msgspec.json.encode(body).decode()
    if not ok:
        error = result["error"]
        return row | {"error_code": error["code"], "error_message": error["message"]}
    (choice,) = body["choices"]
    message = choice.get("message", {})
    calls = _whole(message.get("tool_calls") or [], choice["finish_reason"])
    text = message.get("content") or message.get("refusal") or message.get("content")
    return row | {
        "text": choice.get("text", text),
        "finish_reason": choice["finish_reason"],
        "tool_calls": msgspec.json.encode(calls).decode() if calls else None,
        "reasoning": message.get("reasoning_content"),
        "prompt_tokens": body["usage"]["prompt_tokens"],
        "completion_tokens": body["usage"]["completion_tokens"],
    }


def _whole(calls: list[dict[str, Any]], finish_reason: str) -> list[dict[str, Any]]:
    """Return the calls that may be run: `body` has those that are cut or not JSON as well."""
    if finish_reason == "length":
        calls = calls[:-1]  # where the answer was cut
    return [call for call in calls if call["type"] == "custom" or _is_json(call)]


def _is_json(call: dict[str, Any]) -> bool:
    try:
        msgspec.json.decode(call["function"]["arguments"])
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True
