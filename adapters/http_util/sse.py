"""Server-sent events, decoded incrementally and without I/O (HTU-1003).

Source: WHATWG HTML, "Interpreting an event stream". Only CR, LF and CRLF end a line.
"""

import attrs

from adapters.http_util.lines import MAX_LINE_BYTES, DecodeLimitError

MAX_EVENT_BYTES = 8 << 20
"""Maximum size of the data of one event: as much as one line may hold."""

MAX_EVENT_LINES = 65_536
"""Maximum number of data lines of one event. Decoding that many takes about 30 ms."""

MAX_NOISE_BYTES = 2 << 20
"""Maximum size of comments, blank lines and other fields between two events. A server that sends a
ping each second exceeds it after 14 hours."""

NOISE_LINE_BYTES = 16
"""Added to the length of each such line, because a blank line costs time, too."""

MAX_UNKNOWN_BYTES = 64 << 10
"""Maximum size of the unknown lines that are kept: enough for any error message."""

MAX_EMPTY_EVENTS = 16
"""Maximum number of kept names of events without data: a server has one or two, such as ping."""

MAX_NAME_CHARS = 64
"""Maximum length of such a name."""

MAX_BLOCK_BYTES = 64 << 10
"""An unfinished event longer than this is read line by line: searching for its end on every piece
would take quadratic time."""

_JOINT_SHRINKS_BYTES = len(b"\n\ndata: ") - len(b"\n")
_BOM = b"\xef\xbb\xbf"
_FIELDS = (b"data", b"event", b"id", b"retry")


@attrs.define
class ServerSentEvent:
    """One event.

    Args:
        data: The data lines joined by line feeds, as received (normally UTF-8).
        event: The event's type.
        id: The last event id so far.
    """

    data: bytes
    event: str = "message"
    id: str = ""


class SSEDecoder:
    """A decoder that turns bytes into events. The events do not depend on how the bytes are split.

    Most servers end lines with LF only, and most events are one data line. Such streams are cut
    at their blank lines. The first CR, or an event of unusual length, switches to reading line
    by line, with the same result.

    Args:
        max_line_bytes: The longest line, without its end.
        max_event_bytes: The maximum size of the data of one event.

    Attributes:
        unknown: Lines so far that are neither fields of an event nor comments, such as a bare JSON
            error, up to MAX_UNKNOWN_BYTES together. A standard reader ignores them. A reader that
            needs proof of a whole answer must not.
        empty_events: Names of events without data, which a standard reader ignores, too; the first
            MAX_EMPTY_EVENTS different ones.
        last_event_id: The last `id` field.
        retry_ms: The last `retry` field, in milliseconds; None without one.
    """

    __slots__ = (
        "_by_line",
        "_data",
        "_data_lines",
        "_event",
        "_held",
        "_held_bytes",
        "_max_block_bytes",
        "_max_cut_bytes",
        "_max_event_bytes",
        "_max_line_bytes",
        "_noise_bytes",
        "_skip_lf",
        "_started",
        "_unknown_bytes",
        "empty_events",
        "last_event_id",
        "retry_ms",
        "unknown",
    )

    def __init__(
        self, *, max_line_bytes: int = MAX_LINE_BYTES, max_event_bytes: int = MAX_EVENT_BYTES
    ) -> None:
        self._max_line_bytes = max_line_bytes
        self._max_event_bytes = max_event_bytes
        self._max_cut_bytes = min(max_line_bytes, max_event_bytes)  # a shorter block needs no check
        self._max_block_bytes = min(self._max_cut_bytes, MAX_BLOCK_BYTES)
        self._held: list[bytes] = []  # bytes of an event, or line, that has not ended yet
        self._held_bytes = 0
        self._data = bytearray()  # a list of lines would cost many times their bytes
        self._data_lines = 0
        self._event = ""
        self._noise_bytes = 0
        self._started = False
        self._by_line = False
        self._skip_lf = False
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self.unknown: list[bytes] = []
        self.empty_events: list[str] = []
        self._unknown_bytes = 0

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Return the events that `chunk` completes, in order.

        Args:
            chunk: The next bytes of the stream.

        Raises:
            DecodeLimitError: If a line or an event is too long, or too much comes between two.
        """
        events = self.feed_plain(chunk)
        return self.events_of(events) if isinstance(events, bytes) else events

    def feed_plain(self, chunk: bytes) -> bytes | list[ServerSentEvent]:
        """Return the same events as `feed`, in a form that is cheaper for plain events.

        Args:
            chunk: The next bytes of the stream.

        Returns:
            Bytes where each event is one data line and nothing else: the data of all of them,
            joined by line feeds, for a decoder of JSON lines. `events_of` turns them into events.

        Raises:
            DecodeLimitError: As `feed`.
        """
        if not self._started:
            chunk = self._strip_bom(chunk)
        # find: `in` first takes the needle for a number, and formats an error about it.
        if self._by_line or chunk.find(b"\r") >= 0:
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
            self._noise_bytes = 0
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
            if lines.count(b"\n") == joints:  # every line feed stands between two events
                self._noise_bytes = 0
                return lines
        return self._parts(block[:end].split(b"\n\n"))

    def events_of(self, lines: bytes) -> list[ServerSentEvent]:
        """Return the events whose data `feed_plain` returned."""
        return [ServerSentEvent(data, "message", self.last_event_id) for data in lines.split(b"\n")]

    def finish(self) -> list[ServerSentEvent]:
        """Read the end of the stream: a last line without a newline may be an unknown one.

        Returns:
            No events: the standard drops an event that no blank line ends.

        Raises:
            DecodeLimitError: As `feed`.
        """
        rest = self._take_held(b"") if self._held else b""
        self._started = True
        *lines, last = rest.removeprefix(_BOM).split(b"\n")
        if not any(name.startswith(last) for name in _FIELDS):  # else a field that was cut
            lines.append(last)
        return self._lines([line for line in lines if line])

    def _parts(self, parts: list[bytes]) -> list[ServerSentEvent]:
        events = []
        for part in parts:
            if part[:6] == b"data: " and b"\n" not in part:
                self._noise_bytes = 0
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
            raise DecodeLimitError(f"a line is longer than {self._max_line_bytes} bytes")

    def _field(self, line: bytes) -> None:
        self._check_line(len(line))
        name, colon, value = line.partition(b":")
        if colon and value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            self._add_data(value)
            return
        self._count_noise(len(line))
        if name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self.last_event_id = value.decode("utf-8", "replace")
        elif name == b"retry":
            if value.isdigit() and len(value) <= 12:
                self.retry_ms = int(value)
        elif name:
            self._note_unknown(line)

    def _add_data(self, value: bytes) -> None:
        self._data += value
        self._data += b"\n"
        self._data_lines += 1
        if len(self._data) > self._max_event_bytes:
            raise DecodeLimitError(f"an event has more than {self._max_event_bytes} bytes")
        if self._data_lines > MAX_EVENT_LINES:
            raise DecodeLimitError(f"an event has more than {MAX_EVENT_LINES} lines")

    def _count_noise(self, length: int) -> None:
        self._noise_bytes += length + NOISE_LINE_BYTES
        if self._noise_bytes > MAX_NOISE_BYTES:
            raise DecodeLimitError(
                f"more than {MAX_NOISE_BYTES} bytes of comments, blank lines and other fields came "
                "between two events"
            )

    def _note_unknown(self, line: bytes) -> None:
        room = MAX_UNKNOWN_BYTES - self._unknown_bytes
        if room > 0:
            self.unknown.append(line[:room])
            self._unknown_bytes += len(line) + NOISE_LINE_BYTES

    def _note_empty(self, name: str) -> None:
        name = name[:MAX_NAME_CHARS]
        if len(self.empty_events) < MAX_EMPTY_EVENTS and name not in self.empty_events:
            self.empty_events.append(name)

    def _dispatch(self) -> ServerSentEvent | None:
        name, self._event = self._event, ""
        if not self._data:
            self._count_noise(0)
            if name:
                self._note_empty(name)
            return None
        self._noise_bytes = self._data_lines = 0
        data = bytes(self._data[:-1])
        self._data.clear()
        return ServerSentEvent(data, name or "message", self.last_event_id)
