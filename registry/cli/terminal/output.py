"""Prints the answer of a job as it comes."""

import json
import sys

from rich.text import Text

from adapter_api import End, Error, Token, TokenEvent
from adapter_api.frames import to_frame
from registry.cli.terminal.show import console
from registry.cli.terminal.streams import out
from registry.cli.terminal.text import harmless


class Output:
    """Prints a job's events: the text, or every event as a frame on a line.

    Args:
        frames: Print frames instead of text.

    Attributes:
        tokens: The number of tokens that were printed.
        end: The job's End, once it came.
    """

    def __init__(self, *, frames: bool = False) -> None:
        self._frames = frames
        self._out = out()
        self._terminal = self._out.isatty()
        self._last = "\n"
        self._texts: list[str] = []
        self.tokens = 0
        self.end: End | None = None

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._texts)

    def show(self, event: TokenEvent) -> None:
        """Print one event, at once."""
        if isinstance(event, Token):
            self.tokens += 1
            self._texts.append(event.text)
        elif isinstance(event, End):
            self.end = event
        if self._frames:
            self._write(json.dumps(to_frame(event)) + "\n")
        elif isinstance(event, Token):
            self._write(harmless(event.text) if self._terminal else event.text)
        elif isinstance(event, End | Error):
            self._end_line()
            if isinstance(event, End) and self._terminal and sys.stderr.isatty():
                console(stderr=True).print(Text(summary(event), "dim"), soft_wrap=True)

    def _end_line(self) -> None:
        if not self._last.endswith("\n"):
            self._write("\n")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
        self._last = text or self._last


def summary(end: End) -> str:
    """Return the numbers of a finished job on one line."""
    metrics = end.metrics
    counted = " (counted)" if metrics.usage_source == "counted" else ""
    parts = [f"{metrics.tokens_generated} tokens{counted}"]
    if metrics.time_to_first_token_ms is not None:
        parts.append(f"first after {metrics.time_to_first_token_ms:.0f} ms")
    if metrics.decode_time_ms > 0:
        parts.append(f"{metrics.tokens_generated / metrics.decode_time_ms * 1000:.0f} tokens/s")
    parts.append(f"finish_reason {end.finish_reason or 'unknown'}")
    return harmless(" · ".join(parts))
