"""Reads recordings, strictly: an error names the line and what is wrong with it."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import attrs

from adapters.http_util.recording.exchange import (
    FORMAT,
    FORMAT_VERSION,
    Chunk,
    End,
    Exchange,
    RecordingError,
)

MAX_MS = 1_000_000_000
"""Eleven days: a longer wait in a recording is a mistake."""


def read_recording(path: Path) -> list[Exchange]:
    """Return the exchanges of a recording, in the order of their requests.

    A last line that is cut off, as a killed process leaves it, is ignored.

    Raises:
        RecordingError: If the file is not a recording, has a newer version, or cannot be read.
    """
    begun = False
    exchanges: dict[int, Exchange] = {}
    for number, line in _lines(path):
        try:
            if begun:
                _read_line(line, exchanges)
            else:
                _check_version(line)
        except ValueError as exc:
            raise RecordingError(f"{path}, line {number}: {exc}") from exc
        begun = True
    if not begun:
        raise RecordingError(
            f"{path} has no whole line: a recording begins with its format and version"
        )
    return list(exchanges.values())


def _lines(path: Path) -> Iterator[tuple[int, "_Line"]]:
    if path.exists() and not (path.is_file() or path.is_dir()):  # might never end
        raise RecordingError(f"{path} is not a regular file")
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as exc:
        raise RecordingError(f"{path} cannot be read: {exc.strerror}") from exc
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as exc:
            if number == len(lines):
                return
            raise RecordingError(f"{path}, line {number}: not JSON: {exc}") from exc
        if not isinstance(content, dict):
            raise RecordingError(f"{path}, line {number}: not a JSON object")
        yield number, _Line(content)


@attrs.frozen
class _Line:
    """One line. Reading a field checks it; a ValueError says what is wrong."""

    fields: dict[str, Any]

    def text(self, name: str, default: str | None = None) -> str:
        if default is not None and name not in self.fields:
            return default
        return str(self._checked(name, "a string", isinstance(self._of(name), str)))

    def whole_number(self, name: str, minimum: int, maximum: int | None = None) -> int:
        value = self._of(name)
        fits = type(value) is int and value >= minimum and (maximum is None or value <= maximum)
        kind = f"a whole number from {minimum} {'on' if maximum is None else f'to {maximum}'}"
        return int(self._checked(name, kind, fits))

    def at_ms(self) -> float:
        value = self._of("at_ms")
        fits = type(value) in (int, float) and 0 <= value <= MAX_MS
        return float(self._checked("at_ms", f"a number from 0 to {MAX_MS}", fits))

    def data(self, name: str) -> bytes:
        if name in self.fields:
            return self.text(name).encode("utf-8")
        if f"{name}_base64" not in self.fields:
            raise ValueError(f"{name!r} and '{name}_base64' are missing")
        return base64.b64decode(self.text(f"{name}_base64"), validate=True)

    def headers(self) -> dict[str, str]:
        value = self._of("headers")
        fits = isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
        return dict(self._checked("headers", "an object of strings", fits))

    def header_pairs(self) -> list[tuple[str, str]]:
        value = self._of("headers")
        fits = isinstance(value, list) and all(
            isinstance(pair, list) and [type(item) for item in pair] == [str, str] for pair in value
        )
        return [(k, v) for k, v in self._checked("headers", "a list of pairs of strings", fits)]

    def _of(self, name: str) -> Any:
        if name not in self.fields:
            raise ValueError(f"{name!r} is missing")
        return self.fields[name]

    def _checked(self, name: str, kind: str, fits: bool) -> Any:
        value = self.fields[name]
        if not fits:
            raise ValueError(f"{name} must be {kind}, got {value!r:.60}")
        return value


def _read_line(line: _Line, exchanges: dict[int, Exchange]) -> None:
    kind, number = line.text("type"), line.whole_number("id", 1)
    if kind == "request":
        if number in exchanges:
            raise ValueError(f"request {number} exists already")
        exchanges[number] = Exchange(
            line.text("method"), line.text("path"), line.headers(), line.data("body")
        )
        return
    if number not in exchanges:
        raise ValueError(f"request {number} does not come before it")
    exchange = exchanges[number]
    if exchange.end is not None:
        raise ValueError(f"exchange {number} has ended already")
    if kind == "response":
        if exchange.status is not None:
            raise ValueError(f"exchange {number} has a response already")
        exchange.head_at_ms = line.at_ms()
        exchange.answer_headers = line.header_pairs()
        exchange.status = line.whole_number("status", 100, 999)
    elif kind == "chunk":
        if exchange.status is None:
            raise ValueError(f"exchange {number} has no response yet")
        exchange.chunks.append(Chunk(line.at_ms(), line.data("text")))
    elif kind == "end":
        how = line.text("how")
        if how not in ("complete", "left", "broken"):
            raise ValueError(f"how must be complete, left or broken, got {how!r:.60}")
        if how == "complete" and exchange.status is None:
            raise ValueError(f"exchange {number} has no response, so it is not complete")
        exchange.end_at_ms = line.at_ms()
        exchange.error, exchange.message = line.text("error", ""), line.text("message", "")
        exchange.end = cast(End, how)
    else:
        raise ValueError(f"unknown type {kind!r:.60}")


def _check_version(line: _Line) -> None:
    if line.fields.get("format") != FORMAT:
        raise ValueError(f'not a recording: the first line must have the "format" {FORMAT!r}')
    version = line.whole_number("version", 1)
    if version > FORMAT_VERSION:
        raise ValueError(
            f"it has version {version}, and the installed worker-adapters reads up to "
            f"{FORMAT_VERSION}: upgrade worker-adapters"
        )
