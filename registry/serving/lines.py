"""Lines in and out of a long run, read and written by threads so that the event loop never blocks.

The threads use descriptors instead of sys.stdin and sys.stdout: a waiting thread would hold the
locks of these when the process exits.
"""

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Self

MAX_LINE_BYTES = 4 << 20
"""Longer lines are refused: no prompt needs as much, but a wrong file may have them."""

AHEAD_LINES = 16
"""Lines that are read before they are requested."""

BEHIND_LINES = 1024
"""Lines that may wait for a slow reader before jobs have to wait."""

_CHUNK_BYTES = 1 << 16


class LineReader:
    """Yields the lines of a descriptor, without line feeds.

    A line that is too long is cut to MAX_LINE_BYTES + 1 bytes.

    Args:
        descriptor: The descriptor to read. Nothing else may read it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = threading.Semaphore(AHEAD_LINES)
        threading.Thread(target=self._read, daemon=True, name="read lines").start()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        line = await self._lines.get()
        if line is None:
            self._lines.put_nowait(None)
            raise StopAsyncIteration
        self._room.release()
        return line

    def _read(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            for line in _lines(self._descriptor):
                self._room.acquire()
                self._loop.call_soon_threadsafe(self._lines.put_nowait, line)
            self._loop.call_soon_threadsafe(self._lines.put_nowait, None)


def _lines(descriptor: int) -> Iterator[bytes]:
    rest = b""
    while data := _read(descriptor):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
        rest = rest[: MAX_LINE_BYTES + 1]
    if rest:
        yield rest


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK_BYTES)
    except OSError:  # a terminal that was closed
        return b""


class LineWriter:
    """Writes lines to a descriptor, in order.

    Args:
        descriptor: The descriptor to write.
        on_gone: Called once, in the event loop, when the reader has gone away.

    Attributes:
        waiting: The number of lines that are not yet written.
    """

    def __init__(self, descriptor: int, on_gone: Callable[[OSError], None]) -> None:
        self._descriptor = descriptor
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(BEHIND_LINES)
        self._ended = False
        self._written = asyncio.Event()
        self._written.set()
        self.waiting = 0
        threading.Thread(target=self._write, daemon=True, name="write lines").start()

    async def write(self, line: bytes) -> None:
        """Write the line and a line feed in the background; wait only while too many lines do.

        Lines are discarded after the reader has gone away.
        """
        if self._ended:
            return
        await self._room.acquire()
        if self._ended:
            self._room.release()  # for the next caller that waits
            return
        self.waiting += 1
        self._written.clear()
        self._lines.put(line)

    async def drain(self) -> None:
        """Wait until every line is written or discarded."""
        await self._written.wait()

    def close(self) -> None:
        """Discard the lines that wait and all that follow."""
        self._ended = True
        self._lines.put(None)
        self._room.release()
        self._written.set()

    def _write(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            while lines := self._next():
                try:
                    _write_all(self._descriptor, b"".join(line + b"\n" for line in lines))
                except OSError as error:
                    self._loop.call_soon_threadsafe(self._gone, error)
                    return
                self._loop.call_soon_threadsafe(self._release, len(lines))

    def _next(self) -> list[bytes]:
        """Return all lines that wait; none after `close`."""
        lines: list[bytes] = []
        while True:
            try:
                line = self._lines.get(block=not lines)
            except queue.Empty:
                return lines
            if line is None:
                return []
            lines.append(line)

    def _release(self, count: int) -> None:
        for _ in range(count):
            self._room.release()
        self.waiting -= count
        if not self.waiting:
            self._written.set()

    def _gone(self, error: OSError) -> None:
        self.close()
        self._on_gone(error)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
