"""The lines that a user types, also while an answer is printed."""

import asyncio
import contextlib
import io
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator

_CHUNK_BYTES = 1 << 16
MAX_LINE_BYTES = 4 << 20
"""A longer line was not typed: the wrong file was piped in."""


class Typed:
    """Reads lines from standard input.

    On a terminal, lines can be edited and recalled with the arrow keys (readline).
    """

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._rest = b""
        self._ended = False
        self._interactive = sys.stdin.isatty()
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")
        try:
            self._descriptor: int | None = sys.stdin.fileno()
        except OSError:  # a stream without a file
            self._descriptor = None
        if self._interactive:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401  # input() uses it once it is imported

    def next(self, prompt: str) -> str | None:
        """Return the next line without its line feed; None at the end of the input.

        Bytes that are not text arrive as half surrogates.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        if self._lines:
            return self._lines.popleft()
        if self._ended:
            return None
        if self._interactive:
            try:
                return input(prompt)
            except EOFError:
                self._ended = True
                return None
        if self._descriptor is None:
            line = sys.stdin.readline()
            return line.rstrip("\n") if line else None
        while not self._lines and not self._ended:
            self._read()
        return self._lines.popleft() if self._lines else None

    @contextlib.contextmanager
    def watched(self, command: str, then: Callable[[], None]) -> Iterator[None]:
        """While entered, call `then` when the line `command` is typed; keep other lines for later.

        Call it in an event loop.
        """
        loop = asyncio.get_running_loop()
        descriptor = self._descriptor

        def look() -> None:
            self._read()
            while command in self._lines:
                self._lines.remove(command)
                then()
            if self._ended and descriptor is not None:
                loop.remove_reader(descriptor)

        try:
            if descriptor is not None and not self._ended:
                loop.add_reader(descriptor, look)
        except OSError:  # a regular file cannot be watched
            descriptor = None
        try:
            yield
        finally:
            if descriptor is not None:
                loop.remove_reader(descriptor)

    def _read(self) -> None:
        assert self._descriptor is not None
        data = os.read(self._descriptor, _CHUNK_BYTES)
        self._ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._ended and self._rest:
            lines.append(self._rest)
        self._rest = self._rest[:MAX_LINE_BYTES]
        self._lines += [line.decode(errors="surrogateescape").rstrip("\r") for line in lines]
