"""Exit statuses, and every expected error as one clear line."""

import contextlib
import signal
import sys

from adapter_api.errors import ConfigError, RegistryError, WorkerError

OK = 0
FAILED = 1
USAGE = 2
NO_ADAPTER = 3
CANCELLED = 130  # as shells report an end by SIGINT
READER_GONE = 141  # by SIGPIPE
TERMINATED = 143  # by SIGTERM

MEANINGS = (
    "Exit status: 0 success, 1 the job failed or the engine is not ready, 2 wrong usage or "
    "configuration, 3 no such adapter or a broken one, 130 cancelled (Ctrl-C), 141 the reader of "
    "the output went away, 143 terminated."
)

# Texts from servers and plugins must not steer the terminal they are shown on.
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "\N{REPLACEMENT CHARACTER}")
_CONTROLS |= {ord("\n"): "\n", ord("\t"): "\t", ord("\r"): ""}


class UsageError(Exception):
    """What was typed, or given on standard input, cannot be meant."""


def harmless(text: str) -> str:
    """The text without control characters, but for line feeds and tabs."""
    return text.translate(_CONTROLS)


def one_line(text: object) -> str:
    """The text on one line; a list below a heading becomes `heading: item; item`."""
    heading, *items = [line.strip() for line in str(text).splitlines() if line.strip()] or [""]
    listed = "; ".join(item.removeprefix("- ") for item in items)
    if not listed:
        return heading
    return f"{heading} {listed}" if heading.endswith(":") else f"{heading}; {listed}"


def complain(message: object, *, lines: bool = False) -> None:
    """Print the message on standard error: as one line, or with the lines it has."""
    text = str(message) if lines else one_line(message)
    with contextlib.suppress(OSError):  # nobody is there to be told
        print(f"error: {harmless(text)}", file=sys.stderr, flush=True)


def after_signal(number: int) -> int:
    """The exit status of a command whose work was cut short by this signal."""
    return TERMINATED if number == signal.SIGTERM else CANCELLED


def status_of(error: RegistryError | WorkerError | UsageError) -> int:
    """The exit status for an expected error."""
    if isinstance(error, WorkerError):
        return FAILED
    return USAGE if isinstance(error, UsageError | ConfigError) else NO_ADAPTER
