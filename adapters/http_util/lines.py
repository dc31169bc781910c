"""Newline-delimited JSON (NDJSON), decoded incrementally and without I/O."""

MAX_LINE_BYTES = 8 << 20
"""An image of 1.6 MB came in one line of a real server; 8 MiB leaves room for several."""


class DecodeLimitError(ValueError):
    """A stream exceeded a bound of its decoder, which must not be used afterwards."""


class LineDecoder:
    """A decoder that turns bytes into lines. The lines do not depend on how the bytes are split.

    Args:
        max_line_bytes: The longest line, without its end.
    """

    __slots__ = ("_held", "_held_bytes", "_max_line_bytes")

    def __init__(self, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._held: list[bytes] = []  # joined once per line, so that long lines take linear time
        self._held_bytes = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that `chunk` completes, in order, without blank ones.

        Args:
            chunk: The next bytes of the stream.

        Raises:
            DecodeLimitError: If a line is too long.
        """
        first, *rest = chunk.split(b"\n")
        self._held.append(first)
        self._held_bytes += len(first)
        if not rest:
            self._check(self._held_bytes)
            return []
        lines = [b"".join(self._held), *rest[:-1]]
        self._held = [rest[-1]]
        self._held_bytes = len(rest[-1])
        self._check(max(self._held_bytes, *map(len, lines)))
        return [line for line in map(bytes.strip, lines) if line]

    def finish(self) -> list[bytes]:
        """Return the last line, if the stream ended without a newline after it."""
        line = b"".join(self._held).strip()
        self._held = []
        self._held_bytes = 0
        return [line] if line else []

    def _check(self, length: int) -> None:
        if length > self._max_line_bytes:
            raise DecodeLimitError(f"a line is longer than {self._max_line_bytes} bytes")
