"""Run one job and show it as it comes."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from typing import Any, TextIO

from rich.console import Console

import registry
from adapter_api import Cancelled, End, Error, TaskRequest, Token, TokenStream, WorkerError
from adapter_api.frames import to_frame
from registry.cli import status

# What a model says must not steer the terminal it is shown on.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Output:
    """Where the answer goes: text as it comes, or a frame a line.

    Args:
        frames: Frames instead of text.
        out: The file, usually standard output.
    """

    def __init__(self, *, frames: bool, out: TextIO | None = None) -> None:
        self._frames = frames
        self._out = sys.stdout if out is None else out
        self._terminal = self._out.isatty()
        self.tokens = 0
        self.end: End | None = None

    def show(self, event: Any) -> None:
        """Print one event, at once."""
        if self._frames:
            self._out.write(json.dumps(to_frame(event)) + "\n")
        elif isinstance(event, Token):
            text = _CONTROL.sub("\ufffd", event.text) if self._terminal else event.text
            self._out.write(text)
        if isinstance(event, Token):
            self.tokens += 1
        elif isinstance(event, End):
            self.end = event
        self._out.flush()

    def close(self) -> None:
        """End the line of text that was begun."""
        if not self._frames and self.tokens:
            self._out.write("\n")
            self._out.flush()
        if self._terminal and self.end is not None:
            _summarize(self.end)


def _summarize(end: End) -> None:
    metrics = end.metrics
    parts = [f"{metrics.tokens_generated} tokens"]
    if metrics.time_to_first_token_ms is not None:
        parts.append(f"first after {metrics.time_to_first_token_ms:.0f} ms")
    if metrics.decode_time_ms > 0:
        parts.append(f"{metrics.tokens_generated / metrics.decode_time_ms * 1000:.0f} tokens/s")
    parts.append(f"finish_reason {end.finish_reason}")
    Console(stderr=True).print(" · ".join(parts), style="dim")


def run_job(adapter: str, options: dict[str, Any], task: TaskRequest, *, frames: bool) -> int:
    """Run `task` and show it. Returns the exit status.

    SIGINT and SIGTERM cancel the job and wait until its connection is closed; so does a reader
    of our output that goes away.

    Raises:
        RegistryError, WorkerError: Before the job has started.
    """
    output = Output(frames=frames)
    try:
        return asyncio.run(_run(adapter, options, task, output))
    except BrokenPipeError:
        # Whoever read our output has seen enough. Nothing may be flushed there at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return status.OK


async def _run(adapter: str, options: dict[str, Any], task: TaskRequest, output: Output) -> int:
    async with registry.get(adapter, **options) as bound:
        stream = bound.submit(task)
        caught: list[int] = []
        with _signals(stream, caught):
            try:
                async with stream:
                    async for event in stream:
                        if isinstance(event, Error):
                            return _failed(event.error, output, caught)
                        output.show(event)
            except WorkerError as error:
                if not caught:
                    raise
                return _failed(error, output, caught)
        output.close()
        return status.OK


def _failed(error: WorkerError, output: Output, caught: list[int]) -> int:
    output.show(Error(error))
    output.close()
    if isinstance(error, Cancelled) and caught:
        status.complain("cancelled; what was printed is not the whole answer")
        return status.TERMINATED if caught[0] == signal.SIGTERM else status.CANCELLED
    incomplete = "; what was printed is not the whole answer" if output.tokens else ""
    status.complain(f"{error}{incomplete}")
    return status.JOB_FAILED


@contextlib.contextmanager
def _signals(stream: TokenStream, caught: list[int]) -> Any:
    """While entered, SIGINT and SIGTERM cancel `stream` and are noted in `caught`."""
    loop = asyncio.get_running_loop()
    cancelling: set[asyncio.Task[bool]] = set()

    def cancel(number: int) -> None:
        caught.append(number)
        cancelling.add(loop.create_task(stream.cancel()))

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, cancel, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
