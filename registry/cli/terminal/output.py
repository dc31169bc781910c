"""Prints the answer of a job as it comes."""

import json
import sys

from rich.text import Text

from adapter_api import Answer, End, Error, Reasoning, Token, TokenEvent
from adapter_api.frames import to_frame
from registry.cli.terminal.show import console
from registry.cli.terminal.streams import out
from registry.cli.terminal.text import harmless, one_line
from registry.cli.terminal.wrapping import WordWrap

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


class Output:
    """Prints a job's events: the text, or every event as a frame on a line.

    On a terminal, reasoning is dimmed. Tool calls follow the text, one a line.

    Args:
        frames: Print frames instead of text.

    Attributes:
        tokens: The number of tokens that came.
        answer: The whole answer, once it came.
    """

    def __init__(self, *, frames: bool = False) -> None:
        self._frames = frames
        self._out = out()
        self._terminal = self._out.isatty()
        ours = console()
        self._dims = self._terminal and ours.color_system is not None
        self._wrap: WordWrap | None = None
        if self._terminal and not ours.is_dumb_terminal:
            self._wrap = WordWrap(ours.width)
        self._last = "\n"
        self._thinking = False
        self._tokens: list[Token] = []
        self.answer: Answer | None = None

    @property
    def tokens(self) -> int:
        """The number of tokens that came."""
        return len(self._tokens)

    def show(self, event: TokenEvent) -> None:
        """Print one event, at once."""
        if isinstance(event, Token):
            self._tokens.append(event)
        elif isinstance(event, End):
            self.answer = Answer.of([*self._tokens, event])
        if self._frames:
            self._write(json.dumps(to_frame(event)) + "\n")
        elif isinstance(event, Reasoning):
            self._think(event.reasoning)
        elif isinstance(event, Token):
            self._speak(event.text)
        elif isinstance(event, End | Error):
            self._stop_thinking()
            self._end_line()
            if isinstance(event, End):
                self._show_calls(event)
                self._sum_up(event)

    def _think(self, text: str) -> None:
        opening = "" if self._thinking or not self._dims else _DIM
        self._thinking = True
        self._write(opening + self._fitted(text))

    def _speak(self, text: str) -> None:
        if text:
            self._stop_thinking()
            self._write(self._fitted(text))

    def _fitted(self, text: str) -> str:
        """Return the text as it goes to a terminal, or unchanged to a pipe."""
        shown = harmless(text) if self._terminal else text
        return shown if self._wrap is None else self._wrap.feed(shown)

    def _stop_thinking(self) -> None:
        if self._thinking:
            self._thinking = False
            if self._dims:
                self._write(_PLAIN)
            self._end_line()

    def _show_calls(self, end: End) -> None:
        for call in end.tool_calls:
            self._write(f"{harmless(call.name)}({harmless(one_line(call.arguments))})\n")

    def _sum_up(self, end: End) -> None:
        if self._terminal and sys.stderr.isatty():
            console(stderr=True).print(Text(summary(end), "dim"), soft_wrap=True)

    def _end_line(self) -> None:
        if not self._last.endswith("\n"):
            self._write("\n")
        if self._wrap is not None:
            self._wrap.new_line()

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
        self._last = text.removesuffix(_PLAIN) or self._last


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
