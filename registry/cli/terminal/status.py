"""Exit statuses, and expected errors as short messages on standard error."""

import contextlib
import signal
import sys
from collections.abc import Iterable

from adapter_api.errors import ConfigError, RegistryError, WorkerError
from adapter_api.keys import without_keys
from registry.cli.terminal.text import harmless, one_line

OK = 0
FAILED = 1
USAGE = 2
NO_ADAPTER = 3
INCOMPLETE = 4
CANCELLED = 130  # what shells report after SIGINT
READER_GONE = 141  # after SIGPIPE
TERMINATED = 143  # after SIGTERM
HUNG_UP = 129  # after SIGHUP

TABLE = {
    OK: "success: the answer is whole, the engine accepts work, the adapter conforms",
    FAILED: (
        "a job failed or its answer is unusable, the engine is not ready, or the adapter does not "
        "conform"
    ),
    USAGE: "wrong usage or configuration",
    NO_ADAPTER: "no such adapter, or a broken one",
    INCOMPLETE: "conformance: nothing failed, but not everything could be examined",
    HUNG_UP: "the terminal was closed (SIGHUP) and jobs were cut short",
    CANCELLED: "cancelled by Ctrl-C; connections were closed first",
    READER_GONE: "the reader of the output went away; the job was cancelled",
    TERMINATED: "terminated (SIGTERM); the job was cancelled",
}
"""Every exit status and its meaning; docs/reference/cli.md has the same table."""

MEANINGS = (
    "Exit status: 0 success, 1 a job failed, its answer is unusable, or the engine is not ready, "
    "2 wrong usage or configuration, 3 no such adapter or a broken one, 4 not everything could be "
    "examined, 129 hung up, 130 cancelled (Ctrl-C), 141 the reader of the output went away, "
    "143 terminated."
)


class UsageError(Exception):
    """Wrong arguments or wrong standard input: what is wrong, and what to type instead."""


def complain(message: object, problems: Iterable[object] = ()) -> None:
    """Print an error on standard error: one line, and one more for each problem."""
    lines = [f"error: {_line(message)}", *(f"  - {_line(problem)}" for problem in problems)]
    _print(lines)


def note(message: object, lines: Iterable[str] = ()) -> None:
    """Print a remark that is not an error on standard error: one line, and `lines` below it."""
    _print([f"note: {harmless(one_line(message))}", *map(harmless, lines)])


def _line(message: object) -> str:
    return without_keys(harmless(one_line(message)), known_only=True)


def _print(lines: Iterable[str]) -> None:
    with contextlib.suppress(OSError, ValueError):  # standard error is closed
        for line in lines:
            print(line, file=sys.stderr, flush=True)


def after_signal(number: int) -> int:
    """Return the exit status of a command whose work this signal cut short."""
    statuses = {signal.SIGTERM: TERMINATED, signal.SIGINT: CANCELLED}
    return statuses.get(signal.Signals(number), HUNG_UP)


def status_of(error: RegistryError | WorkerError | UsageError) -> int:
    """Return the exit status for an expected error."""
    if isinstance(error, WorkerError):
        return FAILED
    return USAGE if isinstance(error, UsageError | ConfigError) else NO_ADAPTER
