"""The rows of a bulk run, read one by one: OpenAI batch files, JSON lines, CSV and Parquet."""

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import attrs
import msgspec

from adapter_api import TaskRequest
from adapter_api.task import new_id
from registry.batch.errors import BatchError
from registry.serving.openai_api import requests
from registry.serving.openai_api.errors import ApiError

Format = Literal["openai", "jsonl", "csv", "parquet"]
Skip = Callable[[int], bool] | None

URLS = {"/v1/chat/completions": "chat", "/v1/completions": "completion"}
"""The endpoints of OpenAI's batch format that a row may name."""

MAX_LINE_BYTES = 64 << 20
"""The longest line: as long as the body of a request may be."""

_PARQUET_ROWS = 1024
_REST = "\0"
"""The name of what a line of a CSV file has beyond its header."""

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{(\w+)\}")


@attrs.frozen
class Row:
    """One row of the input.

    Args:
        number: Its position in the input, from 0.
        custom_id: Its name in the results.
        kind: "chat" or "completion".
        body: The request's fields, as OpenAI's API has them.
        problem: Why it cannot be sent; empty if it can.
    """

    number: int
    custom_id: str
    kind: Literal["chat", "completion"]
    body: Mapping[str, Any]
    problem: str = ""

    def request(self, fields: Mapping[str, Any]) -> requests.ApiRequest:
        """Return the request.

        Args:
            fields: Fields for what the row does not set itself.

        Raises:
            ApiError: If the row cannot be sent.
        """
        if self.problem:
            raise ApiError(400, self.problem, code="invalid_row")
        body = {**fields, **self.body, "stream": False}
        model = requests.requested_model(body)
        name = model or "default"
        return requests.read(self.kind, name, body, {}, model=model, job_id=new_id())


@attrs.frozen
class TaskRow:
    """A task of a program as a row.

    Args:
        number: Its position, from 0.
        task: The task.
    """

    number: int
    task: TaskRequest

    @property
    def custom_id(self) -> str:
        """Return its name in the results."""
        return self.task.job_id

    def request(self, _: Mapping[str, Any]) -> requests.ApiRequest:
        """Return the request."""
        kind: requests.Kind = "completion" if self.task.messages is None else "chat"
        model = self.task.model or "default"
        return requests.ApiRequest(kind, model, self.task, False, False, "batch")


MAX_FIRST_LINES = 100
"""Lines in which an object is looked for: a file may begin with lines that cannot be read."""


@attrs.frozen(kw_only=True)
class Mapped:
    """The mapping of columns to a request, for inputs that are not in OpenAI's format.

    Args:
        prompt_column: The column that holds the prompt.
        template: A text with `{column}` in it, instead of prompt_column; `{{` is a brace.
        id_column: The column that names the row; None: its number.
        system: A system message before each prompt.
        chat: Whether the prompt becomes a chat message; False: it goes to the engine as it is.
    """

    prompt_column: str = "prompt"
    template: str | None = None
    id_column: str | None = None
    system: str | None = None
    chat: bool = True


# Formats


def _openai(path: Path, _: Mapped, skip: Skip) -> Iterator[Row]:
    for number, fields, problem in _objects(path, skip):
        if problem:
            yield _unreadable(number, problem)
            continue
        custom_id, url, body = fields.get("custom_id"), fields.get("url"), fields.get("body")
        if not isinstance(custom_id, str) or not custom_id:
            problem = "custom_id must be a text"
        elif fields.get("method", "POST") != "POST":
            problem = "method must be POST"
        elif url not in URLS:
            problem = f"url must be one of {', '.join(URLS)}"
        elif not isinstance(body, dict):
            problem = "body must be an object"
        kind = URLS.get(url, "chat") if isinstance(url, str) else "chat"
        name = custom_id if isinstance(custom_id, str) and custom_id else _nameless(number)
        yield Row(
            number,
            name,
            "completion" if kind == "completion" else "chat",
            body if isinstance(body, dict) else {},
            problem,
        )


def mapped_row(mapped: Mapped, number: int, fields: Mapping[str, Any]) -> Row:
    """Return the row that these columns make.

    Args:
        mapped: How columns become requests. Without a template, the column `messages` is the chat,
            and the others are fields of the request.
        number: The row's position, from 0.
        fields: The columns.
    """
    if mapped.template is None and "messages" in fields:
        body = {k: v for k, v in fields.items() if k not in ("custom_id", mapped.id_column)}
        return Row(number, _id(mapped, fields, number), "chat", body)
    return _row(mapped, number, fields)


def _jsonl(path: Path, mapped: Mapped, skip: Skip) -> Iterator[Row]:
    for number, fields, problem in _objects(path, skip):
        if problem:
            yield _unreadable(number, problem)
        else:
            yield mapped_row(mapped, number, fields)


def _csv(path: Path, mapped: Mapped, skip: Skip) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE_BYTES)
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.DictReader(file, restkey=_REST)
        _check_columns(path, mapped, reader.fieldnames or ())
        for number, fields in enumerate(reader):
            if skip is None or not skip(number):
                if _REST in fields:
                    problem = "the line has more values than the header has columns"
                    yield _unreadable(number, problem)
                elif not _is_utf8(fields.values()):
                    yield _unreadable(number, "the line is not UTF-8: convert the file to it")
                else:
                    yield _row(mapped, number, fields)


def _is_utf8(values: Iterable[str | None]) -> bool:
    """Return whether no value has bytes that were kept as surrogates."""
    try:
        "".join(value or "" for value in values).encode()
    except UnicodeEncodeError:
        return False
    return True


def _parquet(path: Path, mapped: Mapped, skip: Skip) -> Iterator[Row]:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as exc:
        raise BatchError(
            "Parquet files need the extra: pip install 'worker-adapters[batch]'"
        ) from exc
    number = 0
    with ParquetFile(path) as file:
        _check_columns(path, mapped, file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
            for fields in batch.to_pylist():
                if skip is None or not skip(number):
                    yield _row(mapped, number, fields)
                number += 1


def _check_columns(path: Path, mapped: Mapped, columns: Sequence[str]) -> None:
    """Check that a table has the columns that make its prompts and names.

    Raises:
        BatchError: If one is missing.
    """
    needed = [mapped.prompt_column]
    if mapped.template is not None:
        needed = [name for name in _PLACEHOLDER.findall(mapped.template) if name]
    if mapped.id_column is not None:
        needed.append(mapped.id_column)
    for name in needed:
        if name not in columns:
            listed = ", ".join(map(repr, columns)) or "none"
            raise BatchError(f"{path.name} has no column {name!r}; its columns: {listed}")


READERS: Mapping[Format, Callable[[Path, Mapped, Skip], Iterator[Row]]] = {
    "openai": _openai,
    "jsonl": _jsonl,
    "csv": _csv,
    "parquet": _parquet,
}


def _objects(path: Path, skip: Skip) -> Iterator[tuple[int, dict[str, Any], str]]:
    """Yield the number, the object and the problem of each line that is not blank."""
    number = 0
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES + 1):
            if not line.strip():
                continue
            rest = line
            while len(line) > MAX_LINE_BYTES and rest and not rest.endswith(b"\n"):
                rest = file.readline(MAX_LINE_BYTES)  # the rest of a line that is too long
            if skip is None or not skip(number):
                yield number, *_object(line if number else line.removeprefix(codecs.BOM_UTF8))
            number += 1


def first_object(path: Path) -> dict[str, Any]:
    """Return the first object of a file of lines, which shows its format; {} if none is near."""
    found = islice(_objects(path, None), MAX_FIRST_LINES)
    return next((fields for _, fields, problem in found if not problem), {})


def _object(line: bytes) -> tuple[dict[str, Any], str]:
    if len(line) > MAX_LINE_BYTES:
        return {}, f"the line is longer than {MAX_LINE_BYTES} bytes"
    try:
        fields = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        return {}, f"the line is not JSON: {exc}"
    return (fields, "") if isinstance(fields, dict) else ({}, "the line must be a JSON object")


def _row(mapped: Mapped, number: int, fields: Mapping[str, Any]) -> Row:
    custom_id = _id(mapped, fields, number)
    try:
        prompt = _prompt(mapped, fields)
    except KeyError as missing:
        column = missing.args[0]
        problem = f"the column {column!r} is empty"
        if column not in fields:
            problem = f"no column is named {column!r}; the row has {', '.join(fields) or 'none'}"
        return Row(number, custom_id, "chat", {}, problem)
    if not mapped.chat:
        return Row(number, custom_id, "completion", {"prompt": prompt})
    messages = [{"role": "user", "content": prompt}]
    if mapped.system is not None:
        messages.insert(0, {"role": "system", "content": mapped.system})
    return Row(number, custom_id, "chat", {"messages": messages})


def _prompt(mapped: Mapped, fields: Mapping[str, Any]) -> str:
    if mapped.template is None:
        return _text(_value(fields, mapped.prompt_column))

    def filled(match: "re.Match[str]") -> str:
        return _text(_value(fields, match[1])) if match[1] else match[0][0]

    return _PLACEHOLDER.sub(filled, mapped.template)


def _value(fields: Mapping[str, Any], column: str) -> Any:
    if (value := fields.get(column)) is None:  # a short line of a CSV file has None for the rest
        raise KeyError(column)
    return value


def _id(mapped: Mapped, fields: Mapping[str, Any], number: int) -> str:
    value = fields.get(mapped.id_column) if mapped.id_column else fields.get("custom_id")
    return _number_id(number) if value is None else str(value)


def _number_id(number: int) -> str:
    return f"row-{number + 1}"


def _nameless(number: int) -> str:
    """Name a row whose own name cannot be read, unlike any name that its neighbours have."""
    return f"unreadable-row-{number + 1}"


def _unreadable(number: int, problem: str) -> Row:
    return Row(number, _nameless(number), "chat", {}, problem)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, bool | int | float | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)  # of Parquet: dates, decimals
