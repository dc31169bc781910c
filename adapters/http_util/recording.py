"""Recordings: HTTP exchanges as JSON lines, chunk by chunk with their times, without keys.

The format is described in docs/reference/recording.md. Reading and writing is here; the
transports that record and replay are in `replaying`.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs

from adapters.http_util.redact import redact_headers

FORMAT = "worker-adapters recording"
FORMAT_VERSION = 1

MIN_SECRET_BYTES = 4
"""Shorter credentials would tear ordinary words apart."""

End = Literal["complete", "left", "broken"]
"""How an answer ended: by itself, because the client closed it, or with an error."""


class RecordingError(ValueError):
    """A file is not a recording that can be read; the text names the file and the line."""


@attrs.frozen
class Chunk:
    """A piece of a body as it came off the connection.

    Args:
        at_ms: Milliseconds after the request.
        data: The bytes.
    """

    at_ms: float
    data: bytes


@attrs.define
class Exchange:
    """A request, and what came of it.

    Args:
        method: GET or POST.
        path: The path with the query.
        headers: The request's, credentials removed.
        body: The request's.
        status: The answer's status; None if there was no answer.
        answer_headers: The answer's headers, in order, credentials removed.
        head_at_ms: When the head came.
        chunks: The answer's body.
        end: How the answer ended; None if the recording ends before it does.
        end_at_ms: When it ended.
        error: The name of httpx's exception, if it ended with one.
        message: Its text.
    """

    method: str
    path: str
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    status: int | None = None
    answer_headers: Sequence[tuple[str, str]] = ()
    head_at_ms: float = 0.0
    chunks: list[Chunk] = attrs.field(factory=list)
    end: End | None = None
    end_at_ms: float = 0.0
    error: str = ""
    message: str = ""


class Mask:
    """Overwrites credentials in a body, also where one is split over chunks.

    Every byte of a credential becomes an x, so that lengths and boundaries stay.

    Args:
        secrets: The credentials.
    """

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self._secrets = [secret for secret in secrets if len(secret) >= MIN_SECRET_BYTES]
        self._margin = max(map(len, self._secrets), default=1) - 1
        self._held: list[Chunk] = []
        self._tail = bytearray()  # the bytes of the chunks that are held

    def feed(self, chunk: Chunk) -> list[Chunk]:
        """Take a chunk; returns those that no later one can change any more."""
        self._held.append(chunk)
        self._tail += chunk.data
        for secret in self._secrets:
            at = self._tail.find(secret)
            while at >= 0:
                self._tail[at : at + len(secret)] = b"x" * len(secret)
                at = self._tail.find(secret, at)
        return self._release(len(self._tail) - self._margin)

    def finish(self) -> list[Chunk]:
        """The chunks that are still held."""
        return self._release(len(self._tail))

    def _release(self, safe_bytes: int) -> list[Chunk]:
        released = []
        while self._held and len(self._held[0].data) <= safe_bytes:
            chunk = self._held.pop(0)
            size = len(chunk.data)
            released.append(Chunk(chunk.at_ms, bytes(self._tail[:size])))
            del self._tail[:size]
            safe_bytes -= size
        return released


def masked(data: bytes, secrets: Iterable[bytes]) -> bytes:
    """The bytes with every credential overwritten."""
    mask = Mask(secrets)
    return b"".join(chunk.data for chunk in [*mask.feed(Chunk(0, data)), *mask.finish()])


# Lines


class Writer:
    """Writes a recording, a line at a time; what was written stays if the process dies.

    Args:
        path: The file, which must not exist.

    Raises:
        FileExistsError: If it does.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("x", encoding="utf-8")
        self._count = 0
        self._line(type="recording", format=FORMAT, version=FORMAT_VERSION)

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> int:
        """Write a request; returns the id of its exchange."""
        self._count += 1
        headers = redact_headers(headers)
        sent = {"method": method, "path": path, "headers": headers, **_to_text("body", body)}
        self._line(type="request", id=self._count, **sent)
        return self._count

    def response(
        self, exchange: int, at_ms: float, status: int, headers: Sequence[tuple[str, str]]
    ) -> None:
        """Write the head of an answer."""
        safe = [[name, redact_headers({name: value})[name]] for name, value in headers]
        self._line(type="response", id=exchange, at_ms=at_ms, status=status, headers=safe)

    def chunks(self, exchange: int, chunks: Iterable[Chunk]) -> None:
        """Write pieces of an answer's body."""
        for chunk in chunks:
            data = _to_text("text", chunk.data)
            self._line(type="chunk", id=exchange, at_ms=chunk.at_ms, **data)

    def end(self, exchange: int, at_ms: float, how: End, error: str = "", said: str = "") -> None:
        """Write how an answer ended."""
        more = {"error": error, "message": said} if error else {}
        self._line(type="end", id=exchange, at_ms=at_ms, how=how, **more)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _line(self, **content: Any) -> None:
        if not self._file.closed:  # an answer may outlive its client
            self._file.write(json.dumps(content, ensure_ascii=False) + "\n")
            self._file.flush()


def read_recording(path: Path) -> list[Exchange]:
    """The exchanges of a recording, in the order of their requests.

    A last line that is cut off, as a killed process leaves it, is passed over.

    Raises:
        RecordingError: If it is no recording, or one of a newer version.
        OSError: If the file cannot be read.
    """
    exchanges: dict[int, Exchange] = {}
    number = 0
    for number, line in _lines(path):
        try:
            _read_line(number, line, exchanges)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            why = f"there is no {exc}" if isinstance(exc, KeyError) else str(exc)
            raise RecordingError(f"{path}, line {number}: {why}") from exc
    if number == 0:
        raise RecordingError(f"{path} is empty: a recording begins with its format and version")
    return list(exchanges.values())


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = path.read_bytes().split(b"\n")
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
        yield number, content


def _read_line(number: int, line: dict[str, Any], exchanges: dict[int, Exchange]) -> None:
    kind = line["type"]
    if number == 1:
        _check_version(line)
    elif kind == "request":
        headers = {str(name): str(value) for name, value in line["headers"].items()}
        body = _from_text("body", line)
        exchanges[line["id"]] = Exchange(str(line["method"]), str(line["path"]), headers, body)
    elif kind == "response":
        exchange = exchanges[line["id"]]
        exchange.status = int(line["status"])
        exchange.answer_headers = [(str(name), str(value)) for name, value in line["headers"]]
        exchange.head_at_ms = float(line["at_ms"])
    elif kind == "chunk":
        chunk = Chunk(float(line["at_ms"]), _from_text("text", line))
        exchanges[line["id"]].chunks.append(chunk)
    elif kind == "end":
        exchange = exchanges[line["id"]]
        if line["how"] not in ("complete", "left", "broken"):
            raise ValueError(f"how is {line['how']!r}: it is complete, left or broken")
        exchange.end, exchange.end_at_ms = line["how"], float(line["at_ms"])
        exchange.error, exchange.message = line.get("error", ""), line.get("message", "")
    else:
        raise ValueError(f"there is no type {kind!r}")


def _check_version(line: dict[str, Any]) -> None:
    if line.get("format") != FORMAT:
        raise ValueError(f'this is no recording: its first line has the "format" {FORMAT!r}')
    version = line.get("version")
    if type(version) is not int or version < 1:
        raise ValueError(f"version is {version!r}: it is a whole number from 1 on")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"it has version {version}, and the installed worker-adapters reads up to "
            f"{FORMAT_VERSION}: upgrade worker-adapters"
        )


def _to_text(name: str, data: bytes) -> dict[str, str]:
    try:
        return {name: data.decode("utf-8")}
    except UnicodeDecodeError:  # a character may be split over two chunks
        return {f"{name}_base64": base64.b64encode(data).decode("ascii")}


def _from_text(name: str, line: dict[str, Any]) -> bytes:
    if name in line:
        return str(line[name]).encode("utf-8")
    return base64.b64decode(line[f"{name}_base64"], validate=True)
