"""The body of an answer as events, whatever the kind of body. No I/O.

A body may be a stream of server-sent events, chunks as lines of JSON, one JSON document (as some
servers answer a streaming request), or a page of HTML from a proxy.
"""

import re
from collections.abc import Callable, Iterable

from adapter_api import ErrorCode, StreamingError, WorkerError
from adapters.http_util import (
    ServerSentEvent,
    SSEDecoder,
    error_from_payload,
    error_from_response,
)
from adapters.http_util.failed import is_error
from adapters.openai_http.payload import NOT_JSON, decode

DONE = b"[DONE]"
"""The data of the event that ends a stream."""

_BOM = b"\xef\xbb\xbf"

MAX_JSON_BYTES = 16 << 20
"""The maximum size of a JSON answer to a streaming request: far above any model's output."""

MAX_FIRST_LINE_BYTES = 64 << 10
"""The longest first line that is read to find out whether each line is a document of its own."""

MAX_PAGE_BYTES = 64 << 10
"""The maximum size read of a page of HTML: enough to identify it."""

MAX_BLANK_BYTES = 4 << 10
"""The maximum of blanks before the answer, with which some servers keep the connection alive."""

Events = bytes | list[ServerSentEvent]
"""Events; as bytes where each is one line of data and nothing else."""

_FIELD = re.compile(rb"[A-Za-z][\w-]*:")
_ERROR_NAME = re.compile(
    rb"[\w.-]*(?:err|exception|fatal|panic|fail|detail|traceback|abort|cancel|time_?out|overload"
    rb"|disconnect|interrupt|terminat|unavailable|refus|reject)",
    re.IGNORECASE,
)


def names_error(event: str) -> bool:
    """Return whether the name of an event means that it is an error."""
    return _ERROR_NAME.match(event.encode("utf-8", "replace")) is not None


class Framing:
    """Turns the bytes of one body into events.

    Args:
        decoder: Decodes the body if it is a stream of events.
        secrets: Credentials to keep out of error messages.
    """

    __slots__ = (
        "_checked",
        "_decoder",
        "_document",
        "_read",
        "_secrets",
        "_size",
        "_start",
        "decode",
        "events_of",
    )

    def __init__(self, decoder: SSEDecoder | None = None, secrets: Iterable[str] = ()) -> None:
        self._decoder = decoder or SSEDecoder()
        self._secrets = secrets
        self._start = b""
        self._document: list[bytes] = []
        self._size = 0
        self._checked = 0  # the number of unknown lines that were checked
        self.events_of = self._decoder.events_of
        """Returns the events behind lines that `feed` gave."""
        self.decode: Callable[[bytes], Events] | None = None
        """Does the same as `feed`, at less cost, once the body is known to be a stream of events.
        """
        self._read = Framing._begin  # a bound method would be a reference to itself

    def feed(self, piece: bytes) -> Events:
        """Return the events that a piece completes; bytes where every event is one line of data.

        Raises:
            DecodeLimitError: As SSEDecoder.
            StreamingError: If the body is too long or a page of HTML.
        """
        return self._read(self, piece)

    def _begin(self, piece: bytes) -> Events:
        """Find out what kind of body it is, which decides how the rest is read."""
        if not self._start and piece.startswith(b"data: "):
            return self._decode(piece)
        self._start += piece
        begins = self._start.isspace() or _BOM.startswith(self._start)
        if begins and len(self._start) <= MAX_BLANK_BYTES:
            return []
        piece, self._start = self._start, b""
        start = piece.removeprefix(_BOM).lstrip()
        is_document = start[:1] in (b"{", b"[", b"<")
        if not is_document:
            return self._decode(piece)
        self._read = Framing._collect
        return self._collect(start)

    def _decode(self, piece: bytes) -> Events:
        self._read, self.decode = Framing._decode, self._decoder.feed_plain
        return self.decode(piece)

    def finish(self) -> list[ServerSentEvent]:
        """Return the events that the end of the body completes.

        An event that no blank line ends may be cut, so it proves nothing: only an error in it, or
        `[DONE]`, counts.

        Raises:
            StreamingError: STREAM_TRUNCATED if a JSON document is cut off; UPSTREAM_PROTOCOL if
                the body is a page of HTML.
        """
        if self._document:
            last = self._whole(self._document).removeprefix(b"data:")
            return [ServerSentEvent(last)]
        if self._start or self._read is Framing._lines:  # blanks only, or lines that have all ended
            return []
        self._decoder.finish()
        return [event for event in self._decoder.feed(b"\n\n") if _counts(event)]

    def unknown(self) -> WorkerError | None:
        """Return the error in a line that is neither SSE nor a comment, or in an empty event.

        A field of another name is valid SSE and is ignored, unless its name or its value indicates
        an error.
        """
        for name in self._decoder.empty_events:
            if names_error(name):
                return error_from_payload(f"an event {name!r} without data", secrets=self._secrets)
        while self._checked < len(self._decoder.unknown):
            line = self._decoder.unknown[self._checked].strip()
            self._checked += 1
            if line == DONE:  # without `data:` it is neither a proof nor an error
                continue
            said = _words(line)
            if line and (not _FIELD.match(line) or _is_said(line, said)):
                return error_from_payload(said, secrets=self._secrets)
        return None

    def _collect(self, piece: bytes) -> list[ServerSentEvent]:
        document = self._document
        document.append(piece)
        self._size += len(piece)
        if self._size - len(piece) <= MAX_FIRST_LINE_BYTES and b"\n" in piece:
            line, _, rest = b"".join(document).partition(b"\n")
            if len(line) <= MAX_FIRST_LINE_BYTES and _is_document(line):
                document.clear()
                self._size = 0
                self._read = Framing._lines
                events = self._lines(line + b"\n" + rest)
                return self.events_of(events) if isinstance(events, bytes) else events
        is_page = document[0].lstrip()[:1] == b"<"
        if is_page and self._size > MAX_PAGE_BYTES:
            raise self._page_error(document)
        if self._size > MAX_JSON_BYTES:
            raise _protocol_error(f"a JSON answer longer than {MAX_JSON_BYTES} bytes")
        return []

    def _lines(self, piece: bytes) -> Events:
        """Return the lines that a piece completes, each of which is an event."""
        self._document.append(piece)
        self._size += len(piece)
        if self._size > MAX_JSON_BYTES:
            raise _protocol_error(f"a line longer than {MAX_JSON_BYTES} bytes")
        if b"\n" not in piece:
            return []
        lines, _, rest = b"".join(self._document).rpartition(b"\n")
        self._document[:] = [rest] if rest else []
        self._size = len(rest)
        if b"data:" not in lines and b"\n\n" not in lines:
            return lines
        return self.events_of(lines.replace(b"\ndata:", b"\n").removeprefix(b"data:"))

    def _whole(self, document: list[bytes]) -> bytes:
        if document[0].lstrip()[:1] == b"<":
            raise self._page_error(document)
        body = b"".join(document).strip()
        if not body.endswith(b"]" if body.startswith(b"[") else b"}"):
            raise StreamingError(ErrorCode.STREAM_TRUNCATED, "a JSON answer is cut off")
        return body

    def _page_error(self, document: list[bytes]) -> StreamingError:
        page = b"".join(document)[:MAX_PAGE_BYTES]
        said = error_from_response(200, {}, page, secrets=self._secrets).message
        return StreamingError(
            ErrorCode.UPSTREAM_PROTOCOL,
            f"a page of HTML came instead of an answer ({said}). Does base_url name the API?",
        )


def _is_document(line: bytes) -> bool:
    """Return whether a first line is JSON, as where each chunk is a line of its own."""
    if not line.rstrip().endswith((b"}", b"]")):
        return False
    try:
        decode(line)
    except NOT_JSON:
        return False
    return True


def _counts(event: ServerSentEvent) -> bool:
    lines = event.data.strip().split(b"\n")
    if lines[-1].strip() == DONE:  # so nothing before it was cut
        return True
    return names_error(event.event) or any(map(_is_error, {event.data, lines[0], lines[-1]}))


def _is_error(data: bytes) -> bool:
    try:
        payload = decode(data)
    except NOT_JSON:
        return False
    return isinstance(payload, dict) and is_error(payload)


def _is_said(line: bytes, said: object) -> bool:
    """Return whether the field on `line`, whose value is `said`, reports an error."""
    return bool(_ERROR_NAME.match(line)) or isinstance(said, dict | list)


def _words(line: bytes) -> object:
    """Return an unknown line's content: its JSON, also after a name such as `error:`, or text."""
    for text in (line, line.partition(b":")[2].strip()):
        try:
            return decode(text)
        except NOT_JSON:
            continue
    return line.decode("utf-8", "replace")


def _protocol_error(what: str) -> StreamingError:
    return StreamingError(ErrorCode.UPSTREAM_PROTOCOL, what)
