"""Recordings: HTTP exchanges as JSON lines, chunk by chunk with their times, without keys.

The format is described in docs/reference/recording.md. This module holds and writes it, `reading`
reads it, and `replaying` has the transports that record and replay.
"""

import base64
import contextlib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs

logger = logging.getLogger("worker_adapters.http")

FORMAT = "worker-adapters recording"
FORMAT_VERSION = 1

End = Literal["complete", "left", "broken"]
"""How an answer ended: by itself, because the client closed it, or with an error."""


class RecordingError(ValueError):
    """A file cannot be read as a recording; the text names the file and the line."""


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
    """A request and its answer.

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


class Writer:
    """Writes a recording line by line; what was written stays if the process dies.

    The caller removes credentials first. If the file can no longer be written, as on a full disk,
    the recording ends with one warning in the log.

    Args:
        path: The file, which must not exist. Only its owner can read it.

    Raises:
        FileExistsError: If the file exists.
        OSError: If the file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        # The system's error message may hold bytes that are not text.
        self._file = open(  # noqa: SIM115
            path, "x", encoding="utf-8", errors="backslashreplace", newline="\n", opener=_private
        )
        self._count = 0
        self._line(type="recording", format=FORMAT, version=FORMAT_VERSION)

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> int:
        """Write a request and return the id of its exchange."""
        self._count += 1
        sent = {"method": method, "path": path, "headers": headers, **_to_text("body", body)}
        self._line(type="request", id=self._count, **sent)
        return self._count

    def response(
        self, exchange: int, at_ms: float, status: int, headers: Sequence[tuple[str, str]]
    ) -> None:
        """Write the head of an answer."""
        self._line(type="response", id=exchange, at_ms=at_ms, status=status, headers=headers)

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
        with contextlib.suppress(OSError):  # an earlier failed write
            self._file.close()

    def _line(self, **content: Any) -> None:
        if self._file.closed:  # an answer may outlive its client
            return
        try:
            self._file.write(json.dumps(content, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as exc:
            self.close()
            why = exc.strerror or type(exc).__name__
            logger.warning("%s: the recording ends here: %s", self._file.name, why)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)  # it contains prompts


def _to_text(name: str, data: bytes) -> dict[str, str]:
    try:
        return {name: data.decode("utf-8")}
    except UnicodeDecodeError:  # a character may be split over two chunks
        return {f"{name}_base64": base64.b64encode(data).decode("ascii")}
