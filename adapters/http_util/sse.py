"""Server-sent events, decoded incrementally and without I/O (HTU-1003).

Source: WHATWG HTML, "Interpreting an event stream". Only CR, LF and CRLF end a line.
"""

import attrs

MAX_LINE_BYTES = 1 << 20
"""No chunk of any server comes near 1 MiB; a longer line is an attack or not an event stream."""

MAX_EVENT_BYTES = 4 << 20
"""All data lines of one event together, for the same reason."""

MAX_BLOCK_BYTES = 64 << 10
"""An unfinished event longer than this is read line by line: looking for its end anew with every
piece would take quadratic time."""

_JOINT_SHRINKS_BYTES = len(b"\n\ndata: ") - len(b"\n")
_BOM = b"\xef\xbb\xbf"


class SSELimitError(ValueError):
    """A line or an event is longer than its limit."""


@attrs.define
class ServerSentEvent:
    """One event.

    Args:
        data: The data lines joined by line feeds, as the bytes that came (UTF-8 if all is well).
        event: The event's type.
        id: The last event id seen so far.
    """

    data: bytes
    event: str = "message"
    id: str = ""


class SSEDecoder:
    """Bytes in, events out. However the bytes are split, the events are the same.

    Most servers end lines with LF only, and most events are one data line. Such streams are cut
    at their blank lines; the first CR, or an event of unusual length, switches to reading line
    by line, with the same result.

    Args:
        max_line_bytes: Longest line, without its end.
        max_event_bytes: Most bytes of data in one event.
    """

    __slots__ = (
        "_by_line",
        "_data",
        "_event",
        "_held",
        "_held_bytes",
        "_max_block_bytes",
        "_max_cut_bytes",
        "_max_event_bytes",
        "_max_line_bytes",
        "_skip_lf",
        "_started",
        "last_event_id",
        "retry_ms",
    )

    def __init__(
        self, *, max_line_bytes: int = MAX_LINE_BYTES, max_event_bytes: int = MAX_EVENT_BYTES
    ) -> None:
        self._max_line_bytes = max_line_bytes
        self._max_event_bytes = max_event_bytes
        self._max_cut_bytes = min(max_line_bytes, max_event_bytes)  # no limit can be passed in it
        self._max_block_bytes = min(self._max_cut_bytes, MAX_BLOCK_BYTES)
        self._held: list[bytes] = []  # bytes of an event, or line, that has not ended yet
        self._held_bytes = 0
        self._data = bytearray()  # lines in a list would cost many times their bytes
        self._event = ""
        self._started = False
        self._by_line = False
        self._skip_lf = False
        self.last_event_id = ""
        self.retry_ms: int | None = None

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that `chunk` completes, in order.

        Raises:
            SSELimitError: If a line or an event is too long. The decoder is of no use after it.
        """
        events = self.feed_plain(chunk)
        return self.events_of(events) if isinstance(events, bytes) else events

    def feed_plain(self, chunk: bytes) -> bytes | list[ServerSentEvent]:
        """As `feed`, and faster for whole reads of plain events: where each event that `chunk`
        completes is one data line and nothing else, those data with a line feed between them,
        for a decoder of JSON lines. `events_of` makes of them what `feed` would have given.

        Raises:
            SSELimitError: As `feed`.
        """
        if not self._started:
            chunk = self._strip_bom(chunk)
        if self._by_line or b"\r" in chunk:
            return self._feed_lines(chunk)
        first = chunk.find(b"\n")
        if first < 0:
            return self._hold_block(chunk)
        if (  # one plain event and nothing else, as most reads of a stream are
            first == len(chunk) - 2
            and not self._held
            and chunk[:6] == b"data: "
            and chunk[first:] == b"\n\n"
            and first <= self._max_cut_bytes - 2
        ):
            return chunk[6:first]
        block = self._take_held(chunk) if self._held else chunk
        end = block.rfind(b"\n\n")
        if end < 0 or len(block) > self._max_cut_bytes:
            return self._hold_block(block)
        if end + 2 < len(block):
            self._hold(block[end + 2 :])
        if block[:6] == b"data: ":
            lines = block[6:end].replace(b"\n\ndata: ", b"\n")
            joints = (end - 6 - len(lines)) // _JOINT_SHRINKS_BYTES
            if lines.count(b"\n") == joints:  # no line feed but those between two events
                return lines
        return self._parts(block[:end].split(b"\n\n"))

    def events_of(self, lines: bytes) -> list[ServerSentEvent]:
        """The events behind data that `feed_plain` gave."""
        return [ServerSentEvent(data, "message", self.last_event_id) for data in lines.split(b"\n")]

    def _parts(self, parts: list[bytes]) -> list[ServerSentEvent]:
        events = []
        for part in parts:
            if part[:6] == b"data: " and b"\n" not in part:
                events.append(ServerSentEvent(part[6:], "message", self.last_event_id))
            else:
                events += self._lines([*part.split(b"\n"), b""])
        return events

    def _strip_bom(self, chunk: bytes) -> bytes:
        start = self._take_held(chunk)
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._hold(start)
            return b""
        self._started = True
        return start.removeprefix(_BOM)

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._held.append(piece)
            self._held_bytes += len(piece)

    def _hold_block(self, block: bytes) -> list[ServerSentEvent]:
        self._hold(block)
        return self._feed_lines(b"") if self._held_bytes > self._max_block_bytes else []

    def _take_held(self, chunk: bytes) -> bytes:
        if not self._held:
            return chunk
        self._held.append(chunk)
        whole = b"".join(self._held)
        self._held.clear()
        self._held_bytes = 0
        return whole

    def _feed_lines(self, chunk: bytes) -> list[ServerSentEvent]:
        switching, self._by_line = not self._by_line, True
        if self._skip_lf and chunk:
            self._skip_lf = False
            chunk = chunk.removeprefix(b"\n")
        if not switching and b"\n" not in chunk and b"\r" not in chunk:
            self._hold(chunk)
            self._check_line(self._held_bytes)
            return []
        lines = self._take_held(chunk).splitlines(keepends=True)
        if lines and not lines[-1].endswith((b"\n", b"\r")):
            self._hold(lines.pop())
            self._check_line(self._held_bytes)
        elif lines and lines[-1].endswith(b"\r"):
            self._skip_lf = True  # the line feed of this CRLF may still come
        return self._lines([line.rstrip(b"\r\n") for line in lines])

    def _lines(self, lines: list[bytes]) -> list[ServerSentEvent]:
        events = []
        for line in lines:
            if line:
                self._field(line)
            elif (event := self._dispatch()) is not None:
                events.append(event)
        return events

    def _check_line(self, length: int) -> None:
        if length > self._max_line_bytes:
            raise SSELimitError(f"a line is longer than {self._max_line_bytes} bytes")

    def _field(self, line: bytes) -> None:
        self._check_line(len(line))
        name, colon, value = line.partition(b":")
        if colon and value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            self._data += value
            self._data += b"\n"
            if len(self._data) > self._max_event_bytes:
                raise SSELimitError(f"an event has more than {self._max_event_bytes} bytes")
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self.last_event_id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) <= 12:
            self.retry_ms = int(value)

    def _dispatch(self) -> ServerSentEvent | None:
        name, self._event = self._event, ""
        if not self._data:
            return None
        data = bytes(self._data[:-1])
        self._data.clear()
        return ServerSentEvent(data, name or "message", self.last_event_id)
