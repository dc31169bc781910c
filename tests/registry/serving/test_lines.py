"""Lines in and out of a long run, over real pipes."""

import asyncio
import contextlib
import os
from collections.abc import Iterator

import pytest

from registry.serving.lines import (
    AHEAD_LINES,
    BEHIND_LINES,
    MAX_LINE_BYTES,
    LineReader,
    LineWriter,
)

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Both ends; what a test has closed stays closed."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


async def read_all(reader: LineReader) -> list[bytes]:
    async with asyncio.timeout(10):
        return [line async for line in reader]


async def test_lines_are_read_however_they_come(pipe: Pipe) -> None:
    """Lines come whole, from any pieces, the last one without a line feed too; then the end."""
    source, sink = pipe
    reader = LineReader(source)
    for piece in (b"on", b"e\ntwo\n\nth", b"ree"):
        os.write(sink, piece)
        await asyncio.sleep(0.01)
    os.close(sink)
    assert await read_all(reader) == [b"one", b"two", b"", b"three"]
    assert await read_all(reader) == []


async def test_a_line_that_is_too_long_is_cut(pipe: Pipe) -> None:
    """Memory is bounded: of an endless line the beginning stays, and the next line is whole."""
    source, sink = pipe
    reader = LineReader(source)

    def write() -> None:
        left = memoryview(b"x" * (3 * MAX_LINE_BYTES) + b"\nnext\n")
        while left:
            left = left[os.write(sink, left) :]
        os.close(sink)

    _, (long, following) = await asyncio.gather(asyncio.to_thread(write), read_all(reader))
    assert MAX_LINE_BYTES < len(long) < MAX_LINE_BYTES + (1 << 17)
    assert following == b"next"


async def test_no_more_is_read_than_wanted(pipe: Pipe) -> None:
    """Only a few lines are read ahead of the consumer."""
    source, sink = pipe
    reader = LineReader(source)
    os.write(sink, b"".join(b"%d\n" % number for number in range(1000)))
    os.close(sink)
    await asyncio.sleep(0.1)
    assert reader._lines.qsize() == AHEAD_LINES
    assert len(await read_all(reader)) == 1000


async def test_lines_are_written_in_order(pipe: Pipe) -> None:
    """Many tasks may write; drain waits until all of it is out."""
    source, sink = pipe
    writer = LineWriter(sink, lambda error: None)
    for number in range(2000):
        await writer.write(b"%d" % number)
    await writer.drain()
    assert writer.waiting == 0
    writer.close()
    os.close(sink)
    expected = b"".join(b"%d\n" % number for number in range(2000))
    assert b"".join(iter(lambda: os.read(source, 65536), b"")) == expected


async def test_a_slow_reader_makes_the_writer_wait(pipe: Pipe) -> None:
    """A bounded number of lines waits; after close no task waits."""
    source, sink = pipe
    writer = LineWriter(sink, lambda error: None)
    line = b"x" * 1000
    tasks = [asyncio.create_task(writer.write(line)) for _ in range(2 * BEHIND_LINES)]
    await asyncio.sleep(0.2)
    done = sum(task.done() for task in tasks)
    assert BEHIND_LINES <= done < 2 * BEHIND_LINES
    assert writer.waiting > 0
    writer.close()
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)
        await writer.drain()
        await writer.write(line)
    os.close(source)


async def test_a_reader_that_goes_is_reported_once(pipe: Pipe) -> None:
    """A closed pipe is reported, and later lines go nowhere."""
    source, sink = pipe
    gone: list[OSError] = []
    writer = LineWriter(sink, gone.append)
    os.close(source)
    async with asyncio.timeout(10):
        for _ in range(100):
            await writer.write(b"line")
            await asyncio.sleep(0.001)
        await writer.drain()
    assert [type(error) for error in gone] == [BrokenPipeError]
